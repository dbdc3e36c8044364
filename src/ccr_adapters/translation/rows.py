"""Rows to translate: read from whatever a user has, one caption a row, and equal captions found without keeping them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from datasets import (
    Dataset,
    DatasetDict,
    LargeList,
    List,
    Value,
    disable_caching,
    enable_caching,
    is_caching_enabled,
    load_from_disk,
)

from ccr_adapters.data.tables import KINDS, read_tables, split_files
from ccr_adapters.errors import CaptionError, DataError

MADE = ("translation", "back_translation", "language", "translator")
TEXTS = (Value("string"), Value("large_string"))
_BLOCK = 10_000


@dataclass
class Captions:
    """Which captions a data set has, without the captions.

    Args:
        unique: Index of the first row of each different caption. (U,)
        number: Which different caption each row has. (N,)
        sha256: Hash of all captions in order.
        others: Hash of what else the rows hold in numbers and short texts: ids, paths.
    """

    unique: np.ndarray
    number: np.ndarray
    sha256: str
    others: str


def load_rows(source: Dataset | str | Path, *, split: str = "train") -> Dataset:
    """Read rows: a `datasets.Dataset` as it is, a folder that `datasets` saved, or a jsonl, csv or parquet file.

    Args:
        source: What to read; a folder may hold one split, or several of which `split` is taken.
        split: See above. A folder of files has `train.jsonl`, `train.csv` or `train.parquet`.

    Raises:
        DataError: If there is nothing to read, or it cannot be read.
    """
    if isinstance(source, Dataset):
        return source
    path = Path(source)
    if path.is_dir():
        if (path / "dataset_dict.json").is_file() or (path / "state.json").is_file():
            data = load_from_disk(str(path))
            if isinstance(data, DatasetDict):
                if split not in data:
                    raise DataError(f"'{path}' has no split '{split}'; it has {', '.join(data)}.")
                return data[split]
            return data
        files = split_files(path, split)
    else:
        files = [path] if path.is_file() else []
    if not files or files[0].suffix not in KINDS:
        raise DataError(
            f"There are no rows at '{path}'. Give a folder that `datasets` saved, or a file ({', '.join(KINDS)})."
        )
    return read_tables(files)


def one_caption_a_row(rows: Dataset, column: str = "caption") -> Dataset:
    """Give rows a column `caption` with one text each; a row with a list of captions becomes so many rows.

    Raises:
        DataError: If there is no such column, it holds no texts, or a column is there that translating makes.
    """
    if column not in rows.column_names:
        raise DataError(f"The rows lack the column '{column}'; they have {', '.join(rows.column_names)}.")
    taken = sorted(set(MADE) & set(rows.column_names))
    if taken:
        raise DataError(
            f"The rows already have {', '.join(taken)}, which translating makes. Rename or remove "
            f"{'them' if len(taken) > 1 else 'it'} first."
        )
    if column != "caption":
        if "caption" in rows.column_names:
            raise DataError(f"The rows have '{column}' and also 'caption'. Remove one of them.")
        rows = rows.rename_column(column, "caption")
    feature = rows.features["caption"]
    if isinstance(feature, (List, LargeList)) and feature.feature in TEXTS:
        captions = rows["caption"][:]
        repeated = np.repeat(np.arange(len(rows)), [len(own or ()) for own in captions])
        flat = [text for own in captions for text in own or ()]
        with _no_cache():
            return rows.remove_columns("caption").select(repeated).add_column("caption", flat)
    if feature not in TEXTS:
        raise DataError(f"The column '{column}' holds {feature}; expected texts, or lists of texts.")
    return rows


def check_texts(rows: Dataset, *columns: str) -> None:
    """Refuse columns that hold something else than texts; one where nothing is holds empty ones.

    Raises:
        DataError: Naming the first.
    """
    for name in columns:
        if rows.features[name] not in (*TEXTS, Value("null")):
            raise DataError(f"'{name}' holds {rows.features[name]}; expected texts, one a row.")


@contextmanager
def _no_cache() -> Iterator[None]:
    """Have `datasets` write what it has to into a temporary folder, which goes with the process: the input is not ours."""
    before = is_caching_enabled()
    disable_caching()
    try:
        yield
    finally:
        if before:
            enable_caching()


def tidy(text: str) -> str:
    """A caption in one line: what it is compared and translated as."""
    return " ".join(text.split())


def find_captions(rows: Dataset) -> Captions:
    """Find equal captions, by their hashes alone: 24 bytes a row, however long the captions are.

    Raises:
        CaptionError: If a caption is empty, naming the first row.
    """
    digests = np.empty(len(rows), dtype="S16")
    empty: list[int] = []
    start = 0
    for block in rows.select_columns(["caption"]).iter(batch_size=_BLOCK):
        for row, text in enumerate(block["caption"], start):
            if not isinstance(text, str) or not text.strip():
                empty.append(row)
                continue
            digests[row] = hashlib.blake2b(tidy(text).encode(), digest_size=16).digest()
        start += len(block["caption"])
    if empty:
        raise CaptionError(
            f"{len(empty)} of {len(rows)} captions are empty, the first is row {empty[0]}. Remove these rows first."
        )
    _, first, number = np.unique(digests, return_index=True, return_inverse=True)
    order = np.argsort(first)  # different captions in the order in which they appear
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    found = hashlib.sha256(digests.tobytes()).hexdigest()
    return Captions(first[order], rank[number.reshape(-1)], found, _others(rows))


def _others(rows: Dataset) -> str:
    """Hash of the columns of plain values beside the captions; pictures are told by their ids."""
    names = sorted(
        name
        for name, kind in rows.features.items()
        if name != "caption" and isinstance(kind, Value) and "binary" not in kind.dtype
    )
    digest = hashlib.sha256(json.dumps(names).encode())
    for block in rows.select_columns(names).iter(batch_size=_BLOCK) if names else ():
        digest.update(json.dumps([block[name] for name in names], default=str).encode())
    return digest.hexdigest()
