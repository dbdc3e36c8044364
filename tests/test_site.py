"""The site: links lead somewhere on GitHub and there, no page is left out, and quoted errors are those of the code."""

from __future__ import annotations

import ast
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from ccr_adapters.cli.main import app

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
# made while the site is built
PROJECT_PAGES = {"CONTRIBUTING.md", "CHANGELOG.md", "reference/commands.md"}


def hook(name: str) -> Any:
    """A hook of the site; it needs no mkdocs to be read."""
    spec = importlib.util.spec_from_file_location(f"site_{name}", DOCS / "site" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files(page):
    missing = [
        link for link in hook("links").links_of(page.read_text(encoding="utf-8")) if not (page.parent / link).is_file()
    ]
    assert missing == []


def test_a_file_outside_becomes_a_page():
    links = hook("links")
    assert links.leaving("docs/methods", "../../CONTRIBUTING.md") == "CONTRIBUTING.md"
    assert links.leaving("docs", "../examples/demo.py") == "examples/demo.py"
    assert links.leaving("docs/methods", "../results.md") is None
    assert [links.page_of(path) for path in ("CONTRIBUTING.md", "examples/a.py", "Makefile")] == [
        "CONTRIBUTING.md",
        "files/examples/a.md",
        "files/Makefile.md",
    ]
    assert links.links_of("[a](b.md#c) `x`\n```\n[d](e.md)\n```\n[f](https://g.h)") == ["b.md"]


def nav_of(entry: Any) -> Iterator[str]:
    """The pages of a navigation."""
    if isinstance(entry, str):
        yield entry
    for inner in entry.values() if isinstance(entry, dict) else entry if isinstance(entry, list) else ():
        yield from nav_of(inner)


def test_every_page_is_in_the_navigation():
    values = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    shown = list(nav_of(values["nav"]))
    there = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}
    assert len(shown) == len(set(shown))
    assert set(shown) == there | PROJECT_PAGES
    assert values["theme"]["font"] is False  # nothing is loaded from elsewhere


def test_the_page_of_the_commands_names_each_with_its_options():
    page, group = hook("commands").commands_page(app), typer.main.get_command(app)
    for name, command in group.commands.items():
        section = page.split(f"\n## {name}\n")[1].split("\n## ")[0]
        assert f"ccr-adapters {name}" in section
        for parameter in command.params:
            if parameter.param_type_name == "option" and parameter.name != "help":
                assert parameter.opts[0] in section


def flat(node: ast.AST) -> str | None:
    """A text of the code as a user reads it, `…` for what is put in."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return re.sub(r"%[sdg]|%\.\d[fg]", "…", node.value)
    if isinstance(node, ast.JoinedStr):
        parts = (part.value if isinstance(part, ast.Constant) else "…" for part in node.values)
        return "".join(part if isinstance(part, str) else "…" for part in parts)
    return None


def messages() -> set[str]:
    """Every text of the library; quotes around what is put in come from `!r` as often as from the text."""
    texts = set()
    for path in (ROOT / "src").rglob("*.py"):
        texts |= {flat(node) or "" for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))}
    return {text.replace("'…'", "…") for text in texts}


def test_every_quoted_error_is_in_the_code():
    page = (DOCS / "troubleshooting.md").read_text(encoding="utf-8")
    quoted = re.findall(r"^### `(.+)`$", page, flags=re.M)
    assert len(quoted) >= 15
    known = messages()
    missing = [text for text in quoted if not any(own.startswith(text.replace("'…'", "…")) for own in known)]
    assert missing == []
