"""What a collection is made of, whatever it lies in: items that can be read, and those that were skipped and why."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from PIL import Image

from ccr_adapters.errors import SearchIndexError
from ccr_adapters.search.interface import Metadata

# A larger file is no photograph, and is read into memory as a whole.
MAX_BYTES = 2**28
RESERVED = ("source", "path", "row", "time")
"""Keys that sources write; a column of that name gets an underscore behind it."""


@dataclass(frozen=True)
class Item:
    """A picture that was not read yet.

    Attributes:
        id: Its name in the index: name of the source, a slash, and its place there.
        stamp: What tells without reading that nothing has changed: size and time of the file.
        read: Gives its bytes. Raises `OSError`.
        metadata: What is stored with it.
    """

    id: str
    stamp: str
    read: Callable[[], bytes]
    metadata: Metadata = field(default_factory=dict)


@dataclass(frozen=True)
class Clip:
    """A video, of which a frame is taken every so many seconds.

    Attributes:
        id: Beginning of the names of its frames.
        stamp: As of an item.
        path: The file.
        every: Seconds between two frames.
        metadata: What is stored with each frame.
    """

    id: str
    stamp: str
    path: Path
    every: float
    metadata: Metadata = field(default_factory=dict)


@dataclass(frozen=True)
class Skipped:
    """Something that is not indexed.

    Attributes:
        id: Its name; one that ends in a slash stands for everything below.
        reason: Why, for the report.
        stays: Whether what the index has of it stays: it could not be looked at, which says nothing about what it is.
        again: Whether it is a second one of a name, which says nothing about the first.
    """

    id: str
    reason: str
    stays: bool = False
    again: bool = False


Entry: TypeAlias = Item | Clip | Skipped


class Source(Protocol):
    """A folder, a table or a tar.

    Attributes:
        name: First part of the names of its items, without a slash.
        kind: `folder`, `table` or `tar`.
        location: Where it is.
        options: How it is read, as JSON values.
    """

    name: str
    kind: str
    location: Path
    options: dict[str, Any]

    def __len__(self) -> int:
        """About how many entries there are, for the bar."""
        ...

    def entries(self) -> Iterator[Entry]:
        """Every item, always in the same order."""
        ...

    def read(self, id: str, metadata: Metadata) -> bytes | Image.Image:  # noqa: A002
        """A picture that was indexed, to be shown.

        Args:
            id: Its name.
            metadata: What is stored with it.

        Returns:
            Its bytes, or the picture.

        Raises:
            OSError: If it is gone.
            CCRError: If it cannot be read, or is outside the source.
        """
        ...

    def path(self, id: str, metadata: Metadata) -> Path | None:  # noqa: A002
        """The file that a picture is in, if it is a file of its own."""
        ...


def spelled(name: str) -> str:
    r"""A file name as Unicode text: bytes that are no UTF-8 as `\xff`, and a backslash doubled, so that it can be undone.

    Args:
        name: As the file system gives it.

    Returns:
        The text.
    """
    if "\\" not in name and name.isprintable():
        return name
    doubled = name.replace("\\", "\\\\")
    return re.sub("[\udc80-\udcff]", lambda found: f"\\x{ord(found[0]) - 0xDC00:02x}", doubled)


def unspelled(text: str) -> str:
    """Undo `spelled`.

    Args:
        text: What it gave.

    Returns:
        The name as the file system has it.
    """
    if "\\" not in text:
        return text
    pattern = r"\\\\|\\x([89a-f][0-9a-f])"
    return re.sub(pattern, lambda found: chr(0xDC00 + int(found[1], 16)) if found[1] else "\\", text)


def below(root: Path, text: str) -> Path:
    """A file below a folder, by what an id says.

    Args:
        root: The folder.
        text: Its relative path, as `spelled`.

    Returns:
        The path.

    Raises:
        SearchIndexError: If it climbs out of the folder.
    """
    relative = Path(unspelled(text))
    if relative.is_absolute() or ".." in relative.parts:
        raise SearchIndexError(f"{text!r:.80} lies outside of '{root}'. The index was tampered with: index again.")
    return root / relative


def file_stamp(path: Path) -> str:
    """What tells without reading that a file has not changed.

    Args:
        path: The file.

    Returns:
        Its size and the time of its last change.

    Raises:
        OSError: If it is gone.
    """
    status = path.stat()
    return f"{status.st_size}:{status.st_mtime_ns}"


def read_file(path: Path) -> bytes:
    """Read a file of a size that a picture may have.

    Args:
        path: The file.

    Returns:
        Its bytes.

    Raises:
        OSError: If it cannot be read.
        SearchIndexError: If it is too large.
    """
    with path.open("rb") as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise SearchIndexError(f"larger than {MAX_BYTES >> 20} MiB")
    return content


def metadata_hash(metadata: Metadata) -> str:
    """A short hash of metadata, by which a change of it is seen.

    Args:
        metadata: A flat dictionary.

    Returns:
        16 hexadecimal digits.
    """
    text = json.dumps(sorted(metadata.items()), default=str)
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
