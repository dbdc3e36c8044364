"""The parts of the benchmark of many languages that need no large model to be tested."""

from __future__ import annotations

from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def loading(programs):
    """The benchmark as a module."""
    return programs("loading")


def test_made_up_captions_are_many_words_and_the_same_each_time(loading):
    captions = loading.made_up(3, words=500, captions=400)
    assert captions == loading.made_up(3, words=500, captions=400) != loading.made_up(4, words=500, captions=400)
    assert len({word for caption in captions for word in caption.split()}) > 300


def test_figures_are_told_against_their_targets(loading):
    seconds = {
        "base, model alone": 1.0,
        "adapter with its base": 1.2,
        "set_language": 2e-3,
        "64 captions, 1 language": 1.0,
        "64 captions, 8 languages": 1.0,
    }
    parts = {"adapter": 6.0, "vocabulary": 7.0, "all": 13.0}
    size = {f"rank 128, {name}, {dtype}": parts for name in ("a", "b", "c") for dtype in ("float32", "float16")}
    shown, figures = loading.tables(seconds, {"50th, tensors": 5, "files": 5}, size)
    assert {row["what"]: row["verdict"] for row in shown[-1]} == {
        "load, adapter / base": "met",
        "set_language, ms": "missed",
        "64 captions, 8 languages / 1": "met",
        "50th language, bytes / its own": "met",
        "download in MB, rank 128, c, float16": "missed",
    }
    assert figures["set_language, ms"] == 2.0
