"""The loops that the evaluation is measured against give its own numbers, and the benchmark runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ccr_adapters.evaluation import evaluate_retrieval

FOLDER = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def benchmark(programs):
    """The benchmark as a module."""
    return programs("evaluation")


@pytest.mark.parametrize("captions", [1, 3])
def test_the_loops_and_the_evaluator_agree(benchmark, captions):
    visual, text, answers = benchmark.made(60, captions, 16)
    ours = evaluate_retrieval(text, visual, answers, bootstrap=0).to_dict()
    right = benchmark.right_answers(answers, len(visual))
    for way, scores in (("t2i", text @ visual.T), ("i2t", visual @ text.T)):
        for name, value in benchmark.by_loops(scores, right[way]).items():
            assert ours[f"{way}_{name}"] == pytest.approx(value), (way, name)
        assert 0 < ours[f"{way}_r@1"] < 100


def test_it_runs(benchmark, tmp_path, capsys):
    options = ["--images", "40", "--captions", "2", "--width", "8", "--sample", "10", "--rounds", "1"]
    assert benchmark.main([*options, "--json", str(tmp_path / "found.json")]) == 0
    assert "40 images x 80 captions" in capsys.readouterr().out
    found = json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))
    assert found["loops"].keys() == {"t2i", "i2t"}
    assert found["sample"] == 10
