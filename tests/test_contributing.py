"""CONTRIBUTING's worked example is a method that trains, as it stands there."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from datasets import Dataset

from ccr_adapters.cli.recipe import recipe_from_dict
from ccr_adapters.cli.train import run_recipe
from ccr_adapters.data.corpus import Corpus
from ccr_adapters.data.retrieval_set import RetrievalSet
from ccr_adapters.errors import ConfigError
from ccr_adapters.methods import METHODS
from ccr_adapters.modeling import CCRModel
from ccr_adapters.objectives import info_nce, triplet

TEXT = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")
SECTION = TEXT.split("\n## Add a method\n")[1].split("\n## ")[0]
ROWS, IMAGES = 16, 8


def block(kind: str) -> str:
    """The section's one code block of a kind."""
    (found,) = re.findall(rf"^```{kind}\n(.+?)^```$", SECTION, flags=re.DOTALL | re.MULTILINE)
    return found


@pytest.fixture
def module(tmp_path, monkeypatch):
    """The example as the file that it would be, registered by the line that the text gives."""
    path = tmp_path / "margin.py"
    path.write_text(block("python"), encoding="utf-8")
    spec = importlib.util.spec_from_file_location("margin_example", path)
    found = importlib.util.module_from_spec(spec)
    # dataclasses look their module up
    monkeypatch.setitem(sys.modules, spec.name, found)
    spec.loader.exec_module(found)
    name, method = re.search(r'The line is `"(\w+)": (\w+)`', SECTION).groups()
    monkeypatch.setitem(METHODS, name, getattr(found, method))
    return found


@pytest.fixture
def corpus() -> Corpus:
    """Captions of two words with their translations, over random visual vectors."""
    words = {"Hund": "dog", "Katze": "cat", "rot": "red", "alt": "old"}
    german = [f"{first} {second}" for first in words for second in words]
    english = [" ".join(words[word] for word in caption.split()) for caption in german]
    ids, index = [f"p{i}" for i in range(IMAGES)], np.arange(ROWS) % IMAGES
    visual = np.random.default_rng(0).normal(size=(IMAGES, 32)).astype("float32")
    texts = {"en": english, "de": german}
    asked = RetrievalSet(ids, texts, dict.fromkeys(texts, index), name="test", visual=visual)
    rows = Dataset.from_dict({"caption": english, "translation": german})
    return Corpus(rows, index, ids, asked, {"test": asked}, visual=visual)


@pytest.fixture
def recipe(bases, tmp_path):
    """Function that makes the example's recipe for the tiny BERT and two steps, with terms of its own if asked."""

    def make(terms=None):
        values = yaml.safe_load(block("yaml"))
        values.update(base=str(bases["bert"]), output_dir=str(tmp_path / "run"), data={"name": "toy"})
        values["arguments"] = {"use_cpu": True, "per_device_train_batch_size": 8, "max_steps": 2, "disable_tqdm": True}
        values["arguments"] |= {"save_strategy": "no", "learning_rate": 1e-2, "logging_steps": 1}
        if terms is not None:
            values["stages"][0]["terms"] = terms
        return recipe_from_dict(values)

    return make


def test_the_example_is_short():
    assert len(block("python").splitlines()) < 60


def test_the_example_trains_what_a_recipe_says(module, corpus, recipe):
    outcome = run_recipe(recipe(), corpus)
    assert outcome.summary["stages"]["joint"]["steps"] == 2
    loaded = CCRModel.from_pretrained(outcome.adapter)
    captions = corpus.test["test"].captions["de"]
    learned = loaded.encode_text(captions, "de")
    assert torch.equal(learned, outcome.model.encode_text(captions, "de"))
    assert not torch.allclose(learned, loaded.encode_text(captions, None), atol=1e-3)


def test_its_terms_are_the_objectives_over_the_vectors(module, bases):
    model = CCRModel.from_base(bases["bert"])
    model.add_language("de")
    terms = module.MarginTerms(contrastive=0.5, hardest=0.25, scale=7.0, margin=0.3)
    method = module.Margin(model, "de", terms).eval()
    ids = torch.randint(5, 20, (4, 6), generator=torch.Generator().manual_seed(0))
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "pooled_at": torch.full((4,), 5)}
    visual, index = torch.randn(4, model.embedding_dim), torch.tensor([0, 1, 2, 0])
    found = method(visual, index, **{f"target_{key}": value for key, value in batch.items()})
    vectors = model.target_features(*batch.values(), "de")[0]
    assert torch.equal(found["contrastive"], 0.5 * info_nce(vectors, visual, scale=7.0, ids=index))
    assert torch.equal(found["hardest"], 0.25 * triplet(vectors, visual, margin=0.3, ids=index))


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        ({"contrastive": 0, "hardest": 0}, "No term is left"),
        ({"hardset": 1}, "No such term: hardset. There are: contrastive, hardest, scale, margin"),
    ],
)
def test_what_is_wrong_with_its_recipe_is_said_before_training(terms, message, module, corpus, recipe):
    with pytest.raises(ConfigError, match=message):
        run_recipe(recipe(terms), corpus)
