"""Parquet tables as a corpus: captions, paths of pictures or their bytes, entered at any row by its row group."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any

from ccr_adapters.corpora.lines import table_row
from ccr_adapters.corpora.rows import Columns, Cut, Row, named
from ccr_adapters.errors import DataError

# Rows at a time in memory; bytes of pictures are large.
_CAPTIONS, _PICTURES = 1024, 32
# what Arrow holds and Python does not: text that is no UTF-8, dates beyond the year 9999, time zones that nobody knows
_STRANGE = (LookupError, OverflowError, ValueError)


class ParquetReader:
    """A Parquet file; see `Reader`."""

    def __init__(self, path: Path) -> None:
        """Name a file.

        Args:
            path: The file.
        """
        self.path = path

    def names(self) -> list[str]:
        """See `Reader.names`."""
        with self._open() as file:
            return list(file.schema_arrow.names)

    def fields(self, keep: Sequence[str]) -> list[Any]:
        """See `Reader.fields`; types stay as they are."""
        with self._open() as file:
            return [file.schema_arrow.field(name).with_nullable(True).remove_metadata() for name in keep]

    def cuts(self, size: int) -> Iterator[Cut]:
        """See `Reader.cuts`."""
        with self._open() as file:
            total = int(file.metadata.num_rows)
        for row in range(0, total, size):
            yield Cut(row, min(size, total - row))

    def rows(self, cut: Cut, columns: Columns) -> Iterator[Row]:
        """See `Reader.rows`."""
        wanted = list(dict.fromkeys([columns.content, *([columns.id] if columns.id else []), *columns.keep]))
        with self._open() as file:
            groups, skip = _groups(file.metadata, cut)
            size = _CAPTIONS if columns.what == "captions" else _PICTURES
            batches = file.iter_batches(batch_size=size, row_groups=groups, columns=wanted)
            for number, record in enumerate(islice(_records(batches, skip), cut.rows), cut.row):
                name = f"{named(self.path.name)}:{number + 1}"
                kept = tuple(record[key] for key in columns.keep)
                yield table_row(name, record, columns, kept, self.path.parent)

    def _open(self) -> Any:
        # comes with datasets
        parquet: Any = import_module("pyarrow.parquet")
        try:
            return parquet.ParquetFile(self.path)
        except (OSError, ValueError) as error:
            raise DataError(
                f"'{self.path}' cannot be read as Parquet ({error}). Is it whole? Copy it again."
            ) from error


def _groups(metadata: Any, cut: Cut) -> tuple[list[int], int]:
    """The row groups that hold a shard, and how many rows of them come before it."""
    groups: list[int] = []
    skip = start = 0
    for number in range(metadata.num_row_groups):
        end = start + metadata.row_group(number).num_rows
        if end > cut.row and start < cut.row + cut.rows:
            if not groups:
                skip = cut.row - start
            groups.append(number)
        start = end
    return groups, skip


def _records(batches: Iterator[Any], skip: int) -> Iterator[dict[str, Any]]:
    for batch in batches:
        left = min(skip, batch.num_rows)
        skip -= left
        # sliced first: what is passed over is never made into objects
        yield from _objects(batch.slice(left))


def _objects(batch: Any) -> list[dict[str, Any]]:
    """Rows of a batch; a value that Python does not hold is `None`, which costs its row at most, and no other."""
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
