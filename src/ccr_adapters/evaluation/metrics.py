"""Retrieval metrics of a model, both directions, with a bootstrap interval; percentages from 0 to 100."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import fmean

import numpy as np
from torch import Tensor

from ccr_adapters.errors import EvaluationError
from ccr_adapters.evaluation.resampling import CUTOFFS, RetrievalRanks, resampled_sums

PRIMARY_METRIC = "AR"
"""The key of `RetrievalMetrics.to_dict` by which checkpoints are chosen; over languages, its mean is mAR."""


@dataclass(frozen=True)
class DirectionMetrics:
    """Metrics of one direction.

    Attributes:
        r1: Recall at 1: percentage of queries with a right answer in first place.
        r5: Recall at 5.
        r10: Recall at 10.
        medr: Median rank of the best right answer.
        meanr: Mean rank of the best right answer.
        map: Mean average precision over all right answers, as a percentage.
    """

    r1: float
    r5: float
    r10: float
    medr: float
    meanr: float
    map: float

    @classmethod
    def from_ranks(cls, ranks: Tensor, precision: Tensor) -> DirectionMetrics:
        """Compute them.

        Args:
            ranks: Ranks (N,) from 1.
            precision: Average precisions (N,).

        Returns:
            The metrics.
        """
        places = ranks.numpy()
        r1, r5, r10 = (100.0 * float(np.mean(places <= k)) for k in CUTOFFS)
        return cls(
            r1=r1,
            r5=r5,
            r10=r10,
            medr=float(np.median(places)),
            meanr=float(places.mean()),
            map=100.0 * float(precision.mean()),
        )

    @property
    def recalls(self) -> tuple[float, float, float]:
        """R@1, R@5 and R@10."""
        return self.r1, self.r5, self.r10


@dataclass(frozen=True)
class RetrievalMetrics:
    """Metrics of one model on one set, both directions.

    Attributes:
        t2i: From captions to images.
        i2t: From images to captions.
        images: Number of images in the gallery.
        captions: Number of captions.
        unpaired: Images without a caption, which are in the gallery but not among the queries.
        sum_r_ci95: 95% bootstrap interval of the sum of recalls; None if none was asked for.
        ranks: The ranks behind the numbers, for `paired_bootstrap`; not part of `to_dict`.
    """

    t2i: DirectionMetrics
    i2t: DirectionMetrics
    images: int
    captions: int
    unpaired: int = 0
    sum_r_ci95: tuple[float, float] | None = None
    ranks: RetrievalRanks | None = field(default=None, repr=False, compare=False)

    @classmethod
    def from_ranks(cls, ranks: RetrievalRanks, *, bootstrap: int = 1000, seed: int = 0) -> RetrievalMetrics:
        """Compute all metrics from ranks.

        Args:
            ranks: The ranks of one evaluation.
            bootstrap: Number of resamples behind the interval; 0 for none.
            seed: Seed of the resampling.

        Returns:
            The metrics.
        """
        interval = None
        if bootstrap:
            sums = np.concatenate([drawn[0] for drawn in resampled_sums((ranks,), bootstrap, seed)])
            low, high = np.quantile(sums, (0.025, 0.975))
            interval = (float(low), float(high))
        return cls(
            t2i=DirectionMetrics.from_ranks(ranks.t2i, ranks.t2i_precision),
            i2t=DirectionMetrics.from_ranks(ranks.i2t, ranks.i2t_precision),
            images=ranks.images,
            captions=len(ranks.t2i),
            unpaired=ranks.unpaired,
            sum_r_ci95=interval,
            ranks=ranks,
        )

    @property
    def sum_r(self) -> float:
        """Sum of the six recalls, from 0 to 600."""
        return sum(self.t2i.recalls) + sum(self.i2t.recalls)

    @property
    def ar(self) -> float:
        """Mean of the six recalls, from 0 to 100."""
        return self.sum_r / 6

    def to_dict(self) -> dict[str, float | int | list[float]]:
        """Flatten for a log, a table or a model card.

        Returns:
            `t2i_r@1`, `t2i_r@5`, `t2i_r@10`, `t2i_medr`, `t2i_meanr`, `t2i_map`, the same for `i2t`, `sumR`,
            `sumR_ci95` as [low, high] if there is one, `AR`, `images`, `captions`, `images_without_captions`.
        """
        flat: dict[str, float | int | list[float]] = {}
        for name, direction in (("t2i", self.t2i), ("i2t", self.i2t)):
            flat |= {f"{name}_r@{k}": value for k, value in zip(CUTOFFS, direction.recalls, strict=True)}
            flat |= {f"{name}_{key}": getattr(direction, key) for key in ("medr", "meanr", "map")}
        flat["sumR"] = self.sum_r
        if self.sum_r_ci95 is not None:
            flat["sumR_ci95"] = list(self.sum_r_ci95)
        return flat | {
            "AR": self.ar,
            "images": self.images,
            "captions": self.captions,
            "images_without_captions": self.unpaired,
        }


def mean_average_recall(metrics: Mapping[str, RetrievalMetrics]) -> float:
    """Mean over languages of AR: the number that chooses a checkpoint of several languages.

    Args:
        metrics: Metrics by language.

    Returns:
        mAR, from 0 to 100.

    Raises:
        EvaluationError: If there is no language.
    """
    if not metrics:
        raise EvaluationError("mAR is a mean over languages; got none.")
    return fmean(one.ar for one in metrics.values())
