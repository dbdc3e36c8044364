"""What stands on the other side of the captions: pictures and videos in a folder, or features in one of several forms."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ccr_adapters.data.benchmarks.bigfile import ArrayFolder, BigFile, OnePerVideo, load_array
from ccr_adapters.data.benchmarks.entries import Entry, FileNames, own_aliases
from ccr_adapters.data.benchmarks.problems import Problems
from ccr_adapters.data.benchmarks.textfiles import read_lines
from ccr_adapters.errors import DataError, ImageError
from ccr_adapters.pixels import BROKEN, open_picture

Features = str | Path | np.ndarray | Mapping[str, np.ndarray]


@dataclass
class Gallery:
    """The entries that have something to look at, and that: one of the three, in the same order."""

    entries: list[Entry]
    pictures: Any | None = None
    visual: np.ndarray | None = None
    videos: Any | None = None


class Visuals(Protocol):
    """Finds what belongs to entries; one object serves several languages, and looks at a file once."""

    def gallery(self, entries: Sequence[Entry], problems: Problems, official: Sequence[str]) -> Gallery:
        """Take the entries that have something, report the others.

        Args:
            entries: What is asked for.
            problems: Where to report.
            official: Ids of the whole official list, which bare arrays are aligned with.
        """


def why_broken(picture: Path | bytes) -> str | None:
    """Say what is wrong with a picture, if anything.

    A JPEG is decoded at an eighth of its size, which costs little and finds truncated files.
    """
    try:
        with open_picture(io.BytesIO(picture) if isinstance(picture, bytes) else picture) as image:
            image.draft("RGB", (image.width // 8 or 1, image.height // 8 or 1))
            image.load()
    except BROKEN as error:
        return str(error) or type(error).__name__
    return None


def report_pictures(kind: str, bad: Sequence[tuple[Entry, str]], asked: int, problems: Problems, help_: str) -> None:
    """Report pictures that cannot be used: all of them in one message, so that a wrong folder reads as one."""
    if not bad:
        return
    named = ", ".join(f"'{what}'" for _, what in bad[:3])
    problems.report(
        f"{kind} pictures",
        f"{len(bad):,} of {asked:,} pictures are {kind}: {named}{', ...' if len(bad) > 3 else ''}{help_}",
        error=ImageError,
        count=len(bad),
    )


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


class FolderVisuals:
    """Pictures or videos as files, in a folder or anywhere below it.

    Args:
        folder: Where they are.
        video: Whether they are videos, which are not opened here.
        exact: Whether a name is a path below the folder. Otherwise a file of that name (or id) anywhere below will do, if
            there is one alone.
        where_to_get: For messages.

    Raises:
        DataError: If there is no such folder.
    """

    def __init__(self, folder: str | Path, *, video: bool = False, exact: bool = False, where_to_get: str = "") -> None:
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise DataError(f"There is no folder '{folder}' with pictures. {where_to_get}".rstrip())
        self.video = video
        self.exact = exact
        self.where_to_get = where_to_get
        self._index: FileNames | None = None
        self._broken: dict[Path, str | None] = {}

    def gallery(self, entries: Sequence[Entry], problems: Problems, official: Sequence[str]) -> Gallery:
        """Find each entry's file by its name, or by its id with any ending."""
        kept: list[Entry] = []
        paths: list[Path] = []
        missing: list[tuple[Entry, str]] = []
        ambiguous: list[tuple[Entry, str]] = []
        broken: list[tuple[Entry, str]] = []
        for entry, own in zip(entries, own_aliases(entries), strict=True):
            found = self._find(entry, own)
            if not found:
                missing.append((entry, entry.files[0] if entry.files else entry.image_id))
            elif len(found) > 1:
                there = [path.relative_to(self.folder).as_posix() for path in found]
                ambiguous.append((entry, f"{entry.image_id} ({_some(there)})"))
            elif self._check(found[0]) is not None:
                broken.append((entry, f"{found[0].name} ({self._check(found[0])})"))
            else:
                kept.append(entry)
                paths += found
        get = f" in '{self.folder}'" + (f". {self.where_to_get.rstrip('.')}" if self.where_to_get else "")
        report_pictures("missing", missing, len(entries), problems, get)
        report_pictures("ambiguous", ambiguous, len(entries), problems, f" in '{self.folder}'")
        report_pictures("broken", broken, len(entries), problems, f" in '{self.folder}'")
        return Gallery(kept, videos=paths) if self.video else Gallery(kept, pictures=paths)

    def _find(self, entry: Entry, keys: Sequence[str]) -> list[Path]:
        """The file: one, none, or several that are called so."""
        for name in entry.files:
            direct = self.folder / name
            if direct.is_file():
                return [direct]
        if self.exact:
            return []
        if self._index is None:
            names: list[str] = []
            for root, folders, files in os.walk(self.folder):
                folders.sort()
                below = Path(root).relative_to(self.folder)
                names += [(below / name).as_posix() for name in sorted(files)]
            self._index = FileNames(names)
        return [self.folder / self._index.names[row] for row in self._index.find(keys)]

    def _check(self, path: Path) -> str | None:
        if path not in self._broken:
            if self.video:
                self._broken[path] = None if path.stat().st_size else "empty file"
            else:
                self._broken[path] = why_broken(path)
        return self._broken[path]


class FeatureVisuals:
    """Features in place of pictures: vectors (d,), or frames of videos (T, d), by id or in the official order.

    Args:
        features: A BigFile folder (with `video2frames.txt`, frames), a folder of `<id>.npy` files, a mapping from ids, an
            array, or a `.npy` file of one. A list of ids beside the file (`x.npy` with `x.txt`, `x.ids.txt` or
            `x.images.txt`, `x.visual.npy` with `x.images.txt`) says what its rows are; without one they follow the
            official list.

    Raises:
        DataError: If there is no such file, or it holds nothing of the kind.
    """

    def __init__(self, features: Features) -> None:
        self.table: Mapping[str, np.ndarray] | None = None
        self.array: np.ndarray | None = None
        self.listed: FileNames | None = None
        self.name = "features"
        if isinstance(features, np.ndarray):
            self.array = features
        elif isinstance(features, Mapping):
            self.table = features
        else:
            self.name = str(features)
            self._open(Path(features))

    def _open(self, path: Path) -> None:
        if path.is_dir():
            if (path / "feature.bin").is_file():
                big = BigFile(path)
                self.table = big.frames() or big
                return
            self.table = ArrayFolder(path)
            if not self.table:
                raise DataError(f"'{path}' has neither feature.bin nor .npy files.")
        elif path.is_file():
            self.array = load_array(path)
            plain = path.stem.removesuffix(".visual")
            lists = (f"{path.stem}.txt", f"{path.stem}.ids.txt", f"{path.stem}.images.txt", f"{plain}.images.txt")
            beside = next((path.with_name(name) for name in lists if path.with_name(name).is_file()), None)
            if beside is not None:
                ids = [line.strip() for line in read_lines(beside)]
                self._check_length(len(ids), f"'{beside.name}'")
                self.listed = FileNames(ids)
        else:
            raise DataError(f"There are no features at '{path}'.")

    def _check_length(self, names: int, what: str) -> None:
        if self.array is not None and len(self.array) != names:
            raise DataError(f"{self.name}: {len(self.array):,} rows of features for {names:,} ids of {what}.")

    def _rows(self, official: Sequence[str]) -> Any:
        """Features by id, or by number where a list of ids was beside them."""
        if self.array is None or self.listed is not None:
            return self.table if self.array is None else self.array
        self._check_length(len(official), "the official list")
        found: dict[str, np.ndarray] = {}
        for row, image_id in enumerate(official):
            found.setdefault(image_id, self.array[row])
        return found

    def _keys(self, aliases: Sequence[str], table: Any) -> list[Any]:
        """Where an image's features are: in one place, in none, or in several rows of a list."""
        return [key for key in aliases if key in table][:1] if self.listed is None else self.listed.find(aliases)

    def gallery(self, entries: Sequence[Entry], problems: Problems, official: Sequence[str]) -> Gallery:
        """Take each entry's features."""
        table = self._rows(official)
        kept: list[Entry] = []
        keys: list[Any] = []
        missing: list[str] = []
        several: list[str] = []
        for entry, own in zip(entries, own_aliases(entries), strict=True):
            found = self._keys(own, table)
            if not found:
                missing.append(entry.image_id)
            elif len(found) > 1 and self.listed is not None:
                several.append(f"'{entry.image_id}' ({_some([self.listed.names[row] for row in found])})")
            else:
                kept.append(entry)
                keys += found
        for kind, bad, lack in (
            ("without features", missing, "lack"),
            ("with several features", several, "have several rows for"),
        ):
            if bad:
                problems.report(
                    f"images {kind}",
                    f"{self.name} {lack} {len(bad):,} of {len(entries):,} images: {', '.join(bad[:3])}",
                    count=len(bad),
                )
        if not keys:
            return Gallery([])
        if table[keys[0]].ndim == 1:
            vectors = [table[key] for key in keys]
            widths = {vector.shape for vector in vectors}
            if len(widths) > 1:
                raise DataError(f"{self.name}: vectors of several shapes, {sorted(widths)}.")
            return Gallery(kept, visual=np.stack(vectors))  # (M, d)
        return Gallery(kept, videos=OnePerVideo(table, keys))
