"""Every method is a recipe: it runs, learns, goes on after a kill, and what it leaves loads with the same numbers."""

from __future__ import annotations

import dataclasses
import shutil

import numpy as np
import pytest
import torch

from ccr_adapters.cli.scoring import gallery_of
from ccr_adapters.cli.train import evaluate_model, run_recipe
from ccr_adapters.errors import ConfigError, DataError
from ccr_adapters.methods import METHODS
from ccr_adapters.modeling import CCRModel

HEAD = {"space": 24, "width": 16, "attention_heads": 2, "dropout": 0.1}
ADAPTERS = {"dasd": {"peft_type": "DASD", "r": 4, "condition_dim": 16, "generator_rank": 4}}


def plan_for(recipe, name, output, **changes):
    method = METHODS[name]
    values = {
        "method": name,
        "adapter": ADAPTERS.get(name),
        "head": HEAD if method.head is not None else None,
        "vocabulary": {"size": 60, "kind": "bpe"},
        "stages": [{"name": stage} for stage in method.stages],
    }
    return recipe(output, **{**values, **changes})


@pytest.fixture
def with_back(corpus):
    """The corpus, with back-translations."""
    rows = corpus.rows.add_column("back_translation", list(corpus.rows["caption"]))
    return dataclasses.replace(corpus, rows=rows)


@pytest.mark.parametrize("name", METHODS)
def test_a_run(name, recipe, with_back):
    outcome = run_recipe(plan_for(recipe, name, "run"), with_back)
    loaded = CCRModel.from_pretrained(outcome.adapter)
    asked = with_back.test["test"]
    again = evaluate_model(loaded, asked, "de")
    assert again.sum_r == outcome.metrics["test/de"].sum_r
    assert torch.equal(
        loaded.encode_text(asked.captions["de"], "de"), outcome.model.encode_text(asked.captions["de"], "de")
    )
    bare = CCRModel.from_base(loaded.config.base_model_name_or_path)
    assert torch.equal(loaded.encode_text(["dog", "red cat"], None), bare.encode_text(["dog", "red cat"], None))
    assert not [key for key in outcome.model.state_dict() if "teacher" in key]


@pytest.mark.parametrize("name", ["nrccr", "cl2cm"])
def test_a_killed_run_goes_on_to_the_same_model(name, recipe, with_back):
    whole = run_recipe(plan_for(recipe, name, "whole"), with_back, evaluate=False)
    plan = plan_for(recipe, name, "killed")
    run_recipe(plan, with_back, evaluate=False)
    folder = whole.adapter.parent.with_name("killed")
    for gone in ("adapter", "joint/checkpoint-5", "joint/stage.json", "joint/stage.safetensors"):
        path = folder / gone
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    again = run_recipe(plan, with_back, evaluate=False)
    assert again.summary["stages"]["joint"]["resumed_from"] == "checkpoint-4"
    for path in sorted(whole.adapter.glob("*.safetensors")):
        assert path.read_bytes() == (again.adapter / path.name).read_bytes(), path.name


@pytest.mark.parametrize("name", ["nrccr", "cl2cm"])
def test_training_learns(name, recipe, with_back):
    arguments = {**recipe().arguments, "max_steps": 60, "learning_rate": 3e-3, "save_strategy": "no"}
    terms = {"cycle": 0.0} if name == "nrccr" else {"scale": 10.0, "temperature": 0.1}
    stages = [{"name": "joint", "terms": terms}]
    outcome = run_recipe(plan_for(recipe, name, "run", arguments=arguments, stages=stages), with_back)
    before, after = (outcome.metrics[f"test/de{suffix}"].sum_r for suffix in (" before", ""))
    assert after > before + 60


def test_missing_back_translations_are_said_before_training(recipe, corpus):
    plan = plan_for(recipe, "nrccr", "run")
    with pytest.raises(DataError, match="nrccr.*needs back-translations.*--back-model.*cycle"):
        run_recipe(plan, corpus)
    rows = corpus.rows.add_column("back_translation", ["a dog", " ", *["x"] * 18])
    with pytest.raises(DataError, match="1 of 20 rows have an empty 'back_translation', the first is row 1"):
        run_recipe(plan, dataclasses.replace(corpus, rows=rows))
    stages = [{"name": "joint", "terms": {"cycle": 0.0}, "arguments": {"max_steps": 1}}]
    run_recipe(plan_for(recipe, "nrccr", "without", stages=stages), corpus, evaluate=False)


def test_videos_are_learned_from_their_frames(recipe, with_back):
    noise = np.random.default_rng(1)
    # what tells two videos apart is the order of their frames
    scenes = noise.normal(size=(5, 4, 32)).astype("float32")
    videos = [scenes[index // 2][:: 1 if index % 2 else -1] for index in range(10)]
    shown = {"videos": videos, "visual": None}
    asked = dataclasses.replace(with_back.validation, **shown)
    corpus = dataclasses.replace(with_back, validation=asked, test={"test": asked}, **shown)
    arguments = {**recipe().arguments, "max_steps": 200, "learning_rate": 3e-3, "save_strategy": "no"}
    arguments["max_grad_norm"] = 10.0
    # the triplets alone: what is asked is whether frames can be told apart, and the other terms slow that down
    terms = {"cycle": 0.0, "similarity": 0.0, "feature": 0.0, "adversarial": 0.0}
    scores = {}
    for frames in (0, 6):
        head = {**HEAD, "frames": frames, "dropout": 0.0}
        stages = [{"name": "joint", "terms": terms}]
        outcome = run_recipe(
            plan_for(recipe, "nrccr", f"run{frames}", head=head, arguments=arguments, stages=stages), corpus
        )
        scores[frames] = outcome.metrics["test/de"].t2i.r1
        again = evaluate_model(CCRModel.from_pretrained(outcome.adapter), asked, "de")
        assert again.sum_r == outcome.metrics["test/de"].sum_r
    # far apart, whatever a machine's rounding makes of it: two videos of the same frames are one without their order
    assert scores[6] > scores[0] + 20


def test_a_head_maps_vectors_of_any_width(recipe, with_back):
    vectors = np.random.default_rng(1).normal(size=(10, 20)).astype("float32")
    asked = dataclasses.replace(with_back.validation, visual=vectors)
    corpus = dataclasses.replace(with_back, validation=asked, test={"test": asked}, visual=vectors)
    with pytest.raises(ConfigError, match="width 32.*width|have 20.*head"):
        run_recipe(plan_for(recipe, "dasd", "narrow"), corpus)
    outcome = run_recipe(plan_for(recipe, "nrccr", "run"), corpus)
    assert set(outcome.metrics) == {"test/de"}  # no other captions meet such pictures
    loaded = CCRModel.from_pretrained(outcome.adapter)
    assert evaluate_model(loaded, asked, "de").sum_r == outcome.metrics["test/de"].sum_r


@pytest.mark.parametrize("pictures", [False, True])
def test_a_head_may_read_how_long_the_vectors_of_pictures_are(recipe, recipes, corpora, tmp_path, pictures):
    """Scored as it was trained: on vectors as they are, not on those of length 1."""
    made = corpora(pictures=pictures)
    rows = made.rows.add_column("back_translation", list(made.rows["caption"]))
    make = (lambda name, **changes: recipes("clip", tmp_path / name, **changes)) if pictures else recipe
    plan = plan_for(make, "nrccr", "run", head={**HEAD, "normalize_visual": False, "visual_width": 12})
    outcome = run_recipe(plan, dataclasses.replace(made, rows=rows))
    asked, model = made.test["test"], outcome.model
    if pictures:
        expected = model.encode_image(asked.pictures, "de")
    else:
        expected = model.map_visual(torch.from_numpy(asked.visual), "de")
    torch.testing.assert_close(gallery_of(model, asked, "de"), expected.cpu())
    assert outcome.metrics["test/de"].sum_r > 0
