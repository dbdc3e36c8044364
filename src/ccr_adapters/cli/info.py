"""`ccr-adapters info`: what an adapter's bytes are made of, here or on the Hub."""

from __future__ import annotations

import json
from typing import Annotated

import typer

EXAMPLE = """\b
Example:
  ccr-adapters info runs/de/adapter
  ccr-adapters info org/dasd-clip-de --json
"""


def info(
    adapter: Annotated[str, typer.Argument(help="Folder, or owner/name of a repository.")],
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, with the hash of each file.")] = False,
    token: Annotated[str | None, typer.Option(help="Default: HF_TOKEN, or what `hf auth login` keeps.")] = None,
) -> None:
    """Say what an adapter is made of: base, methods, bytes by part and language; downloads no weights."""
    from ccr_adapters.hub import adapter_info

    found = adapter_info(adapter, revision=revision, token=token)
    typer.echo(json.dumps(found.to_dict(), indent=2) if as_json else found.to_text())


info.__doc__ = f"{info.__doc__}\n\n{EXAMPLE}"
