"""Anybody's own test set: a folder of pictures with a CSV, TSV, JSON-lines or Parquet table of captions."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path, PurePosixPath
from typing import Any

from ccr_adapters.data.benchmarks.assemble import assemble
from ccr_adapters.data.benchmarks.entries import Caption, Entry, stem
from ccr_adapters.data.benchmarks.languages import primary_language
from ccr_adapters.data.benchmarks.problems import OnError, Problems, place
from ccr_adapters.data.benchmarks.textfiles import read_json_lines, read_text
from ccr_adapters.data.benchmarks.visuals import FolderVisuals
from ccr_adapters.data.retrieval_set import RetrievalSet
from ccr_adapters.errors import DataError

# the names that peers' files use, tried in order
ALIASES: Mapping[str, tuple[str, ...]] = {
    "image": ("image", "file_name", "filename", "image_path", "img_path", "filepath", "path", "img"),
    "caption": ("target_caption", "caption", "captions", "text", "title", "sentences", "sentence"),
}
_ENDINGS = (".jsonl", ".csv", ".tsv", ".parquet")
_TABLES = tuple(f"{stem}{ending}" for stem in ("metadata", "captions") for ending in _ENDINGS)


def load_image_folder(
    folder: str | Path,
    language: str,
    *,
    table: str | Path | None = None,
    columns: Mapping[str, str] | None = None,
    name: str | None = None,
    on_error: OnError = "raise",
) -> RetrievalSet:
    """An evaluation set from a folder of pictures and one table.

    Args:
        folder: The pictures, in subfolders or not.
        language: Code of the captions' language.
        table: The table; by default `metadata.jsonl`, `metadata.csv`, `captions.jsonl`, ... in the folder. Rows of one
            picture are its captions; in JSON lines a caption may be a list.
        columns: `{"image": ..., "caption": ..., "image_id": ...}` where the table's columns have names of their own. With
            `"translation"`, the captions in English by machine: the set has them under `extra`, by caption.
        name: Name of the set; by default that of the folder.
        on_error: `"raise"`, or `"skip"` to leave bad rows out and count them.

    Returns:
        The set, with the protocol and the counts in `facts`.

    Raises:
        DataError: If the table or a column is missing, or a row is refused.
        ImageError: If a picture is missing or broken.
    """
    folder = Path(folder)
    path = _table(folder, table)
    wrong = sorted(set(columns or {}) - {"image", "caption", "image_id", "translation"})
    if wrong:
        raise DataError(f"`columns` maps {', '.join(wrong)}; it can map image, caption, image_id, translation.")
    code = primary_language(language)
    title = name or folder.name
    problems = Problems(title, on_error)
    found: dict[str, Entry] = {}
    names: dict[str, str] = {}
    translations: dict[str, str] = {}
    for number, row in _rows(path):
        if not names:
            names = _columns(row, columns or {}, path)
        where = place(path, number)
        file = str(row.get(names["image"]) or "").strip()
        if isinstance(row.get(names["image"]), Mapping | bytes):
            raise DataError(f"{where}: '{names['image']}' holds a picture; expected the name of its file.")
        image_id = _image_id(row, names, file)
        if not image_id:
            problems.report("captions without images", f"{where}: no picture is named")
            continue
        entry = found.setdefault(image_id, Entry(image_id, [], where, (file,)))
        if entry.files != (file,):
            problems.report(
                "duplicate images",
                f"{where}: image '{image_id}' is '{file}' here and '{entry.files[0]}' at {entry.where}",
            )
            continue
        texts = _texts(row, names["caption"])
        entry.captions += [Caption(text, where) for text in texts]
        if "translation" in names:
            own = _texts(row, names["translation"])
            if len(own) != len(texts):
                raise DataError(f"{where}: {len(texts)} captions and {len(own)} translations; one for each is needed.")
            translations.update(zip((" ".join(text.split()) for text in texts), own, strict=True))
    retrieval = assemble(title, code, list(found.values()), FolderVisuals(folder, exact=True), problems)
    retrieval.extra |= {"translation": translations} if translations else {}
    retrieval.facts |= {
        "language": code,
        "source": f"'{path.name}'",
        "protocol": f"the pictures of '{path.name}' with all captions of its column '{names.get('caption')}', both ways",
    }
    return retrieval


def _image_id(row: Mapping[str, Any], names: Mapping[str, str], file: str) -> str | None:
    """What a picture is called: as the table says, or its file without the ending; `None` if a row names none."""
    if not file or not stem(file):
        return None
    if "image_id" not in names:
        return str(PurePosixPath(file).with_name(stem(file)))
    own = row.get(names["image_id"])
    return None if own is None else str(own).strip()


def _texts(row: Mapping[str, Any], column: str) -> list[str]:
    """One text or several of a row."""
    texts = row.get(column)
    return ["" if text is None else str(text) for text in (texts if isinstance(texts, list) else [texts])]


def _table(folder: Path, table: str | Path | None) -> Path:
    if not folder.is_dir():
        raise DataError(f"There is no folder '{folder}' with pictures.")
    if table is not None:
        path = Path(table) if Path(table).is_file() else folder / table
    else:
        path = next((folder / one for one in _TABLES if (folder / one).is_file()), folder / _TABLES[0])
    if not path.is_file():
        raise DataError(f"'{folder}' has no table of captions ({', '.join(_TABLES)}); pass table=.")
    if path.suffix not in _ENDINGS:
        raise DataError(f"'{path.name}' is no CSV, TSV, JSON-lines or Parquet table.")
    return path


def _rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    if path.suffix == ".jsonl":
        yield from read_json_lines(path)
        return
    if path.suffix == ".parquet":
        yield from _parquet_rows(path)
        return
    lines = io.StringIO(read_text(path), newline="")
    # strict: a caption that opens a quotation mark and does not close it would swallow the rows below
    reader = csv.DictReader(lines, delimiter="\t" if path.suffix == ".tsv" else ",", strict=True)
    try:
        for row in reader:
            if None in row:
                raise DataError(
                    f"{place(path, reader.line_num)} has more fields than the header; a text with the separator in it needs "
                    "quotation marks around it."
                )
            yield reader.line_num, row
    except csv.Error as error:
        # where the row begins: one that does not end is noticed at the end of the file
        raise DataError(
            f"{place(path, reader.line_num + 1)}: {error}. A text with quotation marks needs some around it, and its own doubled."
        ) from error


def _parquet_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    parquet: Any = import_module("pyarrow.parquet")
    try:
        rows = (row for batch in parquet.ParquetFile(path).iter_batches() for row in batch.to_pylist())
        yield from enumerate(rows, start=1)
    except (OSError, ValueError) as error:
        raise DataError(f"{place(path)} cannot be read: {error}.") from error


def _columns(row: Mapping[str, Any], columns: Mapping[str, str], path: Path) -> dict[str, str]:
    names = {}
    for own, aliases in ALIASES.items():
        wanted = (columns[own],) if own in columns else aliases
        there = next((alias for alias in wanted if alias in row), None)
        if there is None:
            raise DataError(
                f"{place(path)} has no column {' or '.join(wanted)} for the {own}; it has "
                f"{', '.join(str(key) for key in row)}. Name it with columns={{'{own}': ...}}."
            )
        names[own] = there
    if "image_id" in columns or "image_id" in row:
        names["image_id"] = columns.get("image_id", "image_id")
        if names["image_id"] not in row:
            raise DataError(f"{place(path)} has no column {names['image_id']}; it has {', '.join(row)}.")
    if "translation" in columns:
        names["translation"] = columns["translation"]
        if names["translation"] not in row:
            raise DataError(f"{place(path)} has no column {names['translation']}; it has {', '.join(row)}.")
    return names
