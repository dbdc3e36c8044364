"""A collection: an index of pictures together with what is known of where they are and which model made the vectors."""

from __future__ import annotations

import sqlite3
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

from PIL import Image

from ccr_adapters.errors import SearchIndexError
from ccr_adapters.search.addresses import create_index, index_exists, open_index
from ccr_adapters.search.decoding import decode
from ccr_adapters.search.interface import Hit, VectorIndex, Vectors, Where
from ccr_adapters.search.lock import WriteLock
from ccr_adapters.search.looking import Encoder
from ccr_adapters.search.milvus_index import COLLECTION
from ccr_adapters.search.notes import Notes, Report, Seen, lock_of_notes, notes_folder
from ccr_adapters.search.source_kinds import SourceRecord
from ccr_adapters.search.sources import Source
from ccr_adapters.search.update import Summary, Updater


class Collection:
    """Pictures that can be searched and shown.

    Attributes:
        index: Their vectors.
        notes: Model and sources.
        folder: Where the notes lie; None for a cluster of which nothing is said.
    """

    def __init__(self, index: VectorIndex, notes: Notes, folder: Path | None, lock: WriteLock | None = None) -> None:
        """Not to be called: `open` and `open_or_create` do."""
        self.index, self.notes, self.folder = index, notes, folder
        self._lock = lock
        self._opened: dict[str, Source] = {}

    @classmethod
    def open(
        cls,
        address: str | Path,
        *,
        base: str | None = None,
        base_sha256: str | None = None,
        notes: str | Path | None = None,
        token: str | None = None,
        collection: str = COLLECTION,
    ) -> Collection:
        """Open a collection to search it.

        Args:
            address: Of its index; see `open_index`.
            base: Name of the base at hand, to be compared.
            base_sha256: Hash of its weights, to be compared.
            notes: Folder of the notes, for a cluster; others know it.
            token: For a cluster.
            collection: For Milvus.

        Returns:
            The collection.

        Raises:
            SearchIndexError: If there is none, it is broken, or was made with another base.
        """
        folder = notes_folder(address, notes)
        index = open_index(address, base=base, base_sha256=base_sha256, token=token, collection=collection)
        return cls(index, Notes.read(folder), folder)

    @classmethod
    def open_or_create(
        cls,
        address: str | Path,
        encoder: Encoder,
        *,
        model: str | None = None,
        notes: str | Path | None = None,
        wait: float = 0.0,
        token: str | None = None,
        collection: str = COLLECTION,
    ) -> Collection:
        """Open a collection to bring it up to date, or begin one.

        Args:
            address: As for `open`.
            encoder: What makes vectors.
            model: What the model is loaded from, to be remembered.
            notes: As for `open`.
            wait: Seconds to wait for another indexer.
            token: As for `open`.
            collection: As for `open`.

        Returns:
            The collection.

        Raises:
            SearchIndexError: If it was made with another base, or cannot be written.
            LockedError: If somebody else is indexing.
        """
        folder = notes_folder(address, notes)
        if folder is None:
            raise SearchIndexError(f"'{address}' is a cluster: say in which folder its notes go (--notes FOLDER).")
        where: dict[str, Any] = {"wait": wait, "token": token, "collection": collection}
        where |= {"base": encoder.base, "base_sha256": encoder.base_sha256}
        with ExitStack() as stack:
            lock = lock_of_notes(address, folder, wait=wait)
            if lock is not None:
                stack.callback(lock.release)
            if index_exists(address, wait=wait, token=token, collection=collection):
                index = open_index(address, writable=True, **where)
            else:
                index = create_index(address, encoder.dim, **where)
            stack.callback(index.close)
            # after the lock is ours: another indexer may have written them until now
            found = Notes.read(folder)
            known = replace(found, model=model or found.model, base_revision=encoder.revision)
            if known != found:
                known.write(folder)
            stack.pop_all()
        return cls(index, known, folder, lock)

    def update(
        self,
        sources: Sequence[Source],
        encoder: Encoder,
        *,
        batch_size: int = 64,
        workers: int = 4,
        keep: bool = False,
        allow_empty: bool = False,
        show_progress: bool | None = None,
    ) -> Summary:
        """Bring the collection to the state of its sources. Killed at any moment, it goes on from the last batch.

        Args:
            sources: What to look at; others are left as they are.
            encoder: What makes vectors.
            batch_size: Pictures a forward pass.
            workers: Threads that read and decode.
            keep: Leave in the index what is gone from a source.
            allow_empty: Remove what came from a source that looks empty now.
            show_progress: A bar; default where there is a terminal.

        Returns:
            What was done.

        Raises:
            SearchIndexError: If a source has nothing any more, two have one name, or files cannot be written or read.
        """
        if self.folder is None or batch_size < 1 or workers < 1:
            raise SearchIndexError("Updating needs a folder of notes, a batch and a worker. Use open_or_create.")
        twice = [name for name, times in Counter(source.name for source in sources).items() if times > 1]
        if twice:
            raise SearchIndexError(f"There are two sources {twice[0]!r}. Give each a name of its own.")
        started = time.monotonic()
        self.index.header.check_base(encoder.base, encoder.base_sha256, "The collection")
        seen = Seen(self.folder)
        options: dict[str, Any] = {"batch_size": batch_size, "workers": workers, "show_progress": show_progress}
        try:
            with (
                Report(self.folder) as report,
                Updater(self.index, seen, report, encoder, keep=keep, allow_empty=allow_empty, **options) as updater,
            ):
                for source in sources:
                    self.notes = self.notes.with_source(SourceRecord.of(source))
                    self.notes.write(self.folder)
                    updater.run(source)
        except (OSError, sqlite3.Error) as error:
            raise SearchIndexError(
                f"Indexing stopped ({error}). The index is whole as it was saved last; run it again when that is mended."
            ) from error
        finally:
            seen.close()
        summary = updater.summary
        summary.total, summary.report = len(self.index), str(report.path)
        # asked of the index: a run before this one may have been stopped while it did
        if not self.index.is_optimised():
            self.index.optimise()
        summary.seconds = time.monotonic() - started
        return summary

    def forget(self, name: str) -> int:
        """Take a source and its pictures out, or vectors that were taken in under a name.

        Args:
            name: Its name.

        Returns:
            How many there were.

        Raises:
            SearchIndexError: If there is nothing of this name.
        """
        names = [*(source.name for source in self.notes.sources), *self.notes.vectors]
        if name not in names or self.folder is None:
            raise SearchIndexError(f"There is no source {name!r}; the collection has {', '.join(names) or 'none'}.")
        gone = [each for each in self.index.ids() if each.startswith(f"{name}/")]
        self.index.delete(gone)
        self.index.save()
        sources = tuple(source for source in self.notes.sources if source.name != name)
        vectors = {each: folder for each, folder in self.notes.vectors.items() if each != name}
        self.notes = replace(self.notes, sources=sources, vectors=vectors)
        self.notes.write(self.folder)
        return len(gone)

    def search(self, vectors: Vectors, k: int, where: Where | None = None) -> list[list[Hit]]:
        """Find the nearest of each question; see `VectorIndex.search`."""
        return self.index.search(vectors, k, where)

    def picture(self, hit: Hit) -> Image.Image:
        """A picture that was found.

        Args:
            hit: What was found.

        Returns:
            The picture, RGB and upright.

        Raises:
            SearchIndexError: If it is not there any more, or its source is not known here.
            ImageError: If it is broken.
            OSError: If its file cannot be read.
        """
        found = self._source(hit).read(hit.id, hit.metadata)
        return decode(found) if isinstance(found, bytes) else found

    def path(self, hit: Hit) -> Path | None:
        """The file that a picture is in, whether it is still there or not.

        Args:
            hit: What was found.

        Returns:
            The path; None where it is inside of something, or its source is not known here.
        """
        try:
            return self._source(hit).path(hit.id, hit.metadata)
        except SearchIndexError:
            return None

    def refresh(self) -> bool:
        """See what an indexer has saved since: pictures, sources, and where those lie by now.

        Returns:
            Whether anything has changed.

        Raises:
            SearchIndexError: If the index or its notes cannot be read; all is as it was then.
        """
        notes = self.notes if self.folder is None else Notes.read(self.folder)
        changed = self.index.refresh()
        if not changed and notes == self.notes:
            return False
        # what was opened of a source may have been written again
        self.notes = notes
        self._opened = {}
        return True

    def close(self) -> None:
        """Let go of files and locks."""
        self.index.close()
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def __enter__(self) -> Collection:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _source(self, hit: Hit) -> Source:
        # in this order: `refresh`, in another thread, replaces the notes first
        opened, notes = self._opened, self.notes
        name = hit.id.partition("/")[0]
        found = opened.get(name)
        if found is None:
            record = next((source for source in notes.sources if source.name == name), None)
            if record is None:
                raise SearchIndexError(f"The collection does not know the source {name!r:.80} of {hit.id!r:.80}.")
            found = opened[name] = record.open()
        return found
