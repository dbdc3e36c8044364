"""WebDataset tars as a corpus: headers are read to count samples, and pictures by the threads that decode them."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from ccr_adapters.corpora.lines import as_text, caption_problem
from ccr_adapters.corpora.rows import BrokenOff, Columns, Cut, Row, named
from ccr_adapters.errors import DataError

_MOST_TEXT = 2**20
# samples in which what is asked for is looked for: one may lack what another has
_LOOKED_AT = 100


class _Part(NamedTuple):
    """A member of a sample: where its content is."""

    ending: str
    offset: int
    size: int


class _Sample(NamedTuple):
    """Members that share a name up to the first dot, and the byte at which the first one's header is."""

    key: str
    offset: int
    parts: dict[str, _Part]


class TarReader:
    """A tar that is not packed; see `Reader`."""

    def __init__(self, path: Path) -> None:
        """Name a file.

        Args:
            path: The file.
        """
        self.path = path

    def names(self) -> list[str]:
        """See `Reader.names`: endings of the first sample, and `json.key` for each key of its JSON."""
        try:
            first = next(self._samples(0), None)
        except BrokenOff as error:
            raise DataError(
                f"'{self.path}' is no tar that can be read in place ({error}). Unpack .gz files."
            ) from error
        if first is None:
            return []
        inside = _read_json(self.path, first.parts.get("json"))
        return [*first.parts, *(f"json.{key}" for key in inside)]

    def lacking(self, names: Sequence[str]) -> list[str]:
        """Which parts none of the first samples has; no more of them are read than it takes to find all.

        Args:
            names: Endings, several with `|` between them, or `json.key`.

        Returns:
            Those that were not found.
        """
        missing = list(names)
        # one that breaks off is told of when its samples are counted
        with suppress(BrokenOff):
            for sample in islice(self._samples(0), _LOOKED_AT):
                texts = _Texts(self.path, sample)
                missing = [name for name in missing if not any(map(texts.has, name.split("|")))]
                if not missing:
                    break
        return missing

    def fields(self, keep: Sequence[str]) -> list[Any]:
        """See `Reader.fields`; everything is text."""
        arrow: Any = import_module("pyarrow")
        return [arrow.field(name, arrow.string()) for name in keep]

    def cuts(self, size: int) -> Iterator[Cut]:
        """See `Reader.cuts`."""
        begin = row = rows = 0
        broken = None
        try:
            for sample in self._samples(0):
                if rows == size:
                    yield Cut(row, rows, begin)
                    row, rows = row + rows, 0
                if not rows:
                    begin = sample.offset
                rows += 1
        except BrokenOff as error:
            broken = error
        if rows:
            yield Cut(row, rows, begin)
        if broken is not None:
            raise BrokenOff(f"breaks off behind sample {row + rows} ({broken})")

    def rows(self, cut: Cut, columns: Columns) -> Iterator[Row]:
        """See `Reader.rows`."""
        samples = self._samples(cut.offset)
        for _ in range(cut.rows):
            try:
                sample = next(samples, None)
            except BrokenOff:
                # told of when the samples were counted
                return
            if sample is None:
                return
            yield self._row(sample, columns)

    def _row(self, sample: _Sample, columns: Columns) -> Row:
        texts = _Texts(self.path, sample)
        kept = tuple(texts.get(name) for name in columns.keep)
        own = texts.get(columns.id) if columns.id else None
        name = own or named(sample.key)
        if columns.what == "captions":
            caption = texts.get(columns.content)
            problem = caption_problem(caption)
            return Row(name, "" if problem else str(caption), kept, problem)
        wanted = columns.content.lower().split("|")
        part = next((sample.parts[ending] for ending in wanted if ending in sample.parts), None)
        if part is None:
            return Row(name, "", kept, "has no picture")
        return Row(name, partial(_read, self.path, part), kept)

    def _samples(self, offset: int) -> Iterator[_Sample]:
        """Samples from a byte on. A tar that ends too early is told of behind the last sample that it has."""
        current: _Sample | None = None
        broken = None
        try:
            with self.path.open("rb") as file:
                file.seek(offset)
                archive: Any
                with tarfile.open(fileobj=file, mode="r:") as archive:
                    while (member := archive.next()) is not None:
                        # it would keep them all
                        archive.members = []
                        if not member.isfile():
                            continue
                        folder, slash, base = member.name.rpartition("/")
                        stem, _, ending = base.partition(".")
                        key = f"{folder}{slash}{stem}"
                        if current is None or current.key != key:
                            if current is not None:
                                yield current
                            current = _Sample(key, member.offset, {})
                        current.parts[ending.lower()] = _Part(ending.lower(), member.offset_data, member.size)
                    # tarfile takes a broken header for the end
                    file.seek(archive.offset)
                    if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                        broken = BrokenOff(f"no header and no end mark at byte {archive.offset}")
        except tarfile.TarError as error:
            broken = BrokenOff(str(error))
        if current is not None:
            yield current
        if broken is not None:
            raise broken


class _Texts:
    """Texts of a sample: those of its text members, and values of its JSON."""

    def __init__(self, path: Path, sample: _Sample) -> None:
        self._path, self._parts = path, sample.parts
        self._json: dict[str, Any] | None = None

    def has(self, name: str) -> bool:
        """Whether the sample has an ending, or its JSON a key."""
        key = _json_key(name)
        return name.lower() in self._parts if key is None else key in self._inside()

    def get(self, name: str) -> str | None:
        """The text of an ending, or `json.key`; `None` if the sample has none."""
        key = _json_key(name)
        if key is not None:
            return as_text(self._inside().get(key))
        part = self._parts.get(name.lower())
        if part is None or part.size > _MOST_TEXT:
            return None
        try:
            return _read(self._path, part).decode("utf-8").strip()
        except (OSError, UnicodeDecodeError):
            return None

    def _inside(self) -> dict[str, Any]:
        if self._json is None:
            self._json = _read_json(self._path, self._parts.get("json"))
        return self._json


def _json_key(name: str) -> str | None:
    """The key of `json.key`; endings are the same in capitals, keys are not."""
    ending, _, key = name.partition(".")
    return key if ending.lower() == "json" and key else None


def _read_json(path: Path, part: _Part | None) -> dict[str, Any]:
    if part is None or part.size > _MOST_TEXT:
        return {}
    try:
        found = json.loads(_read(path, part))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _read(path: Path, part: _Part) -> bytes:
    # opened anew for each: files that stay open would have to be shared by threads
    with path.open("rb") as file:
        file.seek(part.offset)
        content = file.read(part.size)
    if len(content) < part.size:
        raise OSError("is cut off, as its tar is")
    return content
