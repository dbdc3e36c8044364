"""Health of a space by hand and against slow ways."""

from __future__ import annotations

import doctest
import itertools
import math

import pytest
import torch
from torch.nn import functional as F

from ccr_adapters.errors import TrainingError
from ccr_adapters.objectives import alignment, health, mean_cosine, uniformity


def test_mean_cosine_equals_a_loop():
    a = torch.randn(9, 5)
    pairs = [float(F.cosine_similarity(x, y, dim=0)) for x, y in itertools.permutations(a, 2)]
    assert mean_cosine(a).item() == pytest.approx(sum(pairs) / len(pairs), abs=1e-6)


def test_mean_cosine_by_hand():
    assert mean_cosine(torch.tensor([[1.0, 0.0], [0.0, 3.0], [-2.0, 0.0]])).item() == pytest.approx(-1 / 3)
    assert mean_cosine(torch.randn(1, 6).repeat(50, 1)).item() == pytest.approx(1, abs=1e-5)


def test_alignment_by_hand():
    a, b = torch.tensor([[2.0, 0.0], [1.0, 0.0], [1.0, 0.0]]), torch.tensor([[3.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    assert alignment(a, b).item() == pytest.approx((0 + 2 + 4) / 3)


def test_uniformity_equals_the_papers_code():
    # log of the mean of exp(-2 d^2) over pairs i < j, as printed by Wang & Isola
    a = torch.randn(12, 5).double()
    expected = torch.pdist(F.normalize(a, dim=-1)).square().mul(-2).exp().mean().log()
    assert uniformity(a).item() == pytest.approx(expected.item(), rel=1e-10)


def test_uniformity_by_hand():
    assert uniformity(torch.tensor([[1.0, 0.0], [0.0, 1.0]])).item() == pytest.approx(-4)
    assert uniformity(torch.tensor([[1.0, 0.0], [-1.0, 0.0]])).item() == pytest.approx(-8)
    assert uniformity(torch.ones(4, 3)).item() == pytest.approx(0, abs=1e-5)


def test_one_row_leaves_nothing_to_compare():
    assert math.isnan(mean_cosine(torch.ones(1, 3)))
    assert math.isnan(uniformity(torch.ones(1, 3)))
    assert alignment(torch.ones(1, 3), torch.ones(1, 3)).item() == pytest.approx(0, abs=1e-6)


def test_no_gradient_and_at_least_float32():
    a = torch.randn(4, 3, requires_grad=True)
    for value in (mean_cosine(a), alignment(a, a), uniformity(a)):
        assert not value.requires_grad
        assert value.dtype == torch.float32
    half = a.bfloat16()
    assert {mean_cosine(half).dtype, alignment(half, half).dtype, uniformity(half).dtype} == {torch.float32}
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(uniformity(a), uniformity(a.float()))
        inside = uniformity(a)
    assert torch.equal(inside, uniformity(a))


def test_shapes_that_do_not_fit():
    for measure in (mean_cosine, uniformity):
        with pytest.raises(TrainingError, match=rf"{measure.__name__}.*\(3,\)"):
            measure(torch.ones(3))
    with pytest.raises(TrainingError, match=r"alignment.*\(3, 4\) and \(1, 4\)"):
        alignment(torch.ones(3, 4), torch.ones(1, 4))


def test_the_example_runs():
    assert doctest.testmod(health) == (0, 1)
