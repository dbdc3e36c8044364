"""Captions to forward passes: those of like length together, as many as fit a budget of tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch

from ccr_adapters.modeling.interfaces import Encodes

# Tokens of a pass: a core is fastest with what stays in its cache, an accelerator with many.
_TOKENS = {"cpu": 1024, "accelerator": 32768}
# a pass ends where captions get shorter than this share of its longest, if it has so many rows already
_LIKE_LENGTH = 0.8
_FEWEST_ROWS = 8
# tokens that a part of a training batch has at least: a core is busy with few, an accelerator waits for the next kernel
_FEWEST_TOKENS = {"cpu": 128, "accelerator": 8192}
# so few of the base's captions stay together as they came
_AS_THEY_CAME = 64


def rows_a_pass(longest: int, batch_size: int | None, device: torch.device) -> int:
    """How many captions a pass may have.

    Args:
        longest: Tokens of its longest caption.
        batch_size: Most rows that were asked for; `None` leaves it to the budget of tokens.
        device: Where the encoder is.

    Returns:
        At least one.
    """
    if batch_size is not None:
        return batch_size
    return max(1, _TOKENS["cpu" if device.type == "cpu" else "accelerator"] // max(1, longest))


def like_length(
    order: Sequence[int], lengths: Sequence[int], most: Callable[[int], int], fewest: Callable[[int], int]
) -> Iterator[list[int]]:
    """Cut rows, which come longest first, where a pass is full, or where they get much shorter than its longest.

    Args:
        order: Indices of the rows.
        lengths: Length of each row, by index.
        most: Rows that a pass may have, given its longest.
        fewest: Rows that it has before it ends for being long enough.

    Yields:
        Indices of the rows of a pass, every row once.
    """
    batch: list[int] = []
    longest = 0
    for index in order:
        spread = lengths[index] < _LIKE_LENGTH * longest
        if batch and (len(batch) >= most(longest) or (spread and len(batch) >= fewest(longest))):
            yield batch
            batch = []
        if not batch:
            longest = lengths[index]
        batch.append(index)
    if batch:
        yield batch


def fewest_tokens(device: torch.device) -> int:
    """Tokens below which a pass costs the same, however few it has."""
    return _FEWEST_TOKENS["cpu" if device.type == "cpu" else "accelerator"]


def training_parts(lengths: Sequence[int], device: torch.device) -> list[list[int]]:
    """Parts of a training batch that are encoded one after the other, so that little of it is padding.

    Args:
        lengths: Tokens of each caption.
        device: Where the encoder is.

    Returns:
        Indices of the rows of each part, longest first.
    """
    tokens = fewest_tokens(device)
    order = sorted(range(len(lengths)), key=lambda index: -lengths[index])

    def fewest(longest: int) -> int:
        return max(_FEWEST_ROWS, tokens // max(1, longest))

    parts = list(like_length(order, lengths, lambda _: len(order), fewest))
    if len(parts) > 1 and len(parts[-1]) < fewest(lengths[parts[-1][0]]):
        last = parts.pop()
        parts[-1] += last
    return parts


def gradient_chunks(rows: int, lengths: Sequence[int], *, by_tokens: bool) -> list[list[int]]:
    """Chunks of a batch that is larger than memory, captions of like length together.

    Args:
        rows: Most rows of a chunk.
        lengths: Tokens of each caption.
        by_tokens: At most the tokens that so many rows have on average, too: few long captions take as much memory as many
            short ones. Their number then depends on the lengths; otherwise on the rows alone.

    Returns:
        Indices of the rows of each chunk, longest first.
    """
    tokens = rows * sum(lengths) / max(1, len(lengths))
    order = sorted(range(len(lengths)), key=lambda index: -lengths[index])

    def most(longest: int) -> int:
        return max(1, min(rows, int(tokens / max(1, longest)))) if by_tokens else rows

    return list(like_length(order, lengths, most, lambda _: len(order)))


def _fixed_length(model: Encodes, code: str | None, group: int) -> int:
    """Tokens that every caption is padded to, whatever it has; 0 where the longest of a pass decides."""
    if group < 2 and model.processor is not None and model.processor.pad_to_max_length:
        return model.processor.base_max_length
    return 0 if code is None else model.language_config(code).pad_to or 0


def passes(
    model: Encodes, rows: Sequence[Sequence[int]], codes: Sequence[str | None], batch_size: int | None
) -> Iterator[list[int]]:
    """Rows that share a pass: of one kind, and of like length, so that little of the work is padding.

    The base's rows take the base's own path; rows that share the base's tokenizer follow its padding. Those two kinds
    stay apart, and everything else mixes, where the adapters know names per row. A few captions for the base stay in one
    pass as they came, which gives the very bits that the base itself gives for them.

    Args:
        model: The model.
        rows: Token ids of each caption.
        codes: Language of each.
        batch_size: Most rows of a pass; `None`: as many as fit a budget of tokens.

    Yields:
        Indices of the rows of a pass, every row once.
    """
    together = model.mixes_languages()

    def kind(index: int) -> tuple[int, str]:
        code = codes[index]
        group = 0 if code is None else 1 if code not in model.vocabularies else 2
        return group, "" if together or code is None else code

    groups: dict[tuple[int, str], list[int]] = {}
    for index in range(len(rows)):
        groups.setdefault(kind(index), []).append(index)
    for (group, _), members in sorted(groups.items()):
        if group == 0 and len(members) <= (batch_size or _AS_THEY_CAME):
            yield members
            continue
        fixed = max(_fixed_length(model, code, group) for code in {codes[index] for index in members})
        yield from like_length(
            sorted(members, key=lambda index: -len(rows[index])),
            [len(row) for row in rows],
            lambda longest, fixed=fixed: rows_a_pass(max(longest, fixed), batch_size, model.device),  # type: ignore[misc]
            lambda _: _FEWEST_ROWS,
        )
