"""Distillation terms by hand."""

from __future__ import annotations

import pytest
import torch

from ccr_adapters.errors import TrainingError
from ccr_adapters.objectives import cosine_distance, mse


def test_mse_by_hand():
    t, s = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([[1.0, 0.0], [0.0, 4.0]])
    assert mse(t, s).item() == pytest.approx((0 + 4 + 9 + 0) / 4)


def test_mse_sees_length_and_cosine_does_not():
    t = torch.randn(3, 5)
    assert mse(2 * t, t) > 0.1
    assert cosine_distance(2 * t, t).item() == pytest.approx(0, abs=1e-6)


def test_cosine_distance_by_hand():
    t, s = (
        torch.tensor([[1.0, 0.0], [1.0, 0.0], [2.0, 0.0]]),
        torch.tensor([[5.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]),
    )
    assert cosine_distance(t, s).item() == pytest.approx((0 + 1 + 2) / 3)


@pytest.mark.parametrize("term", [mse, cosine_distance])
def test_the_teacher_gets_no_gradient(term):
    t, s = torch.randn(2, 3, requires_grad=True), torch.randn(2, 3, requires_grad=True)
    term(t, s).backward()
    assert t.grad.abs().sum() > 0
    assert s.grad is None


@pytest.mark.parametrize("term", [mse, cosine_distance])
def test_half_precision_is_raised(term):
    assert term(torch.randn(2, 3).bfloat16(), torch.randn(2, 3)).dtype == torch.float32


@pytest.mark.parametrize("term", [mse, cosine_distance])
@pytest.mark.parametrize("shape", [(1, 4), (3, 1), (4,)])
def test_nothing_is_broadcast(term, shape):
    with pytest.raises(TrainingError, match=term.__name__):
        term(torch.ones(3, 4), torch.ones(shape))
