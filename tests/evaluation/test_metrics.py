"""Metrics by hand."""

from __future__ import annotations

import json

import pytest

from ccr_adapters.errors import EvaluationError
from ccr_adapters.evaluation import PRIMARY_METRIC, RetrievalMetrics, mean_average_recall


def test_metrics_by_hand(ranks_of):
    ranks = ranks_of([1, 1, 6, 20], [1, 7], [0, 0, 1, 1])
    metrics = RetrievalMetrics.from_ranks(ranks, bootstrap=0)
    assert metrics.to_dict() == pytest.approx(
        {
            "t2i_r@1": 50,
            "t2i_r@5": 50,
            "t2i_r@10": 75,
            "t2i_medr": 3.5,
            "t2i_meanr": 7,
            "t2i_map": 100 * (1 + 1 + 1 / 6 + 1 / 20) / 4,
            "i2t_r@1": 50,
            "i2t_r@5": 50,
            "i2t_r@10": 100,
            "i2t_medr": 4,
            "i2t_meanr": 4,
            "i2t_map": 100 * (1 + 1 / 7) / 2,
            "sumR": 375,
            "AR": 62.5,
            "images": 2,
            "captions": 4,
            "images_without_captions": 0,
        }
    )


def test_the_dictionary_is_flat_plain_and_names_the_primary_metric(random_ranks):
    flat = RetrievalMetrics.from_ranks(random_ranks(20, 0)).to_dict()
    assert json.loads(json.dumps(flat)) == flat
    low, high = flat["sumR_ci95"]
    assert low < flat["sumR"] < high
    assert flat[PRIMARY_METRIC] == pytest.approx(flat["sumR"] / 6)


def test_mean_average_recall(ranks_of):
    good, bad = (RetrievalMetrics.from_ranks(ranks_of([r], [r], [0]), bootstrap=0) for r in (1, 7))
    assert (good.ar, bad.ar) == pytest.approx((100, 100 / 3))
    assert mean_average_recall({"de": good, "cs": bad, "fr": bad}) == pytest.approx(500 / 9)
    with pytest.raises(EvaluationError, match=r"got none"):
        mean_average_recall({})
