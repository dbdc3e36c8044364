"""Captions and pictures with the answers: what an evaluation asks, whatever the data set it comes from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset, Image

from ccr_adapters.errors import DataError, ImageError

VIDEO = "video"
"""Column of paths of video files, in data without pictures."""


@dataclass
class RetrievalSet:
    """Queries over one gallery of pictures.

    Args:
        image_ids: One id a picture. (M,)
        captions: Queries by language; each list is flat. (N_language,)
        caption_to_image: Index of each query's picture, by language. (N_language,)
        pictures: The pictures, lazily: anything that can be indexed and gives what `encode_image` takes.
        visual: Precomputed visual vectors instead of pictures. (M, d)
        name: For protocols and tables.
        videos: Videos instead of pictures, lazily: anything that can be indexed and gives what `encode_video` takes, for
            example frame features of any length (T, d). (M,)
        facts: What belongs beside a score: protocol, source, licence, what was left out and why.
    """

    image_ids: list[str]
    captions: dict[str, list[str]]
    caption_to_image: dict[str, np.ndarray]
    pictures: Any | None = None
    visual: np.ndarray | None = None
    name: str = "retrieval"
    extra: dict[str, Any] = field(default_factory=dict)
    videos: Any | None = None
    facts: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shown = [each for each in (self.pictures, self.visual, self.videos) if each is not None]
        if len(shown) != 1:
            raise DataError(
                "A retrieval set has either pictures or precomputed visual vectors (or videos): one of them."
            )
        gallery = len(shown[0])
        if gallery != len(self.image_ids):
            raise DataError(f"{len(self.image_ids)} image ids for {gallery} pictures.")
        for language, texts in self.captions.items():
            answers = self.caption_to_image.get(language)
            if answers is None:
                raise DataError(f"Language {language!r}: its captions have no answers in `caption_to_image`.")
            empty = [row for row, text in enumerate(texts) if not isinstance(text, str) or not text.strip()]
            if empty:
                # found here, and not when a model that took hours to train is scored
                raise DataError(
                    f"Set '{self.name}', language {language!r}: caption {empty[0]} is empty or no text ({len(empty)} such)."
                )
            if len(texts) != len(answers):
                raise DataError(f"Language {language!r}: {len(texts)} captions with {len(answers)} answers.")
            if len(answers) and (answers.min() < 0 or answers.max() >= gallery):
                raise DataError(f"Language {language!r}: an answer points outside the {gallery} pictures.")

    @classmethod
    def from_dataset(
        cls,
        rows: Dataset,
        columns: dict[str, str],
        *,
        image_column: str = "image",
        name: str = "retrieval",
        vectors: Vectors | Frames | None = None,
    ) -> RetrievalSet:
        """Read rows of a picture (or a video) with a list of captions (or one) a language; rows of one id show one picture.

        Args:
            rows: The data set; pictures stay on disk until they are encoded.
            columns: Caption column by language: `{"en": "caption", "de": "target_caption"}`.
            image_column: Column of pictures; where there is none, `video` holds paths of video files.
            name: For tables.
            vectors: Precomputed visual vectors, or frames of videos, by image id, in place of pictures.

        Raises:
            DataError: If a column is missing, a row has no caption or no id, or an image no vector.
        """
        films = image_column not in rows.column_names and VIDEO in rows.column_names
        shown = {image_column} if vectors is None and not films else set()
        missing = sorted({*columns.values(), *shown, "image_id"} - set(rows.column_names))
        if missing:
            raise DataError(f"The data set lacks {', '.join(missing)}; it has {', '.join(rows.column_names)}.")
        ids, index, first = pictures_of(rows, name)
        captions: dict[str, list[str]] = {}
        answers: dict[str, np.ndarray] = {}
        for language, column in columns.items():
            texts: list[str] = []
            owners: list[int] = []
            for row, value in enumerate(rows[column]):
                if not isinstance(value, (str, list, tuple)):
                    raise DataError(f"Set '{name}': '{column}' holds no caption at row {row}, but {value!r}.")
                own = [value] if isinstance(value, str) else list(value)
                texts += own
                owners += [int(index[row])] * len(own)
            captions[language], answers[language] = texts, np.asarray(owners, dtype=np.int64)
        if vectors is not None:
            return cls(ids, captions, answers, name=name, **vectors.shown(ids, name))
        shown_rows = rows if len(first) == len(rows) else rows.select(first)
        if films:
            return cls(ids, captions, answers, videos=list(shown_rows[VIDEO]), name=name)
        return cls(ids, captions, answers, pictures=Column(shown_rows, image_column), name=name)


def image_ids(rows: Dataset, where: str) -> list[str]:
    """Id of the picture that each row shows, as text. (N,)

    Raises:
        DataError: If a row of the set `where` has none: counting them, and naming the first.
    """
    ids = [_id_text(value) for value in rows["image_id"]]
    missing = [row for row, name in enumerate(ids) if not name]
    if missing:
        raise DataError(
            f"{where}: {len(missing)} of {len(ids)} rows have no `image_id`, the first is row {missing[0]}. Rows without one "
            "would count as one picture; give each picture an id, or leave those rows out."
        )
    return ids


def pictures_of(rows: Dataset, where: str) -> tuple[list[str], np.ndarray, list[int]]:
    """The pictures that rows show: a file with a row for each caption names one several times.

    Returns:
        Id of each picture, (M,); which picture each row shows, (N,); and the first row of each, (M,).

    Raises:
        DataError: If a row has no id.
    """
    ids = image_ids(rows, where)
    position: dict[str, int] = {}
    index = np.asarray([position.setdefault(name, len(position)) for name in ids], dtype=np.int64)
    first = np.unique(index, return_index=True)[1].tolist()
    return list(position), index, first


def _id_text(value: Any) -> str:
    """An id as text: numbers are whole ones, also where a table with gaps has made them floats."""
    if value is None or value != value:  # not a number
        return ""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip()


class Vectors:
    """Precomputed visual vectors by image id, mapped into memory.

    Args:
        array: The vectors. (n, d)
        ids: Id of each row. (n,)

    Raises:
        DataError: If they do not fit together, or an id is there twice.
    """

    def __init__(self, array: np.ndarray, ids: list[str]) -> None:
        if array.ndim != 2 or len(array) != len(ids):
            raise DataError(
                f"Visual vectors of shape {array.shape} for {len(ids)} image ids; expected one row for each."
            )
        self.array = array
        self.row_of = {name: row for row, name in enumerate(ids)}
        if len(self.row_of) < len(ids):
            twice = next(name for row, name in enumerate(ids) if self.row_of[name] != row)
            raise DataError(f"The image id '{twice}' names more than one visual vector.")

    @classmethod
    def load(cls, path: Path, ids: Path | None) -> Vectors:
        """Read `features.npy` with its ids, a line each, or a BigFile folder, which has them inside.

        Raises:
            DataError: If a file is missing or no array.
        """
        if path.is_dir():
            from ccr_adapters.data.benchmarks.bigfile import BigFile

            found = BigFile(path)
            return cls(found.vectors, found.ids)
        if ids is None:
            raise DataError(
                f"`visual: {path.name}` needs `visual_ids`, a file with the image id of each row, a line each."
            )
        for file in (path, ids):
            if not file.is_file():
                raise DataError(f"There is no file '{file}'.")
        try:
            array = np.load(path, mmap_mode="r", allow_pickle=False)
        except (ValueError, OSError) as error:
            raise DataError(f"'{path}' is no array of numbers: {error}") from error
        return cls(array, [line.strip() for line in ids.read_text(encoding="utf-8").splitlines()])

    def rows(self, ids: list[str], where: str) -> np.ndarray:
        """Vectors of some images, in their order. (M, d)

        Raises:
            DataError: Counting those that are missing and naming the first.
        """
        missing = [name for name in ids if name not in self.row_of]
        if missing:
            raise DataError(
                f"{where}: {len(missing)} of {len(ids)} images have no visual vector, the first is '{missing[0]}'."
            )
        return np.asarray(self.array[[self.row_of[name] for name in ids]])

    def shown(self, ids: list[str], where: str) -> dict[str, Any]:
        """Vectors of some images by the name of the argument that takes them.

        Raises:
            DataError: If one is missing.
        """
        return {"visual": self.rows(ids, where)}


class Frames:
    """Precomputed features of the frames of videos by id, read one video at a time.

    Args:
        table: Frames of each video. (T_i, d)
    """

    def __init__(self, table: Mapping[str, np.ndarray]) -> None:
        self.table = table

    def shown(self, ids: list[str], where: str) -> dict[str, Any]:
        """Frames of some videos by the name of the argument that takes them.

        Raises:
            DataError: Counting those that are missing and naming the first.
        """
        from ccr_adapters.data.benchmarks.bigfile import OnePerVideo

        missing = [name for name in ids if name not in self.table]
        if missing:
            raise DataError(
                f"{where}: {len(missing)} of {len(ids)} videos have no frames, the first is '{missing[0]}'."
            )
        return {"videos": OnePerVideo(self.table, ids)}


def load_visual(path: Path, ids: Path | None) -> Vectors | Frames:
    """Read what stands in place of pictures: one vector an image, or frames of videos.

    Args:
        path: `features.npy`; a BigFile folder, with `video2frames.txt` for frames; or a folder with `<id>.npy` a video.
        ids: Image id of each row, a line each; the folders have theirs inside.

    Raises:
        DataError: If a file is missing or no array.
    """
    if not path.is_dir():
        return Vectors.load(path, ids)
    from ccr_adapters.data.benchmarks.bigfile import ArrayFolder, BigFile

    arrays = ArrayFolder(path)
    if arrays:
        return Frames(arrays)
    frames = BigFile(path).frames()
    return Vectors.load(path, ids) if frames is None else Frames(frames)


class Column:
    """A column of a data set as a sequence that decodes one value at a time."""

    def __init__(self, rows: Dataset, name: str) -> None:
        self.rows = rows
        self.name = name

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return [self._one(i) for i in range(*index.indices(len(self)))]
        return self._one(index)

    def raw(self, index: int) -> Any:
        """A value as it is kept: of a picture a mapping with its `bytes` or its `path`, which takes no decoding."""
        return self._kept[index][self.name]

    @cached_property
    def _kept(self) -> Dataset:
        decoded = isinstance(self.rows.features[self.name], Image)
        return self.rows.cast_column(self.name, Image(decode=False)) if decoded else self.rows

    def _one(self, index: int) -> Any:
        try:
            return self.rows[index][self.name]
        except (OSError, SyntaxError, ValueError) as error:
            # PIL names the file only sometimes, and its row never
            raise ImageError(
                f"'{self.name}' cannot be read at row {index}{self._where(index)}: {error}. Replace it, or leave the row out."
            ) from error

    def _where(self, index: int) -> str:
        raw = self.raw(index)
        if not isinstance(raw, Mapping):
            return ""
        return f" ('{raw['path']}')" if raw.get("path") else ""
