"""`ccr-adapters trim-vocab`: a vocabulary with only the rows that some languages use."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ccr_adapters.cli.places import check_folder

EXAMPLE = """\b
Example:
  ccr-adapters trim-vocab org/dasd-clip-de --languages de --corpus captions.de.txt --output runs/de-small
  ccr-adapters trim-vocab FacebookAI/xlm-roberta-base --languages de,fr --corpus de.txt --corpus fr.txt --output xlmr-de-fr
"""


def trim_vocab(
    name: Annotated[str, typer.Argument(metavar="ADAPTER_OR_BASE", help="Folder, or owner/name of a repository.")],
    languages: Annotated[
        str, typer.Option(help="Codes, with commas: those of an adapter to write, of a base to keep.")
    ],
    output: Annotated[Path, typer.Option(help="Where to; a new folder.")],
    corpus: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[CODE=]FILE",
            help="Texts, one a line, whose pieces stay; several times. Default: rows that were trained, or pieces in the script.",
        ),
    ] = None,
    half: Annotated[
        bool, typer.Option("--half", help="Write rows in float16: half the bytes, not the same bits.")
    ] = False,
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit.")] = None,
    token: Annotated[str | None, typer.Option(help="Default: HF_TOKEN, or what `hf auth login` keeps.")] = None,
) -> None:
    """Leave out the tokens that some languages do not use; texts of the corpus keep their pieces and vectors to the bit."""
    check_folder(output)
    import torch

    from ccr_adapters.hub.trim import read_corpora, trim_vocabulary

    codes = list(dict.fromkeys(code.strip() for code in languages.split(",") if code.strip()))
    texts = read_corpora(corpus or [], codes)
    dtype = torch.float16 if half else None
    for report in trim_vocabulary(name, output, codes, texts, dtype=dtype, revision=revision, token=token):
        typer.echo(report.to_text())
    typer.echo(f"Written to {output}.")


trim_vocab.__doc__ = f"{trim_vocab.__doc__}\n\n{EXAMPLE}"
