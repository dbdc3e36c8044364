"""`ccr-adapters report`: one table with what belongs to its numbers, plots, and comparisons in words."""

from __future__ import annotations

import json

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from ccr_adapters.cli.main import app
from ccr_adapters.evaluation import RetrievalMetrics, RetrievalRanks, metric_intervals, write_record

LEAKED = {
    "setting": "leaked (2 of 20 test images were in the training data)",
    "report": "2 of 20 test images are among the 5 training images (2 by id, 0 by looks): a, b.",
    "overlap": {"is_leak": True, "leaked": ["a", "b"]},
}
UNKNOWN = {"setting": "not checked", "report": "The training images were not named.", "overlap": None}


def run(*arguments):
    return CliRunner().invoke(app, ["report", *(str(argument) for argument in arguments)])


def ranks_with(right, images=20):
    """So many of 20 captions find their picture first, all others last; the same the other way."""
    places = torch.tensor([1] * right + [images] * (images - right))
    return RetrievalRanks(places, places, 1 / places.double(), 1 / places.double(), torch.arange(images), images)


@pytest.fixture
def result(tmp_path):
    def make(label, right, *, language="de", leak=UNKNOWN, questions="q", **facts):
        ranks = ranks_with(right)
        metrics = RetrievalMetrics.from_ranks(ranks, bootstrap=50)
        own = {
            "questions": f"{questions}-{language}",
            "protocol": "twenty pictures, both ways",
            "problems": facts.get("problems", {}),
            "intervals": metric_intervals(ranks, resamples=50),
            "setting": leak["setting"],
            "leak": leak,
        }
        names = {"dataset": "toy", "model": "clip", "pretrained": label, "task": "retrieval", "language": language}
        path = tmp_path / "eval" / f"toy__{label}__{language}.json"
        return write_record(path, names, metrics, own).path

    return make


def test_a_table_with_what_belongs_to_its_numbers(result, tmp_path):
    bad = {"empty captions": {"count": 3, "examples": ["line 7: the caption is empty"]}}
    result("dasd", 15, leak=LEAKED, problems=bad)
    result("base", 5)
    result("dasd", 10, language="fr")
    found = run(tmp_path / "eval", "--write", tmp_path / "out" / "table.md")
    assert found.exit_code == 0, found.output
    assert "3 results" in found.output
    text = (tmp_path / "out" / "table.md").read_text(encoding="utf-8")
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("| toy")
    ]
    assert [row[1:4] for row in rows] == [
        ["de", "clip (base)", "25.0"],
        ["de", "dasd", "75.0"],
        ["fr", "dasd", "50.0"],
        ["mean of de, fr", "dasd", "62.5"],
    ]
    assert rows[3][-1] == "differs"
    assert rows[1][-1] == LEAKED["setting"]
    assert "- toy (de, fr): twenty pictures, both ways." in text
    assert "3 empty captions left out, such as line 7" in text
    assert f"**dasd, toy, de**: {LEAKED['report']}" in text
    assert text.count(LEAKED["report"]) == 1
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["table.md"]
    assert run(tmp_path / "eval").output == text


def test_results_of_clip_benchmark_stand_beside_ours(result, tmp_path):
    result("dasd", 15)
    theirs = {
        "dataset": "toy",
        "model": "ViT-B-32",
        "pretrained": "openai",
        "task": "zeroshot_retrieval",
        "language": "de",
    }
    path = tmp_path / "theirs.json"
    path.write_text(json.dumps({**theirs, "metrics": {"image_retrieval_recall@5": 0.5}}), encoding="utf-8")
    text = run(tmp_path / "eval", path).output
    line = next(line for line in text.splitlines() if "| openai" in line)
    assert "50.0" in line
    assert "–" in line
    assert "protocol not recorded" in text


def test_plots(result, tmp_path):
    for label, right in (("base", 2), ("dasd", 15)):
        for language in ("de", "fr"):
            result(label, right, language=language)
    found = run(tmp_path / "eval", "--plots", tmp_path / "plots")
    assert found.exit_code == 0, found.output
    names = {path.name for path in (tmp_path / "plots").iterdir()}
    assert names == {"recall__toy.png", "ranks__toy__de.png", "ranks__toy__fr.png"}
    assert all(Image.open(tmp_path / "plots" / name).width == 1200 for name in names)


def test_comparisons_in_words(result):
    good, bad, equal = result("dasd", 18), result("base", 2), result("full", 17)
    better = run("--compare", good, bad, "--resamples", 500).output
    assert "toy, de, 20 captions of 20 images: dasd (sumR 540.0) is better than clip (base) (sumR 60.0)." in better
    assert "Difference +480.0, 95% interval +" in better
    assert "is worse than dasd" in run("--compare", bad, good, "--resamples", 500).output
    assert (
        "dasd (sumR 540.0) and full (sumR 510.0) do not differ beyond chance"
        in run("--compare", good, equal, "--resamples", 500).output
    )


def test_other_questions_are_not_compared(result):
    found = run("--compare", result("dasd", 10), result("dasd", 10, language="fr"))
    assert found.exit_code == 1
    assert "These are not the same questions" in found.stderr


def test_what_cannot_be_is_said_in_a_sentence(result, tmp_path):
    (tmp_path / "none").mkdir()
    (tmp_path / "x.json").write_text("{}", encoding="utf-8")
    cases = {
        (): "Name results",
        ("--compare", result("dasd", 3), result("base", 3), "--write", "x.md"): "need results to show",
        (tmp_path / "none",): "has no results",
        (tmp_path / "x.json",): "is no result of",
        (tmp_path / "y.json",): "There is no result",
    }
    for arguments, message in cases.items():
        found = run(*arguments)
        assert found.exit_code == 1
        assert found.stderr.startswith("error: ")
        assert message in found.stderr
