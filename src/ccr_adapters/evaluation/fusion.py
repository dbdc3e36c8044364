"""Translate-test fusion: a caption and its machine translation into the base's language, scored together."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ccr_adapters.errors import EvaluationError


def fused(text: Tensor, translated: Tensor, visual: Tensor, weight: float = 0.5) -> tuple[Tensor, Tensor]:
    """Vectors whose dot products rank as the weighted sum of two min-max-normalised score matrices.

    NRCCR's published numbers are made so (Wang et al. 2022; 0.5 on test sets): both matrices are brought to the range from
    0 to 1 and added. Their minima move every score alike, so the ranks are those of a sum of scaled scores, and that is
    one dot product of longer vectors: no score matrix is held.

    Args:
        text: Vectors of the captions. (N, d)
        translated: Vectors of the same captions translated into the base's language. (N, d)
        visual: Vectors of the gallery. (M, d)
        weight: Share of `text`, between 0 and 1.

    Returns:
        Vectors of captions (N, 2d) and of the gallery (M, 2d). All captions have one length, and so have all pictures, so
        `evaluate_retrieval`, which normalises, ranks them alike.

    Raises:
        EvaluationError: If the shapes do not fit, or the weight is no share.
    """
    if text.shape != translated.shape:
        raise EvaluationError(f"{len(text)} captions and {len(translated)} translations; expected one for each.")
    if not 0 <= weight <= 1:
        raise EvaluationError(f"`weight` is {weight!r}; expected a share from 0 to 1.")
    scales = [share / _spread(vectors, visual) for share, vectors in ((weight, text), (1 - weight, translated))]
    text, translated, visual = (F.normalize(part, dim=-1) for part in (text, translated, visual))
    return torch.cat([scales[0] * text, scales[1] * translated], dim=-1), torch.cat([visual, visual], dim=-1)


def _spread(text: Tensor, visual: Tensor, block: int = 1024) -> float:
    """Largest minus smallest score, found block by block."""
    low, high = float("inf"), float("-inf")
    gallery = F.normalize(visual, dim=-1).t()
    for rows in F.normalize(text, dim=-1).split(block):
        scores = rows @ gallery
        low, high = min(low, float(scores.min())), max(high, float(scores.max()))
    return max(high - low, 1e-12)
