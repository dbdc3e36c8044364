"""What a benchmark tells: tables on the screen, figures in a JSON file, and the same tables on a page of the docs.

A page has a place for them between `<!-- name:begin -->` and `<!-- name:end -->`, and nobody types a figure there.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ccr_adapters.errors import DataError
from ccr_adapters.evaluation import console_table, markdown_table, write_metrics

Rows = list[dict[str, Any]]


def write_into(path: Path, text: str, name: str) -> None:
    """Replace what stands between the markers of a Markdown file.

    Args:
        path: The file.
        text: What is to stand there.
        name: Of the markers.

    Raises:
        DataError: If the markers are not there. The file stays as it is.
    """
    before, after = _around(path, name)
    path.write_text(f"{before}\n{text}\n{after}", encoding="utf-8")


def _around(path: Path, name: str) -> tuple[str, str]:
    """The file up to its first marker and from its second one on, both included."""
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    whole = path.read_text(encoding="utf-8")
    before, found, rest = whole.partition(begin)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise DataError(f"'{path}' has no place for the table: {begin} and {end}.")
    return before + begin, end + after


def add_outputs(parser: argparse.ArgumentParser, *names: str) -> None:
    """Add `--json` and `--write` to a command line.

    A page without the markers is refused before anything is measured, not after.

    Args:
        parser: The command line.
        names: Of the markers that a page must have; none where the program looks for itself.
    """
    places = " and ".join(f"<!-- {name}:begin -->" for name in names) or "the marker of its place"
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures here")
    parser.add_argument(
        "--write", type=page_with(names), metavar="PAGE", help=f"also put the tables into this page, after {places}"
    )


def page_with(names: Sequence[str]) -> Callable[[str], Path]:
    """Reader of an argument that names a page, which must have places of these names."""

    def page(text: str | Path) -> Path:
        path = Path(text)
        try:
            for name in names:
                _around(path, name)
        except DataError as error:
            raise argparse.ArgumentTypeError(str(error)) from error
        except OSError as error:
            raise argparse.ArgumentTypeError(f"'{path}' cannot be read ({error.strerror}).") from error
        return path

    return page


def verdict(what: str, value: float, kind: str, target: float, form: str = ".3g") -> dict[str, str]:
    """A row that says whether a figure reaches its target.

    Args:
        what: The figure's name.
        value: The figure.
        kind: `at least` or `at most`.
        target: The number to reach.
        form: How the figure is shown.
    """
    met = value >= target if kind == "at least" else value <= target
    return {
        "what": what,
        "value": format(value, form),
        "target": f"{kind} {target:g}",
        "verdict": "met" if met else "missed",
    }


def tell(args: argparse.Namespace, name: str, tables: Sequence[Rows], note: str, figures: Mapping[str, Any]) -> None:
    """Print the tables, and put them where `add_outputs` was told to.

    Args:
        args: With `json` and `write`.
        name: Of the markers.
        tables: In order; an empty one is left out.
        note: A line about the machine and what was measured; it stands below on the screen, above on a page.
        figures: All numbers, for programs.
    """
    shown = [rows for rows in tables if rows]
    print("\n\n".join([*map(console_table, shown), note]))
    if args.json:
        write_metrics(args.json, figures)
    if args.write:
        write_into(args.write, "\n\n".join([note, *map(markdown_table, shown)]), name)
