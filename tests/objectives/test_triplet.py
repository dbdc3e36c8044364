"""The triplet loss against hand-computed values and a loop; several processes are in test_processes.py."""

from __future__ import annotations

import doctest
import importlib

import pytest
import torch
from torch import Tensor

from ccr_adapters.errors import TrainingError
from ccr_adapters.objectives import triplet


def slow_triplet(a: Tensor, b: Tensor, margin: float, ids: list[int]) -> float:
    """The equation, one row and one direction at a time."""
    cosines = [[float(x @ y / (x.norm() * y.norm())) for y in b.double().unbind()] for x in a.double().unbind()]
    total = 0.0
    for i in range(len(a)):
        others = [j for j in range(len(a)) if ids[j] != ids[i]]
        if others:
            total += max(0.0, margin + max(cosines[i][j] for j in others) - cosines[i][i])
            total += max(0.0, margin + max(cosines[j][i] for j in others) - cosines[i][i])
    return total


def test_three_rows_by_hand():
    # cosines (rows a, columns b): [[0.6, 0.8, 0], [1, 0, 0], [0, 0, 1]]
    a = torch.tensor([[1.0, 0.0, 0.0], [0.6, 0.8, 0.0], [0.0, 0.0, 2.0]])
    b = torch.tensor([[0.6, 0.8, 0.0], [0.8, -0.6, 0.0], [0.0, 0.0, 5.0]])
    rows = (0.2 + 0.8 - 0.6) + (0.2 + 1.0 - 0.0) + 0
    columns = (0.2 + 1.0 - 0.6) + (0.2 + 0.8 - 0.0) + 0
    assert triplet(a, b).item() == pytest.approx(rows + columns)


def test_a_pair_that_wins_by_the_margin_costs_nothing():
    assert triplet(torch.eye(4), torch.eye(4), margin=1.0).item() == 0
    assert triplet(torch.eye(4), torch.eye(4), margin=1.5).item() == pytest.approx(8 * 0.5)


def test_it_is_a_sum_and_length_does_not_count():
    a, b = torch.randn(5, 3), torch.randn(5, 3)
    twice = triplet(torch.cat([a, a]), torch.cat([b, b]), ids=torch.arange(5).repeat(2))
    assert torch.allclose(twice, 2 * triplet(3 * a, 0.1 * b), rtol=1e-4)


@pytest.mark.parametrize("ids", [[0, 1, 2, 3, 4], [0, 1, 0, 2, 1], [3, 3, 3, 3, 9], [1, 1, 1, 1, 1]])
@pytest.mark.parametrize("margin", [0.2, 1.0])
def test_equals_a_loop(ids, margin):
    a, b = torch.randn(5, 7), torch.randn(5, 7)
    fast = triplet(a, b, margin=margin, ids=torch.tensor(ids))
    assert fast.item() == pytest.approx(slow_triplet(a, b, margin, ids), rel=1e-5)


@pytest.mark.parametrize(("rows", "ids"), [(1, None), (3, [4, 4, 4])])
def test_without_negatives_it_is_a_zero_that_keeps_the_graph(rows, ids):
    a, b = torch.randn(rows, 3, requires_grad=True), torch.randn(rows, 3, requires_grad=True)
    loss = triplet(a, b, ids=None if ids is None else torch.tensor(ids))
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(a.grad, torch.zeros_like(a))
    assert torch.equal(b.grad, torch.zeros_like(b))


def test_gradients_are_those_of_the_function():
    a = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    b = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    ids = torch.tensor([0, 1, 1, 2, 3])
    assert torch.autograd.gradcheck(lambda x, y: triplet(x, y, margin=0.8, ids=ids), (a, b))


def test_autocast_and_half_precision_do_not_reach_the_cosines():
    a, b = torch.randn(16, 32), torch.randn(16, 32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = triplet(a, b)
    assert torch.equal(inside, triplet(a, b))
    assert triplet(a.bfloat16(), b.bfloat16()).dtype == torch.float32
    assert triplet(a, b.double()).dtype == torch.float64


@pytest.mark.parametrize(
    ("a", "b", "ids"),
    [
        (torch.ones(3, 4), torch.ones(2, 4), None),
        (torch.ones(3, 4), torch.ones(3, 5), None),
        (torch.ones(4), torch.ones(4), None),
        (torch.ones(3, 4), torch.ones(3, 4), torch.zeros(2)),
    ],
)
def test_shapes_that_do_not_fit(a, b, ids):
    with pytest.raises(TrainingError, match=r"got"):
        triplet(a, b, ids=ids)


def test_the_example_runs():
    assert doctest.testmod(importlib.import_module("ccr_adapters.objectives.triplet")) == (0, 2)
