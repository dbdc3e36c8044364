"""A CSV, TSV, JSON-lines or Parquet table as a source: pictures by path or inside, the other columns as metadata."""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Iterator, Mapping
from datetime import date
from decimal import Decimal
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from PIL import Image

from ccr_adapters.errors import SearchIndexError
from ccr_adapters.search.interface import Metadata, Scalar
from ccr_adapters.search.sources import RESERVED, Entry, Item, Skipped, file_stamp, metadata_hash, read_file

TABLES = (".csv", ".tsv", ".jsonl", ".parquet")
# the names that people's files use, tried in order
IMAGE_COLUMNS = ("image", "file_name", "filename", "image_path", "img_path", "filepath", "path", "img", "jpg", "png")
ID_COLUMNS = ("id", "image_id", "key")
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
# numbers that are written as one would write them: no leading zeros, which are part of a name
_WHOLE, _BROKEN_NUMBER = re.compile(r"-?(0|[1-9]\d{0,14})"), re.compile(r"-?(0|[1-9]\d*)\.\d+")
_ROWS = 64
# what Arrow holds and Python does not: text that is no UTF-8, dates beyond the year 9999, time zones that nobody knows
_STRANGE = (LookupError, OverflowError, ValueError)
# fields of a row beyond the header's: a separator in a text without quotation marks
_OVERFLOW = "\0overflow"


class TableSource:
    """Rows of a table that names pictures or holds them; see `Source`."""

    kind = "table"

    def __init__(self, location: Path, name: str, *, columns: Mapping[str, str] | None = None) -> None:
        """Name a table.

        Args:
            location: The file.
            name: First part of the names.
            columns: `{"image": ..., "id": ...}`, where the columns have names of their own.

        Raises:
            SearchIndexError: If it is missing, of another form, or lacks a column.
        """
        if location.suffix.lower() not in TABLES or not location.is_file():
            raise SearchIndexError(f"'{location}' is no table here; expected a {', '.join(TABLES)} file.")
        wrong = sorted(set(columns or {}) - {"image", "id"})
        if wrong:
            raise SearchIndexError(f"Columns were named for {', '.join(wrong)}; they can be for image and id.")
        self.location, self.name = location, name
        self.options: dict[str, Any] = {"columns": dict(columns or {})}
        first = next(self._rows(), {})
        self._image = self._column("image", IMAGE_COLUMNS, first)
        self._id = self._column("id", ID_COLUMNS, first)
        if first and self._image is None:
            raise SearchIndexError(
                f"'{location}' has the columns {_quoted(first)}, and none of {', '.join(IMAGE_COLUMNS)}. Say "
                "which one has the pictures: --column image=NAME."
            )

    def __len__(self) -> int:
        if self.location.suffix.lower() == ".parquet":
            return int(self._parquet().metadata.num_rows)
        with self.location.open("rb") as file:
            return sum(1 for _ in file)

    def entries(self) -> Iterator[Entry]:
        """One entry a row."""
        stamp = file_stamp(self.location)
        for number, row in enumerate(self._rows()):
            yield self._entry(number, row, stamp)

    def read(self, id: str, metadata: Metadata) -> bytes | Image.Image:  # noqa: A002
        """See `Source.read`."""
        path = self.path(id, metadata)
        if path is not None:
            return read_file(path)
        content = self._picture(int(metadata.get("row") or 0))
        if not isinstance(content, bytes):
            raise SearchIndexError(f"'{self.location}' has no picture of {id!r:.80} any more. Index again.")
        return content

    def path(self, id: str, metadata: Metadata) -> Path | None:  # noqa: A002
        """See `Source.path`."""
        file = metadata.get("path")
        return self.location.parent / file if isinstance(file, str) else None

    def _entry(self, number: int, row: Mapping[str, Any], stamp: str) -> Entry:
        picture = None if _OVERFLOW in row else _content(row.get(self._image or ""))
        own = row.get(self._id) if self._id else None
        label = str(own) if own not in (None, "") else picture if isinstance(picture, str) and picture else f"{number}"
        name = f"{self.name}/{label}"
        if _OVERFLOW in row:
            return Skipped(name, f"row {number + 1} has more fields than the header")
        if not picture:
            return Skipped(name, f"row {number + 1} has no picture")
        metadata = {"source": self.name, **self._metadata(row)}
        if isinstance(picture, bytes):
            metadata["row"] = number
            return Item(name, f"{stamp}:{metadata_hash(metadata)}", lambda: picture, metadata)
        if _ADDRESS.match(picture):
            return Skipped(name, f"'{picture:.120}' is an address: download the picture first")
        path = self.location.parent / picture
        metadata["path"] = picture
        try:
            return Item(name, f"{file_stamp(path)}:{metadata_hash(metadata)}", partial(read_file, path), metadata)
        except (OSError, ValueError) as error:
            missing = isinstance(error, FileNotFoundError)
            reason = f"there is no file '{path}'" if missing else f"'{path}' cannot be looked at ({error})"
            return Skipped(name, reason, stays=not missing)

    def _metadata(self, row: Mapping[str, Any]) -> dict[str, Scalar]:
        """What can be stored and compared: text, numbers, truth values; times as ISO 8601."""
        found: dict[str, Scalar] = {}
        typed = self.location.suffix.lower() in (".jsonl", ".parquet")
        for key, value in row.items():
            if key in (self._image, self._id) or not isinstance(key, str):
                continue
            if isinstance(value, Decimal):
                value = float(value)
            if isinstance(value, date):
                value = value.isoformat()
            if isinstance(value, float) and not math.isfinite(value):
                value = None
            if value is None or isinstance(value, str | int | float):
                found[f"{key}_" if key in RESERVED else key] = value if typed else _parsed(value)
        return found

    def _column(self, what: str, names: tuple[str, ...], first: Mapping[str, Any]) -> str | None:
        asked = self.options["columns"].get(what)
        if asked is not None and first and asked not in first:
            raise SearchIndexError(f"'{self.location}' has no column {asked!r}; it has {_quoted(first)}.")
        return asked or next((name for name in names if name in first), None)

    def _rows(self) -> Iterator[dict[str, Any]]:
        """Rows, a few at a time in memory."""
        ending = self.location.suffix.lower()
        try:
            if ending == ".parquet":
                for batch in self._parquet().iter_batches(batch_size=_ROWS):
                    yield from _objects(batch)
                return
            with self.location.open(encoding="utf-8-sig", newline="") as file:
                if ending == ".jsonl":
                    yield from (_object(json.loads(line)) for line in file if line.strip())
                else:
                    yield from csv.DictReader(
                        file, delimiter="\t" if ending == ".tsv" else ",", restkey=_OVERFLOW, strict=True
                    )
        except (OSError, ValueError, csv.Error) as error:
            raise SearchIndexError(f"'{self.location}' cannot be read: {error}.") from error

    def _picture(self, number: int) -> str | bytes | None:
        """The picture of a row of a Parquet file, the one kind that holds them; of its row group that column alone is read."""
        column = self._image or ""
        if self.location.suffix.lower() != ".parquet":
            return None
        try:
            file = self._parquet()
            for group in range(file.metadata.num_row_groups):
                rows = file.metadata.row_group(group).num_rows
                if number < rows:
                    for batch in file.iter_batches(batch_size=_ROWS, row_groups=[group], columns=[column]):
                        if number < batch.num_rows:
                            return _content(batch.column(column)[number].as_py())
                        number -= batch.num_rows
                number -= rows
        except (OSError, ValueError, LookupError) as error:
            raise SearchIndexError(f"'{self.location}' cannot be read: {error}.") from error
        return None

    def _parquet(self) -> Any:
        # comes with datasets
        parquet: Any = import_module("pyarrow.parquet")
        try:
            return parquet.ParquetFile(self.location)
        except (OSError, ValueError) as error:
            raise SearchIndexError(f"'{self.location}' cannot be read: {error}.") from error


def _quoted(row: Mapping[str, Any]) -> str:
    """Names of columns for a message: what is no text shows as such, and is cut."""
    shown = ", ".join(repr(str(name))[1:-1][:40] for name in list(row)[:20])
    return shown if len(row) <= 20 else f"{shown} and {len(row) - 20:,} more"


def _objects(batch: Any) -> list[dict[str, Any]]:
    """Rows of a batch of Arrow; a value that Python does not hold is `None`."""
    try:
        found: list[dict[str, Any]] = batch.to_pylist()
        return found
    except _STRANGE:
        columns = [[_value(scalar) for scalar in column] for column in batch.columns]
        return [dict(zip(batch.schema.names, values, strict=True)) for values in zip(*columns, strict=True)]


def _value(scalar: Any) -> Any:
    try:
        return scalar.as_py()
    except _STRANGE:
        return None


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"a line holds {value!r:.40}, not an object")
    return value


def _content(value: Any) -> str | bytes | None:
    """The path or the bytes of a picture; the Hub's tables have both in one cell."""
    if isinstance(value, Mapping):
        value = value.get("bytes") or value.get("path")
    return value if isinstance(value, str | bytes) else None


def _parsed(text: Any) -> Scalar:
    """A cell of a table that knows only text."""
    if not isinstance(text, str):
        return None
    if _WHOLE.fullmatch(text):
        return int(text)
    return float(text) if _BROKEN_NUMBER.fullmatch(text) else text
