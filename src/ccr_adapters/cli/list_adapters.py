"""`ccr-adapters list`: adapters of the Hub for a base, a language, or both."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer

EXAMPLE = """\b
Example:
  ccr-adapters list --base openai/clip-vit-base-patch32 --language sw
"""


def list_(
    base: Annotated[str | None, typer.Option(help="Only for this base, by the name of its repository.")] = None,
    language: Annotated[str | None, typer.Option(help="Only with this language.")] = None,
    author: Annotated[str | None, typer.Option(help="Only of this user or organisation.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Most results.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
    token: Annotated[str | None, typer.Option(help="Shows private ones too; default: HF_TOKEN, or hf auth.")] = None,
) -> None:
    """List adapters of the Hub by the tags of their cards, the most downloaded first."""
    from ccr_adapters.hub import list_adapters

    found = list_adapters(base, language, author=author, limit=limit, token=token)
    if as_json:
        typer.echo(json.dumps([asdict(each) for each in found], indent=2))
        return
    if not found:
        typer.echo("No adapter has these tags.", err=True)
    for each in found:
        spoken = ",".join(each.languages) or "?"
        private = "  (private)" if each.private else ""
        typer.echo(f"{each.repo_id}  {spoken}  {each.method or '?'}  for {each.base or '?'}{private}")


list_.__doc__ = f"{list_.__doc__}\n\n{EXAMPLE}"
