"""What stands on the other side of the captions: pictures and videos in a folder, or features in one of several forms."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image, UnidentifiedImageError

from ccr_adapters.data.benchmarks.bigfile import ArrayFolder, BigFile, OnePerVideo, load_array
from ccr_adapters.data.benchmarks.entries import Entry, stem
from ccr_adapters.data.benchmarks.problems import Problems
from ccr_adapters.data.benchmarks.textfiles import read_lines
from ccr_adapters.errors import DataError, ImageError

# what Pillow raises over broken files of one format or another; a header that claims absurd sizes is a "bomb"
_UNREADABLE = (UnidentifiedImageError, Image.DecompressionBombError, OSError, SyntaxError, ValueError)
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
        with Image.open(io.BytesIO(picture) if isinstance(picture, bytes) else picture) as image:
            image.draft("RGB", (image.width // 8 or 1, image.height // 8 or 1))
            image.load()
    except _UNREADABLE as error:
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


class FolderVisuals:
    """Pictures or videos as files, in a folder or anywhere below it.

    Args:
        folder: Where they are.
        video: Whether they are videos, which are not opened here.
        exact: Whether a name is a path below the folder. Otherwise a file of that name (or id) anywhere below will do.
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
        self._index: dict[str, Path] | None = None
        self._broken: dict[Path, str | None] = {}

    def gallery(self, entries: Sequence[Entry], problems: Problems, official: Sequence[str]) -> Gallery:
        """Find each entry's file by its name, or by its id with any ending."""
        kept: list[Entry] = []
        paths: list[Path] = []
        missing: list[tuple[Entry, str]] = []
        broken: list[tuple[Entry, str]] = []
        for entry in entries:
            path = self._find(entry)
            if path is None:
                missing.append((entry, entry.files[0] if entry.files else entry.image_id))
            elif self._check(path) is not None:
                broken.append((entry, f"{path.name} ({self._check(path)})"))
            else:
                kept.append(entry)
                paths.append(path)
        get = f" in '{self.folder}'" + (f". {self.where_to_get.rstrip('.')}" if self.where_to_get else "")
        report_pictures("missing", missing, len(entries), problems, get)
        report_pictures("broken", broken, len(entries), problems, f" in '{self.folder}'")
        return Gallery(kept, videos=paths) if self.video else Gallery(kept, pictures=paths)

    def _find(self, entry: Entry) -> Path | None:
        for name in entry.files:
            direct = self.folder / name
            if direct.is_file():
                return direct
        if self.exact:
            return None
        if self._index is None:
            self._index = {}
            for root, folders, files in os.walk(self.folder):
                folders.sort()
                for name in sorted(files):
                    self._index.setdefault(name, Path(root, name))
                    self._index.setdefault(stem(name), Path(root, name))
        return next((self._index[key] for key in entry.aliases() if key in self._index), None)

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
                self.table = {stem(name): self.array[row] for row, name in enumerate(ids)}
        else:
            raise DataError(f"There are no features at '{path}'.")

    def _check_length(self, names: int, what: str) -> None:
        if self.array is not None and len(self.array) != names:
            raise DataError(f"{self.name}: {len(self.array):,} rows of features for {names:,} ids of {what}.")

    def gallery(self, entries: Sequence[Entry], problems: Problems, official: Sequence[str]) -> Gallery:
        """Take each entry's features."""
        table: Any = self.table
        if table is None and self.array is not None:
            self._check_length(len(official), "the official list")
            array, table = self.array, {}
            for row, image_id in enumerate(official):
                table.setdefault(image_id, array[row])
        if table is None:
            raise DataError(f"{self.name} hold nothing.")
        kept: list[Entry] = []
        keys: list[str] = []
        missing: list[str] = []
        for entry in entries:
            key = next((key for key in entry.aliases() if key in table), None)
            if key is None:
                missing.append(entry.image_id)
            else:
                kept.append(entry)
                keys.append(key)
        if missing:
            problems.report(
                "images without features",
                f"{self.name} lack {len(missing):,} of {len(entries):,} images: {', '.join(missing[:3])}",
                count=len(missing),
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
