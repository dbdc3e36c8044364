"""What a collection knows besides its vectors: model, sources, which files were seen, and what was skipped.

    collection.json   the model that made it and where the pictures are, replaced at once by a rename
    seen.sqlite       size, time and hash of every file, so that unchanged ones need not be read
    skipped.jsonl     what the last run has left out, and why

The index itself says what is in it, with a hash of each content. The notes are written after it and only ever save work:
lose `seen.sqlite` and all files are read again, and none is encoded again.
"""

from __future__ import annotations

import json
import logging
import os
import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import TracebackType

from ccr_adapters.errors import SearchIndexError
from ccr_adapters.search.addresses import is_milvus
from ccr_adapters.search.files import replace_file
from ccr_adapters.search.lock import WriteLock
from ccr_adapters.search.source_kinds import SourceRecord
from ccr_adapters.search.sources import Skipped

logger = logging.getLogger(__name__)

_FILE = "collection.json"
_FORMAT = 1
_SCHEMA = "CREATE TABLE IF NOT EXISTS seen (id TEXT PRIMARY KEY, stamp TEXT NOT NULL, hash TEXT NOT NULL) WITHOUT ROWID"


def notes_folder(address: str | Path, notes: str | Path | None = None) -> Path | None:
    """Where the notes of an index lie: in its folder, beside its file, or where the user says.

    Args:
        address: Address of the index.
        notes: What the user says.

    Returns:
        The folder; None for a cluster of which nothing is said.
    """
    if notes is not None:
        return Path(notes)
    text = os.fspath(address)
    if not is_milvus(text):
        return Path(text)
    return None if "://" in text else Path(f"{text}.collection")


def lock_of_notes(address: str | Path, folder: Path, *, wait: float = 0.0) -> WriteLock | None:
    """The lock on the notes of a cluster, which locks nothing itself; an index in a folder or a file has one of its own.

    Args:
        address: Address of the index.
        folder: Of its notes.
        wait: Seconds to wait for another indexer.

    Raises:
        LockedError: If somebody else is indexing.
        SearchIndexError: If the folder cannot be written to.
    """
    if "://" not in os.fspath(address):
        return None
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SearchIndexError(f"'{folder}' cannot be made ({error.strerror}). Choose another --notes.") from error
    return WriteLock(folder / "write.lock", wait=wait)


@dataclass(frozen=True)
class Notes:
    """Model and sources of a collection.

    Attributes:
        model: What `CCRModel` is loaded from: a repository, a folder, or `tiny_clip`.
        base_revision: Revision of the base, where it has one.
        sources: Where the pictures are.
        vectors: Folder of the vectors that were taken in under each name, which are no pictures.
    """

    model: str | None = None
    base_revision: str | None = None
    sources: tuple[SourceRecord, ...] = ()
    vectors: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path | None) -> Notes:
        """Read the notes.

        Args:
            folder: Their folder.

        Returns:
            The notes; empty ones if there are none, as after a crash right at the beginning.

        Raises:
            SearchIndexError: If they are none of this version.
        """
        if folder is None or not (folder / _FILE).is_file():
            return cls()
        path = folder / _FILE
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise SearchIndexError(
                f"'{path}' cannot be read ({error}). Restore it from a copy, or index again."
            ) from error
        if (
            not isinstance(values, dict)
            or values.get("format") != _FORMAT
            or not isinstance(values.get("sources"), list)
        ):
            raise SearchIndexError(f"'{path}' has no notes of format {_FORMAT}. Is ccr-adapters up to date?")
        model, revision = values.get("model"), values.get("base_revision")
        return cls(
            model if isinstance(model, str) else None,
            revision if isinstance(revision, str) else None,
            tuple(SourceRecord.from_dict(source, path) for source in values["sources"]),
            vectors if isinstance(vectors := values.get("vectors"), dict) else {},
        )

    def write(self, folder: Path) -> None:
        """Replace the notes at once.

        Args:
            folder: Their folder.
        """
        folder.mkdir(parents=True, exist_ok=True)
        replace_file(folder / _FILE, json.dumps({"format": _FORMAT, **asdict(self)}, indent=1).encode())

    def with_source(self, record: SourceRecord) -> Notes:
        """Remember a source, in place of one of the same name.

        Args:
            record: The source.

        Returns:
            New notes.
        """
        others = tuple(source for source in self.sources if source.name != record.name)
        return replace(self, sources=(*others, record))


class Seen:
    """Which file had which content when it was looked at last."""

    def __init__(self, folder: Path) -> None:
        """Open the table, or start anew where it is broken.

        Args:
            folder: Folder of the notes.
        """
        path = folder / "seen.sqlite"
        folder.mkdir(parents=True, exist_ok=True)
        try:
            self._database = self._open(path)
        except sqlite3.DatabaseError as error:
            logger.warning("'%s' cannot be read (%s); all files are read again", path, error)
            for broken in (path, path.with_name(f"{path.name}-journal")):
                broken.unlink(missing_ok=True)
            self._database = self._open(path)

    @staticmethod
    def _open(path: Path) -> sqlite3.Connection:
        database = sqlite3.connect(path)
        try:
            database.execute("PRAGMA synchronous=NORMAL")
            database.execute(_SCHEMA)
            database.execute("SELECT count(stamp) FROM seen").fetchone()
            database.commit()
        except sqlite3.DatabaseError:
            database.close()
            raise
        return database

    def get(self, id: str) -> tuple[str, str] | None:  # noqa: A002
        """What is known of a file.

        Args:
            id: Name of its item.

        Returns:
            Stamp and hash.
        """
        found: tuple[str, str] | None = self._database.execute(
            "SELECT stamp, hash FROM seen WHERE id = ?", (id,)
        ).fetchone()
        return found

    def put(self, rows: Iterable[tuple[str, str, str]]) -> None:
        """Remember files.

        Args:
            rows: Name, stamp and hash of each.
        """
        with self._database:
            self._database.executemany("INSERT OR REPLACE INTO seen VALUES (?, ?, ?)", rows)

    def remove(self, ids: Iterable[str]) -> None:
        """Forget files.

        Args:
            ids: Their names.
        """
        with self._database:
            self._database.executemany("DELETE FROM seen WHERE id = ?", ((name,) for name in ids))

    def close(self) -> None:
        """Let go of the file."""
        self._database.close()


class Report:
    """The file that names what was skipped; in place when the run is over, and of the run before until then."""

    def __init__(self, folder: Path) -> None:
        """Begin a report.

        Args:
            folder: Folder of the notes.
        """
        self.path = folder / "skipped.jsonl"
        self._aside = self.path.with_name(f"{self.path.name}.new")
        self._file = self._aside.open("w", encoding="utf-8")

    def add(self, skipped: Skipped) -> None:
        """Name one.

        Args:
            skipped: What, and why.
        """
        # ASCII: names and reasons may hold what is no Unicode
        self._file.write(json.dumps({"item": skipped.id, "reason": skipped.reason}) + "\n")

    def __enter__(self) -> Report:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        os.replace(self._aside, self.path)
