"""Two processes under DDP compute the losses and gradients of one process with the whole batch."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import ccr_adapters

WORKER = Path(__file__).with_name("worker.py")
PACKAGE = Path(ccr_adapters.__file__).parents[1]
CASES = {"equal shares": ("4,4", "all"), "unequal shares": ("3,5", "contrastive")}


@pytest.fixture(scope="module", params=CASES)
def found(request, tmp_path_factory) -> dict:
    """What one process finds on 8 rows, what two find on their shares, and the shares."""
    shares, terms = CASES[request.param]
    folder = tmp_path_factory.mktemp("processes")
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE), "OMP_NUM_THREADS": "1"}
    if "lo" in dict(map(reversed, socket.if_nameindex())):
        environment["GLOO_SOCKET_IFNAME"] = "lo"  # a machine need not be able to resolve its own name
    processes = {
        name: subprocess.Popen(
            [sys.executable, WORKER, rank, folder / "store", folder / name, rows, terms],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for name, rank, rows in (("whole", "0", "8"), ("first", "0", shares), ("second", "1", shares))
    }
    try:
        for process in processes.values():
            _, errors = process.communicate(timeout=120)
            assert process.returncode == 0, errors
    finally:
        for process in processes.values():
            process.kill()
    results = {name: json.loads((folder / name).read_text(encoding="utf-8")) for name in processes}
    return results | {"shares": [int(share) for share in shares.split(",")]}


def test_the_losses_are_those_of_one_process(found):
    whole, first, second = (found[name]["terms"] for name in ("whole", "first", "second"))
    for name, value in whole.items():
        # DDP averages: so must the values that two processes log.
        assert (first[name] + second[name]) / 2 == pytest.approx(value, rel=1e-10), name
    for name in ("nce", "triplet", "similarity view", "relational"):
        assert whole[name] > 0
        assert first[name] == pytest.approx(whole[name], rel=1e-10), name
        assert second[name] == pytest.approx(whole[name], rel=1e-10), name


def test_the_gradients_are_those_of_one_process(found):
    for name, gradient in found["whole"]["gradients"].items():
        expected = torch.tensor(gradient, dtype=torch.float64)
        for process in ("first", "second"):
            actual = torch.tensor(found[process]["gradients"][name], dtype=torch.float64)
            assert torch.allclose(actual, expected, rtol=1e-9, atol=1e-12), (process, name)
    assert any(torch.tensor(g).abs().sum() > 0 for g in found["whole"]["gradients"].values())


def test_rows_come_in_order_and_each_process_knows_its_own(found):
    first, second, shares = found["first"], found["second"], found["shares"]
    assert first["gathered"]
    assert second["gathered"]
    assert (first["offset"], second["offset"]) == (0, shares[0])
    assert first["counts"] == second["counts"] == shares
