"""`ccr-adapters noise-report`: how noisy a translated data set is, and the rows that are clean enough."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from datasets import Dataset

EXAMPLE = """\b
Example:
  ccr-adapters noise-report data/de
  ccr-adapters noise-report data/de --write reports/de --minimum 0.5 --output data/de-clean
"""


def save_rows(rows: Dataset, folder: Path) -> None:
    """Save a data set, aside and then moved, into a folder that is not there yet.

    Raises:
        DataError: If it is.
    """
    from ccr_adapters.errors import DataError

    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(f"'{folder}' is there already. Choose a new folder for the rows.")
    aside = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(aside, ignore_errors=True)
    rows.save_to_disk(str(aside))
    os.replace(aside, folder)


def language_of(rows: Dataset) -> str:
    """The language that a translated data set says it is in.

    Raises:
        DataError: If it does not say, or has several.
    """
    from ccr_adapters.errors import DataError

    found = rows.unique("language") if "language" in rows.column_names else []
    if len(found) != 1:
        named = f"The rows are in {', '.join(map(str, found))}" if found else "The rows do not say their language"
        raise DataError(f"{named}; give one with --language.")
    return str(found[0])


def noise_report(
    folder: Annotated[Path, typer.Argument(help="Translated data set: a datasets folder, jsonl, csv or parquet.")],
    language: Annotated[str | None, typer.Option(help="Of the translations; default: the column 'language'.")] = None,
    source: Annotated[
        str | None,
        typer.Option(help="Language of the captions; default: what `translate` noted in the folder, else en."),
    ] = None,
    write: Annotated[Path | None, typer.Option(help="Folder for noise.md, noise.json, noise.png, scores.npy.")] = None,
    minimum: Annotated[float, typer.Option(min=0, max=1, help="Lowest score of a row to be kept.")] = 0.5,
    output: Annotated[Path | None, typer.Option(help="Folder for the rows that are kept.")] = None,
    weights: Annotated[bool, typer.Option(help="Give the kept rows a column 'weight', their score.")] = False,
    examples: Annotated[int, typer.Option(min=0, help="Worst rows to show.")] = 10,
    plot: Annotated[bool, typer.Option(help="Draw noise.png, which needs matplotlib.")] = True,
) -> None:
    """Say how noisy translations are: copies, wrong script, odd lengths, loops, poor round trips."""
    from ccr_adapters.translation import filter_rows, load_rows, with_weights
    from ccr_adapters.translation import noise_report as report_of
    from ccr_adapters.translation.job import read_job

    rows = load_rows(folder)
    noted = (read_job(folder) or {}).get("translator", {}).get("source")
    report = report_of(rows, language or language_of(rows), source=source or noted or "en", examples=examples)
    typer.echo(report.to_markdown())
    if write is not None:
        report.write(write, plot=plot)
        typer.echo(f"The report is in {write}.")
    if output is not None:
        kept = filter_rows(with_weights(rows, report) if weights else rows, report, minimum)
        save_rows(kept, output)
        typer.echo(f"{len(kept):,} of {len(rows):,} rows score {minimum:g} or more; they are in {output}.")


noise_report.__doc__ = f"{noise_report.__doc__}\n\n{EXAMPLE}"
