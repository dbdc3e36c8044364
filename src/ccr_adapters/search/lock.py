"""One writer at a time: a lock that the system lets go of when its process ends, however it ends."""

from __future__ import annotations

import os
import time
from importlib import import_module
from pathlib import Path

from ccr_adapters.errors import LockedError, SearchIndexError

PAUSE = 0.05


class WriteLock:
    """An exclusive lock on a file beside the index, which holds the number of the process that has it.

    Attributes:
        path: The lock file. It stays when the lock is released: removing it would let two in.
    """

    def __init__(self, path: Path, *, wait: float = 0.0) -> None:
        """Take the lock.

        Args:
            path: The lock file.
            wait: Seconds to wait for another writer.

        Raises:
            LockedError: If another writer has it still, naming its process.
            SearchIndexError: If the folder cannot be written to.
        """
        # not on Windows, where an index can be searched but not written
        fcntl = import_module("fcntl")
        self.path = path
        try:
            self._file = path.open("a")
        except OSError as error:
            raise SearchIndexError(
                f"'{path.parent}' cannot be written to ({error.strerror}). It can be searched: open it for reading."
            ) from error
        deadline = time.monotonic() + wait
        while True:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() < deadline:
                    time.sleep(PAUSE)
                    continue
                self._file.close()
                raise LockedError(
                    f"'{path.parent}' is being written to by process {read_pid(path)}. Wait until it has finished, "
                    f"or give a longer wait than {wait:g} s."
                ) from None
            break
        write_pid(path)

    def release(self) -> None:
        """Let the next writer in."""
        self._file.truncate(0)
        self._file.close()


def is_locked(path: Path) -> bool:
    """Whether another process has a lock on a file.

    Args:
        path: The file.

    Returns:
        False also where there is no such file.
    """
    fcntl = import_module("fcntl")
    if not path.is_file():
        return False
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def write_pid(path: Path) -> None:
    """Say who is using an index.

    Args:
        path: The file to say it in.
    """
    path.write_text(str(os.getpid()), encoding="ascii")


def read_pid(path: Path) -> str:
    """Who says to be using an index.

    Args:
        path: The file that says it.

    Returns:
        The number of the process, or a question mark.
    """
    try:
        text = path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError):
        return "?"
    return text if text.isdigit() else "?"
