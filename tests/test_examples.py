"""Every example runs from start to end by its `--quick` switch, and says where it left its files."""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
# name -> files that it leaves below its output folder
GALLERY = {
    "search_my_photos": ["found.png", "photos.index"],
    "add_a_language": ["sw/noise/noise.md", "sw/training/adapter/README.md"],
    "compare_methods": ["de/recall.png", "de/results/transfer.json"],
    "multilingual_service": ["training/zh/adapter/config.json"],
    "convert_checkpoint": ["pytorch_model.bin.500", "dasd-de/config.json"],
}


def load(name: str):
    """An example as a module."""
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", GALLERY)
def test_an_example_runs_and_says_where_its_files_are(name, tmp_path, capsys):
    more = ["--methods", "transfer", "mla"] if name == "compare_methods" else []
    assert load(name).main(["--quick", "--output", str(tmp_path), *more]) == 0
    told = capsys.readouterr().out
    assert str(tmp_path) in told
    assert [path for path in GALLERY[name] if not (tmp_path / path).exists()] == []


def test_a_second_start_takes_what_is_there(tmp_path, capsys):
    module = load("convert_checkpoint")
    for _ in range(2):
        assert module.main(["--output", str(tmp_path)]) == 0
    assert "The same vectors." in capsys.readouterr().out


def test_a_wrong_conversion_is_seen(tmp_path, monkeypatch, capsys):
    module = load("convert_checkpoint")
    right = module.by_the_equations
    monkeypatch.setattr(module, "by_the_equations", lambda ids, *more: right(ids, *more).roll(1))
    assert module.main(["--output", str(tmp_path)]) == 1
    assert "OTHER VECTORS" in capsys.readouterr().out


@pytest.mark.parametrize("name", GALLERY)
def test_help_says_what_an_example_is(name, capsys):
    with pytest.raises(SystemExit, match="0"):
        load(name).main(["--help"])
    assert f"python examples/{name}.py" in capsys.readouterr().out


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_examples_use_names_that_are_public(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    ours = [node for node in imports if (node.module or "").startswith("ccr_adapters")]
    assert ours
    assert [alias.name for node in ours for alias in node.names if alias.name.startswith("_")] == []


def test_the_gallery_is_whole():
    page = (EXAMPLES.parent / "docs" / "examples.md").read_text(encoding="utf-8")
    for name in GALLERY:
        assert f"(../examples/{name}.py)" in page
        assert f"python examples/{name}.py" in page
