"""Health of an embedding space, for the log: a collapse shows here before it shows in recall.

None of these is trained on: no gradient flows.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ccr_adapters.errors import TrainingError
from ccr_adapters.objectives.cosine import unit
from ccr_adapters.objectives.distillation import check_pair
from ccr_adapters.objectives.precision import full_precision


@torch.no_grad()
def mean_cosine(a: Tensor) -> Tensor:
    """Mean cosine between different rows: near 1 all captions have become one.

    From the length of the sum of all rows, O(B d).

    Args:
        a: Embeddings (B, d), normalised here.

    Returns:
        Scalar, float32 (float64 if the input is); NaN for fewer than two rows, which leave nothing to compare.

    Raises:
        TrainingError: If `a` is not (B, d).

    Example:
        >>> mean_cosine(torch.eye(4)).item()
        0.0
    """
    _check("mean_cosine", a)
    (rows,) = unit(a)
    count = len(rows)
    if count < 2:
        return rows.new_tensor(math.nan)
    # |sum of rows|^2 holds each pair twice, and each row with itself once.
    return (rows.sum(dim=0).square().sum() - rows.square().sum()) / (count * (count - 1))


@torch.no_grad()
def alignment(a: Tensor, b: Tensor) -> Tensor:
    """Mean squared distance of pairs on the unit sphere (Wang & Isola, 2020, arXiv 2005.10242), alpha 2.

    Its counterpart is `uniformity`: a collapsed space aligns perfectly.

    Args:
        a: Embeddings (B, d), normalised here.
        b: Embeddings (B, d), row i belonging to row i of `a`.

    Returns:
        Scalar between 0 (all pairs agree) and 4, float32 (float64 if an input is).

    Raises:
        TrainingError: If the shapes differ.
    """
    check_pair("alignment", a, b)
    a, b = unit(a, b)
    return (a - b).square().sum(dim=-1).mean()


@torch.no_grad()
def uniformity(a: Tensor) -> Tensor:
    """Logarithm of the mean of exp(-2 d^2) over pairs of rows on the unit sphere (Wang & Isola, 2020), t 2.

    The lower, the more evenly the embeddings use the sphere: 0 for a collapsed space, near -4 for random vectors of
    many dimensions. O(B^2 d).

    Args:
        a: Embeddings (B, d), normalised here.

    Returns:
        Scalar, float32 (float64 if the input is); NaN for fewer than two rows, which leave nothing to compare.

    Raises:
        TrainingError: If `a` is not (B, d).
    """
    _check("uniformity", a)
    (rows,) = unit(a)
    count = len(rows)
    if count < 2:
        return rows.new_tensor(math.nan)
    with full_precision(rows):
        exponents = 4 * (rows @ rows.T) - 4  # (B, B), -2 d^2 with d^2 = 2 - 2 cos
    exponents.fill_diagonal_(-torch.inf)
    return exponents.flatten().logsumexp(dim=0) - math.log(count * (count - 1))


def _check(name: str, a: Tensor) -> None:
    if a.ndim != 2:
        raise TrainingError(f"{name} takes one tensor of shape (B, d); got {tuple(a.shape)}.")
