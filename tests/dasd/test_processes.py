"""Two processes under DDP train the adapters that one process with the whole batch trains."""

from __future__ import annotations

import os
import runpy
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import ccr_adapters

WORKER = Path(__file__).with_name("worker.py")
PACKAGE = Path(ccr_adapters.__file__).parents[1]


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> dict[str, dict[str, torch.Tensor]]:
    """Adapter weights after training: by one process, and by each of two."""
    folder = tmp_path_factory.mktemp("ddp")
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE), "OMP_NUM_THREADS": "1"}
    if "lo" in dict(map(reversed, socket.if_nameindex())):
        environment["GLOO_SOCKET_IFNAME"] = "lo"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    processes = {}
    for name, rank in (("first", "0"), ("second", "1")):
        command = [sys.executable, WORKER, rank, "2", address, folder / name]
        # into a file: a pipe that nobody empties would hold the process up, and with it the other one
        with (folder / f"{name}.log").open("w") as log:
            processes[name] = subprocess.Popen(command, env=environment, stderr=log)
    try:
        runpy.run_path(str(WORKER))["main"](0, 1, "", str(folder / "whole"))
        deadline = time.monotonic() + 120
        # one that fails leaves the other waiting for it
        while any(process.poll() is None for process in processes.values()) and time.monotonic() < deadline:
            if any(process.poll() for process in processes.values()):
                break
            time.sleep(0.05)
        codes = {name: process.poll() for name, process in processes.items()}
        logs = {name: (folder / f"{name}.log").read_text() for name in processes}
        assert codes == {"first": 0, "second": 0}, logs
    finally:
        for process in processes.values():
            process.kill()
            process.wait()
    return {name: load_file(folder / name) for name in ("whole", *processes)}


def test_two_processes_train_what_one_trains(trained):
    for name, expected in trained["whole"].items():
        torch.testing.assert_close(trained["first"][name], expected, rtol=1e-3, atol=1e-5, msg=name)


def test_both_processes_hold_the_same_weights(trained):
    for name, weight in trained["first"].items():
        assert torch.equal(trained["second"][name], weight), name


def test_the_weights_moved(trained):
    assert len(trained["whole"]) > 10
    assert all(weight.any() for weight in trained["whole"].values())
