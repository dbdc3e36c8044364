"""The two views of NRCCR by hand and against a loop; several processes are in test_processes.py."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from ccr_adapters.errors import TrainingError
from ccr_adapters.objectives import feature_view, similarity_view


def softmax(scores: list[float]) -> list[float]:
    weights = [math.exp(score) for score in scores]
    return [weight / sum(weights) for weight in weights]


def slow_similarity_view(teacher: Tensor, student: Tensor, visual: Tensor, temperature: float, ids: list[int]) -> float:
    """The equation, one row and one direction at a time."""
    teacher, student, visual = (F.normalize(x.double(), dim=-1) for x in (teacher, student, visual))
    total = 0.0
    for i in range(len(student)):
        kept = [j for j in range(len(student)) if j == i or ids[j] != ids[i]]
        for mine, other in (
            ([(teacher[i] @ visual[j]).item() for j in kept], [(student[i] @ visual[j]).item() for j in kept]),
            ([(visual[i] @ teacher[j]).item() for j in kept], [(visual[i] @ student[j]).item() for j in kept]),
        ):
            p, q = softmax([c / temperature for c in mine]), softmax([c / temperature for c in other])
            total -= sum(x * math.log(y) for x, y in zip(p, q, strict=True))
    return total / (2 * len(student))


def three(rows: int = 5, d: int = 6, **options):
    return [torch.randn(rows, d, **options) for _ in range(3)]


def test_equal_embeddings_give_log_of_the_batch():
    assert similarity_view(*[torch.ones(6, 4)] * 3).item() == pytest.approx(math.log(6))


def test_two_rows_by_hand():
    # The teacher is sure to 0.9 of the right one, the student sees no difference: log 2, whatever the teacher.
    cosine = math.log(9)
    teacher, student, visual = torch.eye(2), torch.ones(2, 2), torch.eye(2)
    assert similarity_view(teacher, student, visual, temperature=1 / cosine).item() == pytest.approx(math.log(2))
    # The student as sure as the teacher: the entropy of (0.9, 0.1).
    entropy = -(0.9 * math.log(0.9) + 0.1 * math.log(0.1))
    assert similarity_view(teacher, teacher, visual, temperature=1 / cosine).item() == pytest.approx(entropy)


@pytest.mark.parametrize("ids", [[0, 1, 2, 3, 4], [0, 1, 0, 2, 1], [3, 3, 3, 3, 9]])
def test_equals_a_loop(ids):
    views = three()
    fast = similarity_view(*views, temperature=0.3, ids=torch.tensor(ids))
    assert fast.item() == pytest.approx(slow_similarity_view(*views, 0.3, ids), rel=1e-5)


def test_the_teacher_gets_no_gradient_and_the_rest_the_functions():
    teacher, student, visual = three(dtype=torch.float64, requires_grad=True)
    ids = torch.tensor([0, 1, 1, 2, 2])
    similarity_view(teacher, student, visual, ids=ids).backward()
    assert teacher.grad is None
    # The teacher's side is a constant: finite differences must hold it fixed as well, also where it sees `visual`.
    p, p_t = (
        torch.softmax((x / 0.5).masked_fill((ids[:, None] == ids) & ~torch.eye(5, dtype=torch.bool), -torch.inf), 1)
        for c in [(F.normalize(teacher, dim=-1) @ F.normalize(visual, dim=-1).T).detach()]
        for x in (c, c.T)
    )
    s, v = student.detach().requires_grad_(), visual.detach().requires_grad_()
    q = F.normalize(s, dim=-1) @ F.normalize(v, dim=-1).T / 0.5
    q = q.masked_fill(p == 0, -1e9)
    expected = -((p * q.log_softmax(1)).sum() + (p_t * q.T.log_softmax(1)).sum()) / 10
    student.grad, visual.grad = None, None
    loss = similarity_view(teacher, student, visual, temperature=0.5, ids=ids)
    loss.backward()
    expected.backward()
    assert loss.item() == pytest.approx(expected.item())
    assert torch.allclose(student.grad, s.grad)
    assert torch.allclose(visual.grad, v.grad)


def test_gradients_are_finite_differences():
    teacher, student, visual = three(dtype=torch.float64)
    student.requires_grad_()
    ids = torch.tensor([0, 1, 1, 2, 2])
    assert torch.autograd.gradcheck(lambda x: similarity_view(teacher, x, visual, temperature=0.4, ids=ids), student)


def test_the_gradient_is_zero_where_the_student_is_the_teacher():
    teacher, student, visual = three()
    student = teacher.clone().requires_grad_()
    similarity_view(teacher, student, visual).backward()
    assert student.grad.abs().max() < 1e-5


@pytest.mark.parametrize("rows", [1, 3])
def test_without_negatives_it_is_a_zero_that_keeps_the_graph(rows):
    views = three(rows, requires_grad=True)
    loss = similarity_view(*views, ids=torch.zeros(rows, dtype=torch.long))
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(views[1].grad, torch.zeros_like(views[1]))


def test_autocast_and_half_precision_do_not_reach_the_cosines():
    views = three(16, 32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = similarity_view(*views), feature_view(*views[:2])
    assert torch.equal(inside[0], similarity_view(*views))
    assert torch.equal(inside[1], feature_view(*views[:2]))
    halves = [view.bfloat16() for view in views]
    assert similarity_view(*halves).dtype == feature_view(*halves[:2]).dtype == torch.float32
    assert similarity_view(views[0].double(), *views[1:]).dtype == torch.float64


def test_feature_view_by_hand():
    t, c = torch.tensor([[3.0, 4.0], [0.0, 2.0]]), torch.tensor([[1.0, 0.0], [0.0, 7.0]])
    # (0.6 - 1, 0.8 - 0), then the same direction
    assert feature_view(t, c).item() == pytest.approx((0.4**2 + 0.8**2) / (2 * 4) / 4)
    assert feature_view(t, c, beta=0.5).item() == pytest.approx((0.4**2 / (2 * 0.5) + 0.8 - 0.25) / 4)


def test_feature_view_is_a_cosine_with_a_wide_beta():
    t, c = torch.randn(7, 12), torch.randn(7, 12)
    expected = (1 - F.cosine_similarity(t, c)).mean() / (4 * 12)
    assert torch.allclose(feature_view(t, c), expected)


def test_feature_view_moves_the_student_alone():
    t, c = torch.randn(3, 4, requires_grad=True), torch.randn(3, 4, requires_grad=True)
    feature_view(t, c).backward()
    assert t.grad.abs().sum() > 0
    assert c.grad is None


def test_shapes_that_do_not_fit():
    with pytest.raises(TrainingError, match=r"similarity_view.*\(3, 4\) and \(2, 4\)"):
        similarity_view(torch.ones(3, 4), torch.ones(2, 4), torch.ones(2, 4))
    with pytest.raises(TrainingError, match=r"similarity_view.*\(3, 4\) and \(3, 5\)"):
        similarity_view(torch.ones(3, 4), torch.ones(3, 4), torch.ones(3, 5))
    with pytest.raises(TrainingError, match=r"ids.*3 rows.*\(2,\)"):
        similarity_view(*three(3), ids=torch.zeros(2))
    with pytest.raises(TrainingError, match=r"feature_view.*\(3, 4\) and \(1, 4\)"):
        feature_view(torch.ones(3, 4), torch.ones(1, 4))
