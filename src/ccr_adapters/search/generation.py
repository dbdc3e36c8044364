"""The header of a FAISS index in its folder, and how segments are written: what `current.json` names is the index.

    current.json                  the header, replaced at once by a rename: the generation that counts
    segment-000007.vectors        float32, little-endian, one row after another
    segment-000007.rows           SQLite: names, hashes, metadata
    segment-000007.ann            FAISS: the graph or the lists, where there is one
    segment-000007.deleted-000009 one bit per vector, as of generation 9
    write.lock                    who writes

Files that the header does not name are left from a crash; the next writer removes them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ccr_adapters.errors import SearchIndexError
from ccr_adapters.search import kinds
from ccr_adapters.search.files import FileRecord, RecordedFile, is_index_file, replace_file
from ccr_adapters.search.interface import IndexHeader, Vectors
from ccr_adapters.search.kinds import IndexKind
from ccr_adapters.search.rows import Rows
from ccr_adapters.search.segment import Segment, SegmentRecord

CURRENT = "current.json"
_FORMAT = 1


@dataclass(frozen=True)
class Generation:
    """One saved state of an index.

    Attributes:
        number: Counted up with every save.
        header: What the index says of itself.
        segments: Its segments.
    """

    number: int
    header: IndexHeader
    segments: tuple[SegmentRecord, ...]

    @classmethod
    def read(cls, folder: Path) -> Generation:
        """Read the generation that counts.

        Args:
            folder: Folder of the index.

        Returns:
            The generation.

        Raises:
            SearchIndexError: If there is none, or the header is none of this version.
        """
        path = folder / CURRENT
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError) as error:
            raise SearchIndexError(f"'{folder}' holds no index: there is no {CURRENT}. Make one first.") from error
        except (OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
            raise SearchIndexError(
                f"'{path}' cannot be read ({error}). Restore it from a copy, or index again."
            ) from error
        if not isinstance(values, dict) or values.get("format") != _FORMAT:
            found = values.get("format") if isinstance(values, dict) else values
            raise SearchIndexError(
                f"'{path}' has format {found!r:.40}; expected {_FORMAT}. Is ccr-adapters up to date?"
            )
        header = IndexHeader.from_dict(values, f"'{folder}'")
        number, segments = values.get("generation"), values.get("segments")
        if not isinstance(number, int) or not isinstance(segments, list):
            raise SearchIndexError(f"'{path}' lacks its generation or its segments. Index again.")
        return cls(number, header, tuple(SegmentRecord.from_dict(segment, path) for segment in segments))

    def write(self, folder: Path) -> None:
        """Make this the generation that counts, and remove what it does not need.

        Args:
            folder: Folder of the index; all files of the segments are there.
        """
        values = {
            "format": _FORMAT,
            **self.header.to_dict(),
            "generation": self.number,
            "segments": [asdict(segment) for segment in self.segments],
        }
        replace_file(folder / CURRENT, json.dumps(values, indent=1).encode())
        self.tidy(folder)

    def tidy(self, folder: Path) -> None:
        """Remove files of other generations, and what a crash has left.

        Args:
            folder: Folder of the index.
        """
        needed = {file.name for segment in self.segments for file in segment.files.values()}
        for path in folder.iterdir():
            if path.name not in needed and is_index_file(path):
                path.unlink()

    def next_segment(self) -> int:
        """A number that no segment has."""
        numbers = (int(file.name[8:14]) for segment in self.segments for file in segment.files.values())
        return max(numbers, default=0) + 1


Part = tuple[Segment, NDArray[np.int64]]
"""A segment and the positions of it that are taken over."""


def write_segment(folder: Path, number: int, generation: int, parts: Sequence[Part], kind: IndexKind) -> SegmentRecord:
    """Write a new segment from parts of others. An approximate first part of the same kind, taken whole, is extended.

    Args:
        folder: Folder of the index.
        number: Number of the segment.
        generation: Number of the generation that it is for.
        parts: Where the vectors come from.
        kind: Kind to write.

    Returns:
        Its record.
    """
    name, dim = f"segment-{number:06d}", parts[0][0].dim
    count = sum(len(kept) for _, kept in parts)
    files: dict[str, FileRecord] = {}
    if kind != "hnsw":
        vectors = RecordedFile(folder / f"{name}.vectors")
        for block in _blocks(parts):
            vectors.write(block.data.cast("B"))
        files["vectors"] = vectors.close()
    if kind != "exact":
        path = folder / f"{name}.ann"
        first, kept = parts[0]
        if first.kind == kind and first.record is not None and len(kept) == first.size:
            index = kinds.load(folder / first.record.files["ann"].name, kind, dim, first.size, mapped=False)
            kinds.extend(index, _blocks(parts[1:]), path)
        else:
            index = kinds.build(kind, dim, count, _sample(parts, kinds.sample_size(kind, count)))
            kinds.extend(index, _blocks(parts), path)
        files["ann"] = FileRecord.of(path)
    rows = folder / f"{name}.rows"
    places = _places(parts)
    Rows.write(rows, _moved_rows(parts, places), _moved_terms(parts, places))
    files["rows"] = FileRecord.of(rows)
    deleted = np.concatenate([segment.deleted[kept] for segment, kept in parts])
    if deleted.any():
        files["deleted"] = write_deleted(folder, name, generation, deleted)
    return SegmentRecord(count, kind, files)


def write_deleted(folder: Path, segment: str, generation: int, deleted: NDArray[np.bool_]) -> FileRecord:
    """Write which vectors of a segment are deleted.

    Args:
        folder: Folder of the index.
        segment: Name of the segment, without a part.
        generation: Number of the generation that it is for.
        deleted: Which (N,).

    Returns:
        The file's record.
    """
    file = RecordedFile(folder / f"{segment}.deleted-{generation:06d}")
    file.write(np.packbits(deleted).tobytes())
    return file.close()


def _blocks(parts: Sequence[Part]) -> Iterator[Vectors]:
    for segment, kept in parts:
        yield from segment.blocks(kept)


def _sample(parts: Sequence[Part], size: int) -> Vectors:
    """Vectors to train on, drawn from all parts alike; always the same ones."""
    total = sum(len(kept) for _, kept in parts)
    chosen = np.sort(np.random.default_rng(0).choice(total, size=size, replace=False))
    sample, start = [np.empty((0, parts[0][0].dim), dtype=np.float32)], 0
    for segment, kept in parts:
        inside = chosen[(chosen >= start) & (chosen < start + len(kept))] - start
        sample.extend(segment.blocks(kept[inside]))
        start += len(kept)
    return np.concatenate(sample)


def _places(parts: Sequence[Part]) -> list[NDArray[np.int64]]:
    """For each part the new position of each old one, -1 where it is not taken over or is deleted."""
    places, start = [], 0
    for segment, kept in parts:
        place = np.full(segment.size, -1, dtype=np.int64)
        place[kept] = np.arange(start, start + len(kept))
        place[segment.deleted] = -1
        places.append(place)
        start += len(kept)
    return places


def _moved_rows(parts: Sequence[Part], places: Sequence[NDArray[np.int64]]) -> Iterator[tuple[int, str, str, str]]:
    for (segment, _), place in zip(parts, places, strict=True):
        for position, name, content, metadata in segment.rows.all_rows():
            if place[position] >= 0:
                yield int(place[position]), name, content, metadata


def _moved_terms(parts: Sequence[Part], places: Sequence[NDArray[np.int64]]) -> Iterator[tuple[bytes, int]]:
    for (segment, _), place in zip(parts, places, strict=True):
        for term, position in segment.rows.all_terms():
            if place[position] >= 0:
                yield term, int(place[position])
