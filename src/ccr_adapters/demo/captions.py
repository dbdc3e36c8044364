"""The captions that a page finds for pictures, and explains questions by: texts with a language, a style and a picture."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ccr_adapters.errors import DataError

COLUMNS = ("caption", "language", "style", "picture")


@dataclass(frozen=True)
class Caption:
    """One caption.

    Attributes:
        text: What it says.
        language: Code of its language.
        style: How it is written, in a word; empty where nobody knows.
        picture: Name of the picture that it was written for, without a folder; empty where there is none.
    """

    text: str
    language: str
    style: str = ""
    picture: str = ""


def captions_by_language(captions: Sequence[Caption]) -> dict[str, list[Caption]]:
    """Sort captions by language.

    Args:
        captions: Captions.

    Returns:
        Those of each language, in their order.
    """
    found: dict[str, list[Caption]] = {}
    for caption in captions:
        found.setdefault(caption.language, []).append(caption)
    return found


def read_captions(path: str | Path) -> list[Caption]:
    """Read captions from a CSV file.

    Args:
        path: UTF-8, with a first line that names its columns: `caption` and `language`, and if there are any `style` and
            `picture`.

    Returns:
        The captions.

    Raises:
        DataError: If it cannot be read, lacks a column, or has a row without caption or language.
    """
    try:
        with Path(path).open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            missing = sorted({"caption", "language"} - set(reader.fieldnames or ()))
            if missing:
                raise DataError(
                    f"'{path}' lacks the column {' and '.join(missing)}; its first line names "
                    f"{', '.join(reader.fieldnames or ()) or 'none'}. Expected {', '.join(COLUMNS)}."
                )
            rows = []
            for row in reader:
                if None in row:
                    raise DataError(
                        f"'{path}', line {reader.line_num}: more fields than columns. A caption with a comma in it needs quotation "
                        "marks around it."
                    )
                rows.append({name: (row.get(name) or "").strip() for name in COLUMNS})
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"The captions '{path}' cannot be read: {error}") from error
    empty = next((number for number, row in enumerate(rows, 1) if not row["caption"] or not row["language"]), None)
    if empty is not None:
        raise DataError(f"'{path}', row {empty}: expected a caption and the code of its language.")
    return [Caption(row["caption"], row["language"], row["style"], row["picture"]) for row in rows]


def write_captions(captions: Sequence[Caption], path: str | Path) -> None:
    """Write captions as `read_captions` reads them.

    Args:
        captions: Captions.
        path: The CSV file.
    """
    with Path(path).open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows((each.text, each.language, each.style, each.picture) for each in captions)
