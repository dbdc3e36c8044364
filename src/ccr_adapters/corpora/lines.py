"""Captions and tables that lie in lines: text, CSV, TSV and JSON lines, entered at any row by its byte."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Sequence
from functools import partial
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from ccr_adapters.corpora.rows import Columns, Cut, Row, named, read_picture
from ccr_adapters.errors import DataError

_BOM = b"\xef\xbb\xbf"
# JSON can hold them, UTF-8 cannot
_HALVES = re.compile("[\ud800-\udfff]")
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
# rows of JSON lines in which names of columns are looked for: a row may lack what is empty
_LOOKED_AT = 100
LINES = (".txt", ".csv", ".tsv", ".jsonl")
# in a list of the pictures of a folder, why one cannot be read
PROBLEM = "problem"


class LineReader:
    """A file of lines; see `Reader`. A text file has one column, `caption`."""

    def __init__(self, path: Path, root: Path | None = None) -> None:
        """Name a file.

        Args:
            path: The file.
            root: Folder that paths of pictures start from; default the file's own.
        """
        self.path, self._root, self._listed = path, root or path.parent, root is not None
        self._ending = path.suffix.lower()

    def names(self) -> list[str]:
        """See `Reader.names`."""
        if self._ending == ".txt":
            return ["caption"]
        with self.path.open("rb") as file:
            if self._ending == ".jsonl":
                first = [record for _, record in islice(self._records(file), _LOOKED_AT)]
                if first and isinstance(first[0], str):
                    raise DataError(f"'{self.path}': the first row {first[0]}. Expected one JSON object a line.")
                return list(dict.fromkeys(name for record in first if isinstance(record, dict) for name in record))
            return self._header(file)

    def fields(self, keep: Sequence[str]) -> list[Any]:
        """See `Reader.fields`; everything is text, for a line does not know the types of the others."""
        arrow: Any = import_module("pyarrow")
        return [arrow.field(name, arrow.string()) for name in keep]

    def cuts(self, size: int) -> Iterator[Cut]:
        """See `Reader.cuts`; every line is read once, so that one that is no UTF-8 is found before any work."""
        begin = row = rows = 0
        with self.path.open("rb") as file:
            for offset, _ in self._records(file, parse=False):
                if rows == size:
                    yield Cut(row, rows, begin)
                    row, rows = row + rows, 0
                if not rows:
                    begin = offset
                rows += 1
        if rows:
            yield Cut(row, rows, begin)

    def rows(self, cut: Cut, columns: Columns) -> Iterator[Row]:
        """See `Reader.rows`."""
        with self.path.open("rb") as file:
            records = self._records(file, cut.offset)
            for number, (_, record) in zip(range(cut.row, cut.row + cut.rows), records, strict=False):
                yield self._row(number, record, columns)

    def _row(self, number: int, record: dict[str, Any] | str, columns: Columns) -> Row:
        name = f"{named(self.path.name)}:{number + 1}"
        if isinstance(record, str):
            return Row(name, problem=record)
        if self._listed and PROBLEM in record:
            return Row(named(record[columns.content]), problem=record[PROBLEM])
        kept = tuple(as_text(record.get(key)) for key in columns.keep)
        return table_row(name, record, columns, kept, self._root)

    # ------------------------------------------------------------------------------------------- lines to records

    def _header(self, file: BinaryIO) -> list[str]:
        """Column names of a CSV; the file is left where its rows begin."""
        lines = _Lines(file, self.path)
        try:
            header = next(self._csv(lines), [])
        except csv.Error as error:
            raise DataError(f"'{self.path}' is no CSV: {error} in its first line.") from error
        file.seek(lines.offset)
        return header

    def _csv(self, lines: _Lines) -> Iterator[list[str]]:
        return csv.reader(lines, delimiter="\t" if self._ending == ".tsv" else ",", strict=True)

    def _records(
        self, file: BinaryIO, offset: int | None = None, *, parse: bool = True
    ) -> Iterator[tuple[int, dict[str, Any] | str]]:
        """Byte and content of each row, or what is wrong with it; from the first row, or from a row's byte on."""
        if self._ending in (".csv", ".tsv"):
            yield from self._csv_records(file, offset)
            return
        lines = _Lines(file, self.path, offset or 0)
        text = self._ending == ".txt"
        before = lines.offset
        for line in lines:
            line = line.rstrip("\r\n")
            if text:
                yield before, {"caption": line}
            elif line.strip():
                yield before, _object(line) if parse else {}
            before = lines.offset

    def _csv_records(self, file: BinaryIO, offset: int | None) -> Iterator[tuple[int, dict[str, Any] | str]]:
        header = self._header(file)
        lines = _Lines(file, self.path, offset or file.tell())
        before = lines.offset
        try:
            for values in self._csv(lines):
                if values:
                    fits = len(values) == len(header)
                    wrong = f"has {len(values)} fields; the header has {len(header)}"
                    yield before, dict(zip(header, values, strict=True)) if fits else wrong
                before = lines.offset
        except csv.Error as error:
            raise DataError(f"'{self.path}' is no CSV at byte {before}: {error}. Mend the file.") from error


class _Lines:
    """Lines of a file as text, with the byte that comes next."""

    def __init__(self, file: BinaryIO, path: Path, offset: int = 0) -> None:
        file.seek(offset)
        if not offset and file.read(len(_BOM)) == _BOM:
            offset = len(_BOM)
        file.seek(offset)
        self.offset, self._file, self._path = offset, file, path

    def __iter__(self) -> Iterator[str]:
        for raw in self._file:
            try:
                line = raw.decode("utf-8")
            except UnicodeDecodeError as error:
                place = f"byte 0x{raw[error.start]:02x} at {self.offset + error.start}"
                raise DataError(
                    f"'{self._path}' is not UTF-8: {place}. Convert it first: iconv -f latin1 -t utf-8, or whatever it is."
                ) from error
            self.offset += len(raw)
            yield line


def _object(line: str) -> dict[str, Any] | str:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        return f"is no JSON ({error})"
    return value if isinstance(value, dict) else f"is a JSON {type(value).__name__}, not an object"


# ------------------------------------------------------------------------------------------- records to rows


def table_row(name: str, record: dict[str, Any], columns: Columns, kept: tuple[Any, ...], root: Path) -> Row:
    """A row of any table.

    Args:
        name: Its name, where the table gives none.
        record: Its values.
        columns: Which is what.
        kept: Its kept values.
        root: Folder that paths of pictures start from.

    Returns:
        The row.
    """
    content = record.get(columns.content)
    if isinstance(content, dict) and columns.what == "pictures":
        # the Hub's tables have bytes and path in one cell
        content = content.get("bytes") or content.get("path")
    own = record.get(columns.id) if columns.id else None
    if own not in (None, ""):
        name = _storable(str(own))
    elif columns.what == "pictures" and isinstance(content, str) and content:
        name = named(content)
    if columns.what == "captions":
        problem = caption_problem(content)
        return Row(name, "" if problem else str(content), kept, problem)
    if isinstance(content, bytes) and content:
        return Row(name, partial(_itself, content), kept)
    if not isinstance(content, str) or not content:
        return Row(name, "", kept, "has no picture")
    if _ADDRESS.match(content):
        return Row(name, "", kept, f"'{content:.120}' is an address: download the picture first")
    return Row(name, partial(read_picture, root / content), kept)


def caption_problem(content: Any) -> str:
    """Why something is no caption; empty if it is one."""
    if not isinstance(content, str):
        return "has no caption" if content is None else f"is a {type(content).__name__}, not a text"
    if _HALVES.search(content):
        return "holds half of a surrogate pair"
    return "" if content.strip() else "is empty"


def as_text(value: Any) -> str | None:
    """A value that is kept, as text that can be stored: JSON where it is none."""
    if value is None:
        return None
    return _storable(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def _storable(text: str) -> str:
    return _HALVES.sub(lambda half: f"\\u{ord(half[0]):04x}", text)


def _itself(content: bytes) -> bytes:
    return content
