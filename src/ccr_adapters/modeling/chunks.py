"""A batch in chunks: the activations of a few rows at a time (GradCache), or rows of like length together.

A contrastive loss wants many rows, and memory holds the activations of few. Gao et al. 2021 (arXiv 2101.06983) encode
once without a graph, take the gradient of the loss by the vectors, and encode again with a graph, chunk by chunk. Here each
chunk is a checkpoint of torch, which comes to the same and leaves the rest to autograd: any objective, accumulation,
several processes. A checkpoint draws the same dropout twice on the devices of the tensors that it is called with, and on no
other: so each is called with one.

Chunks that are kept instead, each no longer than its own longest caption, save the work and the memory that padding takes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ccr_adapters.dasd import Condition
from ccr_adapters.dasd.condition import Features

Encoded = tuple[Tensor, Tensor, Condition]


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
    first = next(value for value in inputs.values() if isinstance(value, Tensor))
    count = len(first)

    def part(piece: slice) -> Tensor:
        cut = {k: v[piece] if isinstance(v, Tensor) and len(v) == count else v for k, v in inputs.items()}
        found: Tensor = checkpoint(lambda _: encode(**cut), first, use_reentrant=False)
        return found

    return torch.cat([part(piece) for piece in _slices(rows, count)])


def encode_in_chunks(
    encode: Callable[..., Encoded],
    chunks: Sequence[Sequence[int]],
    input_ids: Tensor,
    attention_mask: Tensor | None,
    pooled_at: Tensor | None,
    language: str | Sequence[str],
    source: bool,
    *,
    recompute: bool,
    keep_states: bool,
    lengths: Sequence[int] | None = None,
) -> Encoded:
    """`CCRModel`'s pass over captions, a chunk at a time; arguments and result as there.

    A checkpoint hands on tensors alone, so the disentangled features leave it beside the vectors, and are put together by
    language, in the order of the rows. Token states are most of what outlives a chunk: without `keep_states` there are none.

    Args:
        encode: The pass over all its rows.
        chunks: Indices of the rows of each; every row once.
        input_ids: As there. (B, L)
        attention_mask: As there. (B, L)
        pooled_at: As there. (B,)
        language: As there.
        source: As there.
        recompute: Keep vectors alone and encode again in the backward pass, or keep all activations.
        keep_states: Whether token states are wanted.
        lengths: Where each caption's padding begins, if nothing reads it: a chunk then goes no further than its longest,
            and a batch of thousands has a long caption somewhere. (B,)
    """
    count, width = input_ids.shape
    codes = [language] * count if isinstance(language, str) else list(language)
    ends_at = [width] * count if lengths is None else lengths
    order = [row for chosen in chunks for row in chosen]
    vectors, states, passes = [], [], []
    features: dict[str, list[Features]] = {}
    for chosen in chunks:
        here, upto = input_ids.new_tensor(chosen), max(1, *(ends_at[row] for row in chosen))
        own = [codes[row] for row in chosen]
        met: list[Condition] = []

        def part(
            here: Tensor = here, upto: int = upto, own: list[str] = own, met: list[Condition] = met
        ) -> tuple[Tensor, ...]:
            mask = None if attention_mask is None else attention_mask[here, :upto]
            ends = None if pooled_at is None else pooled_at[here]
            vector, state, condition = encode(input_ids[here, :upto], mask, ends, own, source)
            met[:] = [condition]
            halves = [half for each in condition.features.values() for half in (each.related, each.agnostic)]
            return vector, state if keep_states else state[:, :0], *halves

        vector, state, *halves = checkpoint(part, here, use_reentrant=False) if recompute else part()
        vectors.append(vector)
        # what nothing reads is 0
        states.append(F.pad(state, (0, 0, 0, width - upto)) if keep_states and lengths is not None else state)
        (condition,) = met
        for index, code in enumerate(condition.features):
            features.setdefault(code, []).append(Features(*halves[2 * index : 2 * index + 2]))
        condition.features, condition.cores, condition.prefix_states = {}, {}, {}  # of a graph that is gone
        passes.append(condition)
    back = input_ids.new_tensor(order).argsort()
    ends = _joined(passes, "pooled_at")
    whole = Condition(input_ids, attention_mask, codes, None if ends is None else ends[back])
    if lengths is None:  # the pass may have padded them
        whole.input_ids, whole.attention_mask = _joined(passes, "input_ids"), _joined(passes, "attention_mask")
    for code, found in features.items():
        own_back = input_ids.new_tensor([row for row in order if codes[row] == code]).argsort()
        halves = [torch.cat([getattr(each, half) for each in found])[own_back] for half in ("related", "agnostic")]
        whole.features[code] = Features(*halves)
    return torch.cat(vectors)[back], torch.cat(states)[back], whole


def _joined(passes: list[Condition], name: str) -> Tensor | None:
    there = [getattr(each, name) for each in passes if getattr(each, name) is not None]
    return torch.cat(there) if there else None
