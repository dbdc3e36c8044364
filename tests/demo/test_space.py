"""The files of a Space: what the Hub reads, and a program that builds the page."""

from __future__ import annotations

import runpy

import pytest
import yaml

from ccr_adapters.demo.space import write_space
from ccr_adapters.errors import ConfigError


@pytest.fixture(scope="module")
def adapters(model, tmp_path_factory):
    home = tmp_path_factory.mktemp("adapters")
    for code in ("de", "fr"):
        model.save_pretrained(home / code, language=code)
    return [home / "de", home / "fr"]


@pytest.fixture(scope="module")
def space(adapters, tmp_path_factory):
    folder = tmp_path_factory.mktemp("space") / "page"
    write_space(folder, adapters, ["de", "fr"], pictures=6)
    return folder


def test_the_header_is_what_the_hub_wants(space):
    front = yaml.safe_load((space / "README.md").read_text(encoding="utf-8").split("---\n")[1])
    assert front["sdk"] == "gradio"
    assert front["app_file"] == "app.py"
    assert front["title"] == "Search pictures in German and French"
    assert len(front["short_description"]) <= 60
    assert isinstance(front["sdk_version"], str)


def test_the_program_builds_the_page(space):
    names = runpy.run_path(str(space / "app.py"))
    assert names["model"].languages == ["de", "fr"]
    texts = [block.value for block in names["page"].blocks.values() if type(block).__name__ == "Button"]
    assert "Ein großes blaues Haus bei Nacht" in texts
    assert sorted(path.name for path in (space / "pictures").iterdir())[0].startswith("tiny_world_6")
    assert (space / "requirements.txt").read_text().startswith("ccr-adapters[demo]>=")


def test_a_folder_with_something_in_it_is_refused(adapters, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ConfigError, match="is there already"):
        write_space(tmp_path, adapters, ["de", "fr"])
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
