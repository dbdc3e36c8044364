"""Comparisons of two models against a loop over resamples."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ccr_adapters.errors import EvaluationError
from ccr_adapters.evaluation import RetrievalMetrics, paired_bootstrap


def test_a_model_does_not_differ_from_itself(random_ranks):
    ranks = random_ranks(30, 0)
    same = paired_bootstrap(ranks, ranks, resamples=100)
    assert (same.difference, same.ci95, same.p_value, same.significant) == (0, (0, 0), 1, False)


def test_a_paired_comparison_equals_a_loop(random_ranks, slow_sum):
    a, b = random_ranks(15, 0), random_ranks(15, 1)
    drawn = np.random.default_rng(2).integers(15, size=(300, 15)).tolist()
    slow = np.array([slow_sum(a, some) - slow_sum(b, some) for some in drawn]).round(9)
    found = paired_bootstrap(a, b, resamples=300, seed=2)
    assert found.difference == pytest.approx(slow_sum(a, list(range(15))) - slow_sum(b, list(range(15))))
    assert found.ci95 == pytest.approx(np.quantile(slow, [0.025, 0.975]))
    assert found.p_value == pytest.approx(2 * (min((slow <= 0).sum(), (slow >= 0).sum()) + 1) / 301)


def test_pairing_sees_a_small_constant_gain_that_two_intervals_hide(ranks_of, random_ranks):
    a = random_ranks(300, 0)
    t2i = a.t2i.clone()
    t2i[(t2i == 2) & (torch.arange(len(t2i)) % 2 == 0)] = 1
    b = ranks_of(t2i.tolist(), a.i2t.tolist(), a.caption_to_image.tolist())
    gain = paired_bootstrap(b, a)
    assert gain.significant
    assert gain.p_value < 0.01
    assert paired_bootstrap(a, b).difference == -gain.difference
    first, second = (RetrievalMetrics.from_ranks(ranks).sum_r_ci95 for ranks in (a, b))
    assert first[1] > second[0]
    assert gain.to_dict()["ci95"] == list(gain.ci95)


def test_other_queries_cannot_be_compared(ranks_of, random_ranks):
    others = random_ranks(11, 0), ranks_of([1] * 20, [1] * 10, [0] * 11 + list(range(1, 10)))
    for other in others:
        with pytest.raises(EvaluationError, match=r"same queries"):
            paired_bootstrap(random_ranks(10, 0), other)


def test_a_comparison_needs_resamples(random_ranks):
    with pytest.raises(EvaluationError, match=r"resamples is 0"):
        paired_bootstrap(random_ranks(5, 0), random_ranks(5, 1), resamples=0)
