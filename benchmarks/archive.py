"""Finished cells in one small file: a table is printed again, extended or questioned without training anything anew."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ccr_adapters.errors import DataError, first_line

ASKED = ("world", "language", "regime", "noise", "pairs", "epochs", "method", "seed")
MEASURED = ("seconds_a_step", "parameters", "bytes", "peak_bytes")
# what each picture adds to the sum of recalls
SCORES = ("test", "varied", "english test", "english varied")
SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("world", "language", "regime")),
        ("noise", pa.float64()),
        ("pairs", pa.int64()),
        ("epochs", pa.float64()),
        ("method", pa.string()),
        ("seed", pa.int64()),
        ("seconds_a_step", pa.float64()),
        *((name, pa.int64()) for name in MEASURED[1:]),
        *((name, pa.list_(pa.float32())) for name in SCORES),
    ]
)


def key_of(cell: dict[str, Any]) -> tuple[Any, ...]:
    """What tells a cell from all others: what was asked of it."""
    return tuple(cell[name] for name in ASKED)


def read_archive(path: Path) -> dict[tuple[Any, ...], dict[str, Any]]:
    """The cells of an archive; none of a file that is not there yet.

    Args:
        path: A Parquet file, a row a cell.

    Returns:
        Cells by `key_of`, with their scores by picture in `arrays`.

    Raises:
        DataError: If the file is no such archive.
    """
    if not path.exists():
        return {}
    try:
        rows = pq.read_table(path, schema=SCHEMA).to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"'{path}' is no archive of cells: {first_line(error)}") from error
    found = {}
    for row in rows:
        arrays = {name: row.pop(name) for name in SCORES}
        row["arrays"] = {name: np.asarray(values, float) for name, values in arrays.items() if values is not None}
        found[key_of(row)] = row
    return found


def add_to_archive(path: Path, cells: Iterable[dict[str, Any]]) -> None:
    """Put cells into an archive, in place of those that asked the same.

    Rows are sorted, so the file says nothing of the order in which they came. It is written aside and renamed.

    Args:
        path: The file; made if it is not there.
        cells: With their scores by picture in `arrays`.
    """
    found = {**read_archive(path), **{key_of(cell): cell for cell in cells}}
    ordered = sorted(found.values(), key=lambda cell: [str(value) for value in key_of(cell)])
    rows = [
        {
            **{name: cell[name] for name in (*ASKED, *MEASURED)},
            **{name: cell["arrays"].get(name) for name in SCORES},
        }
        for cell in ordered
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.part")
    pq.write_table(pa.Table.from_pylist(rows, SCHEMA), aside, compression="zstd")
    aside.replace(path)
