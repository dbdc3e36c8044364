"""An index in a folder, searched by FAISS inside the process.

What is added gathers in memory until `save`, which writes it as a segment and joins it with segments that are not
larger: a vector is written about log2(N / batch) times, however often one saves. `optimise` makes one segment of all.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from ccr_adapters.errors import SearchIndexError
from ccr_adapters.extras import require
from ccr_adapters.search.checks import check_k, checked_rows, terms_of, unit_rows
from ccr_adapters.search.files import sync_folder
from ccr_adapters.search.generation import CURRENT, Generation, Part, write_deleted, write_segment
from ccr_adapters.search.interface import Hit, IndexHeader, Metadata, Vectors, Where
from ccr_adapters.search.kinds import EXACT_LIMIT, IndexKind, choose_kind, half_of_memory
from ccr_adapters.search.lock import WriteLock
from ccr_adapters.search.segment import OVERFETCH, Found, Segment, SegmentRecord, deleted_of

logger = logging.getLogger(__name__)

_LOCK = "write.lock"
# A segment with a larger share of deleted vectors is written anew without them.
_DELETED_SHARE = 0.05
# A graph with a larger share of live vectors is extended instead of being built anew.
_SPARED_SHARE = 0.9
# share of vectors outside of the arranged segment, or deleted in it, that is not worth arranging again
_FEW = 0.1
# How often a reader looks again when a writer has removed the files it was about to open.
_TRIES = 10


class FaissIndex:
    """Vectors in files, exact up to a size, then HNSW or IVF-PQ; see `VectorIndex` for what each method does.

    Attributes:
        folder: Where it is.
    """

    def __init__(
        self,
        folder: Path,
        generation: Generation,
        segments: list[Segment],
        *,
        lock: WriteLock | None,
        exact_limit: int,
        memory_budget: int | None,
    ) -> None:
        """Not to be called: `create` and `open` do."""
        self.folder = folder
        self._generation = generation
        self._segments = segments
        self._fresh = Segment(generation.header.dim)
        self._lock = lock
        self._exact_limit = exact_limit
        self._memory_budget = memory_budget

    @classmethod
    def create(
        cls,
        folder: str | Path,
        dim: int,
        *,
        base: str,
        base_sha256: str,
        wait: float = 0.0,
        exact_limit: int = EXACT_LIMIT,
        memory_budget: int | None = None,
    ) -> FaissIndex:
        """Make an empty index, open for writing.

        Args:
            folder: A new folder, or one without an index.
            dim: Width of the vectors.
            base: Name of the base that makes them.
            base_sha256: Hash of its weights.
            wait: Seconds to wait for another writer.
            exact_limit: Most vectors to search exactly, for `optimise`.
            memory_budget: Bytes that the index may take, for `optimise`; by default half of the machine's.

        Returns:
            The index.

        Raises:
            SearchIndexError: If there is an index already, or the folder cannot be written to.
            LockedError: If another process is writing there.
        """
        require("faiss", extra="search")
        folder = Path(folder)
        header = IndexHeader.new(dim, base=base, base_sha256=base_sha256)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SearchIndexError(f"'{folder}' cannot be made into a folder ({error.strerror}).") from error
        lock = WriteLock(folder / _LOCK, wait=wait)
        if (folder / CURRENT).exists():
            lock.release()
            raise SearchIndexError(f"'{folder}' holds an index already. Open it, or choose another folder.")
        generation = Generation(0, header, ())
        generation.write(folder)
        return cls(folder, generation, [], lock=lock, exact_limit=exact_limit, memory_budget=memory_budget)

    @classmethod
    def open(
        cls,
        folder: str | Path,
        *,
        base: str | None = None,
        base_sha256: str | None = None,
        writable: bool = False,
        wait: float = 0.0,
        exact_limit: int = EXACT_LIMIT,
        memory_budget: int | None = None,
    ) -> FaissIndex:
        """Open an index. Nothing is written for reading, so the folder may be read-only.

        Args:
            folder: Its folder.
            base: Name of the base at hand, to be compared.
            base_sha256: Hash of its weights, to be compared.
            writable: Whether to add and delete: one process at a time.
            wait: Seconds to wait for another writer.
            exact_limit: As for `create`.
            memory_budget: As for `create`.

        Returns:
            The index.

        Raises:
            SearchIndexError: If there is none, it was made with another base, or a file is not what was written.
            LockedError: If another process is writing there and `writable` is asked for.
        """
        require("faiss", extra="search")
        folder = Path(folder)
        Generation.read(folder).header.check_base(base, base_sha256, f"The index '{folder}'")
        lock = WriteLock(folder / _LOCK, wait=wait) if writable else None
        with ExitStack() as stack:
            if lock is not None:
                stack.callback(lock.release)
            generation, segments = _open_segments(folder, [])
            if lock is not None:
                generation.tidy(folder)
            stack.pop_all()
        return cls(folder, generation, segments, lock=lock, exact_limit=exact_limit, memory_budget=memory_budget)

    @property
    def header(self) -> IndexHeader:
        """What the index says of itself."""
        return self._generation.header

    def __len__(self) -> int:
        return sum(segment.live for segment in self._all())

    def add(
        self,
        ids: Sequence[str],
        vectors: Vectors,
        metadata: Sequence[Metadata] | None = None,
        hashes: Sequence[str] | None = None,
    ) -> None:
        """Add, or replace where the name is known; see `VectorIndex.add`."""
        self._check_writable()
        unit = unit_rows(vectors, self.header.dim)
        rows = checked_rows(ids, unit, metadata, hashes)
        self._delete(ids)
        if rows:
            self._fresh.rows.add(rows, self._fresh.append(unit))

    def delete(self, ids: Sequence[str]) -> int:
        """Delete by name; see `VectorIndex.delete`."""
        self._check_writable()
        return self._delete(ids)

    def search(self, vectors: Vectors, k: int, where: Where | None = None) -> list[list[Hit]]:
        """Find the nearest of each question; see `VectorIndex.search`."""
        queries, alternatives = unit_rows(vectors, self.header.dim), terms_of(where)
        check_k(k)
        segments = [segment for segment in self._all() if segment.live]
        if not segments or not len(queries):
            return [[] for _ in queries]
        hits: list[list[Hit]] = [[] for _ in queries]
        for segment in segments:
            for mine, more in zip(hits, _hits(segment, segment.search(queries, k, alternatives)), strict=True):
                mine.extend(more)
        return [sorted(mine, key=lambda hit: (-hit.score, hit.id))[:k] for mine in hits]

    def ids(self) -> list[str]:
        """All names, sorted."""
        return sorted(self.hashes())

    def hashes(self) -> dict[str, str]:
        """Content hash by name."""
        return {
            name: content
            for segment in self._all()
            for position, name, content, _ in segment.rows.all_rows()
            if not segment.deleted[position]
        }

    def vectors(self, ids: Sequence[str]) -> dict[str, Vectors]:
        """Stored vectors by name; see `VectorIndex.vectors`."""
        found: dict[str, Vectors] = {}
        for segment in self._all():
            places = {name: at for name, at in segment.rows.find(ids).items() if not segment.deleted[at]}
            rows = chain.from_iterable(segment.blocks(np.array(list(places.values()), dtype=np.int64)))
            found.update(zip(places, rows, strict=True))
        return found

    def metadata(self, ids: Sequence[str]) -> dict[str, Metadata]:
        """What is stored with names; see `VectorIndex.metadata`."""
        found: dict[str, Metadata] = {}
        for segment in self._all():
            places = [at for at in segment.rows.find(ids).values() if not segment.deleted[at]]
            found.update((name, dict(stored)) for name, stored in segment.rows.get(places).values())
        return found

    def save(self) -> None:
        """Write what is new, then let the header name it: a crash leaves the old index or the new one."""
        self._check_writable()
        if not self._fresh.live and not any(segment.changed for segment in self._segments):
            return
        joined = self._to_join()
        kept = [segment for segment in self._segments if segment not in joined and segment.live]
        self._write(kept, [(segment, np.flatnonzero(~segment.deleted)) for segment in joined], "exact")
        if len(self) > self._exact_limit and all(segment.kind == "exact" for segment in self._segments):
            logger.info("%d vectors are searched exactly; optimise() makes that faster", len(self))

    def optimise(self) -> IndexKind:
        """Make one segment of all, of the kind that the size asks for; see `choose_kind`."""
        self._check_writable()
        kind = self._wanted()
        first = next(iter(self._segments), None)
        # a graph cannot forget: deleted vectors stay in it until there are too many
        spared = kind != "exact" and first is not None and first.live > _SPARED_SHARE * first.size
        good = first is not None and first.kind == kind and (spared or first.live == first.size)
        if not len(self) or (good and len(self._segments) == 1 and not self._fresh.live):
            self.save()
            return kind
        parts = [(segment, np.flatnonzero(~segment.deleted)) for segment in self._all() if segment.live]
        if good and first is not None:
            parts[0] = (first, np.arange(first.size))
        self._write([], parts, kind)
        return kind

    def is_optimised(self) -> bool:
        """Whether the first segment is of the kind for the size, and few vectors are outside of it or deleted in it."""
        first = next(iter(self._segments), None)
        if first is None or first.kind != self._wanted():
            return not len(self)
        return len(self) - first.live + (first.size - first.live) <= _FEW * len(self)

    def _wanted(self) -> IndexKind:
        budget = half_of_memory() if self._memory_budget is None else self._memory_budget
        return choose_kind(len(self), self.header.dim, memory_budget=budget, exact_limit=self._exact_limit)

    def refresh(self) -> bool:
        """See what another process has saved since; a writer sees nothing new."""
        if self._lock is not None or Generation.read(self.folder).number == self._generation.number:
            return False
        self._generation, self._segments = _open_segments(self.folder, self._segments)
        return True

    def close(self) -> None:
        """Let go of files and of the lock; what was not saved is lost."""
        if self._fresh.live:
            logger.warning("%d vectors were added to '%s' and not saved", self._fresh.live, self.folder)
        for segment in self._all():
            segment.close()
        self._segments, self._fresh = [], Segment(self.header.dim)
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def __enter__(self) -> FaissIndex:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _all(self) -> Iterator[Segment]:
        return chain(self._segments, (self._fresh,))

    def _delete(self, ids: Sequence[str]) -> int:
        return sum(segment.delete(ids) for segment in self._all())

    def _check_writable(self) -> None:
        if self._lock is None:
            raise SearchIndexError(f"'{self.folder}' is open for reading. Open it with writable=True.")

    def _to_join(self) -> list[Segment]:
        """What to write as one segment: what is new, last ones that are not larger, and those with much deleted."""
        joined = [self._fresh] if self._fresh.live else []
        size = self._fresh.live
        for segment in reversed([segment for segment in self._segments if segment.kind == "exact"]):
            gone = segment.size - segment.live
            if segment.live <= size or gone > max(OVERFETCH, _DELETED_SHARE * segment.size):
                joined.insert(0, segment)
                size += segment.live
        return [segment for segment in joined if segment.live]

    def _write(self, kept: Sequence[Segment], parts: Sequence[Part], kind: IndexKind) -> None:
        """Write parts as a new segment after those that are kept, and make that the index."""
        number = self._generation.number + 1
        records: list[SegmentRecord] = []
        for segment in kept:
            record = segment.record
            if record is not None and segment.changed:
                name = record.files["rows"].name.split(".")[0]
                deleted = write_deleted(self.folder, name, number, segment.deleted)
                record = replace(record, files={**record.files, "deleted": deleted})
            records.extend([record] if record is not None else [])
        opened = []
        if parts:
            new = write_segment(self.folder, self._generation.next_segment(), number, parts, kind)
            opened.append(Segment.open(self.folder, new, self.header.dim, check=False))
            records.append(new)
        sync_folder(self.folder)
        generation = Generation(number, self.header, tuple(records))
        generation.write(self.folder)
        # only now: had anything failed, the index in memory would still be whole
        for segment, record in zip(kept, records, strict=False):
            segment.record, segment.changed = record, False
        for segment in self._all():
            if segment not in kept:
                segment.close()
        self._generation, self._segments, self._fresh = generation, [*kept, *opened], Segment(self.header.dim)


def _open_segments(folder: Path, known: Sequence[Segment]) -> tuple[Generation, list[Segment]]:
    """Open the generation that counts, looking again when a writer was faster.

    Segments that are open already are taken over: their files never change, except for what is deleted.
    """
    rows = {segment.record.files["rows"].name: segment for segment in known if segment.record is not None}
    tries = 0
    while True:
        tries += 1
        generation = Generation.read(folder)
        segments: list[Segment] = []
        # of segments in use, taken over when all the rest is there
        deleted: list[tuple[Segment, SegmentRecord, Any]] = []
        try:
            for record in generation.segments:
                segment = rows.get(record.files["rows"].name)
                if segment is None or segment.record is None or segment.record.files["rows"] != record.files["rows"]:
                    segment = Segment.open(folder, record, generation.header.dim)
                else:
                    deleted.append((segment, record, deleted_of(folder, record, check=True)))
                segments.append(segment)
        except FileNotFoundError as error:
            if tries < _TRIES and Generation.read(folder).number != generation.number:
                continue
            raise SearchIndexError(
                f"'{error.filename}' is missing: restore the folder from a copy, or index again."
            ) from error
        for known_segment, record, found in deleted:
            known_segment.take_deleted(record, found)
        return generation, segments


def _hits(segment: Segment, found: Found) -> Iterator[list[Hit]]:
    """Names and metadata of what one segment has found, question by question."""
    scores, positions = found
    rows = segment.rows.get(np.unique(positions[positions >= 0]).tolist())
    for mine, where in zip(scores.tolist(), positions.tolist(), strict=True):
        yield [
            Hit(rows[place][0], score, dict(rows[place][1]))
            for score, place in zip(mine, where, strict=True)
            if place >= 0
        ]
