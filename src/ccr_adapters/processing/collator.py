"""Rows of the training data to batches whose keys begin with the role of what they hold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ccr_adapters.processing.captions import pad_ids, pad_token_id, token_ids


class TargetCollator:
    """Batches for training a language: its captions' ids, and the cached vectors of their sources and pictures.

    Args:
        tokenizer: Tokenizer of the language.
        max_length: Longest caption in tokens.
        source: Vectors of the source captions, one a row of the data. (N, d)
        visual: Vectors of the pictures. (M, d)
        image_index: Which picture each row shows. (N,)
        pad_to: Fixed length, for bases that want one; they read the padding too, and pool at the last position.
        unknown: Unknown words to sprinkle over the captions, as a share of their words; see `sprinkled`.
        seed: Seed of the sprinkling; with it a row always looks the same, however training was interrupted or shared.
    """

    def __init__(
        self,
        tokenizer: Any,
        max_length: int,
        source: np.ndarray,
        visual: np.ndarray,
        image_index: np.ndarray,
        pad_to: int | None = None,
        *,
        unknown: float = 0.0,
        seed: int = 0,
    ) -> None:
        self.tokenizer = tokenizer
        self.max_length = max_length
        self.unknown = unknown
        self.seed = seed
        self.source = source
        self.visual = visual
        self.image_index = image_index
        self.pad_to = pad_to

    def __call__(self, examples: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
        """Rows with `row` (index into the data) and `translation` to a batch."""
        rows = np.asarray([example["row"] for example in examples])
        ids = token_ids([example["translation"] for example in examples], self.tokenizer, self.max_length)
        if self.unknown:
            ids = [
                sprinkled(own, self.unknown, self.tokenizer.unk_token_id, self.max_length, (self.seed, int(row)))
                for own, row in zip(ids, rows, strict=True)
            ]
        batch = pad_ids(ids, pad_token_id(self.tokenizer), self.pad_to)
        if self.pad_to is not None:
            batch.attention_mask.fill_(1)
            batch.pooled_at.fill_(self.pad_to - 1)
        pictures = self.image_index[rows]
        return {
            "target_input_ids": batch.input_ids,
            "target_attention_mask": batch.attention_mask,
            "target_pooled_at": batch.pooled_at,
            "source_vectors": torch.from_numpy(np.array(self.source[rows], dtype=np.float32)),
            "visual_vectors": torch.from_numpy(np.array(self.visual[pictures], dtype=np.float32)),
            "image_index": torch.from_numpy(pictures.astype(np.int64)),
        }


def sprinkled(ids: Sequence[int], share: float, unknown_id: int, max_length: int, seed: tuple[int, int]) -> list[int]:
    """Put runs of unknown words between the words of a caption.

    A translator says everything in one way; people use words that it never does. An encoder that has met unknown words
    in training reads past them.

    Args:
        ids: Ids of a caption, with its first and last special token.
        share: Unknown words to expect for each word; it varies from caption to caption, between none and twice that.
        unknown_id: Id of the unknown word.
        max_length: Longest caption; the end token is kept.
        seed: Decides everything.
    """
    generator = np.random.default_rng(seed)
    chance = generator.uniform(0, share)
    found: list[int] = []
    for token in ids:
        # runs of two on average, in front of any token but the first
        if found and generator.random() < chance:
            found += [unknown_id] * int(generator.integers(1, 4))
        found.append(token)
    return found if len(found) <= max_length else [*found[: max_length - 1], ids[-1]]


class SourceCollator:
    """Batches for fine-tuning the base on its own language: captions and pictures.

    Args:
        processor: The model's processor.
        pictures: Pictures by index, for a base with an image tower.
        visual: Vectors of the pictures, for a text encoder alone. (M, d)
        image_index: Which picture each row shows. (N,)
    """

    def __init__(
        self,
        processor: Any,
        image_index: np.ndarray,
        pictures: Any | None = None,
        visual: np.ndarray | None = None,
    ) -> None:
        self.processor = processor
        self.pictures = pictures
        self.visual = visual
        self.image_index = image_index

    def __call__(self, examples: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
        """Rows with `row` and `caption` to a batch."""
        chosen = self.image_index[np.asarray([example["row"] for example in examples])]
        batch = self.processor.pad(self.processor.token_ids([example["caption"] for example in examples]))
        if self.processor.pad_to_max_length:
            # such a base reads the padding too
            batch.attention_mask.fill_(1)
        found = {
            "source_input_ids": batch.input_ids,
            "source_attention_mask": batch.attention_mask,
            "image_index": torch.from_numpy(chosen.astype(np.int64)),
        }
        if self.pictures is not None:
            found["pixel_values"] = self.processor.pixel_values([self.pictures[int(index)] for index in chosen])
        elif self.visual is not None:
            found["visual_vectors"] = torch.from_numpy(np.array(self.visual[chosen], dtype=np.float32))
        return found
