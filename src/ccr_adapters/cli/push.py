"""`ccr-adapters push`: an adapter folder into a repository of the Hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

EXAMPLE = """\b
Example:
  ccr-adapters push runs/de/adapter me/dasd-clip-de --private
"""


def push(
    folder: Annotated[Path, typer.Argument(help="Adapter folder, as training and save_pretrained write it.")],
    repo_id: Annotated[str, typer.Argument(metavar="REPOSITORY", help="owner/name; made if it is not there.")],
    private: Annotated[bool, typer.Option("--private", help="Make it private, if it is not there yet.")] = False,
    revision: Annotated[str | None, typer.Option(help="Branch; default main.")] = None,
    message: Annotated[str | None, typer.Option(help="Title of the commit.")] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Take languages away that only the repository has.")
    ] = False,
    token: Annotated[str | None, typer.Option(help="Default: HF_TOKEN, or what `hf auth login` keeps.")] = None,
) -> None:
    """Push an adapter to the Hub: checked first, then all files in one commit."""
    from ccr_adapters.hub import push_adapter

    pushed = push_adapter(
        folder, repo_id, private=private, token=token, revision=revision, commit_message=message, replace=replace
    )
    typer.echo(f"{pushed.files} files, {pushed.size:,} bytes, are in {pushed.repo_id}: {pushed.url}")


push.__doc__ = f"{push.__doc__}\n\n{EXAMPLE}"
