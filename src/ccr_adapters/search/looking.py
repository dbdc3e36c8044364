"""Looking at what a source has: worker threads read, hash and decode ahead of the encoder, and only what is new.

A file of known size and time is not read; one whose content is in the index under any name is not decoded.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
from PIL import Image

from ccr_adapters.errors import CCRError, MissingExtraError, SearchIndexError
from ccr_adapters.search.checks import checked_rows
from ccr_adapters.search.clips import frame_at, frame_id, frame_times, frames, sampling
from ccr_adapters.search.decoding import decode, facts
from ccr_adapters.search.interface import Metadata, Vectors
from ccr_adapters.search.notes import Seen
from ccr_adapters.search.sources import Clip, Item, Skipped, Source, metadata_hash


class Encoder(Protocol):
    """What makes vectors of pictures; see `ccr_adapters.search.encoder.PictureEncoder`."""

    base: str
    base_sha256: str
    revision: str | None
    dim: int

    def prepare(self, picture: Image.Image) -> Any:
        """A picture in the form that `encode` takes; called in threads."""
        ...

    def encode(self, prepared: Sequence[Any]) -> Vectors:
        """Vectors of length one of a batch (N, d)."""
        ...


@dataclass
class Ready:
    """A picture on its way into the index.

    Attributes:
        id: Its name.
        stamp: Size and time of its file.
        content: Hash of its content.
        hash: What the index keeps: that of the content and one of the metadata.
        metadata: What the index keeps besides.
        again: Reads and decodes it once more.
        prepared: What the encoder takes, where no vector of this content is known.
        same: Whether the index has just this under this name.
        noted: Whether it is known by its stamp, too.
    """

    id: str
    stamp: str
    content: str
    hash: str
    metadata: Metadata
    again: Callable[[], Image.Image] | None = None
    prepared: Any = None
    same: bool = False
    noted: bool = False


@dataclass(frozen=True)
class Film:
    """A video all of whose frames have been handed out.

    Attributes:
        id: Its name.
        stamp: Size and time of its file.
        hash: Hash of its content, number of frames and length.
    """

    id: str
    stamp: str
    hash: str


Outcome: TypeAlias = Ready | Film | Skipped
Job: TypeAlias = Callable[[], Ready | Skipped]


@dataclass
class State:
    """What the index holds while it changes.

    Attributes:
        hashes: What it keeps of each name.
    """

    hashes: dict[str, str]
    _holders: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        self._holders = {content_of(value): name for name, value in self.hashes.items()}

    def holder(self, content: str) -> str | None:
        """A name that has a content now.

        Args:
            content: Hash of the content.

        Returns:
            The name, if there is one.
        """
        name = self._holders.get(content)
        return name if name is not None and content_of(self.hashes.get(name, "")) == content else None

    def put(self, row: Ready) -> None:
        """Note what was added.

        Args:
            row: The picture.
        """
        self.hashes[row.id] = row.hash
        self._holders[row.content] = row.id


def content_of(value: str) -> str:
    """The part of a kept hash that is of the content.

    Args:
        value: What the index keeps.

    Returns:
        What stands before the dot.
    """
    return value.partition(".")[0]


class Looker:
    """Looks at sources.

    Attributes:
        present: Names that the source at hand has.
    """

    def __init__(self, state: State, seen: Seen, encoder: Encoder, *, workers: int, ahead: int) -> None:
        """Prepare.

        Args:
            state: What the index holds.
            seen: Which files were seen.
            encoder: What brings pictures to its form.
            workers: Number of threads.
            ahead: Most pictures to have decoded and not yet encoded.
        """
        self.present: set[str] = set()
        self._state, self._seen, self._encoder = state, seen, encoder
        self._workers, self._ahead = workers, ahead

    def outcomes(self, source: Source) -> Iterator[Outcome]:
        """What becomes of each entry, in their order.

        Args:
            source: The source.

        Yields:
            Pictures, videos after their frames, and what is skipped.
        """
        self.present = set()
        window: deque[Future[Ready | Skipped] | Outcome] = deque()
        with ThreadPoolExecutor(self._workers, thread_name_prefix="decode") as pool:
            try:
                for job in self._jobs(source):
                    window.append(pool.submit(job) if callable(job) else job)
                    if len(window) > self._ahead:
                        yield _result(window.popleft())
                while window:
                    yield _result(window.popleft())
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

    def _jobs(self, source: Source) -> Iterator[Job | Outcome]:
        """Work for threads, or outcomes that need none."""
        named: set[str] = set()  # `present` forgets what was skipped
        for entry in source.entries():
            if isinstance(entry, Skipped):
                yield entry
            elif not _is_unicode(entry.id):
                yield Skipped(entry.id, "its name is not Unicode text")
            elif entry.id in named or entry.id in self.present:
                yield Skipped(entry.id, "was named before: names must differ", again=True)
            elif isinstance(entry, Clip):
                yield from self._film(entry)
            else:
                named.add(entry.id)
                self.present.add(entry.id)
                seen = self._seen.get(entry.id)
                if seen is not None and seen[0] == entry.stamp and self._state.hashes.get(entry.id) == seen[1]:
                    yield Ready(entry.id, entry.stamp, "", seen[1], {}, same=True, noted=True)
                else:
                    yield partial(self._look, entry)

    # ------------------------------------------------------------------------------------------- pictures, in threads

    def _look(self, item: Item) -> Ready | Skipped:
        try:
            content = item.read()
        except FileNotFoundError:
            return Skipped(item.id, "vanished meanwhile")
        except OSError as error:
            return Skipped(item.id, f"cannot be read ({error.strerror or error})", stays=True)
        except CCRError as error:
            return Skipped(item.id, str(error))
        digest = hashlib.blake2b(content, digest_size=16).hexdigest()
        row = self._row(item.id, item.stamp, digest, item.metadata)
        if isinstance(row, Skipped) or row.same:
            return row
        row.metadata = {**facts(content), **item.metadata}
        # not the bytes themselves: many rows may wait
        row.again = lambda: decode(item.read())
        return self._prepared(row, lambda: decode(content))

    def _row(self, name: str, stamp: str, content: str, metadata: Metadata) -> Ready | Skipped:
        """Compare with the index, and refuse what it could not hold."""
        value = f"{content}.{metadata_hash(metadata)}"
        try:
            checked_rows([name], np.empty((1, 1), np.float32), [metadata], [value])
        except SearchIndexError as error:
            return Skipped(name, str(error))
        return Ready(name, stamp, content, value, metadata, same=self._state.hashes.get(name) == value)

    def _prepared(self, row: Ready, picture: Callable[[], Image.Image]) -> Ready | Skipped:
        """Bring a picture to the encoder's form, unless there is a vector of its content."""
        if self._state.holder(row.content) is None:
            try:
                row.prepared = self._encoder.prepare(picture())
            except (CCRError, ValueError, OverflowError, MemoryError) as error:
                # image processors refuse pictures of extreme shapes
                return Skipped(
                    row.id, str(error) or "needs more memory than there is", stays=isinstance(error, MemoryError)
                )
        return row

    # ------------------------------------------------------------------------------------------- videos

    def _film(self, clip: Clip) -> Iterator[Job | Outcome]:
        """Frames of a video; it is opened only if something about it is new."""
        names: list[str] = []
        try:
            known = self._known(clip)
            count, length, content = known or _measured(clip)
            rows: list[Ready | Skipped] = []
            for part, seconds in enumerate(frame_times(count, length)):
                names.append(frame_id(clip.id, seconds))
                row = self._row(names[-1], clip.stamp, f"{content}-{part}-{count}", {**clip.metadata, "time": seconds})
                if isinstance(row, Ready):
                    row.again = partial(frame_at, clip.path, seconds)
                    row.noted = True
                rows.append(row)
            self.present.update(names)
            yield from self._frames(clip.path, rows)
            if known is None:
                yield Film(clip.id, clip.stamp, f"{content}:{count}:{length!r}")
        except (CCRError, OSError) as error:
            # half of a video is none
            self.present.difference_update(names)
            yield Skipped(clip.id, str(error), stays=isinstance(error, MissingExtraError | PermissionError))

    def _frames(self, path: Path, rows: Sequence[Ready | Skipped]) -> Iterator[Job | Outcome]:
        new = [isinstance(row, Ready) and not row.same and self._state.holder(row.content) is None for row in rows]
        pictures: Iterator[Image.Image | None] = frames(path, len(rows)) if any(new) else iter([None] * len(rows))
        for row, picture in zip(rows, pictures, strict=True):
            if isinstance(row, Skipped) or row.same or picture is None:
                yield row
            else:
                yield partial(self._prepared, row, partial(_itself, picture))

    def _known(self, clip: Clip) -> tuple[int, float, str] | None:
        """Number of frames, length and hash of a video of known size and time."""
        seen = self._seen.get(clip.id)
        if seen is None or seen[0] != clip.stamp:
            return None
        content, count, length = seen[1].split(":")
        return int(count), float(length), content


def _measured(clip: Clip) -> tuple[int, float, str]:
    count, length = sampling(clip.path, clip.every)
    digest = hashlib.blake2b(digest_size=16)
    with clip.path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return count, length, digest.hexdigest()


def _is_unicode(text: str) -> bool:
    return not any("\ud800" <= letter <= "\udfff" for letter in text)


def _itself(picture: Image.Image) -> Image.Image:
    return picture


def _result(waiting: Future[Ready | Skipped] | Outcome) -> Outcome:
    return waiting.result() if isinstance(waiting, Future) else waiting
