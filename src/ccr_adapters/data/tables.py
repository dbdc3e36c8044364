"""Tables of rows as people have them: which files of a folder are a split, and their rows as `datasets` reads them."""

from __future__ import annotations

import csv
import glob
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset, Features, Value, load_dataset
from datasets.exceptions import DatasetsError

from ccr_adapters.errors import DataError

KINDS = {".jsonl": "json", ".json": "json", ".csv": "csv", ".parquet": "parquet"}
# what follows the name of a split in those of its parts: `-00000-of-00003`, `_1`, and a hash as old copies of the Hub have it
_PART = re.compile(r"[-_.](\d+)(-of-\d+)?(-[0-9a-f]{16})?")


def split_files(folder: Path, split: str) -> list[Path]:
    """Find the files of a split.

    Args:
        folder: Where to look.
        split: `train`, `validation`, `test`.

    Returns:
        `train.jsonl` (or of another kind), else all parts `train-00000-of-00003.jsonl`, else the one file whose name begins
        with the split's; empty where there is none.

    Raises:
        DataError: If several files could be it: two sets taken for one would be trained on without a word.
    """
    named = sorted(file for file in folder.glob(f"{glob.escape(split)}*") if file.suffix in KINDS and file.is_file())
    whole = [file for file in named if file.stem == split]
    numbered = {file: match for file in named if (match := _PART.fullmatch(file.stem[len(split) :]))}
    parts = sorted(numbered, key=lambda file: int(numbered[file][1]))
    numbers = [int(numbered[file][1]) for file in parts]
    consecutive = bool(parts) and numbers == list(range(numbers[0], numbers[0] + len(parts))) and numbers[0] in (0, 1)
    if len(whole) == 1:
        return whole
    if not whole and consecutive and len({file.suffix for file in parts}) == 1:
        return parts
    if len(named) > 1:
        raise DataError(
            f"'{folder}': the split '{split}' could be {', '.join(file.name for file in named)}. Leave one, under the name "
            f"{split}{named[0].suffix}, or parts {split}-00000{named[0].suffix}, {split}-00001{named[0].suffix}, ..."
        )
    return named


def read_tables(files: Sequence[Path]) -> Dataset:
    """Read files of one kind, memory-mapped. The columns of a CSV file are text, as it stands there.

    Args:
        files: JSON, JSON Lines, CSV or Parquet.

    Raises:
        DataError: If they cannot be read, or a row of a CSV file has more or fewer fields than its header.
    """
    options: dict[str, Any] = {}
    if files[0].suffix == ".csv":
        # pandas would read the word 'NA' as nothing, and the id '001' as 1
        names = list(dict.fromkeys(name for file in files for name in _checked_header(file)))
        options = {"features": Features({name: Value("string") for name in names}), "keep_default_na": False}
    paths = [glob.escape(str(file)) for file in files]
    try:
        return load_dataset(KINDS[files[0].suffix], data_files=paths, split="train", **options)
    except (DatasetsError, OSError, ValueError) as error:
        said = ", ".join(f"'{file}'" for file in files[:3])
        raise DataError(f"{said} cannot be read: {error.__cause__ or error}") from error


def _checked_header(file: Path) -> list[str]:
    """Column names of a CSV file, all of whose rows have as many fields."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            reader = csv.reader(lines, strict=True)
            header = next(reader, [])
            for row in reader:
                if row and len(row) != len(header):
                    raise DataError(
                        f"'{file}', line {reader.line_num}: {len(row)} fields, and {len(header)} in the header. A text with a "
                        "comma in it needs quotation marks around it."
                    )
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"'{file}' cannot be read: {error}.") from error
    if not header:
        raise DataError(f"'{file}' is empty.")
    return header
