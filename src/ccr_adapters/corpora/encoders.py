"""Rows of a corpus to vectors: captions tokenised, and pictures decoded, by threads ahead of the encoder."""

from __future__ import annotations

import errno
import io
import logging
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import torch
from accelerate.utils.memory import clear_device_cache
from numpy.typing import NDArray
from transformers import BatchFeature

from ccr_adapters.corpora.plan import Plan, Shard
from ccr_adapters.corpora.rows import Row
from ccr_adapters.errors import CCRError, DataError
from ccr_adapters.modeling import CCRModel
from ccr_adapters.modeling.encoding import encode_pixels, processor_of
from ccr_adapters.modeling.memory import ran_out
from ccr_adapters.modeling.packing import rows_a_pass
from ccr_adapters.pixels import open_picture
from ccr_adapters.processing.ahead import ahead
from ccr_adapters.processing.pictures import UNREADABLE, load_picture

logger = logging.getLogger(__name__)

# pictures of a pass, and so of a piece
_PICTURES = 64
# captions of a piece, which are sorted by length
_SORTED = 1024
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
# a drive or a network that went away, or too many open files: the picture may be whole
_AWAY = {
    getattr(errno, name)
    for name in (
        *("EIO", "ENOTCONN", "ESTALE", "ETIMEDOUT", "ENODEV", "ENXIO", "EREMOTEIO", "EHOSTDOWN", "EHOSTUNREACH"),
        *("ENETDOWN", "ENETUNREACH", "ECONNRESET", "ECONNABORTED", "EMFILE", "ENFILE", "ENOMEM"),
    )
    if hasattr(errno, name)
}
MISSING = "there is no such file"


class Prepared(NamedTuple):
    """A row in the form that the encoder takes, or why it is not."""

    row: Row
    value: Any = None
    problem: str = ""


class RowEncoder:
    """Encodes rows of one plan.

    Attributes:
        language: Language of the captions; `None` for the base.
    """

    def __init__(
        self,
        model: CCRModel,
        plan: Plan,
        *,
        language: str | None = "active",
        batch_size: int | None = None,
        workers: int = 4,
    ) -> None:
        """Prepare.

        Args:
            model: The model, with a processor.
            plan: What is encoded.
            language: Language of the captions, or for whose captions the pictures are.
            batch_size: Rows a forward pass; `None`: captions as many as fit a budget of tokens, pictures 64.
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
        self._batch_size = batch_size if batch_size or self._captions else _PICTURES

    def pieces(self, shards: Sequence[Shard]) -> Iterator[tuple[Shard, list[Prepared]]]:
        """Read shards, one after the other; while a piece of one is encoded, the next is tokenised or decoded.

        Args:
            shards: What to read.

        Yields:
            Rows for `encode`, and their shard. No piece has rows of two shards, and where one ends does not depend on its
            neighbours: neither do the vectors.
        """
        # one thread for captions: the tokenizers have their own
        yield from ahead(self._prepare, self._read(shards), workers=1 if self._captions else self._workers)

    def encode(self, prepared: Sequence[Prepared]) -> NDArray[np.float32]:
        """Encode a piece of a shard; where memory runs out, it is tried again with half as many rows a pass.

        Args:
            prepared: Rows without a problem.

        Returns:
            Float32 of length one (N, d).

        Raises:
            DataError: If there is no memory for one row.
        """
        while True:
            size = self._batch_size
            try:
                return self._encode([each.value for each in prepared], size)
            except RuntimeError as error:
                if not ran_out(error):
                    raise
                # a budget of tokens let the longest have fewest rows: half of those are less than any pass had
                size = size or min(len(prepared), max(self._rows_of_longest(prepared), 2))
                if size == 1:
                    raise DataError("There is not enough memory for one row a pass. Take a smaller model.") from error
            # outside of the handler, which holds on to the tensors of the pass that failed
            self._batch_size = size // 2
            clear_device_cache(garbage_collection=True)
            logger.warning("Out of memory with %d rows a pass; it goes on with %d.", size, self._batch_size)

    def _rows_of_longest(self, prepared: Sequence[Prepared]) -> int:
        """Rows of the pass with the longest captions, by the budget of tokens."""
        fixed = self._processor.base_max_length if self._processor.reads_padding(self.language) else 0
        longest = max(fixed, *(len(each.value) for each in prepared))
        return rows_a_pass(longest, None, self._model.device)

    def _encode(self, values: list[Any], size: int | None) -> NDArray[np.float32]:
        if self._captions:
            found = self._model.encode_ids(values, self.language, batch_size=size)
        else:
            step = size or _PICTURES
            batches = [values[start : start + step] for start in range(0, len(values), step)]
            found = torch.cat([encode_pixels(self._model, _stacked(batch), self.language) for batch in batches])
        vectors: NDArray[np.float32] = found.float().cpu().numpy()
        return vectors

    # ------------------------------------------------------------------------------------------- rows to values

    def _read(self, shards: Sequence[Shard]) -> Iterator[tuple[Shard, list[Row]]]:
        size = _SORTED if self._captions else self._batch_size
        for shard in shards:
            rows = self._plan.rows(shard)
            while piece := list(islice(rows, size)):
                yield shard, piece

    def _prepare(self, piece: tuple[Shard, list[Row]]) -> tuple[Shard, list[Prepared]]:
        shard, rows = piece
        if self._captions:
            return shard, self._tokenised(rows)
        return shard, [self._picture(row) for row in rows]

    def _tokenised(self, rows: list[Row]) -> list[Prepared]:
        """Captions to token ids; in another thread."""
        good = [str(row.content) for row in rows if not row.problem]
        with self._model.shelf.using(self._model, [] if self.language is None else [self.language]):
            ids = iter(self._processor.token_ids(good, self.language))
        return [Prepared(row, problem=row.problem) if row.problem else Prepared(row, next(ids)) for row in rows]

    def _picture(self, row: Row) -> Prepared:
        """Read, decode and bring to the form that the tower takes; in any thread."""
        if row.problem or isinstance(row.content, str):
            return Prepared(row, problem=row.problem or "has no picture")
        try:
            with open_picture(io.BytesIO(_content(row, row.content))) as image:
                picture = load_picture(image)
            return Prepared(row, dict(self._processor.picture_inputs([picture])))
        except FileNotFoundError:
            return Prepared(row, problem=MISSING)
        except DataError:
            raise
        except _BROKEN as error:
            return Prepared(row, problem=_reason(error))


def _content(row: Row, read: Callable[[], bytes]) -> bytes:
    """The bytes of a picture, which is not broken where its drive is away.

    Raises:
        DataError: If the drive, the network or this process cannot read now.
    """
    try:
        return read()
    except OSError as error:
        if error.errno not in _AWAY:
            raise
        raise DataError(
            f"'{row.id}' cannot be read now ({error.strerror}). Bring it back and run the same command: finished shards are kept."
        ) from error


def _stacked(values: list[dict[str, Any]]) -> BatchFeature:
    return BatchFeature({name: torch.cat([each[name] for each in values]) for name in values[0]})


def _reason(error: BaseException) -> str:
    """Why a picture cannot be used, without the address of an object in memory."""
    said = getattr(error, "strerror", None) or str(error).strip() or type(error).__name__
    return "is no picture of a known format" if "cannot identify image file" in said else said
