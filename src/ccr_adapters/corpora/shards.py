"""Shards of vectors: Parquet files written aside and renamed, which say themselves what was left out of them."""

from __future__ import annotations

import json
import os
import re
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ccr_adapters.corpora.rows import Row
from ccr_adapters.errors import DataError

DTYPES = ("float32", "float16")
_NAME = re.compile(r"part-(\d{5,})\.parquet")
_KEY = b"ccr_adapters"


@dataclass(frozen=True)
class Skipped:
    """A row without a vector.

    Attributes:
        item: Its name.
        reason: Why.
    """

    item: str
    reason: str


def shard_path(folder: Path, number: int) -> Path:
    """Where a shard lies.

    Args:
        folder: The output.
        number: Which shard.

    Returns:
        `part-00000.parquet` and so on.
    """
    return folder / f"part-{number:05d}.parquet"


def finished_shards(folder: Path) -> set[int]:
    """Numbers of the shards that are there; one that is there is whole.

    Args:
        folder: The output.

    Returns:
        The numbers.
    """
    matches = (_NAME.fullmatch(entry.name) for entry in os.scandir(folder))
    return {int(found[1]) for found in matches if found}


def write_shard(
    folder: Path,
    number: int,
    rows: Sequence[Row],
    vectors: NDArray[np.floating[Any]],
    skipped: Sequence[Skipped],
    *,
    fields: Sequence[Any] = (),
    dtype: str = "float32",
) -> None:
    """Write a shard aside, make it safe, and put it in place.

    Args:
        folder: The output.
        number: Which shard.
        rows: Those that have a vector.
        vectors: Their vectors (N, d).
        skipped: Those that have none.
        fields: Fields of Arrow for what rows keep.
        dtype: Of the vectors.

    Raises:
        DataError: If the disk is full, or the folder cannot be written to.
    """
    arrow: Any = import_module("pyarrow")
    parquet: Any = import_module("pyarrow.parquet")
    vectors = np.ascontiguousarray(vectors, dtype)
    kind = arrow.list_(arrow.from_numpy_dtype(vectors.dtype), vectors.shape[1])
    notes = {"shard": number, "skipped": [[each.item, each.reason] for each in skipped]}
    schema = arrow.schema(
        [arrow.field("id", arrow.string()), arrow.field("vector", kind), *fields], metadata={_KEY: json.dumps(notes)}
    )
    columns = [
        arrow.array([row.id for row in rows], arrow.string()),
        arrow.FixedSizeListArray.from_arrays(arrow.array(vectors.reshape(-1)), type=kind),
        *(arrow.array([row.kept[at] for row in rows], each.type) for at, each in enumerate(fields)),
    ]
    path = shard_path(folder, number)
    # a name of its own: a worker that was given up may still be writing
    aside = path.with_name(f".{path.stem}-{uuid.uuid4().hex[:8]}")
    try:
        with aside.open("wb") as file:
            parquet.write_table(arrow.Table.from_arrays(columns, schema=schema), file, write_statistics=False)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
        sync_folder(folder)
    except OSError as error:
        aside.unlink(missing_ok=True)
        raise DataError(
            f"'{path}' cannot be written ({error.strerror or error}). Finished shards are kept: make room, and run the same "
            "command."
        ) from error


def read_shard(path: Path) -> tuple[int, list[Skipped]]:
    """What a shard says of itself.

    Args:
        path: The file.

    Returns:
        Number of its vectors, and what was left out.

    Raises:
        DataError: If it is broken, or another program's.
    """
    parquet: Any = import_module("pyarrow.parquet")
    try:
        found = parquet.read_metadata(path)
        notes = json.loads((found.metadata or {})[_KEY])
        return int(found.num_rows), [Skipped(item, reason) for item, reason in notes["skipped"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _broken(path, error) from error


def _broken(path: Path, error: Exception) -> DataError:
    return DataError(f"'{path}' is no shard of vectors ({error}). Delete it, and run `encode` again.")


def read_vectors(folder: str | Path, columns: Sequence[str] | None = None) -> Iterator[Any]:
    """Read a folder of vectors, a shard at a time.

    Args:
        folder: What `encode` has written.
        columns: Only these; default all.

    Yields:
        A `pyarrow.Table` for each shard, in order.

    Raises:
        DataError: If a shard is broken.
    """
    parquet: Any = import_module("pyarrow.parquet")
    for number in sorted(finished_shards(Path(folder))):
        path = shard_path(Path(folder), number)
        try:
            table = parquet.ParquetFile(path).read(columns)
        except (OSError, ValueError) as error:  # pyarrow's errors are among these
            raise _broken(path, error) from error
        yield table


def check_shards(folder: Path, *, shards: int, rows: int) -> None:
    """Refuse a folder of vectors in which some are missing.

    Args:
        folder: What `encode` has written.
        shards: How many there are to be.
        rows: How many vectors they are to have.

    Raises:
        DataError: Naming what is missing or broken.
    """
    missing = sorted(set(range(shards)) - finished_shards(folder))
    if missing:
        raise DataError(
            f"{len(missing)} of {shards} shards are missing in '{folder}', the first is '{shard_path(folder, missing[0]).name}'. "
            "Run `encode` again to make them."
        )
    found = sum(read_shard(shard_path(folder, number))[0] for number in range(shards))
    if found != rows:
        raise DataError(
            f"'{folder}' has {found:,} vectors, and its encode.json says {rows:,}. Encode into a new folder."
        )


def as_matrix(table: Any) -> NDArray[np.float32]:
    """The vectors of a shard as one array.

    Args:
        table: What `read_vectors` gives.

    Returns:
        Float32 (N, d).
    """
    width = table.schema.field("vector").type.list_size
    chunks = [chunk.flatten().to_numpy(zero_copy_only=False) for chunk in table.column("vector").chunks]
    flat = np.concatenate(chunks) if chunks else np.empty(0, np.float32)
    return flat.astype(np.float32, copy=False).reshape(-1, width)


def write_skipped(path: Path, skipped: Iterable[Skipped]) -> None:
    """Name what was left out, one JSON object a line.

    Args:
        path: The file, replaced at once; without any it is removed.
        skipped: Rows and files.
    """
    aside = path.with_name(f".{path.name}")
    some = False
    with aside.open("w", encoding="utf-8") as file:
        for each in skipped:
            file.write(json.dumps({"item": each.item, "reason": each.reason}) + "\n")
            some = True
    aside.replace(path)
    if not some:
        path.unlink()


def sync_folder(folder: Path) -> None:
    """Make names in a folder safe: without it a crash of the machine may undo a rename.

    Args:
        folder: The folder.
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
