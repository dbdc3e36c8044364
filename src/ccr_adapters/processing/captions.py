"""Captions to token ids: checked before any work, truncated with the end token kept, padded no further than needed."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor

from ccr_adapters.errors import CaptionError, ConfigError

logger = logging.getLogger(__name__)
# what Python makes of bytes that are no UTF-8
_NO_UTF8 = re.compile("[\ud800-\udfff]")
# by object, not by its id, which the next tokenizer may get again
_warned_of_truncation: WeakSet[Any] = WeakSet()


@dataclass
class TokenizedCaptions:
    """Ids of a batch of captions."""

    input_ids: Tensor
    """(B, L)"""
    attention_mask: Tensor
    """1 at real tokens. (B, L)"""
    pooled_at: Tensor
    """Position of each end token. (B,)"""


def check_captions(captions: Sequence[str]) -> list[str]:
    """Refuse anything that is not a non-empty text, naming its row.

    Raises:
        CaptionError: On the first caption that is no text, empty, or was no UTF-8.
    """
    captions = [captions] if isinstance(captions, str) else list(captions)
    for row, caption in enumerate(captions):
        if not isinstance(caption, str):
            raise CaptionError(f"Caption {row} is a {type(caption).__name__}, not a text: {caption!r}.")
        if not caption.strip():
            raise CaptionError(f"Caption {row} is empty. Remove the row, or write what to look for.")
        if _NO_UTF8.search(caption):
            raise CaptionError(f"Caption {row} holds bytes that are no UTF-8: {caption!r}. Write it in UTF-8.")
    return captions


def end_token_id(tokenizer: Any) -> int:
    """The id that ends a caption: the tokenizer's end-of-sequence token, or its separator.

    Raises:
        ConfigError: If it has neither.
    """
    # BERT's tokenizers have a separator and no end token, RoBERTa's have both and they agree
    for name in ("eos_token_id", "sep_token_id"):
        value = getattr(tokenizer, name, None)
        if value is not None:
            return int(value)
    raise ConfigError(
        "The tokenizer has neither an end-of-sequence nor a separator token, so captions have no end to pool at."
    )


def token_ids(captions: Sequence[str], tokenizer: Any, max_length: int) -> list[list[int]]:
    """Ids of each caption with its end token, cut to `max_length`; the first cut is warned of."""
    end = end_token_id(tokenizer)
    encoded = tokenizer(list(captions), add_special_tokens=True, truncation=False, padding=False, verbose=False)
    rows: list[list[int]] = []
    cut = 0
    for ids in encoded["input_ids"]:
        ids = ids if ids and ids[-1] == end else [*ids, end]
        if len(ids) > max_length:
            cut += 1
            ids = [*ids[: max_length - 1], end]
        rows.append(ids)
    if cut and tokenizer not in _warned_of_truncation:
        _warned_of_truncation.add(tokenizer)
        logger.warning(
            "%d of %d captions are longer than the %d tokens that the encoder takes; the rest is cut off. "
            "This is said once.",
            cut,
            len(rows),
            max_length,
        )
    return rows


def pad_ids(rows: Sequence[Sequence[int]], pad_id: int, length: int | None = None) -> TokenizedCaptions:
    """Stack rows of ids, padded on the right to the longest, or to `length`."""
    lengths = torch.tensor([len(row) for row in rows], dtype=torch.long)  # (B,)
    width = max(max(map(len, rows), default=0), length or 0)
    real = torch.arange(width) < lengths.unsqueeze(1)  # (B, L)
    input_ids = torch.full((len(rows), width), pad_id, dtype=torch.long)
    # one assignment: a loop over the rows takes longer than a small encoder does on an accelerator
    input_ids[real] = torch.tensor([token for row in rows for token in row], dtype=torch.long)
    return TokenizedCaptions(input_ids, real.long(), lengths - 1)


def pad_token_id(tokenizer: Any) -> int:
    """Id to pad with; any will do, since padding is masked, so 0 where the tokenizer names none."""
    value = getattr(tokenizer, "pad_token_id", None)
    return 0 if value is None else int(value)
