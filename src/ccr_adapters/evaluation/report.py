"""Writes metrics for people and programs: Markdown tables, aligned text, and JSON, whole or not at all."""

from __future__ import annotations

import json
import math
import os
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ccr_adapters.errors import EvaluationError

_NOTHING = "–"


def markdown_table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str] | Mapping[str, str] | None = None) -> str:
    """Format rows as a table for a README or a model card, readable as plain text too.

    Args:
        rows: One mapping for each row, for example from `RetrievalMetrics.to_dict`. A missing value becomes a
            dash, a list [low, high] an interval, a float gets one decimal.
        columns: Keys to show, in order, or keys and their headings. None: all keys in order of appearance.

    Returns:
        The table, without a final line break. Columns of numbers are aligned to the right.
    """
    headings, cells, numeric = _layout(rows, columns, escape=True)
    widths = _widths(headings, cells, least=3)
    rule = [("-" * (width - 1) + ":") if right else "-" * width for width, right in zip(widths, numeric, strict=True)]
    lines = [_joined(line, widths, numeric, " | ") for line in (headings, rule, *cells)]
    return "\n".join(f"| {line} |" for line in lines)


def console_table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str] | Mapping[str, str] | None = None) -> str:
    """Format rows as aligned text for a terminal.

    Args:
        rows: As for `markdown_table`.
        columns: As for `markdown_table`.

    Returns:
        The table, without a final line break. Wide characters (Chinese, Japanese) count as two columns.
    """
    headings, cells, numeric = _layout(rows, columns, escape=False)
    widths = _widths(headings, cells, least=1)
    rule = ["─" * width for width in widths]
    return "\n".join(_joined(line, widths, numeric, "  ").rstrip() for line in (headings, rule, *cells))


def write_metrics(path: str | os.PathLike[str], payload: Mapping[str, Any]) -> Path:
    """Write metrics as JSON: written aside, then moved, so that a reader never sees half a file.

    Args:
        path: The file; its folder is made if needed.
        payload: What to write. Objects with `to_dict`, and the numbers and arrays of numpy and torch, are
            taken too.

    Returns:
        The path.

    Raises:
        EvaluationError: If a value is not finite or cannot be written as JSON. A file that was there stays as
            it was.
    """
    target = Path(path)
    try:
        text = json.dumps(payload, indent=2, ensure_ascii=False, allow_nan=False, default=_plain)
    except (TypeError, ValueError) as error:
        raise EvaluationError(f"{target.name} was not written, a value does not fit into JSON: {error}") from error
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        aside.write_text(text + "\n", encoding="utf-8")
        aside.replace(target)
    finally:
        aside.unlink(missing_ok=True)
    return target


def _plain(value: Any) -> Any:
    """Turn what json does not know into what it does."""
    if hasattr(value, "to_dict"):
        return value.to_dict()
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise TypeError(f"{type(value).__name__} {value!r}")


def _layout(
    rows: Sequence[Mapping[str, Any]], columns: Sequence[str] | Mapping[str, str] | None, *, escape: bool
) -> tuple[list[str], list[list[str]], list[bool]]:
    """Headings, formatted cells, and for each column whether it holds numbers alone."""
    if columns is None:
        columns = list(dict.fromkeys(key for row in rows for key in row))
    named = columns if isinstance(columns, Mapping) else {key: key for key in columns}
    values = [[row.get(key) for key in named] for row in rows]
    cells = [[_cell(value) for value in line] for line in values]
    headings = list(named.values())
    if escape:
        headings = [_escaped(text) for text in headings]
        cells = [[_escaped(text) for text in line] for line in cells]
    numeric = [
        any(value is not None for value in column) and all(value is None or _is_number(value) for value in column)
        for column in (zip(*values, strict=True) if values else [()] * len(headings))
    ]
    return headings, cells, numeric


def _cell(value: Any) -> str:
    if value is None:
        return _NOTHING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.1f}" if math.isfinite(value) else _NOTHING
    if isinstance(value, list | tuple):
        return "–".join(_cell(item) for item in value)
    return str(value)


def _is_number(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(_is_number(item) for item in value)
    return isinstance(value, int | float) and not isinstance(value, bool)


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _width(text: str) -> int:
    """Columns that a text takes in a terminal."""
    return sum(
        0 if unicodedata.combining(letter) else 2 if unicodedata.east_asian_width(letter) in "WF" else 1
        for letter in text
    )


def _widths(headings: list[str], cells: list[list[str]], *, least: int) -> list[int]:
    return [max(least, *map(_width, column)) for column in zip(headings, *cells, strict=True)]


def _joined(line: list[str], widths: list[int], numeric: list[bool], separator: str) -> str:
    parts = []
    for text, width, right in zip(line, widths, numeric, strict=True):
        space = " " * (width - _width(text))
        parts.append(space + text if right else text + space)
    return separator.join(parts)
