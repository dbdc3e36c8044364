"""The bootstrap against a loop over resamples, and against what statistics says it must give."""

from __future__ import annotations

import numpy as np
import pytest

from ccr_adapters.evaluation import RetrievalMetrics


@pytest.mark.parametrize("uneven", [False, True])
def test_the_interval_equals_a_loop_over_the_same_resamples(uneven, ranks_of, random_ranks, slow_sum):
    ranks = random_ranks(17, 3)
    if uneven:
        ranks = ranks_of(ranks.t2i.tolist()[:20], ranks.i2t.tolist()[:4], [0] * 11 + [1] + [2] * 5 + [3] * 3)
    images = len(ranks.i2t)
    drawn = np.random.default_rng(9).integers(images, size=(200, images)).tolist()
    expected = np.quantile([slow_sum(ranks, some) for some in drawn], [0.025, 0.975])
    found = RetrievalMetrics.from_ranks(ranks, bootstrap=200, seed=9).sum_r_ci95
    assert found == pytest.approx(expected)


def test_the_interval_does_not_depend_on_how_resamples_are_chunked(monkeypatch, random_ranks):
    ranks = random_ranks(40, 1)
    whole = RetrievalMetrics.from_ranks(ranks, seed=4).sum_r_ci95
    monkeypatch.setattr("ccr_adapters.evaluation.resampling._MOST_DRAWS", 1000)
    assert RetrievalMetrics.from_ranks(ranks, seed=4).sum_r_ci95 == whole
    assert RetrievalMetrics.from_ranks(ranks, seed=5).sum_r_ci95 != whole


def test_images_without_captions_are_not_resampled(ranks_of):
    paired = ranks_of([1, 1, 6, 20], [1, 7], [0, 0, 1, 1])
    among_others = ranks_of([1, 1, 6, 20], [1, 7], [3, 3, 5, 5], images=9)
    first, second = (RetrievalMetrics.from_ranks(ranks) for ranks in (paired, among_others))
    assert first.sum_r_ci95 == second.sum_r_ci95
    assert second.unpaired == 7


def test_captions_of_one_image_rise_and_fall_together(ranks_of):
    # Ten captions that agree are no more evidence than one: the interval must not shrink.
    rng = np.random.default_rng(0)
    one = np.where(rng.random(200) < 0.5, 1, 50)
    few = ranks_of(one.tolist(), one.tolist(), list(range(200)))
    many = ranks_of(np.repeat(one, 10).tolist(), one.tolist(), np.repeat(np.arange(200), 10).tolist())
    first, second = (RetrievalMetrics.from_ranks(ranks).sum_r_ci95 for ranks in (few, many))
    assert second == pytest.approx(first)


def test_the_interval_covers_what_it_should(ranks_of):
    # 1,000 captions, each a hit with probability 0.5: the standard error of 600 * p is 600 * sqrt(0.25 / 1000).
    rng = np.random.default_rng(0)
    places = np.where(rng.random(1000) < 0.5, 1, 50).tolist()
    low, high = RetrievalMetrics.from_ranks(ranks_of(places, places, list(range(1000)))).sum_r_ci95
    assert high - low == pytest.approx(2 * 1.96 * 600 * np.sqrt(0.25 / 1000), rel=0.1)
