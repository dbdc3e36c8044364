"""A bootstrap interval for every metric, from the ranks of one evaluation."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ccr_adapters.errors import EvaluationError
from ccr_adapters.evaluation.resampling import CUTOFFS, RetrievalRanks, resampled_weights

# Counts of queries held at once while medians are looked for: 32 MiB of float64.
_MOST_COUNTS = 2**22


def metric_intervals(ranks: RetrievalRanks, *, resamples: int = 1000, seed: int = 0) -> dict[str, list[float]]:
    """95% bootstrap intervals of all metrics, over resampled images with all their captions.

    Args:
        ranks: Ranks of one evaluation.
        resamples: Number of resamples.
        seed: Seed of the resampling; the interval of `sumR` is then that of `RetrievalMetrics`.

    Returns:
        `[low, high]` by the keys of `RetrievalMetrics.to_dict`, in its units.

    Raises:
        EvaluationError: If there is no resample.
    """
    if resamples < 1:
        raise EvaluationError(f"resamples is {resamples}; an interval needs at least one, better 1,000.")
    image_of = np.unique(ranks.caption_to_image.numpy(), return_inverse=True)[1]  # (N,), among images with captions
    directions = {
        "t2i": (ranks.t2i.numpy(), ranks.t2i_precision.numpy(), image_of),
        "i2t": (ranks.i2t.numpy(), ranks.i2t_precision.numpy(), np.arange(len(ranks.i2t))),
    }
    drawn: dict[str, list[np.ndarray]] = {}
    for weights in resampled_weights(len(ranks.i2t), resamples, seed):
        total = np.zeros(len(weights))
        for name, (places, precision, owner) in directions.items():
            for key, values in _resampled(places, precision, owner, weights):
                drawn.setdefault(f"{name}_{key}", []).append(values)
                total += values if key.startswith("r@") else 0.0
        drawn.setdefault("sumR", []).append(total)
        drawn.setdefault("AR", []).append(total / (2 * len(CUTOFFS)))
    return {key: np.quantile(np.concatenate(parts), (0.025, 0.975)).tolist() for key, parts in drawn.items()}


def _resampled(
    places: np.ndarray, precision: np.ndarray, owner: np.ndarray, weights: np.ndarray
) -> Iterator[tuple[str, np.ndarray]]:
    """The metrics of one direction for some resamples. (chunk,) each"""
    images = weights.shape[1]
    queries = weights @ np.bincount(owner, minlength=images).astype(np.float32)  # (chunk,)

    def mean(values: np.ndarray) -> np.ndarray:
        per_image = np.bincount(owner, weights=values, minlength=images)  # (M',)
        found: np.ndarray = (weights @ per_image) / queries
        return found

    for k in CUTOFFS:
        yield f"r@{k}", 100.0 * mean(places <= k)
    yield "medr", _medians(places, owner, weights)
    yield "meanr", mean(places)
    yield "map", 100.0 * mean(precision)


def _medians(places: np.ndarray, owner: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Median rank of each resample, in which a query counts as often as its image was drawn. (chunk,)"""
    ranks, level = np.unique(places, return_inverse=True)  # (U,), (N,)
    order = np.argsort(level, kind="stable")
    starts = np.searchsorted(level[order], np.arange(len(ranks)))
    step = max(1, _MOST_COUNTS // len(places))
    found = []
    for start in range(0, len(weights), step):
        times = weights[start : start + step, owner[order]]  # (b, N)
        upto = np.cumsum(np.add.reduceat(times, starts, axis=1), axis=1)  # (b, U) queries of this rank or better
        # the two queries in the middle, which are one where their number is odd
        middle = upto[:, -1:] / 2
        low = (upto >= np.ceil(middle)).argmax(axis=1)
        high = (upto >= np.floor(middle) + 1).argmax(axis=1)
        found.append((ranks[low] + ranks[high]) / 2)
    return np.concatenate(found)
