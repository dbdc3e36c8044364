"""Ranks of the right answers, block by block: the one place where a score becomes a place in a list.

A query is a hit at k if any of its positives is among the first k. Ties count against the model: whatever is
not a positive and scores as much as a positive stands before it, so a model that maps everything to one point
scores nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ccr_adapters.errors import EvaluationError

# Scores held at once, whatever the gallery's size: 128 MiB of float32.
_MOST_SCORES = 2**25


@dataclass(frozen=True)
class Positives:
    """The right answers of each query, as one flat list: `flat[offsets[i] : offsets[i + 1]]` for query i.

    Attributes:
        flat: Rows of the gallery (sum of all counts,).
        offsets: Where each query's part begins (N + 1,).
    """

    flat: Tensor
    offsets: Tensor

    @classmethod
    def one_each(cls, rows: Tensor) -> Positives:
        """One right answer for each query, as from captions to images.

        Args:
            rows: Row of the gallery (N,).

        Returns:
            The positives of N queries.
        """
        return cls(rows.long(), torch.arange(len(rows) + 1))

    @classmethod
    def from_lists(cls, rows: Sequence[Sequence[int]]) -> Positives:
        """Any number of right answers for each query.

        Args:
            rows: For each query its rows of the gallery; a row named twice counts once.

        Returns:
            The positives of `len(rows)` queries.
        """
        once = [sorted({int(row) for row in some}) for some in rows]
        counts = torch.tensor([0, *map(len, once)])
        return cls(torch.tensor([row for some in once for row in some], dtype=torch.long), counts.cumsum(0))

    @classmethod
    def inverse(cls, caption_to_image: Tensor, images: int) -> Positives:
        """From images to captions: the right answers of an image are all its captions, maybe none.

        Args:
            caption_to_image: Image of each caption (N,).
            images: Number of images M.

        Returns:
            The positives of M queries.
        """
        counts = torch.bincount(caption_to_image, minlength=images)  # (M,)
        return cls(torch.argsort(caption_to_image, stable=True), torch.cat([counts.new_zeros(1), counts]).cumsum(0))

    @property
    def counts(self) -> Tensor:
        """Right answers of each query (N,)."""
        return self.offsets.diff()

    def padded(self, start: int, stop: int) -> Tensor:
        """The right answers of some queries as a table.

        Args:
            start: First query.
            stop: The query after the last.

        Returns:
            Rows of the gallery (stop - start, largest count), filled up with -1.
        """
        counts = self.counts[start:stop]
        slots = torch.arange(int(counts.max()))  # (P,)
        table = self.offsets[start:stop, None] + slots  # (b, P)
        filled = slots < counts[:, None]
        return torch.where(filled, self.flat[table.clamp(max=len(self.flat) - 1)], -1)


def ranks(
    queries: Tensor | np.ndarray,
    gallery: Tensor | np.ndarray,
    relevant: Positives | Tensor | np.ndarray | Sequence[Sequence[int]],
    *,
    block: int = 1024,
) -> Tensor:
    """Rank of the best-scored right answer of each query, counted from 1.

    Args:
        queries: Embeddings (N, d), compared by inner product: normalise them for cosine.
        gallery: Embeddings (M, d).
        relevant: The right answers: one row of the gallery for each query (N,), or a list of rows for each
            query.
        block: Queries scored at once; fewer if the gallery is large.

    Returns:
        Ranks (N,), integers from 1: one plus the wrong answers that score at least as much as the best right
        one.

    Raises:
        EvaluationError: If shapes do not fit, a number is not finite, or a query has no right answer.
    """
    return rank_and_precision(queries, gallery, relevant, block=block)[0]


def average_precision(
    queries: Tensor | np.ndarray,
    gallery: Tensor | np.ndarray,
    relevant: Positives | Tensor | np.ndarray | Sequence[Sequence[int]],
    *,
    block: int = 1024,
) -> Tensor:
    """Average precision of each query over all its right answers; its mean is mAP.

    Args:
        queries: As for `ranks`.
        gallery: As for `ranks`.
        relevant: As for `ranks`.
        block: As for `ranks`.

    Returns:
        Values (N,) in (0, 1], float64: the mean over right answers of the share of right ones down to it.

    Raises:
        EvaluationError: As for `ranks`.
    """
    return rank_and_precision(queries, gallery, relevant, block=block)[1]


def rank_and_precision(
    queries: Tensor | np.ndarray,
    gallery: Tensor | np.ndarray,
    relevant: Positives | Tensor | np.ndarray | Sequence[Sequence[int]],
    *,
    block: int = 1024,
) -> tuple[Tensor, Tensor]:
    """`ranks` and `average_precision` from one pass over the scores.

    Args:
        queries: As for `ranks`.
        gallery: As for `ranks`.
        relevant: As for `ranks`.
        block: As for `ranks`.

    Returns:
        Ranks (N,) and average precisions (N,), on the CPU.

    Raises:
        EvaluationError: As for `ranks`.
    """
    query_rows, gallery_rows = as_embeddings(queries, "queries"), as_embeddings(gallery, "gallery")
    if query_rows.shape[1] != gallery_rows.shape[1]:
        raise EvaluationError(
            f"queries are {query_rows.shape[1]} wide and the gallery is {gallery_rows.shape[1]} wide; "
            "both must come from one shared space."
        )
    if block < 1:
        raise EvaluationError(f"block is {block}; at least one query must be scored at a time.")
    positives = _as_positives(relevant, len(query_rows), len(gallery_rows))
    parts = [
        _block_statistics(scores, positives.padded(start, start + len(scores)).to(scores.device))
        for start, scores in _score_blocks(query_rows, gallery_rows, block)
    ]
    return torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts])


def as_embeddings(rows: Tensor | np.ndarray, name: str) -> Tensor:
    """Check embeddings and bring them to a floating tensor of at least float32.

    Args:
        rows: A tensor or array (N, d).
        name: What they are, for the message.

    Returns:
        Tensor (N, d), without gradient.

    Raises:
        EvaluationError: If the shape is not (N, d), if there are none, or if a number is not finite.
    """
    tensor = rows.detach() if isinstance(rows, Tensor) else torch.from_numpy(np.require(rows, requirements="W"))
    if tensor.ndim != 2 or 0 in tensor.shape:
        raise EvaluationError(f"{name} must be embeddings of shape (N, d), at least one; got {tuple(tensor.shape)}.")
    tensor = tensor.to(torch.promote_types(tensor.dtype, torch.float32))
    bad = (~tensor.isfinite()).any(dim=1).nonzero()  # (bad rows, 1)
    if len(bad):
        raise EvaluationError(
            f"{len(bad):,} of {len(tensor):,} {name} hold numbers that are not finite, the first in row "
            f"{int(bad[0])}; no rank can be trusted. Has the adapter diverged, or half precision overflown?"
        )
    return tensor


def _as_positives(
    relevant: Positives | Tensor | np.ndarray | Sequence[Sequence[int]], queries: int, gallery: int
) -> Positives:
    if isinstance(relevant, np.ndarray):
        relevant = torch.from_numpy(np.require(relevant, requirements="W"))
    if isinstance(relevant, Tensor):
        if relevant.ndim != 1 or relevant.is_floating_point():
            raise EvaluationError(
                f"relevant must hold one row of the gallery for each query, integers (N,); got "
                f"{relevant.dtype} {tuple(relevant.shape)}."
            )
        relevant = Positives.one_each(relevant.cpu())
    elif not isinstance(relevant, Positives):
        relevant = Positives.from_lists(relevant)
    if len(relevant.counts) != queries:
        raise EvaluationError(f"relevant speaks of {len(relevant.counts):,} queries; there are {queries:,}.")
    if int(relevant.counts.min()) < 1:
        raise EvaluationError(
            f"Query {int(relevant.counts.argmin())} has no right answer in the gallery; leave such queries out."
        )
    outside = (relevant.flat < 0) | (relevant.flat >= gallery)
    if bool(outside.any()):
        raise EvaluationError(
            f"relevant names row {int(relevant.flat[outside][0])} of a gallery of {gallery:,}; rows count from 0."
        )
    return relevant


def _score_blocks(queries: Tensor, gallery: Tensor, block: int) -> Iterator[tuple[int, Tensor]]:
    """Yield the first query and the scores (b, M) of each block."""
    gallery = gallery.to(queries.device)
    dtype = torch.promote_types(queries.dtype, gallery.dtype)
    queries, gallery = queries.to(dtype), gallery.to(dtype)
    # A matrix product adds up in another order in the body of a matrix than at its edge, so two equal rows of
    # the gallery may score unequally in the last bit, and a tie would be won by chance. Equal rows are scored
    # once.
    distinct, place = torch.unique(gallery, dim=0, return_inverse=True)  # (U, d), (M,)
    repeated = len(distinct) < len(gallery)
    columns = (distinct if repeated else gallery).T
    step = max(1, min(block, _MOST_SCORES // len(gallery)))
    for start in range(0, len(queries), step):
        # Within a training loop autocast may be on, and half precision would make ties out of near misses.
        with torch.autocast(queries.device.type, enabled=False):
            scores = queries[start : start + step] @ columns  # (b, U)
        yield start, scores[:, place] if repeated else scores


def _block_statistics(scores: Tensor, positives: Tensor) -> tuple[Tensor, Tensor]:
    """Rank and average precision of each query of a block, from scores (b, M) and right answers (b, P)."""
    filled = positives >= 0  # (b, P)
    right = scores.gather(1, positives.clamp(min=0)).masked_fill(~filled, -torch.inf)  # (b, P)
    right = right.sort(dim=1, descending=True).values  # the padding comes last
    filled = right > -torch.inf
    # Column by column rather than at once: (b, M, P) would be P blocks of scores.
    count = _Counter(scores.shape[0], scores.shape[1], scores.device)
    at_least = torch.stack(
        [count.at_least(scores, right[:, [slot]]) for slot in range(right.shape[1])], dim=1
    )  # (b, P)
    right_at_least = torch.searchsorted(-right, -right, right=True)  # (b, P); -right ascends
    wrong = torch.where(filled, at_least - right_at_least, 0)  # wrong answers at or above each right one
    found = torch.arange(1, right.shape[1] + 1, device=scores.device)  # (P,)
    precision = torch.where(filled, found / (found + wrong).double(), 0.0)  # (b, P)
    return (wrong[:, 0] + 1).cpu(), (precision.sum(dim=1) / filled.sum(dim=1)).cpu()


class _Counter:
    """Counts scores by rows, several times quicker than a sum over booleans, which is what most of a ranking was.

    Eight booleans are the bytes of one integer: a sum of 128 such integers is eight counts, none of which can run over.

    Args:
        rows: Rows of a block, b.
        columns: Size of the gallery, M.
        device: Where the scores are.
    """

    def __init__(self, rows: int, columns: int, device: torch.device) -> None:
        parts = -(-columns // 1024)
        self._columns, self._words = columns, -(-columns // (8 * parts))  # at most 128 integers a part
        self._found = torch.zeros((rows, parts * self._words * 8), dtype=torch.bool, device=device)

    def at_least(self, scores: Tensor, limit: Tensor) -> Tensor:
        """How many scores of each row reach its limit. (b, M), (b, 1) -> (b,)"""
        torch.ge(scores, limit, out=self._found[:, : self._columns])
        words = self._found.view(torch.int64).unflatten(1, (-1, self._words)).sum(dim=2)  # (b, parts)
        return words.view(torch.uint8).sum(dim=1, dtype=torch.int64)
