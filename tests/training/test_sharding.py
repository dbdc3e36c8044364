"""`examples/launch/fsdp.yaml`: a base shared out over two processes makes the adapter that a whole base makes."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from accelerate.commands.config.config_args import load_config_from_file
from safetensors.torch import load_file

import ccr_adapters
from ccr_adapters.training import CCRTrainingArguments

WORKER = Path(__file__).with_name("worker.py")
CONFIG = Path(__file__).parents[2] / "examples" / "launch" / "fsdp.yaml"
PACKAGE = Path(ccr_adapters.__file__).parents[1]


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    """The folder with the runs, and what each of the two processes held."""
    folder = tmp_path_factory.mktemp("shards")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE), "OMP_NUM_THREADS": "1"}
    if "lo" in dict(map(reversed, socket.if_nameindex())):
        environment["GLOO_SOCKET_IFNAME"] = "lo"  # a machine need not be able to resolve its own name
    launch = [
        sys.executable,
        "-m",
        "accelerate.commands.launch",
        "--config_file",
        CONFIG,
        "--main_process_port",
        str(port),
    ]
    done = subprocess.run([*launch, WORKER, folder], env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder, [json.loads((folder / f"{rank}.json").read_text(encoding="utf-8")) for rank in range(2)]


def tensors(folder):
    names = ("adapter/adapter_model", "adapter/vocabulary", "cma/stage", "cma/checkpoint-1/trainable")
    return {f"{name}:{key}": t for name in names for key, t in load_file(folder / f"{name}.safetensors").items()}


def test_the_adapter_is_that_of_a_whole_base(outcome):
    whole, shared = (tensors(outcome[0] / name) for name in ("whole", "shared"))
    assert whole.keys() == shared.keys()
    assert len(whole) > 20
    for key, value in whole.items():
        torch.testing.assert_close(shared[key], value, rtol=0, atol=1e-5, msg=key)


def test_the_scores_are_too(outcome):
    found = [json.loads((outcome[0] / name / "metrics.json").read_text()) for name in ("whole", "shared")]
    assert found[0] == found[1]


@pytest.mark.parametrize("adapter", ["dasd", "lora"])
def test_each_process_holds_a_part_of_the_blocks(adapter, outcome):
    for counts in (found[adapter] for found in outcome[1]):
        assert counts["after"] == counts["before"]
        assert counts["during"] < 0.8 * counts["before"]
        assert counts["shards"] > 20
        assert counts["trained shards"] == 0


def test_the_base_is_whole_and_untouched_afterwards(outcome):
    assert len({sha256 for found in outcome[1] for sha256 in found["hashes"]}) == 1


@pytest.mark.parametrize("name", ["ddp", "deepspeed_zero2"])
def test_the_other_configs_are_ones_that_accelerate_reads(name):
    load_config_from_file(str(CONFIG.with_name(f"{name}.yaml")))


def test_sharding_the_adapter_too_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(ValueError, match="set `shard_base: true`"):
        CCRTrainingArguments(output_dir=str(tmp_path), use_cpu=True)


def test_one_process_keeps_its_base(toy, tmp_path, same):
    """There is nobody to share with."""
    methods = []
    for shard in (True, False):
        trainer = toy.trainer(tmp_path, max_steps=2, shard_base=shard)
        trainer.train()
        methods.append(trainer.model)
    same(*methods)
