"""`ccr-adapters convert`: a checkpoint that a method's authors released becomes an adapter folder."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

EXAMPLE = """\b
Example:
  ccr-adapters convert --from dasd pytorch_model.bin.5000 --language de
  ccr-adapters convert --from nrccr model_best.pth.tar --language de --output runs/nrccr-de
"""


class Source(str, Enum):
    """Whose checkpoint it is."""

    DASD = "dasd"
    NRCCR = "nrccr"


def convert(
    path: Annotated[Path, typer.Argument(help="The authors' file; only tensors and plain values are read.")],
    method: Annotated[Source, typer.Option("--from", help="The method whose authors released it.")],
    language: Annotated[str, typer.Option(help="Its language; for dasd by its name in the file.")],
    output: Annotated[Path | None, typer.Option(help="Folder to write; default METHOD-LANGUAGE.")] = None,
    base: Annotated[
        str | None, typer.Option(help="What it was trained on (dasd: CLIP, nrccr: mBERT); default the public one.")
    ] = None,
    tokenizer: Annotated[str | None, typer.Option(help="dasd: mBERT's tokenizer; default the public one.")] = None,
    images: Annotated[str | None, typer.Option(help="nrccr over pictures: CLIP; default the public one.")] = None,
) -> None:
    """Turn a checkpoint of DASD's or NRCCR's authors into an adapter with the same vectors."""
    from ccr_adapters.hub.convert import convert_checkpoint

    converted = convert_checkpoint(
        path,
        language,
        output or Path(f"{method.value}-{language}"),
        method=method.value,
        base=base,
        tokenizer=tokenizer,
        images=images,
    )
    typer.echo(converted.to_text())


convert.__doc__ = f"{convert.__doc__}\n\n{EXAMPLE}"
