"""Whether one model is better than another on the same queries, or was only luckier."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
import torch

from ccr_adapters.errors import EvaluationError
from ccr_adapters.evaluation.metrics import RetrievalMetrics
from ccr_adapters.evaluation.resampling import RetrievalRanks, resampled_sums


@dataclass(frozen=True)
class Comparison:
    """How much more one model finds than another on the same queries.

    Attributes:
        difference: Sum of recalls of the first less that of the second.
        ci95: 95% bootstrap interval of the difference.
        p_value: Two-sided: how often a resample turns the sign of the difference, doubled; never 0.
        resamples: Number of resamples.
    """

    difference: float
    ci95: tuple[float, float]
    p_value: float
    resamples: int

    @property
    def significant(self) -> bool:
        """Whether the interval leaves zero out."""
        return self.ci95[0] > 0 or self.ci95[1] < 0

    def to_dict(self) -> dict[str, float | int | list[float]]:
        """Flatten for JSON.

        Returns:
            The attributes, the interval as [low, high].
        """
        return asdict(self) | {"ci95": list(self.ci95)}


def paired_bootstrap(
    ranks_a: RetrievalRanks, ranks_b: RetrievalRanks, *, resamples: int = 10_000, seed: int = 0
) -> Comparison:
    """Compare the sums of recalls of two models on the same queries.

    Both are scored on the same resampled images, so what makes an image hard for both cancels out: the
    interval of the difference is narrower than the two intervals of the models would suggest.

    Args:
        ranks_a: Ranks of the first model (`RetrievalMetrics.ranks`).
        ranks_b: Ranks of the second.
        resamples: Number of resamples of images.
        seed: Seed of the resampling.

    Returns:
        The difference, its interval and its p value.

    Raises:
        EvaluationError: If the two were not scored on the same captions and images.
    """
    if ranks_a.images != ranks_b.images or not torch.equal(ranks_a.caption_to_image, ranks_b.caption_to_image):
        raise EvaluationError(
            "A paired comparison needs the same queries; got "
            f"{len(ranks_a.t2i):,} captions of {ranks_a.images:,} images and "
            f"{len(ranks_b.t2i):,} captions of {ranks_b.images:,} images, or captions of other images."
        )
    if resamples < 1:
        raise EvaluationError(f"resamples is {resamples}; an interval needs at least one, better 1,000.")
    drawn = [a - b for a, b in resampled_sums((ranks_a, ranks_b), resamples, seed)]
    # Rounded, so that a resample without a difference is not counted for either side.
    differences = np.concatenate(drawn).round(9)
    low, high = np.quantile(differences, (0.025, 0.975))
    against = min(int((differences <= 0).sum()), int((differences >= 0).sum()))
    sums = [RetrievalMetrics.from_ranks(ranks, bootstrap=0).sum_r for ranks in (ranks_a, ranks_b)]
    return Comparison(
        difference=sums[0] - sums[1],
        ci95=(float(low), float(high)),
        p_value=min(1.0, 2 * (against + 1) / (resamples + 1)),
        resamples=resamples,
    )
