"""Relational distillation by hand and against a loop; several processes are in test_processes.py."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from ccr_adapters.errors import TrainingError
from ccr_adapters.objectives import relational, relational_to_bank, similarity_view


def divergence(teacher: list[float], student: list[float]) -> float:
    """KL between the softmaxes of two short lists."""
    p, q = ([math.exp(x) / sum(map(math.exp, scores)) for x in scores] for scores in (teacher, student))
    return sum(x * math.log(x / y) for x, y in zip(p, q, strict=True))


def cosines(a: Tensor, b: Tensor) -> list[list[float]]:
    return (F.normalize(a.double(), dim=-1) @ F.normalize(b.double(), dim=-1).T).tolist()


def slow_relational(taught: list[list[float]], found: list[list[float]], temperature: float, ids: list[int]) -> float:
    """The equation, one row and one direction at a time."""
    total = 0.0
    for i in range(len(ids)):
        kept = [j for j in range(len(ids)) if j == i or ids[j] != ids[i]]
        total += divergence(*([m[i][j] / temperature for j in kept] for m in (taught, found)))
        total += divergence(*([m[j][i] / temperature for j in kept] for m in (taught, found)))
    return total / (2 * len(ids))


def four(rows: int = 5, **options):
    """A teacher of width 7 and a student of width 4."""
    return [torch.randn(rows, d, **options) for d in (7, 7, 4, 4)]


def test_two_rows_by_hand():
    # Teacher 0.9 to 0.1, student even: KL = log 2 - entropy, by rows and by columns.
    entropy = -(0.9 * math.log(0.9) + 0.1 * math.log(0.1))
    loss = relational(torch.eye(2), torch.eye(2), torch.ones(2, 3), torch.ones(2, 3), temperature=1 / math.log(9))
    assert loss.item() == pytest.approx(math.log(2) - entropy, rel=1e-5)


def test_the_same_similarities_cost_nothing_whatever_the_vectors():
    rows, columns = torch.randn(6, 5), torch.randn(6, 5)
    turn = torch.linalg.qr(torch.randn(5, 5)).Q
    assert relational(rows, columns, 3 * rows @ turn, columns @ turn).item() == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("ids", [[0, 1, 2, 3, 4], [0, 1, 0, 2, 1], [3, 3, 3, 3, 9]])
def test_equals_a_loop(ids):
    teacher_rows, teacher_columns, rows, columns = four()
    fast = relational(teacher_rows, teacher_columns, rows, columns, temperature=0.3, ids=torch.tensor(ids))
    slow = slow_relational(cosines(teacher_rows, teacher_columns), cosines(rows, columns), 0.3, ids)
    assert fast.item() == pytest.approx(slow, rel=1e-4)


def test_with_a_shared_side_its_gradient_is_that_of_the_similarity_view():
    teacher, visual = torch.randn(5, 6), torch.randn(5, 6)
    students = [torch.randn(5, 6, requires_grad=True)]
    students.append(students[0].detach().clone().requires_grad_())
    relational(teacher, visual, students[0], visual).backward()
    similarity_view(teacher, students[1], visual).backward()
    assert torch.allclose(students[0].grad, students[1].grad, atol=1e-5)


def test_the_teacher_gets_no_gradient():
    views = four(requires_grad=True)
    relational(*views).backward()
    assert views[0].grad is None
    assert views[1].grad is None
    assert views[2].grad.abs().sum() > 0
    assert views[3].grad.abs().sum() > 0


def test_gradients_are_those_of_the_function():
    taught, columns, *students = four(dtype=torch.float64)
    students = [student.requires_grad_() for student in students]
    ids = torch.tensor([0, 1, 1, 2, 2])
    assert torch.autograd.gradcheck(
        lambda x, y: relational(taught, columns, x, y, temperature=0.4, ids=ids), tuple(students)
    )


@pytest.mark.parametrize("rows", [1, 3])
def test_without_others_it_is_a_zero_that_keeps_the_graph(rows):
    views = four(rows, requires_grad=True)
    loss = relational(*views, ids=torch.zeros(rows, dtype=torch.long))
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(views[2].grad, torch.zeros_like(views[2]))


def test_autocast_and_half_precision_do_not_reach_the_cosines():
    views = [view.repeat(1, 8) for view in four(16)]
    bank = torch.randn(20, 32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = relational(*views), relational_to_bank(views[2], views[3], bank, scale=50.0)
    assert torch.equal(inside[0], relational(*views))
    assert torch.equal(inside[1], relational_to_bank(views[2], views[3], bank, scale=50.0))
    halves = [view.bfloat16() for view in views]
    assert relational(*halves).dtype == torch.float32
    assert relational_to_bank(*halves[2:], bank.bfloat16(), scale=50.0).dtype == torch.float32
    assert relational(views[0].double(), *views[1:]).dtype == torch.float64


def test_bank_by_hand():
    # English finds the first picture to 0.9, the translation both alike.
    loss = relational_to_bank(torch.ones(1, 2), torch.eye(2)[:1], torch.eye(2), scale=math.log(9))
    entropy = -(0.9 * math.log(0.9) + 0.1 * math.log(0.1))
    assert loss.item() == pytest.approx(math.log(2) - entropy, rel=1e-5)


def test_bank_equals_a_loop():
    target, source, bank = torch.randn(3, 5), torch.randn(3, 5), torch.randn(8, 5)
    rows = zip(cosines(source, bank), cosines(target, bank), strict=True)
    slow = sum(divergence([4 * c for c in taught], [4 * c for c in found]) for taught, found in rows) / 3
    assert relational_to_bank(target, source, bank, scale=4.0).item() == pytest.approx(slow, rel=1e-4)


def test_bank_moves_the_target_alone():
    target, source, bank = (torch.randn(n, 5, dtype=torch.float64, requires_grad=True) for n in (3, 3, 8))
    assert torch.autograd.gradcheck(lambda x: relational_to_bank(x, source, bank, scale=3.0), target)
    relational_to_bank(target, source, bank, scale=3.0).backward()
    assert target.grad.abs().sum() > 0
    assert source.grad is None
    assert bank.grad is None


def test_bank_costs_nothing_where_both_find_the_same():
    source, bank = torch.randn(4, 5), torch.randn(9, 5)
    assert relational_to_bank(2 * source, source, bank, scale=50.0).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    "shapes", [((3, 7), (2, 7), (3, 4), (3, 4)), ((3, 7), (3, 7), (3, 4), (3, 5)), ((3, 7), (3, 7), (2, 4), (2, 4))]
)
def test_shapes_that_do_not_fit(shapes):
    with pytest.raises(TrainingError, match=r"relational.*got"):
        relational(*map(torch.ones, shapes))


def test_ids_that_do_not_fit():
    with pytest.raises(TrainingError, match=r"ids.*5 rows.*\(2,\)"):
        relational(*four(), ids=torch.zeros(2))


@pytest.mark.parametrize("shapes", [((3, 4), (2, 4), (5, 4)), ((3, 4), (3, 4), (5, 3)), ((3, 4), (3, 4), (4,))])
def test_a_bank_that_does_not_fit(shapes):
    with pytest.raises(TrainingError, match=r"relational_to_bank.*got"):
        relational_to_bank(*map(torch.ones, shapes), scale=1.0)
