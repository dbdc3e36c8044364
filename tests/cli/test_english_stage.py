"""The fine-tuning setting: the base is trained first, and goes along with the adapter that was made for it."""

from __future__ import annotations

import dataclasses
import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModel, Siglip2Model
from transformers.models.siglip2 import Siglip2ImageProcessorPil

from ccr_adapters.cli.train import evaluate_model, run_recipe
from ccr_adapters.errors import AdapterError, ConfigError
from ccr_adapters.modeling import CCRModel

STAGES = [
    {"name": "english", "arguments": {"learning_rate": 1e-3, "max_steps": 4}},
    {"name": "cla", "arguments": {"max_steps": 3}},
]
CAPTIONS = ["dog red", "an old house"]


@pytest.fixture(scope="module")
def run(recipes, corpora, tmp_path_factory):
    """One run, not to be written to."""
    plan = recipes("clip", tmp_path_factory.mktemp("english") / "run", stages=STAGES)
    return plan, run_recipe(plan, corpora(pictures=True))


@pytest.fixture
def moved(run, tmp_path):
    """The output folder, carried to another place; the first one is out of sight."""
    shutil.copytree(run[0].output_dir, tmp_path / "elsewhere")
    return tmp_path / "elsewhere"


def test_the_base_learned_and_its_own_folder_is_untouched(run, corpora):
    plan, outcome = run
    first, tuned = AutoModel.from_pretrained(plan.base), AutoModel.from_pretrained(outcome.adapter.parent / "base")
    assert not torch.equal(first.text_projection.weight, tuned.text_projection.weight)
    assert not torch.equal(first.visual_projection.weight, tuned.visual_projection.weight)
    bare = CCRModel.from_base(outcome.adapter.parent / "base")
    assert torch.equal(bare.encode_text(CAPTIONS, None), outcome.model.encode_text(CAPTIONS, None))
    pictures = corpora(pictures=True).pictures
    assert torch.equal(bare.encode_image(pictures), outcome.model.encode_image(pictures))


def test_targets_and_metrics_are_those_of_the_trained_base(run, corpora):
    _, outcome = run
    targets = [torch.from_numpy(np.load(path)) for path in (outcome.adapter.parent / "targets").glob("*.npy")]
    with torch.inference_mode():
        model, corpus = outcome.model, corpora(pictures=True)
        expected = model.encode_text(list(corpus.rows["caption"]), None)
    (source,) = [array for array in targets if len(array) == 20]
    torch.testing.assert_close(torch.nn.functional.normalize(source, dim=-1), expected, rtol=0, atol=1e-5)
    assert set(outcome.metrics) == {"test/en", "test/de before", "test/de"}


def test_the_adapter_names_its_base_by_a_relative_path(run):
    _, outcome = run
    for name in ("config.json", "adapter_config.json"):
        found = json.loads((outcome.adapter / name).read_text(encoding="utf-8"))
        assert found["base_model_name_or_path"] == "../base"
    assert str(outcome.adapter.parent) not in (outcome.adapter / "README.md").read_text(encoding="utf-8")


def test_base_and_adapter_may_move_together(run, moved, monkeypatch, tmp_path):
    _, outcome = run
    monkeypatch.chdir(tmp_path)
    for folder in (moved / "adapter", "elsewhere/adapter"):
        loaded = CCRModel.from_pretrained(folder)
        for language in ("de", None):
            assert torch.equal(loaded.encode_text(CAPTIONS, language), outcome.model.encode_text(CAPTIONS, language))


def test_without_its_base_the_adapter_says_so(run, moved):
    shutil.rmtree(moved / "base")
    with pytest.raises(AdapterError, match=r"'\.\./base' is not here.*base="):
        CCRModel.from_pretrained(moved / "adapter")


def test_the_base_as_it_was_before_is_refused(run, moved):
    with pytest.raises(AdapterError, match="other weights"):
        CCRModel.from_pretrained(moved / "adapter", base=run[0].base)


def test_saved_once_more_it_still_finds_its_base(run, moved):
    _, outcome = run
    loaded = CCRModel.from_pretrained(moved / "adapter")
    loaded.save_pretrained(moved / "copy")
    again = CCRModel.from_pretrained(moved / "copy")
    assert torch.equal(again.encode_text(CAPTIONS, "de"), outcome.model.encode_text(CAPTIONS, "de"))


KILLED = {
    "while the base is trained": ["english/stage.json", "english/stage.safetensors", "english/checkpoint-4", "base"],
    "before the base is saved": ["base"],
    "while the base is saved": ["base", ".base"],
    "before the language": [],
}


@pytest.mark.parametrize("moment", KILLED)
def test_killed_and_started_again_it_ends_the_same(moment, run, moved, corpora, recipes):
    _, outcome = run
    if moment == "while the base is saved":  # a folder without weights, under the name that it has while it is written
        shutil.copytree(moved / "base", moved / ".base")
        (moved / ".base" / "model.safetensors").unlink()
    for name in [*KILLED[moment], "cla", "adapter", "targets"]:
        path = moved / name
        if name != ".base":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    again = run_recipe(recipes("clip", moved, stages=STAGES), corpora(pictures=True), evaluate=False)
    for folder, name in (("base", "model.safetensors"), ("adapter", "adapter_model.safetensors")):
        left, right = (load_file(place / folder / name) for place in (again.adapter.parent, outcome.adapter.parent))
        assert [key for key in left if not torch.equal(left[key], right[key])] == []
    assert not (moved / ".base").exists()


def test_a_text_encoder_alone_with_visual_vectors(recipe, corpus):
    outcome = run_recipe(recipe(stages=STAGES), corpus, evaluate=False)
    loaded = CCRModel.from_pretrained(outcome.adapter)
    assert torch.equal(loaded.encode_text(CAPTIONS, "de"), outcome.model.encode_text(CAPTIONS, "de"))


def test_a_base_at_native_resolution_learns_from_pictures_of_any_shape(naflex, corpora, recipe):
    """SigLIP 2 NaFlex: without masks and shapes its image tower cannot tell a picture's patches from padding."""
    made = corpora(pictures=True)
    pictures = [picture.resize((8 + 8 * (row % 3), 16)) for row, picture in enumerate(made.pictures)]
    asked = dataclasses.replace(made.validation, pictures=pictures)
    corpus = dataclasses.replace(made, pictures=pictures, validation=asked, test={"test": asked})
    outcome = run_recipe(dataclasses.replace(recipe(stages=STAGES), base=str(naflex)), corpus)
    tuned, first = (Siglip2Model.from_pretrained(place).eval() for place in (outcome.adapter.parent / "base", naflex))
    assert not torch.equal(
        first.vision_model.embeddings.patch_embedding.weight, tuned.vision_model.embeddings.patch_embedding.weight
    )
    inputs = Siglip2ImageProcessorPil.from_pretrained(naflex)(images=pictures, return_tensors="pt")
    assert len(inputs["pixel_attention_mask"].sum(-1).unique()) > 1
    with torch.no_grad():
        expected = torch.nn.functional.normalize(tuned.get_image_features(**inputs).pooler_output, dim=-1)
    loaded = CCRModel.from_pretrained(outcome.adapter)
    torch.testing.assert_close(loaded.encode_image(pictures), expected, rtol=0, atol=1e-5)
    ids = torch.tensor([[1, 5, 6, 3]])
    found = loaded(input_ids=ids, language=None, **inputs).image_embeds
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    again = evaluate_model(loaded, asked, "de")
    assert again.sum_r == outcome.metrics["test/de"].sum_r


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_length": 500}, "max_length.*500"),
        ({"vocabulary": {"tokenizer": "no/such"}}, "`vocabulary.tokenizer` 'no/such' cannot be loaded"),
        ({"vocabulary": {"size": 8}}, "unigram tokenizer of 8 tokens does not hold the"),
        ({"vocabulary": {"tokenizer": "BASE", "sampling": 0.5}}, "cut at random; this tokenizer is BPE"),
        ({"adapter": {"peft_type": "DASD", "adapt_from": 9}}, "`adapter`: `adapt_from` is 9"),
    ],
)
def test_what_is_wrong_with_the_language_is_said_before_the_base_is_trained(
    changes, message, recipe, corpus, bases, tmp_path
):
    if changes.get("vocabulary", {}).get("tokenizer") == "BASE":
        changes = {"vocabulary": {**changes["vocabulary"], "tokenizer": str(bases["bert"])}}
    with pytest.raises(ConfigError, match=message):
        run_recipe(recipe(stages=STAGES, **changes), corpus)
    # and the folder is free for the mended recipe
    assert list((tmp_path / "run").glob("*")) == []


def test_the_summary_and_the_card_name_the_stage(run):
    _, outcome = run
    summary = json.loads((outcome.adapter.parent / "training_summary.json").read_text(encoding="utf-8"))
    assert list(summary["stages"]) == ["english", "cla"]
    assert summary["seconds"] == pytest.approx(sum(stage["seconds"] for stage in summary["stages"].values()), abs=0.06)
    assert "english (4 steps), then cla (3 steps)" in (outcome.adapter / "README.md").read_text(encoding="utf-8")
