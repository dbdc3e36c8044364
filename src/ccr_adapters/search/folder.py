"""A folder of pictures and videos as a source: hidden files left out, loops of links cut, nothing lost in silence."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

from ccr_adapters.errors import SearchIndexError
from ccr_adapters.pixels import FOREIGN, PICTURES
from ccr_adapters.search.clips import SHORTEST, VIDEOS, clip_of, frame_at
from ccr_adapters.search.interface import Metadata
from ccr_adapters.search.sources import Clip, Entry, Item, Skipped, below, file_stamp, read_file, spelled

EVERY = 2.0


class FolderSource:
    """Pictures and videos in a folder; see `Source`."""

    kind = "folder"

    def __init__(self, location: Path, name: str, *, recursive: bool = True, every: float = EVERY) -> None:
        """Name a folder.

        Args:
            location: The folder.
            name: First part of the names.
            recursive: Also everything below.
            every: Seconds between two frames of a video; 0 leaves videos out.

        Raises:
            SearchIndexError: If there is no such folder, or `every` is negative or shorter than frames are told apart by.
        """
        if not location.is_dir():
            raise SearchIndexError(f"There is no folder '{location}'. Is its drive there?")
        if every != 0 and not SHORTEST <= every < float("inf"):
            raise SearchIndexError(
                f"A frame every {every} seconds was asked for; expected {SHORTEST} or more, or 0 for none."
            )
        self.location, self.name = location, name
        self.recursive, self.every = recursive, every
        self.options: dict[str, Any] = {"recursive": recursive, "every": every}
        self.others = 0
        self._files: list[str | Skipped] | None = None

    def __len__(self) -> int:
        return len(self._listed())

    def entries(self) -> Iterator[Entry]:
        """Pictures, videos and what was skipped, sorted by folder and name."""
        for file in self._listed():
            yield file if isinstance(file, Skipped) else self._entry(file)

    def read(self, id: str, metadata: Metadata) -> bytes | Image.Image:  # noqa: A002
        """See `Source.read`."""
        path, time = self.path(id, metadata), metadata.get("time")
        return read_file(path) if time is None else frame_at(path, float(time))

    def path(self, id: str, metadata: Metadata) -> Path:  # noqa: A002
        """See `Source.path`."""
        relative = id.removeprefix(f"{self.name}/")
        return below(self.location, clip_of(relative) if "time" in metadata else relative)

    def _entry(self, file: str) -> Entry:
        """One file, which may be gone or be no picture after all."""
        path, name = self.location / file, f"{self.name}/{spelled(file)}"
        ending = path.suffix.lower()
        if ending in FOREIGN:
            return Skipped(name, f"{FOREIGN[ending]} cannot be read here: convert it to JPEG")
        try:
            stamp = file_stamp(path)
        except OSError as error:
            if path.is_symlink():
                return Skipped(name, "a link that leads nowhere")
            return Skipped(
                name, f"cannot be looked at ({error.strerror})", stays=not isinstance(error, FileNotFoundError)
            )
        if not path.is_file():
            return Skipped(name, "is no file")
        metadata = {"source": self.name}
        if ending in VIDEOS:
            return Clip(name, f"{stamp}:{self.every:g}", path, self.every, metadata)
        return Item(name, stamp, partial(read_file, path), metadata)

    def _listed(self) -> list[str | Skipped]:
        """Paths below the folder, looked up once."""
        if self._files is None:
            self.others = 0
            self._files = list(self._walk())
        return self._files

    def _walk(self) -> Iterator[str | Skipped]:
        wanted = PICTURES | set(FOREIGN) | (VIDEOS if self.every else set())
        unreadable: list[OSError] = []
        # a folder that links lead to twice is one, and so loops end
        visited: set[tuple[int, int]] = set()
        for root, folders, files in os.walk(self.location, followlinks=True, onerror=unreadable.append):
            status = Path(root).stat()
            known = (status.st_dev, status.st_ino) in visited
            visited.add((status.st_dev, status.st_ino))
            folders[:] = [] if known or not self.recursive else sorted(each for each in folders if each[0] != ".")
            shown = [] if known else sorted(each for each in files if each[0] != ".")
            for file in shown:
                if os.path.splitext(file)[1].lower() in wanted:  # noqa: PTH122
                    yield os.path.relpath(os.path.join(root, file), self.location)  # noqa: PTH118
                elif self.recursive and _leads_nowhere(Path(root) / file):
                    inside = os.path.relpath(os.path.join(root, file), self.location)  # noqa: PTH118
                    # perhaps to a folder of a drive that is away
                    yield Skipped(f"{self.name}/{spelled(inside)}/", "a link that leads nowhere", stays=True)
                else:
                    self.others += 1
        for error in unreadable:
            inside = os.path.relpath(error.filename, self.location)
            name = f"{self.name}/" if inside == "." else f"{self.name}/{spelled(inside)}/"
            yield Skipped(name, f"a folder that cannot be looked into ({error.strerror})", stays=True)


def _leads_nowhere(path: Path) -> bool:
    """Whether a link's target is not there, or cannot be asked for; a link to itself leads somewhere, for ever."""
    try:
        path.stat()
    except OSError as error:
        return error.errno != errno.ELOOP
    return False
