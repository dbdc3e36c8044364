"""Captions to arrays of ids without torch: the tokenizer of an exported folder, and what the graph expects of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ccr_adapters.errors import CaptionError

if TYPE_CHECKING:
    from tokenizers import Tokenizer


@dataclass(frozen=True)
class CaptionSettings:
    """How captions become ids.

    Args:
        max_length: Longest caption in tokens, the end token included.
        end_id: The token that ends a caption.
        pad_id: The token behind it.
        lowercase: Capitals are taken out first.
    """

    max_length: int
    end_id: int
    pad_id: int
    lowercase: bool = False

    def ids(self, captions: Sequence[str], tokenizer: Tokenizer) -> list[list[int]]:
        """Ids of each caption with its end token, cut to the longest there may be.

        Raises:
            CaptionError: On the first caption that is no text, or empty.
        """
        for row, caption in enumerate(captions):
            if not isinstance(caption, str):
                raise CaptionError(f"Caption {row} is a {type(caption).__name__}, not a text: {caption!r}.")
            if not caption.strip():
                raise CaptionError(f"Caption {row} is empty. Remove the row, or write what to look for.")
        texts = [caption.lower() for caption in captions] if self.lowercase else list(captions)
        rows: list[list[int]] = []
        for encoding in tokenizer.encode_batch(texts, add_special_tokens=True):
            ids = encoding.ids if encoding.ids[-1:] == [self.end_id] else [*encoding.ids, self.end_id]
            rows.append(ids if len(ids) <= self.max_length else [*ids[: self.max_length - 1], self.end_id])
        return rows

    def pad(self, rows: Sequence[Sequence[int]]) -> dict[str, NDArray[Any]]:
        """Rows as the inputs of the graph. (B, L) each"""
        # graphs are traced for two tokens and more
        length = max(2, *(len(row) for row in rows))
        ids = np.full((len(rows), length), self.pad_id, dtype=np.int64)
        mask = np.zeros_like(ids)
        for index, row in enumerate(rows):
            ids[index, : len(row)] = row
            mask[index, : len(row)] = 1
        return {"input_ids": ids, "attention_mask": mask}
