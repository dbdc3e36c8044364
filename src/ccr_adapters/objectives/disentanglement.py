"""Semantic consistency: the semantic-related half of a condition must carry what the caption means."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from ccr_adapters.objectives.distillation import check_pair
from ccr_adapters.objectives.precision import at_least_float32


def semantic_consistency(f_sr: Tensor, target: Tensor, *, smooth: bool = False) -> Tensor:
    """L1(f_sr, sg(g)) of DASD (Cai et al., 2025, arXiv 2412.13510), before its weight of 0.1.

    Its opposite is `adversary`, which keeps meaning out of the other half, `f_sa`.

    Args:
        f_sr: Semantic-related feature of each target caption (B, d).
        target: What it must agree with (B, d), without gradient: the English embedding in stage CLA, the
            picture's in stage CMA.
        smooth: Smooth L1 (beta 1), as in stage CMA, in place of L1, as in stage CLA.

    Returns:
        Scalar: the mean over all B * d elements.

    Raises:
        TrainingError: If the shapes differ.
    """
    check_pair("semantic_consistency", f_sr, target)
    loss = F.smooth_l1_loss if smooth else F.l1_loss
    return loss(at_least_float32(f_sr), at_least_float32(target.detach()))
