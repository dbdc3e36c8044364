"""The command `ccr-adapters`: its subcommands, and how errors of a user are told."""

from __future__ import annotations

import logging
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from ccr_adapters import __version__
from ccr_adapters.cli.add_language import add_language
from ccr_adapters.cli.command_train import train
from ccr_adapters.cli.convert import convert
from ccr_adapters.cli.demo import demo
from ccr_adapters.cli.encode import encode
from ccr_adapters.cli.evaluate import evaluate
from ccr_adapters.cli.export import export
from ccr_adapters.cli.index import index
from ccr_adapters.cli.info import info
from ccr_adapters.cli.list_adapters import list_
from ccr_adapters.cli.noise_report import noise_report
from ccr_adapters.cli.places import refusal
from ccr_adapters.cli.pull import pull
from ccr_adapters.cli.push import push
from ccr_adapters.cli.report import report
from ccr_adapters.cli.search import search
from ccr_adapters.cli.serve import serve
from ccr_adapters.cli.translate import translate
from ccr_adapters.cli.trim_vocab import trim_vocab
from ccr_adapters.errors import CCRError


class _Commands(TyperGroup):
    """Tells an error of the package in a line instead of a traceback."""

    def invoke(self, ctx: Any) -> Any:
        """Run a subcommand."""
        try:
            return super().invoke(ctx)
        except (CCRError, OSError) as error:
            told = str(error) if isinstance(error, CCRError) else refusal(error)
            if told is None:
                raise
            typer.echo(f"error: {told}", err=True)
            raise typer.Exit(1) from error


app = typer.Typer(
    name="ccr-adapters",
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Teach an English-only dual encoder a new language with a small adapter.",
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"ccr-adapters {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Tell what is done, not only what went wrong.")
    ] = False,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Version.")] = False,
) -> None:
    # kept out of the help: the text of the app stands there
    logging.basicConfig(level=logging.INFO if verbose else logging.WARNING, format="%(levelname)s %(message)s")
    # peft imports it where it is installed, and it tells whoever does which kernels it would like to have
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)


for _name, _command in (
    ("train", train),
    ("translate", translate),
    ("noise-report", noise_report),
    ("add-language", add_language),
    ("evaluate", evaluate),
    ("report", report),
    ("push", push),
    ("pull", pull),
    ("list", list_),
    ("info", info),
    ("trim-vocab", trim_vocab),
    ("convert", convert),
    ("export", export),
    ("encode", encode),
    ("index", index),
    ("search", search),
    ("demo", demo),
    ("serve", serve),
):
    app.command(_name)(_command)


def main() -> None:
    """Run the command."""
    app(prog_name="ccr-adapters")
