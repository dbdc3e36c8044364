"""A large batch in chunks: the activations of a few rows at a time, the gradients of the whole batch (GradCache).

A contrastive loss wants many rows, and memory holds the activations of few. Gao et al. 2021 (arXiv 2101.06983) encode
once without a graph, take the gradient of the loss by the vectors, and encode again with a graph, chunk by chunk. Here each
chunk is a checkpoint of torch, which comes to the same and leaves the rest to autograd: any objective, accumulation,
several processes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ccr_adapters.dasd import Condition
from ccr_adapters.dasd.condition import Features

Encoded = tuple[Tensor, Tensor, Condition]
_OF_ROWS = ("input_ids", "attention_mask", "pooled_at")


def splits(rows: int | None, count: int) -> bool:
    """Whether a pass over `count` rows is to be cut: only where there is a graph to save."""
    return rows is not None and count > rows and torch.is_grad_enabled()


def _slices(rows: int, count: int) -> Iterator[slice]:
    yield from (slice(start, start + rows) for start in range(0, count, rows))


def map_in_chunks(encode: Callable[..., Tensor], rows: int, inputs: dict[str, Any]) -> Tensor:
    """A function of rows, applied to `rows` of them at a time.

    Args:
        encode: Gives one row for each that it gets, in its keywords.
        rows: Rows at a time.
        inputs: Its keywords; tensors of as many rows as the first are cut, anything else is handed on.

    Returns:
        As from one call. (B, ...)
    """
    count = len(next(value for value in inputs.values() if isinstance(value, Tensor)))

    def part(piece: slice) -> Tensor:
        cut = {k: v[piece] if isinstance(v, Tensor) and len(v) == count else v for k, v in inputs.items()}
        found: Tensor = checkpoint(lambda: encode(**cut), use_reentrant=False)
        return found

    return torch.cat([part(piece) for piece in _slices(rows, count)])


def encode_in_chunks(
    encode: Callable[..., Encoded],
    rows: int,
    input_ids: Tensor,
    attention_mask: Tensor | None,
    pooled_at: Tensor | None,
    language: str | Sequence[str],
    source: bool,
    keep_states: bool,
) -> Encoded:
    """`CCRModel`'s pass over captions, `rows` at a time; arguments and result as there.

    A checkpoint hands on tensors alone, so the disentangled features leave it beside the vectors, and are put together by
    language, in the order of the rows. Token states are most of what outlives a chunk: without `keep_states` there are none.
    """
    count = len(input_ids)
    vectors, states, passes = [], [], []
    features: dict[str, list[Features]] = {}
    for piece in _slices(rows, count):
        met: list[Condition] = []

        def part(piece: slice = piece, met: list[Condition] = met) -> tuple[Tensor, ...]:
            mask, ends = (None if each is None else each[piece] for each in (attention_mask, pooled_at))
            own = language if isinstance(language, str) else list(language)[piece]
            vector, state, condition = encode(input_ids[piece], mask, ends, own, source)
            met[:] = [condition]
            halves = [half for each in condition.features.values() for half in (each.related, each.agnostic)]
            return vector, state if keep_states else state[:, :0], *halves

        vector, state, *halves = checkpoint(part, use_reentrant=False)
        vectors.append(vector)
        states.append(state)
        (own,) = met
        for index, code in enumerate(own.features):
            features.setdefault(code, []).append(Features(*halves[2 * index : 2 * index + 2]))
        own.features, own.cores, own.prefix_states = {}, {}, {}  # of a graph that is gone
        passes.append(own)
    codes = [language] * count if isinstance(language, str) else list(language)
    ids, mask, ends = (_joined([getattr(each, name) for each in passes]) for name in _OF_ROWS)
    condition = Condition(ids, mask, codes, ends)
    condition.features = {
        code: Features(torch.cat([each.related for each in found]), torch.cat([each.agnostic for each in found]))
        for code, found in features.items()
    }
    return torch.cat(vectors), torch.cat(states), condition


def _joined(parts: list[Tensor | None]) -> Tensor | None:
    there = [part for part in parts if part is not None]
    return torch.cat(there) if there else None
