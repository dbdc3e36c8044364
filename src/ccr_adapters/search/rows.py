"""Names, hashes and metadata of a segment, in SQLite: in memory while it grows, in a file that never changes later.

A file is opened as immutable: no lock and no journal, so it can be read in a folder that cannot be written to.
"""

from __future__ import annotations

import errno
import json
import sqlite3
import threading
import weakref
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.request import pathname2url

import numpy as np
from numpy.typing import NDArray

from ccr_adapters.errors import SearchIndexError
from ccr_adapters.search.checks import Row
from ccr_adapters.search.interface import Scalar

_SCHEMA = """
CREATE TABLE rows (position INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, hash TEXT NOT NULL, metadata TEXT NOT NULL);
CREATE TABLE terms (term BLOB NOT NULL, position INTEGER NOT NULL, PRIMARY KEY (term, position)) WITHOUT ROWID;
"""
# SQLite took 999 parameters before 3.32.
_PARAMETERS = 900


class Rows:
    """Rows by position: the position of a row is that of its vector in the segment."""

    def __init__(self, path: Path | None = None) -> None:
        """Open a file for reading, or make an empty table in memory.

        Args:
            path: A file that `write` made; its hash was compared before.

        Raises:
            FileNotFoundError: If it is gone.
        """
        # One connection for all threads: SQLite may be built without locks of its own.
        self._lock = threading.Lock()
        address = ":memory:" if path is None else f"file:{pathname2url(str(path.absolute()))}?mode=ro&immutable=1"
        try:
            self._database = sqlite3.connect(address, uri=path is not None, check_same_thread=False)
        except sqlite3.OperationalError as error:
            if path is None or path.exists():
                raise
            # between the comparison and this a writer has merged the segment into another
            raise FileNotFoundError(errno.ENOENT, "No such file", str(path)) from error
        # for a reader that lets go of a segment while another thread may still be asking it
        weakref.finalize(self, self._database.close)
        if path is None:
            self._database.executescript(_SCHEMA)

    @staticmethod
    def write(path: Path, rows: Iterable[tuple[int, str, str, str]], terms: Iterable[tuple[bytes, int]]) -> None:
        """Write a new file.

        Args:
            path: The file; what is there is replaced.
            rows: Position, name, hash and metadata of each row.
            terms: Term and position.
        """
        path.unlink(missing_ok=True)
        database = sqlite3.connect(path)
        try:
            # nothing reads the file before it is whole, and the caller makes it safe
            database.executescript(f"PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; {_SCHEMA}")
            database.executemany("INSERT INTO rows VALUES (?, ?, ?, ?)", rows)
            database.executemany("INSERT INTO terms VALUES (?, ?)", terms)
            database.commit()
        finally:
            database.close()

    def add(self, rows: Sequence[Row], first: int) -> None:
        """Append to a table in memory.

        Args:
            rows: The rows.
            first: Position of the first.
        """
        with self._lock, self._database:
            self._database.executemany(
                "INSERT INTO rows VALUES (?, ?, ?, ?)",
                ((first + i, row.id, row.hash, row.metadata) for i, row in enumerate(rows)),
            )
            self._database.executemany(
                "INSERT OR IGNORE INTO terms VALUES (?, ?)",
                ((term, first + i) for i, row in enumerate(rows) for term in row.terms),
            )

    def remove(self, positions: Sequence[int]) -> None:
        """Remove from a table in memory, so that the names are free again.

        Args:
            positions: Their positions.
        """
        with self._lock, self._database:
            self._database.executemany("DELETE FROM rows WHERE position = ?", ((p,) for p in positions))
            self._database.executemany("DELETE FROM terms WHERE position = ?", ((p,) for p in positions))

    def find(self, ids: Sequence[str]) -> dict[str, int]:
        """Positions of names.

        Args:
            ids: Names.

        Returns:
            Position by name, of those that are there.
        """
        return dict(self._chunked("SELECT id, position FROM rows WHERE id IN ({})", ids))

    def get(self, positions: Sequence[int]) -> dict[int, tuple[str, dict[str, Scalar]]]:
        """Names and metadata of positions.

        Args:
            positions: Positions.

        Returns:
            Name and metadata by position.
        """
        found = self._chunked("SELECT position, id, metadata FROM rows WHERE position IN ({})", positions)
        return {position: (name, json.loads(metadata)) for position, name, metadata in found}

    def where(self, alternatives: Sequence[Sequence[bytes]]) -> NDArray[np.int64]:
        """Positions that meet a condition.

        Args:
            alternatives: For each key the terms of which one must be there.

        Returns:
            Positions, sorted.
        """
        met: NDArray[np.int64] | None = None
        for terms in alternatives:
            found = self._chunked("SELECT position FROM terms WHERE term IN ({})", terms)
            positions = np.unique(np.fromiter((row[0] for row in found), dtype=np.int64))
            met = positions if met is None else np.intersect1d(met, positions, assume_unique=True)
        return np.empty(0, dtype=np.int64) if met is None else met

    def all_rows(self) -> Iterator[tuple[int, str, str, str]]:
        """Yield position, name, hash and metadata of every row, by position."""
        yield from self._streamed("SELECT position, id, hash, metadata FROM rows ORDER BY position")

    def all_terms(self) -> Iterator[tuple[bytes, int]]:
        """Yield every term and its position, in the order of the table."""
        yield from self._streamed("SELECT term, position FROM terms ORDER BY term, position")

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            self._database.close()

    def _chunked(self, query: str, values: Sequence[str] | Sequence[int] | Sequence[bytes]) -> Iterator[Any]:
        for start in range(0, len(values), _PARAMETERS):
            chunk = values[start : start + _PARAMETERS]
            try:
                with self._lock:
                    found = self._database.execute(query.format(",".join("?" * len(chunk))), chunk).fetchall()
            except sqlite3.DatabaseError as error:
                raise SearchIndexError(f"The rows of the index cannot be read ({error}). Index again.") from error
            yield from found

    def _streamed(self, query: str, page: int = 10_000) -> Iterator[Any]:
        try:
            with self._lock:
                cursor = self._database.execute(query)
            while True:
                with self._lock:
                    found = cursor.fetchmany(page)
                if not found:
                    return
                yield from found
        except sqlite3.DatabaseError as error:
            raise SearchIndexError(f"The rows of the index cannot be read ({error}). Index again.") from error
