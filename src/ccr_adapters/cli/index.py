"""`ccr-adapters index`: pictures and videos into an index that can be searched in any language."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ccr_adapters.cli.collections import load_model, models_for, printable, remembered
from ccr_adapters.cli.index_vectors import index_vectors, vector_folders

if TYPE_CHECKING:
    from ccr_adapters.search import Notes, Source, Summary

EXAMPLE = """\b
Example:
  ccr-adapters index photos/ --index photos.index --model org/dasd-clip-de
  ccr-adapters index shop.csv --index shop.index --model tiny_clip --column image=file
  ccr-adapters index --index photos.index
"""

# what of the options is for folders of vectors too
_OF_VECTORS = ("sources", "index_", "name", "keep", "wait", "notes", "collection", "token")


def _columns(given: list[str]) -> dict[str, str]:
    from ccr_adapters.errors import ConfigError

    found = dict(each.split("=", 1) for each in given if "=" in each)
    wrong = [each for each in given if each.partition("=")[0] not in ("image", "id") or not each.partition("=")[2]]
    if wrong:
        raise ConfigError(f"`--column {wrong[0]}`: write image=NAME or id=NAME, with the name in the table.")
    return found


def _sources(
    places: list[str], notes: Notes, name: str | None, recursive: bool, every: float, columns: dict[str, str]
) -> list[Source]:
    """What the user names, or everything that the collection remembers."""
    from ccr_adapters.errors import SearchIndexError
    from ccr_adapters.search import SourceRecord, source_of

    if not places:
        if not notes.sources:
            raise SearchIndexError("Nothing was indexed here yet: name a folder, a table or a tar.")
        return [record.open() for record in notes.sources]
    if name is not None and len(places) > 1:
        raise SearchIndexError(f"One name, {name!r}, for {len(places)} sources. Index them one by one.")
    known, found = list(notes.sources), []
    for place in places:
        how: dict[str, Any] = {"recursive": recursive, "every": every, "columns": columns}
        source = source_of(place, known, name=name, taken=notes.vectors, **how)
        known.append(SourceRecord.of(source))
        found.append(source)
    return found


def _told(summary: Summary, index: str) -> str:
    """What was done, in a few lines."""
    rate = summary.encoded / summary.seconds if summary.seconds else 0.0
    lines = [
        f"{summary.total:,} pictures are in {printable(index)}: {summary.added:,} new, {summary.changed:,} changed, "
        f"{summary.unchanged:,} unchanged, {summary.removed:,} removed.",
        f"{summary.encoded:,} were encoded in {summary.seconds:.1f} s ({rate:.0f} a second).",
    ]
    if not summary.total:
        lines.append("There was nothing to index: check the path.")
    if summary.others:
        lines.append(f"{summary.others:,} other files are neither pictures nor videos.")
    if summary.skipped:
        lines.append(f"{summary.skipped:,} were skipped; {printable(summary.report)} says which and why.")
    return "\n".join(lines)


def _refuse_for_vectors(context: typer.Context) -> None:
    """Refuse options of the command line that say how pictures are read and encoded, where there are none."""
    from ccr_adapters.errors import ConfigError

    for each in context.command.params:
        source = context.get_parameter_source(str(each.name))
        if each.name not in _OF_VECTORS and source is not None and source.name == "COMMANDLINE":
            raise ConfigError(f"`{each.opts[0]}` does not apply to a folder of vectors; leave it out.")


def index(
    context: typer.Context,
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            help="Folders, .csv/.tsv/.jsonl/.parquet tables, .tar shards, vectors of `encode`; default: those indexed before."
        ),
    ] = None,
    index_: Annotated[
        str, typer.Option("--index", help="Folder (FAISS), .db file (Milvus Lite) or http:// address (Milvus).")
    ] = ...,  # type: ignore[assignment]
    model: Annotated[
        str | None, typer.Option(help="Base or adapter: repository, folder or tiny_clip; the index remembers it.")
    ] = None,
    recursive: Annotated[bool, typer.Option(help="Of a folder: also everything below.")] = True,
    every: Annotated[float, typer.Option(min=0, help="Seconds between two frames of a video; 0: no videos.")] = 2.0,
    column: Annotated[list[str] | None, typer.Option(help="Names in a table: image=file, id=sku; repeatable.")] = None,
    name: Annotated[
        str | None, typer.Option(help="Name of the source; that of one that has moved here keeps its vectors.")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Pictures a forward pass, saved together.")] = 64,
    workers: Annotated[int, typer.Option(min=0, help="Threads that read and decode; 0: up to four.")] = 0,
    device: Annotated[str | None, typer.Option(help="Default: the accelerator if there is one.")] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave in the index what is gone from a source.")] = False,
    allow_empty: Annotated[
        bool, typer.Option("--allow-empty", help="Remove what came from a source that looks empty now.")
    ] = False,
    forget: Annotated[
        str | None, typer.Option(help="Take the source, or the vectors, of this name out of the index.")
    ] = None,
    wait: Annotated[float, typer.Option(min=0, help="Seconds to wait for another indexer.")] = 0.0,
    notes: Annotated[Path | None, typer.Option(help="Folder for what is known of the files; for a cluster.")] = None,
    collection: Annotated[str, typer.Option(help="Name of the Milvus collection.")] = "pictures",
    token: Annotated[
        str | None, typer.Option("--milvus-token", envvar="MILVUS_TOKEN", help="Token of a Milvus cluster.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="What was done as JSON.")] = False,
) -> None:
    """Index pictures and videos; run it again to bring the index up to date, or to go on after an interruption."""
    from ccr_adapters.errors import SearchIndexError
    from ccr_adapters.search import Collection, Notes
    from ccr_adapters.search.notes import notes_folder

    if vectors := vector_folders(list(sources or [])):
        _refuse_for_vectors(context)
        index_vectors(vectors, index_, notes=notes, name=name, keep=keep, wait=wait, token=token, collection=collection)
        return
    known = Notes.read(notes_folder(index_, notes))
    chosen = [] if forget else _sources(list(sources or []), known, name, recursive, every, _columns(column or []))
    wanted = remembered(model) if model else known.model
    if wanted is None:
        raise SearchIndexError("The index knows no model yet: give one with --model, for example tiny_clip.")
    if not model:
        models_for(None, wanted)
    # heavy, and so after everything that may be wrong in the command
    from ccr_adapters.search.encoder import PictureEncoder

    encoder = PictureEncoder(load_model([wanted], device))
    place = {"notes": notes, "token": token, "collection": collection}
    with Collection.open_or_create(index_, encoder, model=wanted, wait=wait, **place) as opened:  # type: ignore[arg-type]
        if forget:
            what = "vectors" if forget in opened.notes.vectors else "pictures"
            typer.echo(f"{opened.forget(forget):,} {what} of {printable(forget)} were taken out.")
            return
        if opened.notes.sources != known.sources or opened.notes.vectors != known.vectors:
            # another indexer wrote them until the lock was ours
            chosen = _sources(list(sources or []), opened.notes, name, recursive, every, _columns(column or []))
        try:
            summary = opened.update(
                chosen,
                encoder,
                batch_size=batch_size,
                workers=workers or min(4, os.cpu_count() or 1),
                keep=keep,
                allow_empty=allow_empty,
            )
        except KeyboardInterrupt:
            typer.echo(f"Stopped. {len(opened.index):,} pictures are in the index; the same command goes on.", err=True)
            raise typer.Exit(130) from None
    typer.echo(json.dumps(asdict(summary), indent=2) if as_json else _told(summary, index_))


index.__doc__ = f"{index.__doc__}\n\n{EXAMPLE}"
