"""Gathering in a single process, where it must not be felt; two processes are in test_processes.py."""

from __future__ import annotations

import torch

from ccr_adapters.objectives.gather import all_gather_with_grad, local_offset, rank, row_counts, world_size


def test_a_single_process_gathers_nothing():
    rows = torch.randn(3, 2, requires_grad=True)
    assert all_gather_with_grad(rows) is rows
    assert (world_size(), rank(), local_offset(rows), row_counts(rows)) == (1, 0, 0, [3])
