"""Cosines of a global batch: what the objectives that compare every caption with every picture share."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ccr_adapters.errors import TrainingError
from ccr_adapters.objectives.gather import all_gather_with_grad


def unit(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Normalise vectors, in the highest precision among all tensors and at least in float32.

    Args:
        tensors: Vectors (..., d); a vector of zeros stays one.

    Returns:
        The same vectors with length 1, one tensor for each.
    """
    dtype = torch.float32
    for tensor in tensors:
        dtype = torch.promote_types(dtype, tensor.dtype)
    return tuple(F.normalize(tensor.to(dtype), dim=-1) for tensor in tensors)


def check_ids(ids: Tensor | None, rows: int) -> None:
    """Refuse groups that do not belong to these rows.

    Args:
        ids: Group of each row (B,), or None.
        rows: B.

    Raises:
        TrainingError: If their number differs.
    """
    if ids is not None and ids.shape != (rows,):
        raise TrainingError(f"ids must hold one group for each of the {rows} rows; got shape {tuple(ids.shape)}.")


def global_units(*views: Tensor, gather: bool) -> tuple[Tensor, ...]:
    """Normalise the views of a batch, and gather them: the product of two is then the global matrix of cosines.

    Args:
        views: Rows (B, d) of the local batch; d may differ.
        gather: Take the rows of all processes, when there are several.

    Returns:
        Rows of length 1, of the global batch if `gather`, one tensor for each view.
    """
    return tuple(all_gather_with_grad(view) if gather else view for view in unit(*views))


def same_picture(ids: Tensor | None, *, gather: bool) -> Tensor | None:
    """Pairs of two different rows that show one picture: neither is a negative of the other.

    Args:
        ids: Group of each local row (B,), or None: every row is its own group.
        gather: As in `global_units`.

    Returns:
        True at such pairs (B, B) of the global batch, never on the diagonal; None without groups.
    """
    if ids is None:
        return None
    ids = all_gather_with_grad(ids) if gather else ids
    same = ids[:, None] == ids[None, :]  # (B, B)
    return same.fill_diagonal_(False)


def log_softmax_both_ways(logits: Tensor, left_out: Tensor | None) -> tuple[Tensor, Tensor]:
    """Log-probabilities of the columns for each row, and of the rows for each column.

    Args:
        logits: Cosines over a temperature (B, B).
        left_out: True at pairs that no sum may hold (B, B), symmetric, or None.

    Returns:
        Two tensors (B, B): the second is laid out by columns, each of its rows sums to 1 as well. Pairs left out
        have probability 0 and a finite logarithm, so that 0 * log 0 is 0 and not NaN.
    """
    if left_out is not None:
        logits = logits.masked_fill(left_out, torch.finfo(logits.dtype).min)
    return F.log_softmax(logits, dim=1), F.log_softmax(logits.T, dim=1)
