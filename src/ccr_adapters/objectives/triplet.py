"""The triplet loss with the hardest negative of the batch: what NRCCR trains its spaces with."""

from __future__ import annotations

import torch
from torch import Tensor

from ccr_adapters.objectives.cosine import check_ids, global_units, same_picture
from ccr_adapters.objectives.distillation import check_pair
from ccr_adapters.objectives.precision import full_precision


def triplet(a: Tensor, b: Tensor, *, margin: float = 0.2, ids: Tensor | None = None, gather: bool = True) -> Tensor:
    """Row i of `a` must be nearer to row i of `b` than to any other, by a margin; and the reverse.

    With cosines C, the sum over i of max(0, margin + max_j C[i, j] - C[i, i]) and of the same over columns: the
    'max of hinges' of VSE++ (Faghri et al., 2018, arXiv 1707.05612, equation 6), T(., .) of NRCCR (Wang et al., 2022,
    arXiv 2208.12526). NRCCR uses it between captions and pictures, and between captions and their
    back-translations. `info_nce` is its sibling that weighs all negatives; only the hardest counts here.

    Summed over rows, not averaged, as published: its size, and so its weight against terms that are means, grows with
    the batch. One product of B x d matrices, so O(B^2 d).

    Args:
        a: Embeddings (B, d) of one view, of any length: they are normalised here.
        b: Embeddings (B, d) of the other view.
        margin: By how much a pair must win.
        ids: Group of each row (B,), integers. Rows of one group show the same picture and are not negatives of each
            other. None: every row is its own group.
        gather: Look for the hardest negative in all processes, when there are several. The value is then the loss
            of the global batch, the same in every process.

    Returns:
        Scalar, float32 (float64 if an input is). A row without negatives, as in a batch of one, adds 0.

    Raises:
        TrainingError: If the shapes do not fit.

    Example:
        >>> triplet(torch.eye(3), torch.eye(3)).item()  # every negative is 1 away, 0.2 would do
        0.0
        >>> round(triplet(torch.ones(3, 8), torch.ones(3, 8)).item(), 4)  # six hinges of the margin
        1.2
    """
    check_pair("triplet", a, b)
    check_ids(ids, len(a))
    with full_precision(a):
        a, b = global_units(a, b, gather=gather)
        cosines = a @ b.T  # (B, B)
        left_out = torch.eye(len(cosines), dtype=torch.bool, device=cosines.device)
        same = same_picture(ids, gather=gather)
        if same is not None:
            left_out = left_out | same
        negatives = cosines.masked_fill(left_out, -torch.inf)  # (B, B)
        pairs = cosines.diagonal()  # (B,)
        rows = (margin + negatives.amax(dim=1) - pairs).clamp(min=0)  # (B,)
        columns = (margin + negatives.amax(dim=0) - pairs).clamp(min=0)  # (B,)
        return rows.sum() + columns.sum()
