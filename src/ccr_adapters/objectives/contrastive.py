"""InfoNCE between two views of a batch, and of captions against a bank of cached vectors."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ccr_adapters.errors import TrainingError
from ccr_adapters.objectives.cosine import unit
from ccr_adapters.objectives.gather import all_gather_with_grad
from ccr_adapters.objectives.precision import full_precision


def info_nce(
    a: Tensor,
    b: Tensor,
    *,
    scale: float | Tensor = 100.0,
    ids: Tensor | None = None,
    gather: bool = True,
) -> Tensor:
    """Symmetric InfoNCE: row i of `a` must find row i of `b` in the global batch, and the reverse.

    With cosines C of the global batch, the mean of the cross-entropies of softmax(scale * C) over rows and
    over columns, the diagonal being right. Stage CMA of DASD (Cai et al., 2025, arXiv 2412.13510) uses it
    between target captions and pictures with scale 100; the English fine-tune between English captions and
    pictures.

    Args:
        a: Embeddings (B, d) of one view, of any length: they are normalised here.
        b: Embeddings (B, d) of the other view.
        scale: Inverse temperature; a scalar tensor if it is learned.
        ids: Group of each row (B,), integers. Rows of one group show the same picture, and two captions of
            one picture are not negatives of each other: they are left out of each other's sums. None: every
            row is its own group.
        gather: Take the negatives from all processes, when there are several. The value is then the loss of
            the global batch, the same in every process.

    Returns:
        Scalar, float32 (float64 if an input is). log B when all cosines are equal.

    Raises:
        TrainingError: If the shapes do not fit.

    Example:
        >>> info_nce(torch.ones(4, 8), torch.ones(4, 8)).item()  # doctest: +ELLIPSIS
        1.386...
    """
    if a.ndim != 2 or a.shape != b.shape:
        raise TrainingError(
            f"info_nce takes two tensors of one shape (B, d); got {tuple(a.shape)} and {tuple(b.shape)}."
        )
    if ids is not None and ids.shape != a.shape[:1]:
        raise TrainingError(f"ids must hold one group for each of the {len(a)} rows; got shape {tuple(ids.shape)}.")
    with full_precision(a):
        a, b = unit(a, b)
        if gather:
            a, b = all_gather_with_grad(a), all_gather_with_grad(b)
            ids = None if ids is None else all_gather_with_grad(ids)
        logits = scale * (a @ b.T)  # (B, B)
        if ids is not None:
            same = ids[:, None] == ids[None, :]  # (B, B)
            same.fill_diagonal_(False)
            logits = logits.masked_fill(same, -torch.inf)
        labels = torch.arange(len(logits), device=logits.device)
        return (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2


def info_nce_one_way(queries: Tensor, bank: Tensor, targets: Tensor, scale: float | Tensor = 100.0) -> Tensor:
    """InfoNCE of captions against a bank of vectors encoded once, for example all training pictures.

    The mean cross-entropy of softmax(scale * cosine) over the bank. Unlike `info_nce`, which draws its
    negatives from the batch and works both ways, it meets every picture in every step, and each row of the
    bank is another picture, so no positive hides among the negatives. Rows do not depend on each other:
    several processes need no gathering.

    Args:
        queries: Caption embeddings (B, d), normalised here.
        bank: Vectors (M, d), normalised here. The same in every process.
        targets: Row of the bank that belongs to each query (B,), integers.
        scale: Inverse temperature.

    Returns:
        Scalar, float32 (float64 if an input is). log M when all cosines are equal.

    Raises:
        TrainingError: If the shapes do not fit.
    """
    if queries.ndim != 2 or bank.ndim != 2 or queries.shape[1] != bank.shape[1]:
        raise TrainingError(
            f"info_nce_one_way takes queries (B, d) and a bank (M, d); got {tuple(queries.shape)} and "
            f"{tuple(bank.shape)}."
        )
    if targets.shape != queries.shape[:1]:
        raise TrainingError(
            f"targets must hold one row of the bank for each of the {len(queries)} queries; "
            f"got shape {tuple(targets.shape)}."
        )
    with full_precision(queries):
        queries, bank = unit(queries, bank)
        return F.cross_entropy(scale * (queries @ bank.T), targets)  # (B, M) -> ()
