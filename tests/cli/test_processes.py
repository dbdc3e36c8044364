"""The real command with two processes: they make the model that one makes, also after they were killed."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

import ccr_adapters
from ccr_adapters.cli.recipe import load_recipe
from ccr_adapters.cli.train import run_recipe

COMMAND = Path(__file__).parents[2] / "examples" / "train.py"
PACKAGE = Path(ccr_adapters.__file__).parents[1]
# 20 pairs: two global batches of 8 an epoch, and a rest that is dropped; Adam's eps keeps noise from looking like a step
ARGUMENTS = {
    "use_cpu": True,
    "num_train_epochs": 3,
    "learning_rate": 0.005,
    "adam_epsilon": 0.001,
    "save_strategy": "steps",
    "save_steps": 3,
    "save_total_limit": 5,
    "logging_steps": 100,
    "disable_tqdm": True,
}
STAGES = [
    {"name": "english", "arguments": {"num_train_epochs": 1, "learning_rate": 0.0005}},
    {"name": "cla", "arguments": {"num_train_epochs": 1}},
    {"name": "cma", "terms": {"scale": 10.0, "adversarial": 0.1}},
]


def data_folder(folder, corpus):
    """A corpus as the files that a user has."""
    folder.mkdir()
    for index, picture in enumerate(corpus.pictures):
        picture.save(folder / f"p{index}.png")
    english, german = list(corpus.rows["caption"]), list(corpus.rows["translation"])
    for split, column in (("train", "translation"), ("validation", "target_caption"), ("test", "target_caption")):
        rows = zip(corpus.image_index.tolist(), english, german, strict=True)
        values = [{"image_id": f"p{i}", "image": f"p{i}.png", "caption": en, column: de} for i, en, de in rows]
        values = values if split == "train" else values[:10]
        (folder / f"{split}.jsonl").write_text("\n".join(map(json.dumps, values)), encoding="utf-8")


def start(recipe, processes):
    """Start the command as `accelerate launch --cpu --num_processes N` does."""
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE), "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    if processes > 1:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(processes)}
        if "lo" in dict(map(reversed, socket.if_nameindex())):
            environment["GLOO_SOCKET_IFNAME"] = "lo"  # a machine need not be able to resolve its own name
    ranks = [{"RANK": str(n), "LOCAL_RANK": str(n)} if processes > 1 else {} for n in range(processes)]
    return [
        subprocess.Popen(
            [sys.executable, COMMAND, recipe],
            env=environment | rank,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in ranks
    ]


def finish(processes):
    printed = []
    try:
        for process in processes:
            out, errors = process.communicate(timeout=240)
            assert process.returncode == 0, errors[-3000:]
            printed.append(out)
    finally:
        for process in processes:
            process.kill()
    return printed


@pytest.fixture(scope="module")
def runs(recipes, corpora, tmp_path_factory):
    """Folders of a run by one process, by two, and by two that were killed in the last stage; what two printed."""
    home = tmp_path_factory.mktemp("processes")
    data_folder(home / "data", corpora(pictures=True))

    def written(name, rows):
        plan = recipes(
            "clip",
            home / name,
            data={"path": str(home / "data")},
            vocabulary={"size": 60, "kind": "unigram", "sampling": 0.5},
            # two processes encode a part of their rows at a time: the model has to be the same all the same
            arguments={**ARGUMENTS, "per_device_train_batch_size": rows, "mini_batch_size": 3 if rows == 4 else None},
            stages=STAGES,
        )
        path = home / f"{name}.yaml"
        path.write_text(yaml.safe_dump(asdict(plan)), encoding="utf-8")
        return path

    started = start(written("two", 4), 2)
    run_recipe(load_recipe(written("one", 8)), evaluate=False)
    printed = [finish(started)]
    shutil.copytree(home / "two", home / "killed")
    for name in ("stage.json", "stage.safetensors", "checkpoint-6/complete.json"):
        (home / "killed" / "cma" / name).unlink()
    shutil.rmtree(home / "killed" / "adapter")
    printed.append(finish(start(written("killed", 4), 2)))
    return {name: home / name for name in ("one", "two", "killed")}, printed


def tensors(folder):
    names = ("base/model", "adapter/adapter_model", "adapter/vocabulary", "cma/stage")
    return {f"{name}:{key}": t for name in names for key, t in load_file(folder / f"{name}.safetensors").items()}


def test_two_processes_make_the_model_that_one_makes(runs):
    one, two = (tensors(runs[0][name]) for name in ("one", "two"))
    assert one.keys() == two.keys()
    assert {"discriminator", "model"} == {key.split(":")[1].split(".")[0] for key in one if key.startswith("cma")}
    for key in one:
        torch.testing.assert_close(one[key], two[key], rtol=0, atol=1e-5, msg=key)


def test_the_steps_count_global_batches(runs):
    for folder in runs[0].values():
        summary = json.loads((folder / "training_summary.json").read_text(encoding="utf-8"))
        assert {name: stage["steps"] for name, stage in summary["stages"].items()} == {"english": 2, "cla": 2, "cma": 6}


def test_two_processes_resume_in_the_middle_of_an_epoch(runs):
    """They go on from step 3, which is in the second epoch, with the rows of that epoch."""
    summary = json.loads((runs[0]["killed"] / "cma" / "stage.json").read_text(encoding="utf-8"))
    assert summary["resumed_from"] == "checkpoint-3"
    two, killed = (tensors(runs[0][name]) for name in ("two", "killed"))
    assert [key for key in two if not torch.equal(two[key], killed[key])] == []


def test_one_process_of_the_two_prints_the_table(runs):
    for first, second in runs[1]:
        assert "CCRModel.from_pretrained('" in first
        assert "test/de before" in first
        assert "from_pretrained" not in second


OTHERS = {
    "nrccr": {"adapter": {"peft_type": "FULL", "head": False}},
    # words are masked at random, by each process on its own
    "cl2cm": {"adapter": {"peft_type": "FULL"}, "terms": {"words": 0.0}},
}


@pytest.mark.parametrize("method", OTHERS)
def test_other_methods_are_the_same_in_two_processes(method, recipes, corpora, tmp_path):
    """With a head, whose normalisation goes over all rows, and which leaves parts of the copies without a gradient."""
    corpus = corpora(pictures=True)
    data_folder(tmp_path / "data", corpus)
    lines = [json.loads(line) for line in (tmp_path / "data/train.jsonl").read_text(encoding="utf-8").splitlines()]
    # not the captions themselves: of two that are equally near, noise would choose the hardest
    lines = [{**line, "back_translation": f"old {line['caption']} red"} for line in lines]
    (tmp_path / "data/train.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")

    def written(name, rows):
        plan = recipes(
            "clip",
            tmp_path / name,
            data={"path": str(tmp_path / "data")},
            method=method,
            adapter=OTHERS[method]["adapter"],
            head={"space": 8, "width": 8, "attention_heads": 2, "dropout": 0.0},
            arguments={**ARGUMENTS, "learning_rate": 1e-3, "per_device_train_batch_size": rows, "save_strategy": "no"},
            stages=[{"name": "joint", "terms": OTHERS[method].get("terms", {})}],
        )
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(asdict(plan)), encoding="utf-8")
        return path

    started = start(written("two", 4), 2)
    run_recipe(load_recipe(written("one", 8)), evaluate=False)
    finish(started)
    for file in ("adapter/adapter_model.safetensors", "adapter/head.safetensors"):
        one, two = (load_file(tmp_path / name / file) for name in ("one", "two"))
        for key in one:
            # what shifts all rows alike is taken away by the normalisation: no gradient but rounding moves it, and its mean
            atol = 1e-3 if key.endswith("running_mean") else 1e-4
            torch.testing.assert_close(one[key], two[key], rtol=1e-3, atol=atol, msg=key)
