"""`ccr-adapters pull`: the languages asked for of an adapter repository into the cache."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

EXAMPLE = """\b
Example:
  ccr-adapters pull org/dasd-clip --language de --language cs
"""


def pull(
    repo_id: Annotated[str, typer.Argument(metavar="REPOSITORY", help="owner/name.")],
    language: Annotated[list[str] | None, typer.Option(help="Only this one; may be given several times.")] = None,
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit.")] = None,
    cache_dir: Annotated[Path | None, typer.Option(help="Another cache than the Hub's usual one.")] = None,
    token: Annotated[str | None, typer.Option(help="Default: HF_TOKEN, or what `hf auth login` keeps.")] = None,
) -> None:
    """Download an adapter, so that it loads without network; prints the folder."""
    from ccr_adapters.hub import pull_adapter

    typer.echo(str(pull_adapter(repo_id, language or None, revision=revision, token=token, cache_dir=cache_dir)))


pull.__doc__ = f"{pull.__doc__}\n\n{EXAMPLE}"
