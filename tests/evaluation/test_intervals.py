"""Intervals of every metric: equal to plain loops over the same resamples, and to the interval of the library's sum."""

from __future__ import annotations

import numpy as np
import pytest

from ccr_adapters.errors import EvaluationError
from ccr_adapters.evaluation import RetrievalMetrics, metric_intervals
from ccr_adapters.evaluation.resampling import resampled_weights


def slow_metrics(ranks, counts):
    """Metrics of one resample, with every query written out as often as it was drawn."""
    times = counts.astype(int)
    text = np.repeat(np.arange(len(ranks.t2i)), times[ranks.caption_to_image.numpy()])
    image = np.repeat(np.arange(len(ranks.i2t)), times)
    found = {}
    for name, rows in (("t2i", text), ("i2t", image)):
        places = getattr(ranks, name).numpy()[rows]
        found |= {f"{name}_r@{k}": 100 * np.mean(places <= k) for k in (1, 5, 10)}
        found |= {f"{name}_medr": np.median(places), f"{name}_meanr": places.mean()}
        found[f"{name}_map"] = 100 * getattr(ranks, f"{name}_precision").numpy()[rows].mean()
    return found


@pytest.mark.parametrize("images", [1, 7, 40])
def test_every_metric_is_as_plain_loops_compute_it(random_ranks, images):
    ranks = random_ranks(images, 3)
    weights = np.concatenate(list(resampled_weights(images, 50, 5)))
    slow = [slow_metrics(ranks, row) for row in weights]
    fast = metric_intervals(ranks, resamples=50, seed=5)
    for key in slow[0]:
        expected = np.quantile([one[key] for one in slow], (0.025, 0.975))
        np.testing.assert_allclose(fast[key], expected, rtol=1e-5, err_msg=key)


def test_the_interval_of_the_sum_is_that_of_the_metrics(random_ranks):
    ranks = random_ranks(30, 1)
    found = metric_intervals(ranks, resamples=200, seed=2)
    metrics = RetrievalMetrics.from_ranks(ranks, bootstrap=200, seed=2)
    assert found["sumR"] == pytest.approx(metrics.sum_r_ci95)
    assert found["AR"] == pytest.approx([end / 6 for end in metrics.sum_r_ci95])
    assert set(found) == set(metrics.to_dict()) - {"images", "captions", "images_without_captions", "sumR_ci95"}


def test_images_without_captions_are_no_queries(ranks_of):
    # image 1 has no caption
    found = metric_intervals(ranks_of([1, 4], [1, 2], [0, 2], images=3), resamples=20)
    assert found["t2i_meanr"][0] >= 1
    assert found["t2i_meanr"][1] <= 4


def test_no_resamples_is_refused(random_ranks):
    with pytest.raises(EvaluationError, match="at least one"):
        metric_intervals(random_ranks(3, 0), resamples=0)
