"""From what a user names to a source: a folder, a table, or a tar; and what is remembered of one."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ccr_adapters.errors import SearchIndexError
from ccr_adapters.pixels import FOREIGN, PICTURES
from ccr_adapters.search.clips import VIDEOS
from ccr_adapters.search.folder import EVERY, FolderSource
from ccr_adapters.search.shards import TarSource
from ccr_adapters.search.sources import Source, spelled, unspelled
from ccr_adapters.search.tables import TABLES, TableSource


@dataclass(frozen=True)
class SourceRecord:
    """What a collection remembers of a source.

    Attributes:
        name: First part of the names of its items.
        kind: `folder`, `table` or `tar`.
        location: Where it was, spelled as Unicode text.
        options: How it was read.
    """

    name: str
    kind: str
    location: str
    options: dict[str, Any]

    @classmethod
    def of(cls, source: Source) -> SourceRecord:
        """Describe a source.

        Args:
            source: The source.

        Returns:
            Its record.
        """
        return cls(source.name, source.kind, spelled(str(source.location)), dict(source.options))

    @classmethod
    def from_dict(cls, values: Any, where: Path) -> SourceRecord:
        """Read a record from JSON.

        Args:
            values: What the JSON holds.
            where: The file, for the message.

        Returns:
            The record.

        Raises:
            SearchIndexError: If it is none.
        """
        if isinstance(values, dict):
            name, kind, location, options = (values.get(key) for key in ("name", "kind", "location", "options"))
            if isinstance(name, str) and kind in ("folder", "table", "tar") and isinstance(location, str):
                return cls(name, kind, location, options if isinstance(options, dict) else {})
        raise SearchIndexError(f"'{where}' describes a source as {values!r:.120}, which is none. Index again.")

    def open(self) -> Source:
        """Open the source as it was.

        Returns:
            The source.

        Raises:
            SearchIndexError: If it is not there any more.
        """
        path = Path(unspelled(self.location))
        if self.kind == "table":
            return TableSource(path, self.name, columns=self.options.get("columns"))
        if self.kind == "tar":
            return TarSource(path, self.name)
        recursive, every = bool(self.options.get("recursive", True)), float(self.options.get("every", EVERY))
        return FolderSource(path, self.name, recursive=recursive, every=every)


def source_of(
    place: str | Path,
    known: Sequence[SourceRecord] = (),
    *,
    name: str | None = None,
    recursive: bool = True,
    every: float = EVERY,
    columns: Mapping[str, str] | None = None,
    taken: Collection[str] = (),
) -> Source:
    """Open what a user names.

    Args:
        place: A folder, a .csv, .tsv, .jsonl or .parquet table, or a WebDataset .tar.
        known: What the collection remembers: a source that is at the same place keeps its name, and no two have one.
        name: First part of the names; default the name of the file or folder. That of a known source says that it has
            moved here.
        recursive: Of a folder: also everything below.
        every: Of a folder: seconds between two frames of a video; 0 leaves videos out.
        columns: Of a table: names of the columns `image` and `id`.
        taken: Names of what is no source, as vectors have.

    Returns:
        The source.

    Raises:
        SearchIndexError: If there is nothing of the kind, or the name cannot be had.
    """
    path = _absolute(place)
    ending = path.suffix.lower()
    check_name(name)
    here = spelled(str(path))
    own = next((record.name for record in known if record.location == here), None)
    if name is not None and own is not None and name != own:
        raise SearchIndexError(f"'{place}' is in the collection as {own!r} already. Leave the name {name!r} out.")
    if name is not None and name in taken:
        raise SearchIndexError(f"{name!r} is what vectors in the collection are called. Choose another name.")
    name = name or own or _free_name(path, {*taken, *(record.name for record in known)})
    if path.is_dir():
        return FolderSource(path, name, recursive=recursive, every=every)
    if not path.exists():
        raise SearchIndexError(f"There is nothing at '{place}'. Check the path.")
    if ending in TABLES:
        return TableSource(path, name, columns=columns)
    if ending == ".tar":
        return TarSource(path, name)
    if ending in PICTURES | VIDEOS | set(FOREIGN):
        raise SearchIndexError(f"'{place}' is one file. Name the folder that it is in.")
    raise SearchIndexError(f"'{place}' is neither a folder nor one of {', '.join((*TABLES, '.tar'))}.")


def _absolute(place: str | Path) -> Path:
    """A path from the root without `..`, the same from wherever it is named; links on the way stay, if they can."""
    path = Path(place).absolute()
    plain = Path(os.path.abspath(path))  # noqa: PTH100 - resolve() would follow links
    if not path.name or ".." not in path.parts:
        return plain
    # behind a link `..` leads to elsewhere than the text says
    return plain if plain.exists() and path.exists() and plain.samefile(path) else path.resolve()


def check_name(name: str | None) -> None:
    """Refuse a name that the names of items cannot begin with.

    Raises:
        SearchIndexError: If it is empty or has a slash.
    """
    if name is not None and (not name or "/" in name):
        raise SearchIndexError(f"{name!r} cannot be the name of a source; expected a word without a slash.")


def _free_name(path: Path, taken: Collection[str]) -> str:
    """A name that nothing else has."""
    wanted = spelled(path.name) or "root"
    name, number = wanted, 1
    while name in taken:
        number += 1
        name = f"{wanted}-{number}"
    return name
