"""The pages of `docs/methods/` point at code, recipes and pages that are there."""

from __future__ import annotations

import importlib
import re
from dataclasses import is_dataclass
from pathlib import Path

import pytest

from ccr_adapters.cli.recipe import load_recipe
from ccr_adapters.methods import METHODS

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs" / "methods").glob("*.md"))
CONFIGS = sorted((ROOT / "examples" / "configs").glob("*.yaml"))
POINTER = re.compile(r"`([\w/]+\.py):([\w.]+)`")


@pytest.fixture(params=PAGES, ids=lambda path: path.stem)
def page(request):
    """A page's folder and text."""
    return request.param.parent, request.param.read_text(encoding="utf-8")


def resolve(file: str, name: str) -> object:
    """What `file:name` points at, if the file defines it and does not just import it."""
    module = importlib.import_module(f"ccr_adapters.{file.removesuffix('.py').replace('/', '.')}")
    found: object = module
    for part in name.split("."):
        found = found.__dict__[part] if isinstance(found, type) else getattr(found, part)
    home = getattr(found, "__module__", module.__name__)
    assert home == module.__name__, f"{file} takes {name} from {home}"
    return found


def test_every_row_of_a_table_points_at_code_that_is_there(page):
    found = POINTER.findall(page[1])
    assert found or page[1].startswith("# The methods\n")
    for file, name in found:
        resolve(file, name)


def test_a_wrong_pointer_is_seen():
    assert is_dataclass(resolve("methods/cl2cm.py", "CL2CMTerms"))
    for file, name in (
        ("objectives/triplet.py", "triplets"),
        ("methods/mla.py", "MLA.forward"),
        ("methods/mla.py", "DASD"),
    ):
        with pytest.raises((AttributeError, KeyError, AssertionError)):
            resolve(file, name)


def test_links_and_recipes_are_there(page):
    folder, text = page
    for link in re.findall(r"\]\(([^)#]+)\)", text):
        assert link.startswith("https://") or (folder / link).is_file(), link
    for recipe in re.findall(r"\b[\w/]+\.yaml", text):
        assert (ROOT / recipe if "/" in recipe else ROOT / "examples" / "configs" / recipe).is_file(), recipe


def test_every_page_says_the_same_things(page):
    text = page[1]
    assert text.count("```mermaid\n") == 1
    if not text.startswith("# The methods\n"):
        headings = [line.removeprefix("## ") for line in text.splitlines() if line.startswith("## ")]
        starts = ("From the paper", "Where we leave", "When to use", "What", "What", "How to run")
        assert len(headings) == len(starts)
        assert all(heading.startswith(start) for heading, start in zip(headings, starts, strict=True))


def test_the_index_knows_every_method_and_page():
    text = (ROOT / "docs" / "methods" / "index.md").read_text(encoding="utf-8")
    assert [name for name in METHODS if f"`{name}`" not in text] == []
    assert [path.name for path in PAGES if path.name != "index.md" and f"({path.name})" not in text] == []


def test_every_recipe_is_on_a_page():
    text = "".join(path.read_text(encoding="utf-8") for path in PAGES)
    assert [path.name for path in CONFIGS if path.name not in text] == []


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_recipes_do_not_share_a_folder(path):
    assert load_recipe(path).output_dir not in [load_recipe(other).output_dir for other in CONFIGS if other != path]
