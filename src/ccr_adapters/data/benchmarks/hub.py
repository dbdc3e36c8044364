"""Copies of benchmarks on the Hub, read without a script: captions are streamed, each picture is fetched once."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from datasets import Dataset, Image, load_dataset, load_dataset_builder
from datasets.exceptions import DatasetsError
from huggingface_hub import HfApi, errors

from ccr_adapters.data.benchmarks.entries import Caption, Entry
from ccr_adapters.data.benchmarks.problems import Problems
from ccr_adapters.data.benchmarks.schema import Benchmark, HubCopy
from ccr_adapters.data.benchmarks.visuals import Gallery, report_pictures, why_broken
from ccr_adapters.data.retrieval_set import Column
from ccr_adapters.errors import DataError, first_line


class HubRows:
    """The rows of a copy: on the Hub, or the same Parquet files in a local folder. Also the pictures of its galleries.

    A picture that comes again in the split of another language is not read again: one object serves all languages.

    Args:
        definition: The benchmark.
        folder: The local copy; `None` for the Hub.
    """

    def __init__(self, definition: Benchmark, folder: Path | None = None) -> None:
        if definition.hub is None:
            raise DataError(
                f"{definition.name} has no usable copy on the Hub: pass source= with the official files. "
                f"{definition.where_to_get()}"
            )
        self.definition = definition
        self.copy: HubCopy = definition.hub
        self.folder = folder
        self.revision = None if folder else commit_of(definition)
        self.name = str(folder) if folder else f"{self.copy.repository}@{self.revision}"
        self._pictures: dict[str, tuple[Column, int]] = {}
        self._broken: dict[str, str | None] = {}
        self._language = ""

    def entries(self, language: str, problems: Problems) -> list[Entry]:
        """The rows of a language, without looking at a picture."""
        if self.copy.languages is not None and language not in self.copy.languages:
            raise DataError(
                f"{self.definition.name}: {self.name} has no captions in '{language}', but in "
                f"{', '.join(self.copy.languages)}. Pass source= with the official files. {self.definition.where_to_get()}"
            )
        self._language = language
        copy, column = self.copy, self._caption_column(language)
        wanted = [name for name in (column, copy.image_id, copy.image_file) if name]
        found: list[Entry] = []
        for number, row in enumerate(self._streamed(language, wanted)):
            image_id = f"row-{number}" if copy.image_id is None else str(row[copy.image_id])
            where = f"{self.name}, {self._split(language)}, row {number}"
            texts = row[column]
            if texts is None or isinstance(texts, str):
                texts = [texts or ""]
            files = (str(row[copy.image_file]),) if copy.image_file else ()
            found.append(Entry(image_id, [Caption(str(text or ""), where) for text in texts], where, files))
        return found

    def gallery(self, entries: Sequence[Entry], problems: Problems, official: Sequence[str]) -> Gallery:
        """The pictures of entries, lazily; those of an earlier language are taken from its split."""
        if any(entry.image_id not in self._pictures for entry in entries):
            self._read_pictures(self._language, official)
        bad = [entry for entry in entries if self._check(entry.image_id) is not None]
        named = [(entry, f"{entry.image_id} ({self._check(entry.image_id)})") for entry in bad]
        report_pictures("broken", named, len(entries), problems, f" in {self.name}")
        broken = {entry.image_id for entry in bad}
        kept = [entry for entry in entries if entry.image_id not in broken]
        return Gallery(kept, pictures=HubPictures([self._pictures[entry.image_id] for entry in kept]))

    def _caption_column(self, language: str) -> str:
        return self.copy.captions.replace("{language}", language)

    def _split(self, language: str) -> str:
        return self.copy.split.replace("{language}", language)

    def _streamed(self, language: str, columns: list[str]) -> Iterator[dict[str, Any]]:
        """Rows with some columns, one after the other."""
        options = {"columns": columns} if self.copy.parquet or self.folder else {}
        with self._named(language, columns):
            for row in self._load(language, streaming=True, **options):
                yield {column: row[column] for column in columns}

    def _load(self, language: str, **options: Any) -> Any:
        split = self._split(language)
        if self.folder is not None:
            files = [str(file) for file in self._files(self.folder, split)]
        elif self.copy.parquet:
            files = split_files(self.copy.repository, split, self.revision)
        else:
            return load_dataset(self.copy.repository, split=split, revision=self.revision, **options)
        return load_dataset("parquet", data_files={split: files}, split=split, **options)

    @contextmanager
    def _named(self, language: str, columns: list[str]) -> Iterator[None]:
        """Say of an error which copy it is about, and that there is another way."""
        try:
            yield
        except (DatasetsError, OSError, ValueError, KeyError) as error:
            if isinstance(error, DataError):
                raise
            reason = first_line(error)
            raise DataError(
                f"{self.definition.name}: {self.name} cannot be loaded (split {self._split(language)}, columns "
                f"{', '.join(columns)}: {type(error).__name__}: {reason}). Without the Hub, pass source= with the official "
                f"files. {self.definition.where_to_get()}"
            ) from error

    def _files(self, folder: Path, split: str) -> list[Path]:
        found = parquet_files(folder, split)
        if not found:
            raise DataError(
                f"{self.definition.name}: '{folder}' has no Parquet files of the split '{split}' ({split}-*.parquet)."
            )
        return found

    def _read_pictures(self, language: str, official: Sequence[str]) -> None:
        image = self.copy.image or "image"
        with self._named(language, [image]):
            rows: Dataset = self._load(language)
            column = Column(rows.select_columns([image]).cast_column(image, Image()), image)
        if len(rows) != len(official):
            raise DataError(f"{self.name}: {len(official):,} rows of captions and {len(rows):,} of pictures.")
        for row, image_id in enumerate(official):
            self._pictures.setdefault(image_id, (column, row))

    def _check(self, image_id: str) -> str | None:
        if image_id not in self._broken:
            column, row = self._pictures[image_id]
            raw = column.raw(row)
            if not raw or not (raw.get("bytes") or raw.get("path")):
                self._broken[image_id] = "there is none"
            else:
                self._broken[image_id] = why_broken(raw["bytes"] or Path(raw["path"]))
        return self._broken[image_id]


class HubPictures:
    """Pictures from several splits as one sequence, decoded one at a time."""

    def __init__(self, places: Sequence[tuple[Column, int]]) -> None:
        self.places = list(places)

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return [column[row] for column, row in self.places[index]]
        column, row = self.places[index]
        return column[row]

    def raw(self, index: int) -> Any:
        """A picture as it is kept; see `Column.raw`."""
        column, row = self.places[index]
        return column.raw(row)


def commit_of(definition: Benchmark) -> str:
    """The commit of a benchmark's copy: the pinned one, or the newest, asked for once so that all is of one commit.

    Args:
        definition: The benchmark.

    Raises:
        DataError: If there is no copy, or the Hub does not say which commit is the newest.
    """
    copy = definition.hub
    if copy is None:
        raise DataError(f"{definition.name} has no copy on the Hub.")
    if copy.revision is not None:
        return copy.revision
    try:
        commit = HfApi().dataset_info(copy.repository, revision="main").sha
    except (errors.HTTPError, OSError, ValueError) as error:  # type: ignore[attr-defined]
        reason = first_line(error)
        raise DataError(
            f"{definition.name}: no commit of {copy.repository} is pinned, and the newest cannot be asked for "
            f"({type(error).__name__}: {reason}). Without the Hub, pass source= with the official files. "
            f"{definition.where_to_get()}"
        ) from error
    if commit is None:
        raise DataError(f"{definition.name}: the Hub names no commit of {copy.repository}. Pass source= instead.")
    return commit


def split_files(repository: str, split: str, revision: str | None = None) -> list[str]:
    """The files of one split of a repository.

    Asked for a split by name, `load_dataset` downloads all of them, which for 36 languages is 36 times the same pictures.

    Raises:
        DataError: If there is no such split; the message lists those there are.
    """
    files = load_dataset_builder(repository, revision=revision).config.data_files or {}
    if split not in files:
        raise DataError(f"{repository} has no split '{split}'; it has {', '.join(map(str, files)) or 'none'}.")
    return [str(file) for file in files[split]]


def parquet_files(folder: Path, split: str) -> list[Path]:
    """The Parquet files of a split, where repositories of the Hub keep them."""
    patterns = (f"{split}-*.parquet", f"{split}.parquet", f"{split}/*.parquet")
    return next(
        (found for place in ("", "data/") for pattern in patterns if (found := sorted(folder.glob(place + pattern)))),
        [],
    )


def unpack_archive(archive: Path, names: Sequence[str], folder: Path) -> None:
    """Write some files of a tar into a folder, by their last names alone.

    Args:
        archive: The tar.
        names: Last names of the files that are wanted.
        folder: Where they go, without the folders of the archive.

    Raises:
        DataError: If the archive is broken.
    """
    try:
        with tarfile.open(archive) as packed:
            for member in packed:
                name = member.name.rsplit("/", 1)[-1]
                content = packed.extractfile(member) if member.isfile() and name in names else None
                if content is not None:
                    (folder / name).write_bytes(content.read())
    except (tarfile.TarError, OSError, EOFError) as error:
        raise DataError(f"'{archive}' cannot be unpacked: {error}. Download it again.") from error
