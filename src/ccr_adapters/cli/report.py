"""`ccr-adapters report`: one table over many results, plots, and whether one model is better than another."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from ccr_adapters.evaluation.records import Record

EXAMPLE = """\b
Example:
  ccr-adapters report runs/eval --write runs/table.md --plots runs/plots
  ccr-adapters report --compare runs/eval/xm3600@all__dasd__de.json runs/eval/xm3600@all__full__de.json
"""
_COLUMNS = {
    "data": "data",
    "language": "language",
    "model": "model",
    **{f"{way}_r@{k}": f"{way} R@{k}" for way in ("t2i", "i2t") for k in (1, 5, 10)},
    "sumR": "sumR",
    "sumR_ci95": "sumR 95%",
    "setting": "setting",
}


def read_records(places: Sequence[Path]) -> list[Record]:
    """Read results, sorted by data, language and model.

    Args:
        places: Files, and folders whose JSON files are results.

    Raises:
        EvaluationError: If a file is no result, or a folder has none.
    """
    from ccr_adapters.errors import EvaluationError
    from ccr_adapters.evaluation.records import BASE, read_record

    files: list[Path] = []
    for place in places:
        inside = sorted(place.glob("*.json")) if place.is_dir() else [place]
        if not inside:
            raise EvaluationError(f"The folder '{place}' has no results (*.json); `ccr-adapters evaluate` writes them.")
        files += inside
    found = [read_record(file) for file in dict.fromkeys(files)]
    return sorted(found, key=lambda one: (one.dataset, one.language, one.pretrained != BASE, one.label))


def report_markdown(records: Sequence[Record]) -> str:
    """A table of results with what belongs to its numbers.

    Args:
        records: The results.

    Returns:
        Markdown: the table, the protocol of each set, what was left out, and what leaked.
    """
    from ccr_adapters.evaluation import markdown_table
    from ccr_adapters.evaluation.records import mean_rows, protocol_lines, table_columns

    rows = [record.row() for record in records] + mean_rows(records)
    there = table_columns(records, _COLUMNS)
    columns = {key: name for key, name in there.items() if any(key in row for row in rows)}
    protocols = [f"- {line}" for line in protocol_lines(records)]
    problems = dict.fromkeys(
        f"- **{record.title}**: {problem['count']:,} {kind} left out, such as {problem['examples'][0]}."
        for record in records
        for kind, problem in record.own.get("problems", {}).items()
        if problem["examples"]
    )
    leaks = dict.fromkeys(
        f"- **{record.label}, {record.title}**: {record.own['leak']['report']}"
        for record in records
        if (record.own.get("leak", {}).get("overlap") or {}).get("is_leak")
    )
    parts = [
        markdown_table(rows, columns),
        "Recalls are percentages; sumR is the sum of all six, with its 95% interval.",
    ]
    parts += [f"{heading}\n\n" + "\n".join(lines) for heading, lines in (
        ("How it was measured:", protocols),
        ("Left out:", problems),
        ("Test images that were trained on:", leaks),
    ) if lines]  # fmt: skip
    return "\n\n".join(parts) + "\n"


def comparison_lines(a: Record, b: Record, *, resamples: int = 10_000) -> list[str]:
    """Whether one result is better than another, in words.

    Args:
        a: The first.
        b: The second.
        resamples: Number of resamples.

    Raises:
        EvaluationError: If the two were not asked the same questions.
    """
    from ccr_adapters.evaluation.records import compare_records

    found = compare_records(a, b, resamples=resamples)
    low, high = found.ci95
    first, second = (f"{record.label} (sumR {record.scores()['sumR']:.1f})" for record in (a, b))
    if found.significant:
        verdict = f"{first} is {'better' if found.difference > 0 else 'worse'} than {second}"
    else:
        verdict = f"{first} and {second} do not differ beyond chance"
    ranks = a.ranks()
    return [
        f"{a.title}, {len(ranks.t2i):,} captions of {ranks.images:,} images: {verdict}.",
        f"Difference {found.difference:+.1f}, 95% interval {low:+.1f} to {high:+.1f}, p = {found.p_value:.2g} (paired bootstrap "
        f"over images, {found.resamples:,} resamples).",
    ]


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        aside.write_text(text, encoding="utf-8")
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def report(
    results: Annotated[
        list[Path] | None, typer.Argument(metavar="[RESULT]...", help="JSON files of evaluate, or folders of them.")
    ] = None,
    write: Annotated[Path | None, typer.Option(help="Markdown file for the table; default: it is printed.")] = None,
    plots: Annotated[Path | None, typer.Option(help="Folder for plots, which need matplotlib.")] = None,
    compare: Annotated[
        tuple[Path, Path] | None, typer.Option(metavar="A.json B.json", help="Is A better than B, or only luckier?")
    ] = None,
    resamples: Annotated[int, typer.Option(min=1, help="Resamples of a comparison.")] = 10_000,
) -> None:
    """Put results into one table, draw them, and say whether one model is better than another."""
    from ccr_adapters.errors import ConfigError

    if not results and compare is None:
        raise ConfigError("Name results: files or a folder that `ccr-adapters evaluate` wrote, or two with --compare.")
    if not results and (write is not None or plots is not None):
        raise ConfigError("--write and --plots need results to show: name files or a folder.")
    if results:
        records = read_records(results)
        text = report_markdown(records)
        if write is None:
            typer.echo(text, nl=False)
        else:
            _write(write, text)
            typer.echo(f"A table of {len(records):,} results is in {write}.")
        if plots is not None:
            from ccr_adapters.cli.evaluation_plots import Plots

            drawing = Plots(plots)
            drawing.records(records)
            typer.echo(f"{len(drawing.written)} plots are in {plots}.")
    if compare is not None:
        from ccr_adapters.evaluation.records import read_record

        for line in comparison_lines(*(read_record(file) for file in compare), resamples=resamples):
            typer.echo(line)


report.__doc__ = f"{report.__doc__}\n\n{EXAMPLE}"
