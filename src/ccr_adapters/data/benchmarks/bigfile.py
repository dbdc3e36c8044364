"""Features as the field hands them on: BigFile folders, one array a video, or one array for all, never read whole."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ccr_adapters.data.benchmarks.textfiles import read_text
from ccr_adapters.errors import DataError

_FLOAT = np.dtype("<f4")


class BigFile(Mapping[str, np.ndarray]):
    """A folder with `feature.bin` (float32, row by row), `id.txt` and `shape.txt`, as NRCCR and W2VV++ publish them.

    Args:
        folder: The folder. Rows are mapped into memory and read when they are asked for.

    Raises:
        DataError: If a file is missing, or the three do not fit together.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        missing = [name for name in ("feature.bin", "id.txt", "shape.txt") if not (self.folder / name).is_file()]
        if missing:
            raise DataError(f"'{self.folder}' is no feature folder: it lacks {', '.join(missing)}.")
        numbers = read_text(self.folder / "shape.txt").split()
        if len(numbers) != 2 or not all(number.isdigit() for number in numbers):
            raise DataError(f"'{self.folder / 'shape.txt'}' holds {' '.join(numbers)!r}; expected rows and width.")
        rows, self.width = int(numbers[0]), int(numbers[1])
        # the authors' ids are bytes of any encoding
        self.ids = (self.folder / "id.txt").read_text(encoding="latin-1").split()
        if len(self.ids) != rows:
            raise DataError(
                f"'{self.folder}': shape.txt speaks of {rows:,} rows, and id.txt has {len(self.ids):,} ids."
            )
        size = (self.folder / "feature.bin").stat().st_size
        if size != rows * self.width * _FLOAT.itemsize:
            raise DataError(
                f"'{self.folder / 'feature.bin'}' has {size:,} bytes; {rows:,} x {self.width:,} float32 are "
                f"{rows * self.width * _FLOAT.itemsize:,}. Download it again."
            )
        self.row_of = {name: row for row, name in enumerate(self.ids)}
        if len(self.row_of) != rows:
            twice = next(name for row, name in enumerate(self.ids) if self.row_of[name] != row)
            raise DataError(f"'{self.folder / 'id.txt'}' names '{twice}' more than once.")
        if size:
            self.vectors: np.ndarray = np.memmap(self.folder / "feature.bin", _FLOAT, "r", shape=(rows, self.width))
        else:  # nothing cannot be mapped
            self.vectors = np.empty((rows, self.width), _FLOAT)

    def __len__(self) -> int:
        return len(self.ids)

    def __iter__(self) -> Iterator[str]:
        return iter(self.ids)

    def __contains__(self, name: object) -> bool:
        return name in self.row_of

    def __getitem__(self, name: str) -> np.ndarray:
        return self.vectors[self.row_of[name]]  # (d,)

    def frames(self) -> FrameTable | None:
        """Rows by video, if the folder has `video2frames.txt`; else `None`."""
        path = self.folder / "video2frames.txt"
        return FrameTable(self, path) if path.is_file() else None


class FrameTable(Mapping[str, np.ndarray]):
    """Frame features of any length a video, out of a BigFile and its `video2frames.txt`.

    The file is one Python dictionary, video to list of frame ids; only its literals are read, nothing is run.
    """

    def __init__(self, features: BigFile, path: Path) -> None:
        self.features = features
        try:
            table = ast.literal_eval(read_text(path))
        except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
            raise DataError(f"'{path}' is no dictionary of videos and frames: {error}.") from error
        if not isinstance(table, dict):
            raise DataError(f"'{path}' holds a {type(table).__name__}; expected a dictionary of videos and frames.")
        self.frames_of: dict[str, Sequence[str]] = {str(video): frames for video, frames in table.items()}
        for video, frames in self.frames_of.items():
            if not frames:
                raise DataError(f"'{path}': video '{video}' has no frame.")
            absent = next((frame for frame in frames if frame not in features), None)
            if absent is not None:
                raise DataError(f"'{path}': video '{video}' has a frame '{absent}' that id.txt lacks.")

    def __len__(self) -> int:
        return len(self.frames_of)

    def __iter__(self) -> Iterator[str]:
        return iter(self.frames_of)

    def __getitem__(self, video: str) -> np.ndarray:
        rows = [self.features.row_of[frame] for frame in self.frames_of[video]]
        first, count = rows[0], len(rows)
        if rows == list(range(first, first + count)):
            return self.features.vectors[first : first + count]  # (T, d), a view of the file
        return self.features.vectors[rows]  # (T, d)


class ArrayFolder(Mapping[str, np.ndarray]):
    """A folder with one array a video, `<id>.npy`, as VATEX publishes its I3D features."""

    def __init__(self, folder: str | Path) -> None:
        self.files = {path.stem: path for path in sorted(Path(folder).glob("*.npy"))}

    def __len__(self) -> int:
        return len(self.files)

    def __iter__(self) -> Iterator[str]:
        return iter(self.files)

    def __getitem__(self, video: str) -> np.ndarray:
        found = load_array(self.files[video])
        # (1, T, d) -> (T, d); one vector stays one
        return found[0] if found.ndim == 3 and len(found) == 1 else found


def load_array(path: Path) -> np.ndarray:
    """An array file, mapped into memory.

    Raises:
        DataError: If it is none; arrays of Python objects are refused, for they can run code.
    """
    try:
        array: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"'{path}' is no array of numbers: {error}.") from error
    return array


class OnePerVideo:
    """Arrays of a table in a given order, read one at a time; indexed and sliced as a list.

    Args:
        table: Frame features by video.
        names: Which, in order.
    """

    def __init__(self, table: Mapping[str, np.ndarray], names: Sequence[str]) -> None:
        self.table = table
        self.names = list(names)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return [self.table[name] for name in self.names[index]]
        return self.table[self.names[index]]  # (T, d)
