"""Bringing an index to the state of a source: what is unchanged is left alone, what is new is encoded, in safe steps.

Every batch is saved before the next one is encoded, unless saving would take a large share of the time. The index says
what is in it by content hash, and is always whole: a run that was killed goes on where the last save was.
"""

from __future__ import annotations

import logging
import sqlite3
import time
import warnings
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from ccr_adapters.errors import CCRError, SearchIndexError
from ccr_adapters.search.clips import clip_of
from ccr_adapters.search.interface import VectorIndex, Vectors
from ccr_adapters.search.looking import Encoder, Film, Looker, Outcome, Ready, State
from ccr_adapters.search.notes import Report, Seen
from ccr_adapters.search.sources import Skipped, Source

logger = logging.getLogger(__name__)

# A save waits until so many times its cost has passed since the last one, but not longer than some seconds.
_COST_SHARE, _LONGEST = 4.0, 10.0
# Copies cost no encoding and so fill no batch; they are written when there are so many batches of them.
_COPIES = 16
_NOTED = 4096


@dataclass
class Summary:
    """What a run has done.

    Attributes:
        added: Pictures that are new.
        changed: Pictures whose content or metadata is another.
        encoded: How many of both were encoded; the content of the others was there already.
        unchanged: Pictures that are as they were.
        removed: Pictures that are gone, or cannot be read any more.
        skipped: What was left out; the report names it.
        others: Files of folders that are neither pictures nor videos.
        total: Pictures that are in the index now.
        seconds: How long it took.
        report: File that names what was skipped.
    """

    added: int = 0
    changed: int = 0
    encoded: int = 0
    unchanged: int = 0
    removed: int = 0
    skipped: int = 0
    others: int = 0
    total: int = 0
    seconds: float = 0.0
    report: str = ""


class Updater:
    """Brings an index to the state of sources, one after the other."""

    def __init__(
        self,
        index: VectorIndex,
        seen: Seen,
        report: Report,
        encoder: Encoder,
        *,
        batch_size: int,
        workers: int,
        keep: bool,
        allow_empty: bool,
        show_progress: bool | None,
    ) -> None:
        """Prepare a run.

        Args:
            index: Open for writing.
            seen: Which files were seen.
            report: Where skipped ones are named.
            encoder: What makes vectors.
            batch_size: Pictures a forward pass.
            workers: Threads that read and decode.
            keep: Leave in the index what is gone from a source.
            allow_empty: Remove what came from a source that looks empty now.
            show_progress: A bar; default where there is a terminal.
        """
        self.summary = Summary()
        self._index, self._seen, self._report, self._encoder = index, seen, report, encoder
        self._batch_size, self._keep, self._allow_empty = batch_size, keep, allow_empty
        self._state = State(index.hashes())
        self._looker = Looker(self._state, seen, encoder, workers=workers, ahead=batch_size + 2 * workers)
        hidden = None if show_progress is None else not show_progress
        self._bar = tqdm(unit=" pictures", disable=hidden, smoothing=0.1, delay=0.1)
        self._total = 0
        self._stay: set[str] = set()
        self._batch: list[Ready] = []
        self._films: list[Film] = []
        self._noted: list[tuple[str, str, str]] = []
        self._saved, self._cost, self._unsaved = time.monotonic(), 0.0, False
        # an index that was interrupted in it is not saved
        self._adding = False

    def run(self, source: Source) -> None:
        """Bring the index to the state of one source.

        Args:
            source: The source.

        Raises:
            SearchIndexError: If there is nothing in it any more, which may well be a drive that is not there.
        """
        self._stay = set()
        self._bar.set_description(source.name, refresh=False)
        self._count(len(source))
        with warnings.catch_warnings():
            # of large pictures, which are decoded one at a time, and of broken EXIF
            warnings.filterwarnings("ignore", module=r"PIL\.")
            for outcome in self._looker.outcomes(source):
                self._take(outcome)
        self._flush()
        self._save()
        self._remove_vanished(source)
        self.summary.others += getattr(source, "others", 0)

    def __enter__(self) -> Updater:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()
        if kind is not None and not self._adding:
            # what was encoded by then is not lost; the error at hand says more than one of this save
            with suppress(CCRError, OSError, sqlite3.Error):
                self._save()

    def _count(self, more: int) -> None:
        self._total += more
        self._bar.total = self._total

    def _take(self, outcome: Outcome) -> None:
        if isinstance(outcome, Skipped):
            self._skip(outcome)
            self._bar.update()
        elif isinstance(outcome, Film):
            self._films.append(outcome)
        elif outcome.same:
            self.summary.unchanged += 1
            # what needs no work tells nothing about the rate
            self._count(-1)
            self._note(outcome)
        else:
            self._bar.update()
            self._batch.append(outcome)
            new = sum(row.prepared is not None for row in self._batch)
            if new >= self._batch_size or len(self._batch) >= _COPIES * self._batch_size:
                self._flush()
                self._save(patient=True)

    def _note(self, row: Ready) -> None:
        if not row.noted:
            self._noted.append((row.id, row.stamp, row.hash))
            if len(self._noted) >= _NOTED:
                self._save()

    def _skip(self, skipped: Skipped) -> None:
        self.summary.skipped += 1
        self._report.add(skipped)
        if skipped.again:
            return
        self._looker.present.discard(skipped.id)
        if skipped.stays:
            self._stay.add(skipped.id)

    def _flush(self) -> None:
        """Encode what waits, and hand it to the index."""
        batch, self._batch = self._batch, []
        self._put(batch)
        # after their frames: until those are in, a video counts as not seen
        self._noted.extend((film.id, film.stamp, film.hash) for film in self._films)
        self._films = []

    def _put(self, batch: Sequence[Ready]) -> None:
        vectors = self._known_vectors(batch)
        new: dict[str, Any] = {}
        for row in batch:
            if row.content not in vectors and row.content not in new:
                try:
                    # the vector that a thread had found may have been replaced meanwhile
                    new[row.content] = row.prepared if row.prepared is not None else self._again(row)
                except (CCRError, OSError, ValueError) as error:
                    self._skip(Skipped(row.id, str(error)))
        vectors |= self._encoded(new)
        kept = [row for row in batch if row.content in vectors]
        for row in batch:
            if row.content in new and row.content not in vectors:
                self._skip(Skipped(row.id, "the encoder gives no finite vector for it"))
        if not kept:
            return
        self._adding = True
        self._index.add(
            [row.id for row in kept],
            np.stack([vectors[row.content] for row in kept]),
            [row.metadata for row in kept],
            [row.hash for row in kept],
        )
        self._adding, self._unsaved = False, True
        for row in kept:
            if row.id in self._state.hashes:
                self.summary.changed += 1
            else:
                self.summary.added += 1
            self._state.put(row)
            self._note(row)

    def _known_vectors(self, batch: Sequence[Ready]) -> dict[str, Vectors]:
        """Vectors of contents that the index has under any name, by content."""
        holders = {row.content: self._state.holder(row.content) for row in batch}
        wanted = {content: name for content, name in holders.items() if name is not None}
        stored = self._index.vectors(sorted(set(wanted.values()))) if wanted else {}
        return {content: stored[name] for content, name in wanted.items() if name in stored}

    def _again(self, row: Ready) -> Any:
        if row.again is None:
            raise SearchIndexError("was replaced meanwhile")
        return self._encoder.prepare(row.again())

    def _encoded(self, new: dict[str, Any]) -> dict[str, Vectors]:
        """Vectors of new contents, those left out that are not finite."""
        found: dict[str, Vectors] = {}
        contents = list(new)
        for start in range(0, len(contents), self._batch_size):
            chunk = contents[start : start + self._batch_size]
            encoded = self._encoder.encode([new[content] for content in chunk])
            finite = np.flatnonzero(np.isfinite(encoded).all(axis=1))
            found |= {chunk[at]: encoded[at] for at in finite.tolist()}
            self.summary.encoded += len(chunk)
        return found

    def _save(self, *, patient: bool = False) -> None:
        """Make the index safe, then note what is in it."""
        now = time.monotonic()
        if patient and now - self._saved < min(_COST_SHARE * self._cost, _LONGEST):
            return
        if self._unsaved:
            self._index.save()
            self._unsaved, self._saved = False, time.monotonic()
            self._cost = self._saved - now
        self._seen.put(self._noted)
        self._noted = []

    def _remove_vanished(self, source: Source) -> None:
        """Delete what the source has no more, except for what could not be looked at."""
        if self._keep:
            return
        present, start = self._looker.present, f"{source.name}/"
        gone = [
            name
            for name in self._state.hashes
            if name.startswith(start) and name not in present and not _stays(name, self._stay)
        ]
        if not gone:
            return
        if not present and not self._allow_empty:
            raise SearchIndexError(
                f"'{source.location}' has nothing any more that can be indexed, and {len(gone):,} pictures of it are in the "
                "index. Is its drive there? To keep them give --keep, to remove them --allow-empty."
            )
        self._index.delete(gone)
        self._index.save()
        self._seen.remove(gone)
        for name in gone:
            del self._state.hashes[name]
        self.summary.removed += len(gone)


def _stays(name: str, stay: Collection[str]) -> bool:
    """Whether a name is that of something that stays: itself, a frame of a video, or inside a folder."""
    if name in stay or clip_of(name) in stay:
        return True
    return any(name[: at + 1] in stay for at, letter in enumerate(name) if letter == "/")
