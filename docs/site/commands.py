"""A hook of the site: the page of the commands, written from the command line itself, so that it cannot be out of date."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files

PAGE = "reference/commands.md"
HEAD = """# Commands

`ccr-adapters COMMAND --help` prints the same. `ccr-adapters --verbose COMMAND` tells what is done, not only what went wrong.

"""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the page."""
    from mkdocs.structure.files import File

    from ccr_adapters.cli.main import app

    files.append(File.generated(config, PAGE, content=commands_page(app)))
    return files


def commands_page(app: typer.Typer) -> str:
    """What each command does, an example, its arguments and options.

    Args:
        app: The command line.

    Returns:
        Markdown.
    """
    group: Any = typer.main.get_command(app)
    return HEAD + "\n".join(_section(name, command) for name, command in group.commands.items())


def _section(name: str, command: Any) -> str:
    about, _, example = (command.help or "").partition("\b\nExample:\n")
    lines = [f"## {name}", "", about.strip(), "", "```bash", textwrap.dedent(example).rstrip(), "```", ""]
    rows = [_row(each) for each in command.params if not getattr(each, "hidden", False) and each.name != "help"]
    return "\n".join([*lines, "| name | what | default |", "|---|---|---|", *rows, ""])


def _row(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        name = parameter.metavar or parameter.name
    else:
        name = " / ".join([*parameter.opts, *parameter.secondary_opts])
    unset = parameter.default in (None, (), []) or parameter.default is Ellipsis or callable(parameter.default)
    default = "required" if parameter.required else "" if unset else f"`{parameter.default}`"
    about = (parameter.help or "").replace("|", "\\|")
    return f"| `{name}` | {about} | {default} |"
