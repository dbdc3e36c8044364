"""The pages keep their word: blocks of python run, and commands of bash are ones that there are."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from ccr_adapters import CCRModel, DASDConfig
from ccr_adapters.cli.main import app
from ccr_adapters.cli.recipe import load_recipe
from ccr_adapters.dasd.families import ANATOMIES
from ccr_adapters.data import tiny_clip_path
from ccr_adapters.data.tiny_world import build_moving_world, render, sample_scenes

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pytest brings it

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
BLOCK = re.compile(r"(<!-- not run: (?P<why>[^>]+?) -->\s*)?^```(?P<kind>python|bash)\n(?P<code>.*?)^```", re.M | re.S)
# commands of ours that take a moment, on the files of the working directory
CHEAP = {"index", "search", "info"}
# what cannot end by itself, or not alone; the tests of those rooms have what it takes
NEEDS = {"http://localhost": "a running server", "launch(": "somebody who ends it", "mteb.evaluate(": "the Hub"}
# programs of others
FOREIGN = {"curl", "docker", "git", "hf", "cd"}


@dataclass(frozen=True)
class Block:
    """A block of code on a page; `why` says what it would need to run."""

    page: Path
    kind: str
    line: int
    code: str
    why: str | None


def blocks_of(page: Path) -> list[Block]:
    """The blocks of a page in order."""
    found, page_text = [], page.read_text(encoding="utf-8")
    for match in BLOCK.finditer(page_text):
        needs = [why for words, why in NEEDS.items() if match["kind"] == "python" and words in match["code"]]
        line = page_text.count("\n", 0, match.start("code"))
        found.append(Block(page, match["kind"], line, match["code"], match["why"] or next(iter(needs), None)))
    return found


BLOCKS = {page: blocks_of(page) for page in PAGES}


# What the commands of a page write for its blocks of Python.
WRITTEN_FIRST = {"export.md": "exported", "encode.md": "encoded"}


def pages_with(kind: str) -> list[Any]:
    """Pages that have a kind of block, as parameters."""
    named = [(page, str(page.relative_to(ROOT))) for page in PAGES if any(b.kind == kind for b in BLOCKS[page])]
    return [pytest.param(page, id=name) for page, name in named]


def commands(code: str) -> list[list[str]]:
    """The commands of a block of bash, comments and variables in front left out."""
    found = []
    for line in code.replace("\\\n", " ").splitlines():
        for part in line.split(" && "):
            words = shlex.split(part, comments=True)
            while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):
                words.pop(0)
            if words:
                found.append(words)
    return found


@pytest.fixture(scope="session")
def place(tmp_path_factory) -> Path:
    """A working directory with what the pages name: adapters, pictures, a video; a repository is a folder here."""
    home = tmp_path_factory.mktemp("docs")
    shutil.copytree(tiny_clip_path(), home / "openai/clip-vit-base-patch32")
    for code in ("de", "cs"):
        model = CCRModel.from_base("tiny_clip")
        model.add_language(code, DASDConfig(r=4, generator_rank=4))
        model.save_pretrained(home / f"org/dasd-clip-{code}")
    for copy in ("path/to/adapter", "runs/tiny_dasd_de/adapter", "runs/de/adapter"):
        shutil.copytree(home / "org/dasd-clip-de", home / copy)
    (home / "photos").mkdir()
    for index, scene in enumerate(sample_scenes(train=0, validation=0, test=12)["test"]):
        render(scene, size=64).save(home / f"photos/{index}.png")
    for name in ("dog.jpg", "harbour.jpg"):
        render(scene, size=64).save(home / name)
    build_moving_world(home / "clips", "de", train=2, validation=2, test=2)
    shutil.copy(next((home / "clips").rglob("*.mp4")), home / "clip.mp4")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        index = ["index", "photos", "--index", "photos.index", "--model", "org/dasd-clip-de"]
        assert CliRunner().invoke(app, index).exit_code == 0
    shutil.copytree(ROOT / "examples", home / "examples", ignore=shutil.ignore_patterns("__pycache__"))
    return home


@pytest.fixture
def exported(place, names) -> None:
    """What the page on exports writes first."""
    words = ["export", "org/dasd-clip-de", "--tower", "both", "--output", "exports/de"]
    assert CliRunner().invoke(app, words).exit_code == 0


@pytest.fixture
def encoded(place, names) -> None:
    """What the page on encoding writes first."""
    words = ["encode", "photos", "--model", "tiny_clip", "--output", "vectors"]
    assert CliRunner().invoke(app, words).exit_code == 0


@pytest.fixture
def names(place, monkeypatch) -> Iterator[dict[str, Any]]:
    """What a page's python blocks may take as given; the working directory is `place`."""
    monkeypatch.chdir(place)
    before = dict(ANATOMIES)
    model = CCRModel.from_pretrained("org/dasd-clip-de")
    yield {
        "__name__": "page",
        "model": model,
        "picture": Image.open("dog.jpg"),
        "frames": np.zeros((3, 32, 32, 3), np.uint8),
        "features": np.ones((3, model.embedding_dim), "f4"),
    }
    ANATOMIES.clear()
    ANATOMIES.update(before)


@pytest.mark.parametrize("page", pages_with("python"))
def test_python_blocks_run_in_order(page, names, request):
    if page.name in WRITTEN_FIRST:
        request.getfixturevalue(WRITTEN_FIRST[page.name])
    for block in BLOCKS[page]:
        if block.kind == "python":
            code = compile("\n" * block.line + block.code, str(page), "exec")  # errors name the line of the page
            if block.why is None:
                exec(code, names)


def test_few_blocks_are_not_run():
    left_out = [block for blocks in BLOCKS.values() for block in blocks if block.why]
    assert len(left_out) <= 6, [(block.page.name, block.why) for block in left_out]


def check_ours(words: list[str], run: bool) -> None:
    """Parse a command of `ccr-adapters` as the command line does, and run it if that is cheap and it can run here."""
    if words[0].startswith("-"):
        assert CliRunner().invoke(app, words).exit_code == 0
        return
    group: Any = typer.main.get_command(app)
    assert words[0] in group.commands, words
    if run and words[0] in CHEAP and "--help" not in words:
        done = CliRunner().invoke(app, words)
        assert done.exit_code == 0, (words, done.output)
    else:
        group.commands[words[0]].make_context(words[0], words[1:])


def check_script(words: list[str]) -> None:
    """A script of the repository: it is there and knows the options; its recipe can be read."""
    path = ROOT / words[0]
    assert path.is_file(), words
    text = path.read_text(encoding="utf-8")
    if "add_outputs(" in text:  # the options that all benchmarks have
        text += path.with_name("writing.py").read_text(encoding="utf-8")
    for word in words[1:]:
        if word.startswith("--") and word != "--help":
            assert f'"{word.partition("=")[0]}"' in text, f"{words[0]} has no {word}"
    if words[0] == "examples/train.py":
        load_recipe(ROOT / words[1], words[2:])


def check_make(targets: list[str]) -> None:
    known = re.findall(r"^([a-z-]+):.* ## ", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.M)
    assert {target for target in targets if "=" not in target and not target.startswith("-")} <= set(known)


def check_pip(words: list[str]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for names in re.findall(r"(?:ccr-adapters|\.)\[([\w,-]+)\]", " ".join(words)):
        assert set(names.split(",")) <= set(project["optional-dependencies"]), names


def check(words: list[str], run: bool = True) -> None:
    """Check one command; `names` must be set up, as cheap ones are run."""
    match words:
        case ["ccr-adapters", *rest]:
            check_ours(rest, run)
        case ["accelerate", "launch", *rest] if "ccr_adapters" in rest:
            check_ours(rest[rest.index("ccr_adapters") + 1 :], run)
        case ["accelerate", "launch", *rest]:
            first = next(index for index, word in enumerate(rest) if word.endswith(".py"))
            check_script(rest[first:])
        case ["python", "-c", code]:
            exec(compile(code, "python -c", "exec"), {})
        case ["python", script, *rest]:
            check_script([script, *rest])
        case ["make", *targets]:
            check_make(targets)
        case ["pip", "install", *rest]:
            check_pip(rest)
        case [program, *_]:
            assert program in FOREIGN, f"{program}: is it a command of ours, or of others?"


@pytest.mark.parametrize("page", pages_with("bash"))
def test_commands_are_ones_that_there_are(page, names):
    for block in BLOCKS[page]:
        if block.kind == "bash":
            for words in commands(block.code):
                check(words, run=block.why is None)


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("ccr-adapters serch 'ein Hund' --index photos.index", "serch"),
        ("ccr-adapters serve --modell tiny_clip", "--modell"),
        ("ccr-adapters index photos/", "--index"),
        ("ccr-adapters search 'ein Hund' --language fr --index photos.index", "fr.* has no adapt"),
        ("python examples/demo.py --lang de", "has no --lang"),
        ("python examples/demos.py", "demos.py"),
        ("make demos", "demos"),
        ("pip install 'ccr-adapters[serch]'", "serch"),
        ("ccradapters index", "ccradapters"),
    ],
)
def test_a_wrong_command_is_seen(command, message, names):
    (words,) = commands(command)
    with pytest.raises(Exception, match=message):
        check(words)


def test_the_commands_of_a_block():
    code = "# first\nKEY=1 a --b 'c d'  # more\na \\\n  e && f\n"
    assert commands(code) == [["a", "--b", "c d"], ["a", "e"], ["f"]]
