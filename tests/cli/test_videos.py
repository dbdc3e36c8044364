"""Video files to train on, by the command: real clips of the moving world, encoded once."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
import yaml
from typer.testing import CliRunner

from ccr_adapters.cli.galleries import Galleries
from ccr_adapters.cli.main import app
from ccr_adapters.data.corpus import load_corpus
from ccr_adapters.data.tiny_world import build_moving_world
from ccr_adapters.evaluation import evaluate_retrieval
from ccr_adapters.modeling import CCRModel

SIZES = {"train": 12, "validation": 4, "test": 6}
ARGUMENTS = {"use_cpu": True, "per_device_train_batch_size": 4, "max_steps": 2, "disable_tqdm": True}
HEAD = {"space": 24, "width": 16, "attention_heads": 2}
METHODS = {
    "nrccr with a temporal layer": {"method": "nrccr", "head": {**HEAD, "frames": 4}, "stages": [{"name": "joint"}]},
    "nrccr with the mean": {"method": "nrccr", "head": HEAD, "stages": [{"name": "joint"}]},
    "nrccr on vectors at their own length": {
        "method": "nrccr",
        "head": {**HEAD, "frames": 4, "normalize_visual": False},
        "stages": [{"name": "joint"}],
    },
    "nrccr on means at their own length": {
        "method": "nrccr",
        "head": {**HEAD, "normalize_visual": False},
        "stages": [{"name": "joint"}],
    },
    "dasd with the mean": {
        "method": "dasd",
        "adapter": {"peft_type": "DASD", "r": 4, "condition_dim": 16, "generator_rank": 4},
        "stages": [{"name": "cla"}, {"name": "cma"}],
    },
}


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    """Folder with clips and their captions. Not to be written to."""
    folder = tmp_path_factory.mktemp("moving") / "world"
    build_moving_world(folder, "de", **SIZES, image_size=32, frames=8)
    return folder


def trained(folder, base, data, **changes):
    """What the command left and said."""
    folder.mkdir(parents=True, exist_ok=True)
    values = {"base": str(base), "language": "de", "data": data, "output_dir": str(folder / "run"), **changes}
    values.setdefault("arguments", ARGUMENTS)
    (folder / "recipe.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    return CliRunner().invoke(app, ["train", str(folder / "recipe.yaml")])


@pytest.mark.parametrize("name", METHODS)
def test_a_language_is_trained_on_clips(name, world, bases, tmp_path, seen):
    found = trained(tmp_path, bases["clip"], {"path": str(world)}, **METHODS[name])
    assert found.exit_code == 0, found.output
    length = METHODS[name].get("head", {}).get("frames") or 8
    assert sum(seen) == length * sum(SIZES.values())  # one pass, for training, choosing and scoring
    saved = json.loads((tmp_path / "run" / "metrics.json").read_text(encoding="utf-8"))
    # scored on the very files again, the adapter has the numbers of its training
    rows = load_corpus({"path": str(world)}, "de").test["test"]
    model = CCRModel.from_pretrained(tmp_path / "run" / "adapter")
    text, visual = model.encode_text(rows.captions["de"], "de"), model.encode_video(rows.videos, "de")
    again = evaluate_retrieval(text, visual, rows.caption_to_image["de"], bootstrap=0)
    assert saved["test/de"]["sumR"] == pytest.approx(again.sum_r)
    # and so has `evaluate`
    torch.testing.assert_close(Galleries().vectors(model, "base", rows, "de"), visual, rtol=0, atol=1e-5)
    assert {"test/en", "test/de before"} < saved.keys()


def test_frames_are_encoded_once_for_two_runs(world, bases, tmp_path, seen):
    data, changes = {"path": str(world)}, METHODS["dasd with the mean"]
    cache = {"cache_dir": str(tmp_path / "targets")}
    assert trained(tmp_path / "a", bases["clip"], data, **changes, **cache).exit_code == 0
    once = sum(seen)
    assert trained(tmp_path / "b", bases["clip"], data, **changes, **cache, seed=1).exit_code == 0
    assert sum(seen) == once


@pytest.mark.parametrize("kind", ["arrays", "bigfile"])
def test_a_folder_of_frames_takes_the_place_of_the_files(kind, world, bases, tmp_path, seen):
    """Features of a network that is not ours, of any length a clip; the files need not be there."""
    folder, noise = tmp_path / "data", np.random.default_rng(0)
    (folder / "frames").mkdir(parents=True)
    names, vectors, table = [], [], {}
    for split in SIZES:
        shutil.copy(world / f"{split}.jsonl", folder)
        for line in (folder / f"{split}.jsonl").read_text(encoding="utf-8").splitlines():
            clip, own = json.loads(line)["image_id"], noise.normal(size=(int(noise.integers(2, 7)), 20))
            table[clip] = [f"{clip}_{row}" for row in range(len(own))]
            names += table[clip]
            vectors.append(own.astype("<f4"))
            if kind == "arrays":
                np.save(folder / "frames" / f"{clip}.npy", own.astype("<f4"))
    if kind == "bigfile":
        np.concatenate(vectors).tofile(folder / "frames" / "feature.bin")
        (folder / "frames" / "id.txt").write_text(" ".join(names), encoding="utf-8")
        (folder / "frames" / "shape.txt").write_text(f"{len(names)} 20", encoding="utf-8")
        (folder / "frames" / "video2frames.txt").write_text(repr(table), encoding="utf-8")
    corpus = load_corpus({"path": str(folder), "visual": "frames"}, "de")
    np.testing.assert_array_equal(corpus.videos[1], vectors[1])
    changes = METHODS["nrccr with a temporal layer"]
    found = trained(tmp_path, bases["bert"], {"path": str(folder), "visual": "frames"}, **changes)
    assert found.exit_code == 0, found.output
    assert not seen
    saved = json.loads((tmp_path / "run" / "metrics.json").read_text(encoding="utf-8"))
    model = CCRModel.from_pretrained(tmp_path / "run" / "adapter")
    asked = corpus.test["test"]
    text, visual = model.encode_text(asked.captions["de"], "de"), model.encode_video(asked.videos, "de")
    again = evaluate_retrieval(text, visual, asked.caption_to_image["de"], bootstrap=0)
    assert saved["test/de"]["sumR"] == pytest.approx(again.sum_r)


def test_what_cannot_be_is_said_before_any_work(world, bases, tmp_path, seen):
    data, changes = {"path": str(world)}, METHODS["dasd with the mean"]

    def refused(name, message, base="clip", data=data, **more):
        found = trained(tmp_path / name, bases[base], data, **{**changes, **more})
        assert found.exit_code == 1
        assert message in found.stderr
        assert not (tmp_path / name / "run" / "targets").exists()

    refused("blind", "no image tower, and the data has video files", base="bert")
    refused("english", "has video files. Leave the stage out", stages=[{"name": "english"}, {"name": "cla"}])
    (tmp_path / "gone").mkdir()
    for split in SIZES:
        shutil.copy(world / f"{split}.jsonl", tmp_path / "gone")
    refused(
        "missing", "row 0: the video 'train/moving-train-00000.mp4' is missing", data={"path": str(tmp_path / "gone")}
    )
    numbers = tmp_path / "numbers"
    numbers.mkdir()
    for split in SIZES:
        lines = (world / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()
        rows = [{**json.loads(line), "video": 3} for line in lines]
        (numbers / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    refused("numbers", "expected paths of files", data={"path": str(numbers)})
    (tmp_path / "empty").mkdir()
    few = {"path": str(world), "visual": str(tmp_path / "empty")}
    np.save(tmp_path / "empty" / "other.npy", torch.ones(2, 3).numpy())
    refused("few", "12 of 12 videos have no frames, the first is 'moving-train-00000'", data=few)
