"""Captions to forward passes: those of like length together, as many as fit a budget of tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from ccr_adapters.modeling.interfaces import Encodes

# Tokens of a pass: a core is fastest with what stays in its cache, an accelerator with many.
_TOKENS = {"cpu": 1024, "accelerator": 32768}
# a pass ends where captions get shorter than this share of its longest, if it has so many rows already
_LIKE_LENGTH = 0.8
_FEWEST_ROWS = 8
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
        batch: list[int] = []
        most, fixed = 0, max(_fixed_length(model, code, group) for code in {codes[index] for index in members})
        for index in sorted(members, key=lambda index: -len(rows[index])):
            spread = bool(batch) and len(rows[index]) < _LIKE_LENGTH * len(rows[batch[0]])
            if batch and (len(batch) >= most or (spread and len(batch) >= _FEWEST_ROWS)):
                yield batch
                batch = []
            if not batch:
                most = rows_a_pass(max(len(rows[index]), fixed), batch_size, model.device)
            batch.append(index)
        yield batch
