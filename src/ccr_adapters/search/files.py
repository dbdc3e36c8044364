"""Files of an index: written aside and made safe before they count, checked before anybody parses them."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ccr_adapters.errors import SearchIndexError

_NAME = re.compile(r"segment-\d{6}\.(vectors|rows|ann|deleted-\d{6})")
_CHUNK = 2**22


@dataclass(frozen=True)
class FileRecord:
    """What the header of an index says of one of its files.

    Attributes:
        name: Name inside the folder.
        size: Bytes.
        sha256: Hash of its content.
    """

    name: str
    size: int
    sha256: str

    @classmethod
    def of(cls, path: Path) -> FileRecord:
        """Describe a file that was just written, and make it safe.

        Args:
            path: The file.

        Returns:
            Its record.
        """
        digest, size = hashlib.sha256(), 0
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
                size += len(chunk)
            os.fsync(file.fileno())
        return cls(path.name, size, digest.hexdigest())

    @classmethod
    def from_dict(cls, values: Any, where: Path) -> FileRecord:
        """Read a record from JSON.

        Args:
            values: What the JSON holds.
            where: The header, for the message.

        Returns:
            The record.

        Raises:
            SearchIndexError: If it is no record, or names a file that no index has.
        """
        if isinstance(values, Mapping):
            name, size, sha256 = (values.get(key) for key in ("name", "size", "sha256"))
            if isinstance(name, str) and isinstance(size, int) and isinstance(sha256, str) and _NAME.fullmatch(name):
                return cls(name, size, sha256)
        raise SearchIndexError(f"'{where}' describes a file as {values!r:.120}, which is none of an index.")

    def check(self, folder: Path) -> Path:
        """Compare the file with its record, before anything parses it.

        Args:
            folder: Folder of the index.

        Returns:
            Path of the file.

        Raises:
            SearchIndexError: If size or content differ.
            FileNotFoundError: If it is gone, as after another process has saved.
        """
        path = folder / self.name
        size = path.stat().st_size
        if size != self.size:
            raise SearchIndexError(
                f"'{path}' has {size:,} bytes; the index wrote {self.size:,}. It is truncated or was replaced: "
                "restore the folder from a copy, or index again."
            )
        digest = hashlib.sha256()
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
        if digest.hexdigest() != self.sha256:
            raise SearchIndexError(
                f"'{path}' is not what the index wrote (another sha256): restore the folder from a copy, or index again."
            )
        return path


class RecordedFile:
    """A new file whose record grows while it is written, so that it need not be read again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("wb")
        self._digest = hashlib.sha256()
        self._size = 0

    def write(self, data: bytes | memoryview) -> None:
        """Append.

        Args:
            data: Contiguous bytes.
        """
        self._file.write(data)
        self._digest.update(data)
        self._size += len(data)

    def close(self) -> FileRecord:
        """Make the file safe.

        Returns:
            Its record.
        """
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        return FileRecord(self.path.name, self._size, self._digest.hexdigest())


def replace_file(path: Path, content: bytes) -> None:
    """Put new content in place at once: whoever reads sees the old one or the new one, also after a crash.

    Args:
        path: The file.
        content: Its new content.
    """
    aside = path.with_name(f"{path.name}.new")
    with aside.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(aside, path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make names in a folder safe: without it a crash of the machine may undo a rename.

    Args:
        folder: The folder.
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def is_index_file(path: Path) -> bool:
    """Whether a file has a name that only an index gives.

    Args:
        path: The file.

    Returns:
        True for segments and for headers that were left aside.
    """
    return bool(_NAME.fullmatch(path.name)) or path.name == "current.json.new"
