"""InfoNCE against hand-computed values and a loop; several processes are in test_processes.py."""

from __future__ import annotations

import doctest
import math

import pytest
import torch
from torch import Tensor

from ccr_adapters.errors import TrainingError
from ccr_adapters.objectives import contrastive, info_nce, info_nce_one_way


def slow_info_nce(a: Tensor, b: Tensor, scale: float, ids: list[int]) -> float:
    """The equation, one row and one direction at a time."""
    cosines = [[float(x @ y / (x.norm() * y.norm())) for y in b.double().unbind()] for x in a.double().unbind()]
    total = 0.0
    for i in range(len(a)):
        kept = [j for j in range(len(a)) if j == i or ids[j] != ids[i]]
        for line in ([cosines[i][j] for j in kept], [cosines[j][i] for j in kept]):
            total -= scale * cosines[i][i] - math.log(sum(math.exp(scale * c) for c in line))
    return total / (2 * len(a))


def test_equal_embeddings_give_log_of_the_batch():
    assert info_nce(torch.ones(6, 4), torch.ones(6, 4)).item() == pytest.approx(math.log(6))


def test_two_orthogonal_pairs_by_hand():
    # Each row: e^1 / (e^1 + e^0), both ways alike.
    expected = math.log(1 + math.exp(-1))
    assert info_nce(torch.eye(2), torch.eye(2), scale=1.0).item() == pytest.approx(expected)


def test_length_does_not_count():
    a, b = torch.randn(5, 3), torch.randn(5, 3)
    assert torch.allclose(info_nce(a, b), info_nce(7 * a, 0.1 * b), atol=1e-4)


@pytest.mark.parametrize("ids", [[0, 1, 2, 3, 4], [0, 1, 0, 2, 1], [3, 3, 3, 3, 9]])
def test_equals_a_loop(ids):
    a, b = torch.randn(5, 7), torch.randn(5, 7)
    fast = info_nce(a, b, scale=8.0, ids=torch.tensor(ids))
    assert fast.item() == pytest.approx(slow_info_nce(a, b, 8.0, ids), rel=1e-5)


def test_one_group_leaves_nothing_to_tell_apart():
    loss = info_nce(torch.randn(4, 3, requires_grad=True), torch.randn(4, 3), ids=torch.zeros(4, dtype=torch.long))
    assert loss.item() == 0.0


def test_rows_of_one_picture_do_not_push_each_other_apart():
    a, b = torch.randn(3, 4, requires_grad=True), torch.randn(3, 4, requires_grad=True)
    info_nce(a, b, scale=1.0, ids=torch.tensor([0, 0, 1])).backward()
    assert a.grad.isfinite().all()
    assert b.grad.isfinite().all()
    # Row 0 of `a` meets rows 0 and 2 of `b` only: moving row 1 of `b` changes nothing for it.
    moved = b.detach().clone()
    moved[1] = torch.randn(4)
    grads = []
    for other in (b.detach(), moved):
        leaf = a.detach().clone().requires_grad_()
        info_nce(leaf, other, scale=1.0, ids=torch.tensor([0, 0, 1])).backward()
        grads.append(leaf.grad[0])
    assert torch.equal(*grads)


def test_a_learned_scale_gets_a_gradient():
    scale = torch.tensor(2.0, requires_grad=True)
    info_nce(torch.randn(4, 3), torch.randn(4, 3), scale=scale).backward()
    assert scale.grad != 0


def test_gradients_are_those_of_the_function():
    a = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    b = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    ids = torch.tensor([0, 1, 1, 2])
    assert torch.autograd.gradcheck(lambda x, y: info_nce(x, y, scale=5.0, ids=ids), (a, b))


def test_autocast_and_half_precision_do_not_reach_the_logits():
    a, b = torch.randn(16, 32), torch.randn(16, 32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(info_nce(a, b), info_nce(a, b).float())
        inside = info_nce(a, b)
    assert torch.equal(inside, info_nce(a, b))
    assert info_nce(a.bfloat16(), b.bfloat16()).dtype == torch.float32
    assert info_nce(a, b.double()).dtype == torch.float64


def test_one_way_equals_a_loop():
    queries, bank, targets = torch.randn(3, 5), torch.randn(8, 5), torch.tensor([7, 0, 3])
    total = 0.0
    for query, target in zip(queries, targets.tolist(), strict=True):
        scores = [4.0 * float(query @ row / (query.norm() * row.norm())) for row in bank]
        total += math.log(sum(map(math.exp, scores))) - scores[target]
    assert info_nce_one_way(queries, bank, targets, scale=4.0).item() == pytest.approx(total / 3, rel=1e-5)


def test_one_way_with_an_equal_bank_gives_log_of_the_bank():
    loss = info_nce_one_way(torch.randn(3, 4), torch.ones(9, 4), torch.tensor([0, 4, 8]))
    assert loss.item() == pytest.approx(math.log(9), rel=1e-5)


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
        info_nce(a, b, ids=ids)


@pytest.mark.parametrize(("bank", "targets"), [(torch.ones(5, 3), torch.zeros(2)), (torch.ones(5, 4), torch.zeros(3))])
def test_a_bank_that_does_not_fit(bank, targets):
    with pytest.raises(TrainingError, match=r"got"):
        info_nce_one_way(torch.ones(2, 4), bank, targets.long())


def test_the_example_runs():
    assert doctest.testmod(contrastive) == (0, 1)
