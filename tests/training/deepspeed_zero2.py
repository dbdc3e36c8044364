"""`examples/launch/ddp.yaml` and `deepspeed_zero2.yaml`: two processes with DeepSpeed train what two without it train.

DeepSpeed compiles a part of itself where it runs and is no dependency of the tests: `make test-deepspeed` puts it beside the
environment and runs this file, which a plain `pytest` does not collect.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

ROOT = Path(__file__).parents[2]
RECIPE = {
    "base": "tiny_clip",
    "language": "de",
    "data": {"name": "tiny_world", "train": 64, "validation": 16, "test": 16},
    "vocabulary": {"kind": "word", "size": 300},
    "arguments": {
        "use_cpu": True,
        "per_device_train_batch_size": 4,
        "gradient_accumulation_steps": 2,
        "max_steps": 4,
        "learning_rate": 0.002,
        "adam_epsilon": 0.001,  # keeps noise from looking like a step
        "max_grad_norm": 0.5,  # not what DeepSpeed has by itself
        "eval_strategy": "no",
        "save_strategy": "steps",
        "save_steps": 2,
        "disable_tqdm": True,
    },
    "stages": [{"name": "cla"}, {"name": "cma"}],
}


def launched(config: str, folder: Path) -> Path:
    """Train by the command of the docs; the folder of the run."""
    recipe = folder.with_suffix(".yaml")
    recipe.write_text(yaml.safe_dump({**RECIPE, "output_dir": str(folder)}), encoding="utf-8")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu"}
    if "lo" in dict(map(reversed, socket.if_nameindex())):
        environment["GLOO_SOCKET_IFNAME"] = "lo"  # a machine need not be able to resolve its own name
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", f"examples/launch/{config}.yaml"]
    command = [*launch, "--main_process_port", str(port), "examples/train.py", str(recipe)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=480)
    assert done.returncode == 0, done.stderr[-5000:]
    return folder


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    names = ("adapter_model", "vocabulary")
    return {
        f"{name}:{key}": t for name in names for key, t in load_file(folder / "adapter" / f"{name}.safetensors").items()
    }


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Folders of a run without DeepSpeed and of one with it."""
    home = tmp_path_factory.mktemp("runs")
    return launched("ddp", home / "plain"), launched("deepspeed_zero2", home / "zero2")


def test_the_adapter_is_the_same(runs):
    plain, zero2 = map(tensors, runs)
    assert plain.keys() == zero2.keys()
    assert len(plain) > 20
    for key, value in plain.items():
        torch.testing.assert_close(zero2[key], value, rtol=0, atol=1e-5, msg=key)


def test_the_scores_are_too(runs):
    plain, zero2 = (json.loads((folder / "metrics.json").read_text(encoding="utf-8")) for folder in runs)
    assert plain == zero2


def test_a_run_that_was_stopped_goes_on_to_the_same(runs):
    _, zero2 = runs
    whole = tensors(zero2)
    for gone in ("adapter", "cma/checkpoint-4", "cma/stage.json", "cma/stage.safetensors"):
        path = zero2 / gone
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    again = tensors(launched("deepspeed_zero2", zero2))
    summary = json.loads((zero2 / "training_summary.json").read_text(encoding="utf-8"))
    assert summary["stages"]["cma"]["resumed_from"] == "checkpoint-2"
    for key, value in whole.items():
        assert torch.equal(again[key], value), key
