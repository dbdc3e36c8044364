"""What the tests of the commands share: recipes that run in a second, and a corpus in memory."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from PIL import Image
from transformers import Siglip2Config, Siglip2Model
from transformers.models.siglip2 import Siglip2ImageProcessorPil
from typer.testing import CliRunner

from ccr_adapters.cli.main import app
from ccr_adapters.cli.recipe import Recipe, recipe_from_dict
from ccr_adapters.data.corpus import Corpus
from ccr_adapters.data.retrieval_set import RetrievalSet

WORDS = {"Hund": "dog", "Katze": "cat", "Ball": "ball", "rot": "red", "blau": "blue", "alt": "old", "Haus": "house"}


def make_corpus(*, pictures: bool = False, rows: int = 20, images: int = 10) -> Corpus:
    """Captions of a few words with their translations, over pictures of noise or random vectors."""
    draw, noise = random.Random(0), np.random.default_rng(0)
    german = [draw.choices(list(WORDS), k=draw.randint(1, 4)) for _ in range(rows)]
    english = [" ".join(WORDS[word] for word in words) for words in german]
    translations = [" ".join(words) for words in german]
    shown: dict[str, Any] = {"visual": noise.normal(size=(images, 32)).astype("float32")}
    if pictures:
        drawn = [noise.integers(0, 255, (16, 16, 3), dtype=np.uint8) for _ in range(images)]
        shown = {"pictures": [Image.fromarray(pixels) for pixels in drawn]}
    ids, index = [f"p{i}" for i in range(images)], np.arange(rows) % images
    texts = {"en": english, "de": translations}
    asked = RetrievalSet(ids, texts, dict.fromkeys(texts, index), name="validation", **shown)
    data = Dataset.from_dict({"caption": english, "translation": translations})
    return Corpus(data, index, ids, asked, {"test": asked}, facts={"data": "toy"}, **shown)


def make_recipe(base: Path, output: Path, **changes: Any) -> Recipe:
    """Two stages of 5 steps each."""
    values: dict[str, Any] = {
        "base": str(base),
        "language": "de",
        "data": {"name": "toy"},
        "output_dir": str(output),
        "adapter": {"peft_type": "DASD", "r": 4, "condition_dim": 16, "generator_rank": 4},
        "arguments": {
            "use_cpu": True,
            "per_device_train_batch_size": 8,
            "max_steps": 5,
            "learning_rate": 5e-3,
            "logging_steps": 1,
            "save_strategy": "steps",
            "save_steps": 2,
            "disable_tqdm": True,
        },
        "stages": [{"name": "cla"}, {"name": "cma", "terms": {"scale": 10.0}}],
    }
    return recipe_from_dict({**values, **changes})


@pytest.fixture(scope="session")
def corpora() -> Callable[..., Corpus]:
    """`make_corpus`."""
    return make_corpus


@pytest.fixture(scope="session")
def recipes(bases) -> Callable[..., Recipe]:
    """Function that makes a recipe for a base and a folder."""
    return lambda base, output, **changes: make_recipe(bases[base], output, **changes)


@pytest.fixture(scope="session")
def naflex(tiny_siglip, base_tokenizer, tmp_path_factory) -> Path:
    """Folder with a tiny SigLIP 2 at native resolution: its pictures come with masks and shapes. Not to be written to."""
    folder = tmp_path_factory.mktemp("naflex")
    like = tiny_siglip().config
    vision = {**like.vision_config.to_dict(), "num_patches": 4}
    torch.manual_seed(7)
    Siglip2Model(Siglip2Config(text_config=like.text_config.to_dict(), vision_config=vision)).save_pretrained(folder)
    base_tokenizer.save_pretrained(folder)
    Siglip2ImageProcessorPil(patch_size=8, max_num_patches=4).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def home(photos, tmp_path_factory) -> Path:
    """A folder with nine pictures and a table of them, indexed by the packaged model. Not to be written to."""
    home = tmp_path_factory.mktemp("home")
    photos.fill(home / "photos")
    lines = [f"photos/{'below/' if n % 2 else ''}{photos.name(n)},{2020 + n % 3}" for n in range(9)]
    (home / "t.csv").write_text("image,year\n" + "\n".join(lines) + "\n")
    for source, index in (("photos", "p.index"), ("t.csv", "t.index")):
        command = ["index", str(home / source), "--index", str(home / index), "--model", "tiny_clip"]
        found = CliRunner().invoke(app, command)
        assert found.exit_code == 0, found.output
    return home


@pytest.fixture
def corpus() -> Corpus:
    """A corpus with visual vectors, for a text encoder alone."""
    return make_corpus()


@pytest.fixture
def recipe(recipes, tmp_path) -> Callable[..., Recipe]:
    """Function that makes a recipe for the tiny BERT, in a folder of the test."""

    def make(output: str = "run", base: str = "bert", **changes: Any) -> Recipe:
        return recipes(base, tmp_path / output, **changes)

    return make
