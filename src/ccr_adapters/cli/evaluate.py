"""`ccr-adapters evaluate`: models on a benchmark by name, or on anybody's own pictures, in many languages."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ccr_adapters.cli.places import check_device, check_folder

if TYPE_CHECKING:
    from ccr_adapters.evaluation.records import Record

EXAMPLE = """\b
Example:
  ccr-adapters evaluate runs/de/adapter --benchmark xm3600 --languages de,en --before \\
      --trained-on data/flickr30k/train.txt --output runs/eval
  ccr-adapters evaluate dasd=runs/a/adapter full=runs/b/adapter --benchmark tiny-world --languages de
  ccr-adapters evaluate runs/de/adapter --benchmark tiny-world --baseline translate --translator Helsinki-NLP/opus-mt-de-en
  ccr-adapters evaluate org/dasd-clip-de --data photos --column caption=caption_{language} --languages de
"""
_COLUMNS = {
    "model": "model",
    "language": "language",
    **{f"{way}_r@{k}": f"{way} R@{k}" for way in ("t2i", "i2t") for k in (1, 5, 10)},
    "sumR": "sumR",
    "sumR_ci95": "sumR 95%",
    "setting": "setting",
}


class Baseline(str, Enum):
    """What else is scored, to compare with."""

    TRANSLATE = "translate"


class OnError(str, Enum):
    """What happens to bad rows of the data."""

    RAISE = "raise"
    SKIP = "skip"


def column_mapping(columns: list[str]) -> dict[str, str]:
    """`["caption=text"]` as a mapping.

    Args:
        columns: Pairs of our name and that of the data.

    Raises:
        ConfigError: If one is no pair, or maps what there is not.
    """
    from ccr_adapters.errors import ConfigError

    found = {}
    for column in columns:
        own, mark, theirs = column.partition("=")
        if own not in ("image", "caption", "image_id", "translation") or not mark or not theirs:
            raise ConfigError(
                f"`--column {column}`: write image, caption, image_id or translation, then = and the name in the data."
            )
        found[own] = theirs
    return found


def _listed(text: str | None) -> list[str]:
    return list(dict.fromkeys(part.strip() for part in (text or "").split(",") if part.strip()))


def _origin(record: Record) -> str:
    """Where the data is from, with the commit of a copy on the Hub."""
    return f"Source of {record.dataset}: {record.own['facts']['source']}."


def tell_records(records: Sequence[Record], notes: Sequence[str], output: Path) -> None:
    """Print what was measured, and how; what was left out, and why.

    Args:
        records: The results.
        notes: Lines for the user.
        output: Where the results are.
    """
    from ccr_adapters.evaluation import console_table
    from ccr_adapters.evaluation.records import mean_rows, protocol_lines, table_columns

    rows = [record.row() for record in records] + mean_rows(records)
    typer.echo(console_table(rows, table_columns(records, _COLUMNS)))
    typer.echo("")
    for line in protocol_lines(records):
        typer.echo(line)
    for line in dict.fromkeys(_origin(record) for record in records if "source" in record.own.get("facts", {})):
        typer.echo(line)
    for record in records:
        for kind, problem in record.own["problems"].items():
            typer.echo(f"{record.title}: left out {problem['count']:,} {kind}: {'; '.join(problem['examples'])}.")
    for line in dict.fromkeys(f"Leak check: {record.own['leak']['report']}" for record in records):
        typer.echo(line)
    known = dict.fromkeys(
        f"Known of {record.dataset}: {one['images']:,} of its images are in {one['training']}; {one['note']}."
        for record in records
        if record.own["leak"]["overlap"] is None
        for one in record.own["facts"].get("known_overlaps", [])
    )
    for note in (*known, *dict.fromkeys(notes)):
        typer.echo(note)
    typer.echo(f"Results: {len(records):,}, in {output}; `ccr-adapters report {output}` makes a table of them.")


def evaluate(
    models: Annotated[list[str], typer.Argument(metavar="MODEL", help="Adapters or bases; NAME=PLACE names one.")],
    benchmark: Annotated[str | None, typer.Option(help="Name of a benchmark, or tiny-world.")] = None,
    data: Annotated[
        str | None, typer.Option(help="Own pictures with a table of captions, or files of the NRCCR or DASD authors.")
    ] = None,
    languages: Annotated[
        str | None, typer.Option(help="Codes: de,fr; default: all that the models have adapters for.")
    ] = None,
    folder: Annotated[Path | None, typer.Option(help="The benchmark's official files; default: the Hub.")] = None,
    images: Annotated[Path | None, typer.Option(help="Pictures, where the captions come without.")] = None,
    features: Annotated[Path | None, typer.Option(help="Features instead of pictures: a folder or an array.")] = None,
    table: Annotated[str | None, typer.Option(help="Captions of --data, if not metadata.jsonl or the like.")] = None,
    column: Annotated[
        list[str] | None, typer.Option(help="Names in the table: caption=text; {language} stands for the code.")
    ] = None,
    split: Annotated[str, typer.Option(help="Of a path file of the DASD authors.")] = "test",
    on_error: Annotated[OnError, typer.Option(help="Bad rows: refuse them, or leave them out and count them.")] = (
        OnError.RAISE
    ),
    limit: Annotated[
        int | None, typer.Option(min=1, help="Score only the first N pictures; the results say so.")
    ] = None,
    before: Annotated[bool, typer.Option("--before", help="Score each base without adapter too.")] = False,
    translate_test: Annotated[
        bool, typer.Option("--translate-test", help="Also score each adapter together with translated captions (MT).")
    ] = False,
    baseline: Annotated[
        Baseline | None, typer.Option(help="translate: also score each base on translated captions alone.")
    ] = None,
    translations: Annotated[
        str | None, typer.Option(help="Captions in English: a file or folder; {language} stands for the code.")
    ] = None,
    translator: Annotated[
        str | None, typer.Option(help="Or the model that translates them: NAME, NAME@REVISION or a folder.")
    ] = None,
    trained_on: Annotated[
        Path | None, typer.Option(help="Ids of the training images of all MODELs, or their folder: is any tested on?")
    ] = None,
    hashes: Annotated[bool, typer.Option("--hashes", help="Compare the pictures too, not only their ids.")] = False,
    output: Annotated[Path, typer.Option(help="Folder of the results.")] = Path("runs/eval"),
    plots: Annotated[
        Path | None, typer.Option(help="Folder for plots (matplotlib); --force draws finished ones too.")
    ] = None,
    bootstrap: Annotated[int, typer.Option(min=0, help="Resamples behind the intervals; 0 for none.")] = 1000,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Captions of one batch; default as many as fit a budget of tokens.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="Default: the accelerator if there is one.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Compute again what is finished.")] = False,
) -> None:
    """Score models on retrieval, both ways, in many languages; finished results are not computed again."""
    from ccr_adapters.cli.entrants import check_languages, find_entrants, spoken_languages
    from ccr_adapters.cli.evaluation_plots import Plots
    from ccr_adapters.cli.evaluation_run import Evaluation
    from ccr_adapters.cli.query_translations import find_translations
    from ccr_adapters.cli.question_sets import Asked, load_sets
    from ccr_adapters.cli.training_images import LeakCheck, read_training_images
    from ccr_adapters.errors import ConfigError

    asked = Asked(
        benchmark=benchmark,
        data=data,
        folder=folder,
        images=images,
        features=features,
        table=table,
        columns=column_mapping(column or []),
        split=split,
        on_error=on_error.value,
        limit=limit,
    )
    check_folder(output)
    check_device(device)
    if hashes and trained_on is None:
        raise ConfigError(
            "--hashes compares test pictures with training pictures: name their folder with --trained-on."
        )
    asks = translate_test or baseline is not None
    if not asks and (translations or translator or "translation" in asked.columns):
        raise ConfigError("Translated captions are for --translate-test or --baseline translate: add one of them.")
    entrants = find_entrants(models)
    chosen = _listed(languages) or spoken_languages(entrants)
    check_languages(entrants, chosen, before=before or baseline is not None)
    drawing = Plots(plots) if plots is not None else None
    training = None if trained_on is None else read_training_images(trained_on, hashes=hashes)
    work = Evaluation(
        load_sets(asked, chosen),
        output,
        LeakCheck(training),
        before=before,
        bootstrap=bootstrap,
        batch_size=batch_size,
        device=device,
        force=force,
        drawn=None if drawing is None else drawing.vectors,
        translations=find_translations(
            translations, translator, "translation" in asked.columns, folder=output / "translations", device=device
        )
        if asks
        else None,
        fused=translate_test,
        alone=baseline is not None,
        source=asked.source,
    )
    records = work.run(entrants)
    tell_records(records, work.notes, output)
    if drawing is not None:
        drawing.records(records)
        typer.echo(f"{len(drawing.written)} plots are in {plots}.")


evaluate.__doc__ = f"{evaluate.__doc__}\n\n{EXAMPLE}"
