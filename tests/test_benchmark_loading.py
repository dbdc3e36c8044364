"""The parts of the benchmark of many languages that need no large model to be tested."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

FILE = Path(__file__).parents[1] / "benchmarks" / "loading.py"


@pytest.fixture(scope="module")
def loading():
    """The benchmark as a module; benchmarks/ is no package."""
    spec = importlib.util.spec_from_file_location("loading_under_test", FILE)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def test_rows_take_turns_and_the_first_turn_does_not_count(loading):
    turns = []
    rows = {name: lambda name=name: turns.append(name) for name in "ab"}
    found = loading.alternating(rows, 3)
    assert turns == ["a", "b"] * 4
    assert set(found) == {"a", "b"}


def test_made_up_captions_are_many_words_and_the_same_each_time(loading):
    captions = loading.made_up(3, words=500, captions=400)
    assert captions == loading.made_up(3, words=500, captions=400) != loading.made_up(4, words=500, captions=400)
    assert len({word for caption in captions for word in caption.split()}) > 300


def test_figures_are_told_against_their_targets(loading, capsys, tmp_path):
    seconds = {
        "base, model alone": 1.0,
        "adapter with its base": 1.2,
        "set_language": 2e-3,
        "64 captions, 1 language": 1.0,
        "64 captions, 8 languages": 1.0,
    }
    parts = {"adapter": 6.0, "vocabulary": 7.0, "all": 13.0}
    size = {f"rank 128, {name}, {dtype}": parts for name in ("a", "b", "c") for dtype in ("float32", "float16")}
    loading.report(seconds, {"50th, tensors": 5, "files": 5}, size, tmp_path / "figures.json")
    told = capsys.readouterr().out.splitlines()
    verdicts = {line.split("  ")[0]: line.split()[-1] for line in told if "at most" in line}
    assert verdicts == {
        "load, adapter / base": "met",
        "set_language, ms": "MISSED",
        "64 captions, 8 languages / 1": "met",
        "50th language, bytes / its own": "met",
        "download in MB, rank 128, c, float16": "MISSED",
    }
    assert (tmp_path / "figures.json").is_file()
