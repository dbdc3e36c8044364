"""Text, JSON and JSON-lines files as their authors left them: any line end, gzip or not, errors with file and line."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from ccr_adapters.errors import DataError

# what is there and cannot be seen; str.strip takes the no-break space and leaves these
_INVISIBLE = "\u200b\u200c\u200d\u2060\ufeff"


def clean_text(text: str) -> str:
    """A caption without white space around it, and empty if nothing of it can be seen."""
    stripped = text.strip()
    return stripped if stripped.strip(_INVISIBLE + " \t") else ""


def read_text(path: Path) -> str:
    """A whole file as text, unpacked if it ends in `.gz`.

    Raises:
        DataError: If it is no UTF-8 text or the archive is broken.
    """
    try:
        raw = path.read_bytes()
        if path.suffix == ".gz":
            raw = gzip.decompress(raw)
        return raw.decode("utf-8-sig")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise DataError(f"'{path}' cannot be read: {error}. Download it again.") from error


def read_lines(path: Path) -> list[str]:
    """The lines of a file, without line ends.

    A last line without an end counts, and none is made up after one with an end. Only line feeds divide, with or without
    a carriage return: `str.splitlines` would also cut captions at characters such as U+0085 and U+2028.
    """
    lines = read_text(path).split("\n")
    if lines and not lines[-1]:
        lines.pop()
    return [line.removesuffix("\r") for line in lines]


def read_json(path: Path) -> Any:
    """A JSON file.

    Raises:
        DataError: With the line at which it breaks off or is wrong.
    """
    try:
        return json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise DataError(f"'{path}', line {error.lineno}, is no JSON: {error.msg}. Download it again.") from error


def read_json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of a JSON-lines file with their line numbers, from 1; blank lines are no rows.

    Raises:
        DataError: If a line is no JSON object.
    """
    for number, line in enumerate(read_lines(path), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(f"'{path}', line {number}, is no JSON: {error.msg}. Download it again.") from error
        if not isinstance(row, dict):
            raise DataError(f"'{path}', line {number}, holds a {type(row).__name__}, not an object.")
        yield number, row


def find_file(folder: Path, names: Sequence[str], keep: str = "") -> Path | None:
    """The first of some files that a folder has, however deep people unpacked it.

    Args:
        folder: Where to look.
        names: Relative paths as they are published. Leading folders may be missing, `.gz` may be there or not, and a
            last part may hold wildcards.
        keep: A folder that may not be missing: the language, where the file name does not say it.

    Returns:
        The path, or `None`.
    """
    for name in names:
        parts = PurePosixPath(name).parts
        last = parts.index(keep) + 1 if keep in parts else len(parts)
        for start in range(last):
            tail = "/".join(parts[start:])
            plain = tail.removesuffix(".gz")
            for candidate in dict.fromkeys((tail, plain, f"{plain}.gz")):
                if "*" in candidate:
                    found = sorted(folder.glob(candidate))
                    if found:
                        return found[0]
                elif (folder / candidate).is_file():
                    return folder / candidate
    return None
