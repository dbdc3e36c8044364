"""`ccr-adapters encode`: a corpus of captions or pictures to a folder of vectors, here or on a cluster."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ccr_adapters.cli.collections import load_model, printable, remembered
from ccr_adapters.cli.places import check_device, check_folder

if TYPE_CHECKING:
    from ccr_adapters.corpora import EncodeSummary
    from ccr_adapters.modeling import CCRModel

EXAMPLE = """\b
Example:
  ccr-adapters encode captions.jsonl --model org/dasd-clip-de --language de --output vectors
  ccr-adapters encode photos/ --model tiny_clip --output vectors
  ccr-adapters encode shards/*.tar --model tiny_clip --keep txt --output vectors
  accelerate launch -m ccr_adapters encode captions.parquet --model tiny_clip --output vectors
  ccr-adapters encode shards/*.tar --model tiny_clip --output /shared/vectors --ray --ray-address auto
"""


def load_for_encoding(name: str, device: str | None, precision: str, *, choose: bool = False) -> CCRModel:
    """Load a model in a precision; workers of a cluster call this too.

    Raises:
        LanguageError: With `choose`, if it has several languages and nobody chose one.
    """
    import torch

    from ccr_adapters.errors import LanguageError

    model = load_model([name], device)
    if choose and len(model.languages) > 1:
        raise LanguageError(f"The model knows {', '.join(model.languages)} and en: say which with --language.")
    # the hash is of bfloat16, and what went through float16 rounds to another one
    model.verified_sha256 = model.base_sha256()
    return model.to(dtype=getattr(torch, precision))  # type: ignore[call-arg]


def _told(summary: EncodeSummary, what: str) -> str:
    """What was done, in a few lines."""
    rate = f"{summary.encoded / summary.seconds:.0f} a second" if summary.seconds else "at once"
    folder = printable(summary.folder)
    lines = [
        f"{summary.rows:,} vectors of {what} are in {folder} ({summary.shards:,} shards).",
        f"{summary.encoded:,} were encoded by this run in {summary.seconds:.1f} s ({rate})."
        if summary.encoded
        else "All of them were there already.",
    ]
    if summary.skipped:
        lines.append(f"{summary.skipped:,} were skipped; {Path(folder) / 'skipped.jsonl'} says which and why.")
    return "\n".join(lines)


def encode(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT...",
            help="Files of one kind (.txt, .csv, .tsv, .jsonl, .parquet, .tar), or folders of pictures or of such shards.",
        ),
    ],
    model: Annotated[str, typer.Option(help="Base or adapter: repository, folder or tiny_clip.")],
    output: Annotated[Path, typer.Option(help="Folder for the vectors; the same command goes on with it.")],
    language: Annotated[
        str | None, typer.Option(help="Language of the captions; default the model's, en is the base.")
    ] = None,
    captions: Annotated[str | None, typer.Option(help="Column of captions; of a tar txt or json.KEY.")] = None,
    pictures: Annotated[
        str | None, typer.Option(help="Column of pictures, as paths or bytes; of a tar its ending.")
    ] = None,
    id_: Annotated[
        str | None, typer.Option("--id", help="Column of names; default id, image_id, key or a number.")
    ] = None,
    keep: Annotated[list[str] | None, typer.Option(help="Column to write beside the vectors; repeatable.")] = None,
    dtype: Annotated[str, typer.Option(help="Of the vectors: float32 or float16.")] = "float32",
    precision: Annotated[str, typer.Option(help="Of the model: float32, bfloat16 or float16.")] = "float32",
    shard_rows: Annotated[int, typer.Option(min=1, help="Most rows of a shard; a kill costs one at most.")] = 8192,
    batch_size: Annotated[
        int | None,
        typer.Option(min=1, help="Rows a forward pass; default 64 pictures, or captions to a budget of tokens."),
    ] = None,
    workers: Annotated[int, typer.Option(min=0, help="Threads that read and decode pictures; 0: up to four.")] = 0,
    device: Annotated[str | None, typer.Option(help="Default: the accelerator if there is one.")] = None,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Go on where none of the pictures of a shard is there.")
    ] = False,
    ray: Annotated[bool, typer.Option("--ray", help="Encode on a Ray cluster.")] = False,
    ray_address: Annotated[
        str | None, typer.Option(help="Of the cluster, or auto; default: one on this machine.")
    ] = None,
    num_workers: Annotated[int, typer.Option(min=1, help="With --ray: actors that have the model.")] = 2,
    as_json: Annotated[bool, typer.Option("--json", help="What was done as JSON.")] = False,
) -> None:
    """Encode captions or pictures into Parquet shards of vectors; run it again to go on after an interruption."""
    from ccr_adapters.corpora import Settings, choose_columns, encode_corpus, encode_on_ray, find_inputs, process_state

    check_folder(output)
    check_device(device)
    files = find_inputs(inputs)
    columns = choose_columns(files, captions=captions, pictures=pictures, id=id_, keep=keep or [])
    settings = Settings(shard_rows, dtype, precision)
    common = {
        "name": remembered(model),
        "language": language or "active",
        "settings": settings,
        "batch_size": batch_size,
        "workers": workers or min(4, os.cpu_count() or 1),
        "allow_missing": allow_missing,
    }
    choose = language is None and columns.what == "captions"
    try:
        if ray:
            load = partial(load_for_encoding, remembered(model), device, precision, choose=choose)
            cluster = {"address": ray_address, "num_workers": num_workers}
            summary = encode_on_ray(files, columns, output, load, **common, **cluster)  # type: ignore[arg-type]
        else:
            state = process_state()
            here = device or (str(state.device) if state.num_processes > 1 else None)
            loaded = load_for_encoding(model, here, precision, choose=choose)
            summary = encode_corpus(files, columns, output, loaded, **common)  # type: ignore[arg-type, assignment]
    except KeyboardInterrupt:
        typer.echo(f"Stopped. Finished shards are in {printable(str(output))}; the same command goes on.", err=True)
        raise typer.Exit(130) from None
    # processes beside the main one have nothing to tell
    if summary is not None:
        typer.echo(json.dumps(asdict(summary), indent=2) if as_json else _told(summary, columns.what))


encode.__doc__ = f"{encode.__doc__}\n\n{EXAMPLE}"
