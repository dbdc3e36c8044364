"""Rows of the training data to batches whose keys begin with the role of what they hold."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ccr_adapters.errors import ConfigError
from ccr_adapters.processing.frames import stack_frames
from ccr_adapters.processing.processor import CCRProcessor
from ccr_adapters.processing.subwords import SubwordSampler

# which column of the data plays which part in a batch
COLUMN_OF = {"source": "caption", "back": "back_translation"}


class TargetCollator:
    """Batches for training a language: its captions' ids, and the cached vectors of their sources and pictures.

    Args:
        processor: The model's processor, which knows the language.
        language: Its code.
        visual: Vectors of the pictures. (M, d)
        image_index: Which picture each row shows. (N,)
        source: Vectors of the source captions, one a row of the data. (N, d)
        videos: Frame features of the videos in place of pictures, beside `visual`, their means: (T_i, d) each.
        most_frames: Most frames of a video in a batch; 0 leaves them out.
        roles: Captions whose ids a batch holds beside the translations': `"source"` and `"back"`.
        unknown: Unknown words to sprinkle over the captions, as a share of their words; see `sprinkled`.
        sampler: Cuts the words of a caption into other pieces.
        sampling: Share of the captions that it cuts, others in each epoch.
        seed: Seed of both; with it a row of an epoch always looks the same, however training was interrupted or shared.
    """

    def __init__(
        self,
        processor: CCRProcessor,
        language: str,
        visual: np.ndarray,
        image_index: np.ndarray,
        *,
        source: np.ndarray | None = None,
        videos: Any | None = None,
        most_frames: int = 0,
        roles: Iterable[str] = (),
        unknown: float = 0.0,
        sampler: SubwordSampler | None = None,
        sampling: float = 0.0,
        seed: int = 0,
    ) -> None:
        self.processor = processor
        self.language = language
        self.visual = visual
        self.image_index = image_index
        self.source = source
        self.videos = videos if most_frames else None
        self.most_frames = most_frames
        self.roles = sorted(roles)
        self.unknown = unknown
        self._unknown_id = unknown_id(processor, language) if unknown else 0
        self.sampler = sampler
        self.sampling = sampling if sampler else 0.0
        self.seed = seed
        self.epoch = 0
        self.max_length = processor.languages[language][1]

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch the next batches are of."""
        self.epoch = epoch

    @property
    def columns(self) -> list[str]:
        """Columns of the data that a batch is made of."""
        return ["translation", *(COLUMN_OF[role] for role in self.roles)]

    def __call__(self, examples: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
        """Rows with `row` (index into the data) and the columns to a batch."""
        rows = np.asarray([example["row"] for example in examples])
        captions = [example["translation"] for example in examples]
        ids = self.processor.token_ids(captions, self.language)
        if self.sampling:
            ids = [self._cut(*parts) for parts in zip(captions, ids, rows.tolist(), strict=True)]
        if self.unknown:
            ids = [
                sprinkled(own, self.unknown, self._unknown_id, self.max_length, (self.seed, int(row)))
                for own, row in zip(ids, rows, strict=True)
            ]
        found = self._role("target", ids, self.language)
        for role in self.roles:
            captions = [example[COLUMN_OF[role]] for example in examples]
            found.update(self._role(role, self.processor.token_ids(captions), None))
        pictures = self.image_index[rows]
        found["visual_vectors"] = torch.from_numpy(np.array(self.visual[pictures], dtype=np.float32))
        found["image_index"] = torch.from_numpy(pictures.astype(np.int64))
        if self.videos is not None:
            frames = stack_frames([self.videos[int(index)] for index in pictures], self.most_frames)
            found["visual_frames"], found["visual_mask"] = frames
        if self.source is not None:
            found["source_vectors"] = torch.from_numpy(np.array(self.source[rows], dtype=np.float32))
        return found

    def _cut(self, caption: str, ids: list[int], row: int) -> list[int]:
        seed = (self.seed, self.epoch, row)
        if self.sampler is None or np.random.default_rng(seed).random() >= self.sampling:
            return ids
        # numbers of its own: those of the draw above are known to be small here
        found = self.sampler(caption, (*seed, 1))
        return found if len(found) <= self.max_length else [*found[: self.max_length - 1], ids[-1]]

    def _role(self, role: str, ids: Sequence[Sequence[int]], language: str | None) -> dict[str, Tensor]:
        batch = self.processor.pad(ids, language)
        found = {
            f"{role}_input_ids": batch.input_ids,
            f"{role}_attention_mask": batch.attention_mask,
            f"{role}_pooled_at": batch.pooled_at,
        }
        if self.processor.reads_padding(language):
            found[f"{role}_attention_mask"] = torch.ones_like(batch.attention_mask)
            found[f"{role}_pooled_at"] = torch.full_like(batch.pooled_at, batch.input_ids.shape[1] - 1)
            if self.roles:  # for terms over words, of which padding is none
                found[f"{role}_words"] = batch.attention_mask
        return found


def unknown_id(processor: CCRProcessor, language: str) -> int:
    """Id of the token that stands for unknown words.

    Raises:
        ConfigError: If the language's tokenizer has none.
    """
    found: int | None = processor.tokenizer_for(language).unk_token_id
    if found is None:
        raise ConfigError("`vocabulary.unknown` needs a tokenizer with an unknown token, and this one has none.")
    return found


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
            found.update(self.processor.picture_inputs([self.pictures[int(index)] for index in chosen]))
        elif self.visual is not None:
            found["visual_vectors"] = torch.from_numpy(np.array(self.visual[chosen], dtype=np.float32))
        return found
