"""A connection to Milvus: to a file, which belongs to one process, or to a cluster; errors without the token in them."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit

from ccr_adapters.errors import LockedError, SearchIndexError
from ccr_adapters.extras import require
from ccr_adapters.search.lock import PAUSE, WriteLock, is_locked, read_pid, write_pid


class MilvusConnection:
    """An open client of Milvus.

    Attributes:
        address: The address as it may be shown.
        library: The module `pymilvus`.
        writable: Whether it is meant for writing.
    """

    # how often this process has a file open: Milvus Lite serves a file once per process
    _users: ClassVar[Counter[str]] = Counter()
    _users_lock: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self, address: str, *, token: str | None, writable: bool, wait: float) -> None:
        """Connect.

        Args:
            address: A file ending in `.db`, or the address of a cluster.
            token: `user:password` or API key of a cluster.
            writable: Whether to take the lock of a file.
            wait: Seconds to wait for another process that has a file open.

        Raises:
            SearchIndexError: If Milvus cannot be reached, or the file cannot be opened.
            LockedError: If another process has the file open, or another writer has its lock.
        """
        self.library: Any = require("pymilvus", extra="milvus")
        self.address = _without_password(address)
        self.writable = writable
        self._token = token
        self._client: Any = None
        self._lock: WriteLock | None = None
        self._file = None if "://" in address else Path(address).absolute()
        with ExitStack() as stack:
            if self._file is None:
                self._client = self._connect(address)
            else:
                self._client = self._open_file(self._file, stack, wait)
            stack.pop_all()

    @contextmanager
    def asked(self, what: str) -> Iterator[Any]:
        """The client, whose errors are told in one sentence.

        Args:
            what: What is asked of it, for the message.

        Yields:
            The client.

        Raises:
            SearchIndexError: If Milvus refuses, or the connection is closed.
        """
        if self._client is None:
            raise SearchIndexError(f"'{self.address}' is closed. Open it again.")
        try:
            yield self._client
        except self.library.MilvusException as error:
            # not chained: what Milvus shows of a call may hold the token
            raise SearchIndexError(f"Milvus at '{self.address}' could not {what}: {self._told(error)}") from None

    def close(self) -> None:
        """Let go of the connection, and of a file when nobody in this process needs it."""
        if self._client is not None:
            self._client.close()
            self._client = None
            if self._file is not None:
                self._let_go(str(self._file))
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def _connect(self, address: str) -> Any:
        try:
            return self.library.MilvusClient(address, **({"token": self._token} if self._token else {}))
        except self.library.MilvusException as error:
            raise SearchIndexError(f"Milvus cannot be reached at '{self.address}': {self._told(error)}") from None

    def _open_file(self, file: Path, stack: ExitStack, wait: float) -> Any:
        require("milvus_lite", extra="milvus")
        if file.suffix != ".db" or not file.parent.is_dir():
            raise SearchIndexError(f"'{file}' is no place for Milvus; expected a name ending in .db in a folder.")
        pid, deadline = Path(f"{file}.pid"), time.monotonic() + wait
        if self.writable:
            self._lock = WriteLock(Path(f"{file}.write.lock"), wait=wait)
            stack.callback(self._lock.release)
        # a reader has no lock of ours
        while not self._users[str(file)] and is_locked(file / "LOCK") and time.monotonic() < deadline:
            time.sleep(PAUSE)
        with self._users_lock:
            locked = not self._users[str(file)] and is_locked(file / "LOCK")
            try:
                client = self._connect(str(file))
            except SearchIndexError:
                if not locked:
                    raise
                raise LockedError(
                    f"'{file}' is open in process {read_pid(pid)}. A file of Milvus Lite belongs to one process: "
                    "end that one, or use a cluster."
                ) from None
            # where a client that is not ours has it open in this process, the file is not ours to close
            self._users[str(file)] += 2 if locked else 1
            write_pid(pid)
        return client

    def _let_go(self, file: str) -> None:
        with self._users_lock:
            self._users[file] -= 1
            if not self._users[file]:
                require("milvus_lite.server_manager", extra="milvus").server_manager_instance.release_server(file)

    def _told(self, error: Exception) -> str:
        text = str(getattr(error, "message", error))
        return text.replace(self._token, "***") if self._token else text


def _without_password(address: str) -> str:
    """An address as it may be shown: without a name and password in it."""
    if "://" not in address:
        return address
    parts = urlsplit(address)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
