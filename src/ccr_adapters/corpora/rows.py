"""What the readers of a corpus hand on: rows that are not looked at yet, and where in a file a shard of them begins."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from ccr_adapters.errors import DataError


@dataclass(frozen=True)
class Row:
    """One caption or picture of a corpus.

    Attributes:
        id: Its name.
        content: The caption, or what reads the bytes of the picture, in any thread.
        kept: Values of the columns that are kept.
        problem: Why it cannot be encoded; empty if it can.
    """

    id: str
    content: str | Callable[[], bytes] = ""
    kept: tuple[Any, ...] = ()
    problem: str = ""


class Cut(NamedTuple):
    """Where in a file a shard begins.

    Attributes:
        row: Its first row, from 0.
        rows: How many there are.
        offset: Byte at which they begin, where the file can be entered there.
    """

    row: int
    rows: int
    offset: int = 0


@dataclass(frozen=True)
class Columns:
    """Which columns of a table, or parts of a WebDataset sample, are what.

    Attributes:
        what: `captions` or `pictures`.
        content: What is encoded.
        id: Names of the rows; `None` numbers them.
        keep: What is written beside the vectors.
    """

    what: str
    content: str = ""
    id: str | None = None
    keep: tuple[str, ...] = ()


class Reader(Protocol):
    """A file of one kind, which can be entered at every shard.

    Attributes:
        path: The file.
    """

    path: Path

    def names(self) -> list[str]:
        """Names of its columns; empty if it has no rows."""
        ...

    def fields(self, keep: Sequence[str]) -> list[Any]:
        """Fields of Arrow for kept columns."""
        ...

    def cuts(self, size: int) -> Iterator[Cut]:
        """Cut it into shards of at most `size` rows.

        Raises:
            BrokenOff: At the end, if the file is whole only up to there.
            DataError: If it cannot be read.
        """
        ...

    def rows(self, cut: Cut, columns: Columns) -> Iterator[Row]:
        """The rows of a shard, as many as were counted."""
        ...


class BrokenOff(DataError):
    """The rest of a file is missing; what came before it can be used."""


def named(path: str | Path) -> str:
    r"""A file name as text, bytes that are no UTF-8 as `\xff`."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def read_picture(path: Path) -> bytes:
    """The bytes of a picture file."""
    return path.read_bytes()
