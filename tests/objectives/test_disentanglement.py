"""Semantic consistency by hand."""

from __future__ import annotations

import pytest
import torch

from ccr_adapters.errors import TrainingError
from ccr_adapters.objectives import semantic_consistency

F_SR = torch.tensor([[0.0, 3.0]])
TARGET = torch.tensor([[0.5, 1.0]])


def test_l1_by_hand():
    assert semantic_consistency(F_SR, TARGET).item() == pytest.approx((0.5 + 2.0) / 2)


def test_smooth_l1_by_hand():
    # Below 1 half the square, above 1 the distance less a half.
    expected = (0.5 * 0.5**2 + (2.0 - 0.5)) / 2
    assert semantic_consistency(F_SR, TARGET, smooth=True).item() == pytest.approx(expected)


@pytest.mark.parametrize("smooth", [False, True])
def test_the_target_gets_no_gradient(smooth):
    f_sr, target = F_SR.clone().requires_grad_(), TARGET.clone().requires_grad_()
    semantic_consistency(f_sr, target, smooth=smooth).backward()
    assert f_sr.grad.abs().sum() > 0
    assert target.grad is None


def test_shapes_that_do_not_fit():
    with pytest.raises(TrainingError, match=r"semantic_consistency.*\(2, 3\) and \(1, 3\)"):
        semantic_consistency(torch.ones(2, 3), torch.ones(1, 3))
