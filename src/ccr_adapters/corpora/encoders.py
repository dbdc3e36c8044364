"""Rows of a corpus to vectors: captions many at a time, pictures decoded by threads ahead of the image tower."""

from __future__ import annotations

import io
import struct
import zlib
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import groupby
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from transformers import BatchFeature

from ccr_adapters.corpora.plan import Plan, Shard
from ccr_adapters.corpora.rows import Row
from ccr_adapters.errors import CCRError, DataError
from ccr_adapters.modeling import CCRModel
from ccr_adapters.modeling.encoding import encode_pixels, processor_of
from ccr_adapters.processing.pictures import UNREADABLE, load_picture

# Captions are sorted by length inside of so many batches.
_SORTED = 16
# what Pillow raises over broken files: its readers are many; image processors refuse extreme shapes with a ValueError
_BROKEN = (
    *UNREADABLE,
    CCRError,
    EOFError,
    LookupError,
    MemoryError,
    OverflowError,
    TypeError,
    struct.error,
    zlib.error,
)
MISSING = "there is no such file"


class Prepared:
    """A row on its way to the encoder, or why it is not."""

    __slots__ = ("problem", "row", "shard", "value")

    def __init__(self, shard: Shard, row: Row, value: Any = None, problem: str = "") -> None:
        self.shard, self.row, self.value, self.problem = shard, row, value, problem


class RowEncoder:
    """Encodes rows of one plan.

    Attributes:
        language: Language of the captions; `None` for the base.
    """

    def __init__(
        self, model: CCRModel, plan: Plan, *, language: str | None = "active", batch_size: int = 64, workers: int = 4
    ) -> None:
        """Prepare.

        Args:
            model: The model, with a processor.
            plan: What is encoded.
            language: Language of the captions, or for whose captions the pictures are.
            batch_size: Rows a forward pass.
            workers: Threads that read and decode pictures.

        Raises:
            ConfigError: If the model has no processor.
            DataError: If it has no image tower, and there are pictures.
            LanguageError: If the language has no adapter.
        """
        self._model, self._plan, self._workers = model, plan, workers
        self._processor = processor_of(model)
        self.language = model.resolve_language(language)
        self._captions = plan.columns.what == "captions"
        if not self._captions and "image" not in model.modalities:
            raise DataError("This model has no image tower, so it cannot encode pictures. Take a dual encoder (CLIP).")
        self._batch_size = batch_size

    def shards(self, shards: Sequence[Shard]) -> Iterator[tuple[Shard, Iterator[list[Prepared]]]]:
        """Read shards, one after the other; while one is encoded, pictures of the next are decoded already.

        Args:
            shards: What to read.

        Yields:
            A shard, and its rows in pieces for `encode`. Pieces never hold rows of two shards: vectors of a shard do not
            depend on which others are encoded by the same process.
        """
        size = self._batch_size * (_SORTED if self._captions else 1)
        with ThreadPoolExecutor(self._workers, thread_name_prefix="decode") as pool:
            rows = self._captions_of(shards) if self._captions else self._ahead(shards, pool)
            try:
                for shard, own in groupby(rows, key=lambda each: each.shard):
                    yield shard, _pieces(own, size)
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

    def encode(self, prepared: Sequence[Prepared]) -> NDArray[np.float32]:
        """Encode a piece of a shard.

        Args:
            prepared: Rows without a problem.

        Returns:
            Float32 of length one (N, d).
        """
        values = [each.value for each in prepared]
        if self._captions:
            found = self._model.encode_text(values, self.language, batch_size=self._batch_size, show_progress=False)
        else:
            inputs = BatchFeature({name: torch.cat([each[name] for each in values]) for name in values[0]})
            found = encode_pixels(self._model, inputs, self.language)
        vectors: NDArray[np.float32] = found.float().cpu().numpy()
        return vectors

    # ------------------------------------------------------------------------------------------- rows to values

    def _captions_of(self, shards: Sequence[Shard]) -> Iterator[Prepared]:
        for shard in shards:
            for row in self._plan.rows(shard):
                yield Prepared(shard, row, row.content, row.problem)

    def _ahead(self, shards: Sequence[Shard], pool: ThreadPoolExecutor) -> Iterator[Prepared]:
        """Pictures in order, so many of them in work that the encoder need not wait."""
        window: deque[Future[Prepared]] = deque()
        most = 2 * self._batch_size + self._workers
        for shard in shards:
            for row in self._plan.rows(shard):
                window.append(pool.submit(self._picture, shard, row))
                if len(window) > most:
                    yield window.popleft().result()
        while window:
            yield window.popleft().result()

    def _picture(self, shard: Shard, row: Row) -> Prepared:
        """Read, decode and bring to the form that the tower takes; in any thread."""
        if row.problem or isinstance(row.content, str):
            return Prepared(shard, row, problem=row.problem or "has no picture")
        try:
            with Image.open(io.BytesIO(row.content())) as image:
                picture = load_picture(image)
            return Prepared(shard, row, dict(self._processor.picture_inputs([picture])))
        except FileNotFoundError:
            return Prepared(shard, row, problem=MISSING)
        except _BROKEN as error:
            return Prepared(shard, row, problem=_reason(error))


def _reason(error: BaseException) -> str:
    """Why a picture cannot be used, without the address of an object in memory."""
    said = getattr(error, "strerror", None) or str(error).strip() or type(error).__name__
    return "is no picture of a known format" if "cannot identify image file" in said else said


def _pieces(rows: Iterator[Prepared], size: int) -> Iterator[list[Prepared]]:
    """Pieces with so many rows that can be encoded; the others go along in their place."""
    piece: list[Prepared] = []
    good = 0
    for each in rows:
        piece.append(each)
        good += not each.problem
        if good == size:
            yield piece
            piece, good = [], 0
    if piece:
        yield piece
