"""A segment: vectors that were saved together and never change, their rows, and which of them are deleted since.

An index is a few segments. Exact ones hold a plain file of float32, which needs no parser; an HNSW one has its vectors
inside the file of the graph; an IVF-PQ one has both.
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ccr_adapters.errors import SearchIndexError
from ccr_adapters.extras import require
from ccr_adapters.search import kinds
from ccr_adapters.search.files import FileRecord
from ccr_adapters.search.interface import Vectors
from ccr_adapters.search.kinds import KINDS, IndexKind
from ccr_adapters.search.rows import Rows

Found = tuple[Vectors, NDArray[np.int64]]
"""Scores (Q, k) and positions (Q, k), -1 where there is none."""

BLOCK = 16_384
# Deleted vectors are searched along and dropped from the results while they are so few.
OVERFETCH = 64
# A filter that leaves so few is answered exactly, whatever the kind: graphs lose their way among few allowed nodes.
_GATHERED = 20_000


@dataclass(frozen=True)
class SegmentRecord:
    """What the header of an index says of a segment.

    Attributes:
        count: Number of vectors, deleted ones included.
        kind: Kind of index.
        files: Its files by part: `rows`, `vectors`, `ann`, `deleted`.
    """

    count: int
    kind: IndexKind
    files: dict[str, FileRecord]

    @classmethod
    def from_dict(cls, values: Any, header: Path) -> SegmentRecord:
        """Read a record from JSON.

        Args:
            values: What the JSON holds.
            header: The header, for the message.

        Returns:
            The record.

        Raises:
            SearchIndexError: If it is no record of a segment.
        """
        if isinstance(values, dict):
            count, kind, files = (values.get(key) for key in ("count", "kind", "files"))
            if isinstance(count, int) and count > 0 and kind in KINDS and isinstance(files, dict):
                needed = {"exact": {"vectors"}, "hnsw": {"ann"}, "ivfpq": {"vectors", "ann"}}[kind] | {"rows"}
                if needed <= files.keys() <= needed | {"deleted"}:
                    return cls(count, kind, {part: FileRecord.from_dict(files[part], header) for part in sorted(files)})
        raise SearchIndexError(f"'{header}' describes a segment as {values!r:.120}, which is none of an index.")


class Segment:
    """Vectors with rows, to be searched.

    Attributes:
        record: What the header says of it, or None while it grows in memory.
        rows: Names, hashes and metadata by position.
        deleted: Which positions are deleted (N,).
        changed: Whether something was deleted since it was saved.
    """

    def __init__(self, dim: int) -> None:
        """Make an empty segment in memory.

        Args:
            dim: Width of the vectors.
        """
        self.dim = dim
        self.record: SegmentRecord | None = None
        self.rows = Rows()
        self.deleted = np.zeros(0, dtype=np.bool_)
        self.changed = False
        self._ann: Any = None
        self._lock = threading.Lock()
        self._blocks: list[Vectors] = []
        self._bytes: NDArray[np.uint8] = np.empty((0, 4 * dim), dtype=np.uint8)

    @classmethod
    def open(cls, folder: Path, record: SegmentRecord, dim: int, *, check: bool = True) -> Segment:
        """Open a saved segment.

        Args:
            folder: Folder of the index.
            record: What the header says of it.
            dim: Width of the vectors.
            check: Whether to compare the files with their hashes; not right after writing them.

        Returns:
            The segment.

        Raises:
            SearchIndexError: If a file is not what the header says.
            FileNotFoundError: If a file is gone.
        """
        paths = {part: file.check(folder) if check else folder / file.name for part, file in record.files.items()}
        segment = cls(dim)
        segment.rows.close()
        segment.record, segment.rows = record, Rows(paths["rows"])
        if record.kind != "exact":
            try:
                segment._ann = kinds.load(paths["ann"], record.kind, dim, record.count)
            except SearchIndexError as error:
                if paths["ann"].exists():
                    raise
                # between the comparison and this a writer has merged the segment into another
                raise FileNotFoundError(errno.ENOENT, "No such file", str(paths["ann"])) from error
        if record.kind == "hnsw":
            segment._bytes = kinds.stored_vectors(segment._ann)
        elif record.files["vectors"].size != 4 * dim * record.count:
            raise SearchIndexError(
                f"'{paths['vectors']}' does not hold {record.count:,} vectors of {dim}. Index again."
            )
        else:
            segment._bytes = np.memmap(paths["vectors"], dtype=np.uint8, mode="r", shape=(record.count, 4 * dim))
        segment.read_deleted(folder, record)
        return segment

    def read_deleted(self, folder: Path, record: SegmentRecord, *, check: bool = False) -> None:
        """Take over what is deleted; arguments and errors as `deleted_of` has them."""
        self.take_deleted(record, deleted_of(folder, record, check=check))

    def take_deleted(self, record: SegmentRecord, deleted: NDArray[np.bool_]) -> None:
        """Take over what `deleted_of` has read, all at once: others may be searching."""
        self.record, self.changed, self.deleted = record, False, deleted

    @property
    def kind(self) -> IndexKind:
        """Kind of index; exact in memory."""
        return "exact" if self.record is None else self.record.kind

    @property
    def size(self) -> int:
        """Number of vectors, deleted ones included."""
        return len(self.deleted)

    @property
    def live(self) -> int:
        """Number of vectors that are not deleted."""
        return self.size - int(self.deleted.sum())

    def append(self, vectors: Vectors) -> int:
        """Append to a segment in memory.

        Args:
            vectors: Vectors of length one (N, d).

        Returns:
            Position of the first.
        """
        first = self.size
        self._blocks.append(vectors)
        self.deleted = np.concatenate([self.deleted, np.zeros(len(vectors), dtype=np.bool_)])
        return first

    def delete(self, ids: Sequence[str]) -> int:
        """Delete by name.

        Args:
            ids: Names; those that are not here are left alone.

        Returns:
            How many were here.
        """
        positions = [position for position in self.rows.find(ids).values() if not self.deleted[position]]
        self.deleted[positions] = True
        self.changed = self.changed or bool(positions)
        if self.record is None:
            self.rows.remove(positions)
        return len(positions)

    def blocks(self, kept: NDArray[np.int64]) -> Iterator[Vectors]:
        """Yield vectors, a few megabytes at a time.

        Args:
            kept: Their positions.

        Yields:
            Vectors (n, d).
        """
        stored = self._stored()
        for start in range(0, len(kept), BLOCK):
            yield stored[kept[start : start + BLOCK]].view(np.float32)

    def search(self, queries: Vectors, k: int, alternatives: Sequence[Sequence[bytes]]) -> Found:
        """Find the nearest vectors that are not deleted and meet a condition.

        Args:
            queries: Vectors of length one (Q, d).
            k: How many to find.
            alternatives: For each key the terms of which one must be there; empty for no condition.

        Returns:
            Scores and positions, best first.
        """
        deleted = self.size - self.live
        if self.kind == "exact" and not alternatives and deleted <= OVERFETCH:
            return self._without_deleted(self._exact(queries, min(k + deleted, self.size)), k)
        live = np.flatnonzero(~self.deleted)
        if alternatives:
            met = self.rows.where(alternatives)
            live = met[~self.deleted[met]]
        if self.kind == "exact" or (alternatives and len(live) <= _GATHERED):
            return self._gathered(queries, k, live)
        scores, positions = self._approximate(queries, k, live)
        if (positions[:, : min(k, len(live))] < 0).any():  # lost its way
            return self._gathered(queries, k, live)
        return scores, positions

    def close(self) -> None:
        """Let go of the files."""
        self.rows.close()
        self._bytes, self._ann = np.empty((0, 4 * self.dim), dtype=np.uint8), None

    def _stored(self) -> NDArray[np.uint8]:
        """Bytes of all vectors (N, 4 d)."""
        with self._lock:
            if self._blocks:
                # joined on the first search, not on every addition
                fresh = [block.view(np.uint8) for block in self._blocks]
                self._bytes, self._blocks = np.concatenate([self._bytes, *fresh]), []
            return self._bytes

    def _exact(self, queries: Vectors, k: int) -> Found:
        faiss = require("faiss", extra="search")
        scores, positions = faiss.knn(queries, self._stored().view(np.float32), k, faiss.METRIC_INNER_PRODUCT)
        return scores, positions

    def _approximate(self, queries: Vectors, k: int, live: NDArray[np.int64]) -> Found:
        allowed: NDArray[np.bool_] | None = None
        if len(live) < self.size:
            allowed = np.zeros(self.size, dtype=np.bool_)
            allowed[live] = True
        if self.kind == "hnsw":
            return kinds.search(self._ann, self.kind, queries, min(k, self.size), allowed)
        candidates = min(kinds.IVFPQ_CANDIDATES * k, self.size)
        return self._compared(queries, kinds.search(self._ann, self.kind, queries, candidates, allowed)[1], k)

    def _compared(self, queries: Vectors, positions: NDArray[np.int64], k: int) -> Found:
        """Compare candidates (Q, C) with the vectors themselves, as codes know their distances only roughly."""
        if ((positions < -1) | (positions >= self.size)).any():
            raise SearchIndexError("The lists of the index name vectors that it does not hold. Index again.")
        candidates = self._stored()[np.maximum(positions, 0)].view(np.float32)  # (Q, C, d)
        scores = np.einsum("qd,qcd->qc", queries, candidates)
        scores[positions < 0] = -np.inf
        order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        return np.take_along_axis(scores, order, axis=1), np.take_along_axis(positions, order, axis=1)

    def _gathered(self, queries: Vectors, k: int, kept: NDArray[np.int64]) -> Found:
        """Search some positions exactly, a block at a time, so that no copy of all of them is made."""
        faiss = require("faiss", extra="search")
        found: list[Found] = []
        for start, block in zip(range(0, len(kept), BLOCK), self.blocks(kept), strict=True):
            scores, local = faiss.knn(queries, block, min(k, len(block)), faiss.METRIC_INNER_PRODUCT)
            found.append((scores, kept[start + local]))
        return best_of(found, len(queries), k)

    def _without_deleted(self, found: Found, k: int) -> Found:
        scores, positions = found
        if self.deleted.any():
            gone = self.deleted[positions] & (positions >= 0)
            return best_of([(np.where(gone, -np.inf, scores), np.where(gone, -1, positions))], len(scores), k)
        return scores, positions


def best_of(found: Sequence[Found], queries: int, k: int) -> Found:
    """The best of several results.

    Args:
        found: Scores (Q, any) and positions (Q, any) of each.
        queries: Q, for when there is no result.
        k: How many to keep.

    Returns:
        Scores and positions, best first.
    """
    scores = np.concatenate([np.empty((queries, 0), dtype=np.float32), *(part[0] for part in found)], axis=1)
    positions = np.concatenate([np.empty((queries, 0), dtype=np.int64), *(part[1] for part in found)], axis=1)
    scores = np.where(positions < 0, -np.inf, scores).astype(np.float32)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(scores, order, axis=1), np.take_along_axis(positions, order, axis=1)


def deleted_of(folder: Path, record: SegmentRecord, *, check: bool = False) -> NDArray[np.bool_]:
    """What is deleted of a segment, from a file of one bit per vector. (N,)

    Args:
        folder: Folder of the index.
        record: The record, whose other files are those of the segment.
        check: Whether to compare the file with its hash.

    Raises:
        SearchIndexError: If the file has another size.
    """
    if "deleted" not in record.files:
        return np.zeros(record.count, dtype=np.bool_)
    file = record.files["deleted"]
    path = file.check(folder) if check else folder / file.name
    packed = np.fromfile(path, dtype=np.uint8)
    if len(packed) != (record.count + 7) // 8:
        raise SearchIndexError(f"'{path}' is not for {record.count:,} vectors. Index again.")
    return np.unpackbits(packed, count=record.count).astype(np.bool_)
