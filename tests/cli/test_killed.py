"""The real command, killed without warning at a random moment and started again, makes the very model of a whole run."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import torch
import yaml
from safetensors.torch import load_file

import ccr_adapters
from ccr_adapters.cli.recipe import load_recipe
from ccr_adapters.cli.train import run_recipe

COMMAND = Path(__file__).parents[2] / "examples" / "train.py"
PACKAGE = Path(ccr_adapters.__file__).parents[1]
STEPS = 120


def write_data(folder):
    """Captions and vectors as the files that a user has."""
    folder.mkdir()
    draw = random.Random(0)
    words = {"Hund": "dog", "Katze": "cat", "rot": "red", "blau": "blue", "alt": "old", "Haus": "house"}
    rows = []
    for index in range(24):
        german = draw.choices(list(words), k=draw.randint(1, 5))
        english = " ".join(words[word] for word in german)
        rows.append({"image_id": f"p{index % 8}", "caption": english, "translation": " ".join(german)})
    pixels = {f"p{index}": bytes(draw.randrange(256) for _ in range(16 * 16 * 3)) for index in range(8)}
    for name, values in pixels.items():
        (folder / f"{name}.ppm").write_bytes(b"P6 16 16 255\n" + values)
    for split, column in (("train", "translation"), ("validation", "target_caption"), ("test", "target_caption")):
        values = [
            {
                "image_id": row["image_id"],
                "image": f"{row['image_id']}.ppm",
                "caption": row["caption"],
                column: row["translation"],
            }
            for row in rows
        ]
        (folder / f"{split}.jsonl").write_text("\n".join(map(json.dumps, values)), encoding="utf-8")


def killed(recipe, stage, reached, wait):
    """Start the command, and kill it a moment after a stage has written its checkpoint of some step."""
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE), "OMP_NUM_THREADS": "1"}
    with (recipe.parent / "log").open("w") as log:
        process = subprocess.Popen([sys.executable, COMMAND, recipe], env=environment, stdout=log, stderr=log)
        try:
            deadline = time.monotonic() + 120
            while not any(step(path) >= reached for path in stage.glob("checkpoint-*")):
                assert process.poll() is None, (recipe.parent / "log").read_text()[-3000:]
                assert time.monotonic() < deadline
                time.sleep(0.002)
            time.sleep(wait)
        finally:
            process.kill()
            process.wait()
    assert process.returncode == -9  # not the end of the run


def step(path):
    return int(path.name.partition("-")[2])


def tensors(folder):
    names = ("adapter/adapter_model", "adapter/vocabulary", "cla/stage", "cma/stage")
    return {f"{name}:{key}": t for name in names for key, t in load_file(folder / f"{name}.safetensors").items()}


def test_a_run_killed_at_a_random_moment_is_the_run_that_was_not(recipes, tmp_path):
    draw = random.Random()  # another moment each time: none of them may matter
    write_data(tmp_path / "data")
    arguments = {"max_steps": STEPS, "save_steps": 3, "per_device_train_batch_size": 8, "disable_tqdm": True}

    def written(name):
        plan = recipes(
            "clip",
            tmp_path / name,
            data={"path": str(tmp_path / "data")},
            vocabulary={"size": 60, "kind": "unigram", "sampling": 0.5, "unknown": 0.2},
            arguments={"use_cpu": True, "save_strategy": "steps", "learning_rate": 0.005, **arguments},
            stages=[{"name": "cla", "arguments": {"max_steps": 9}}, {"name": "cma", "terms": {"scale": 10.0}}],
        )
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(asdict(plan)), encoding="utf-8")
        return path

    cut = written("cut")
    reached = draw.randint(3, STEPS // 4)  # far from the end, which a busy machine may reach before the kill
    killed(cut, tmp_path / "cut" / "cma", reached, draw.uniform(0, 0.1))
    run_recipe(load_recipe(cut), evaluate=False)
    resumed = json.loads((tmp_path / "cut" / "cma" / "stage.json").read_text(encoding="utf-8"))["resumed_from"]
    assert resumed is not None
    assert int(resumed.partition("-")[2]) < STEPS
    run_recipe(load_recipe(written("whole")), evaluate=False)
    whole, mended = tensors(tmp_path / "whole"), tensors(tmp_path / "cut")
    assert whole.keys() == mended.keys()
    different = [key for key in whole if not torch.equal(whole[key], mended[key])]
    assert not different, f"killed at checkpoint {reached}, resumed from {resumed}"
