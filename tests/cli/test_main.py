"""The command `ccr-adapters`: quick help, errors in a line, and its subcommands run for real."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from datasets import Dataset, DatasetDict, load_from_disk
from PIL import Image
from typer.testing import CliRunner

from ccr_adapters import __version__
from ccr_adapters.cli.add_language import recipe_values
from ccr_adapters.cli.checks import check_recipe, stage_arguments
from ccr_adapters.cli.main import app
from ccr_adapters.cli.recipe import recipe_from_dict
from ccr_adapters.methods import METHODS
from ccr_adapters.modeling import CCRModel

COMMANDS = [
    "train",
    "translate",
    "noise-report",
    "add-language",
    "push",
    "pull",
    "list",
    "info",
    "trim-vocab",
    "convert",
    "export",
    "evaluate",
    "report",
    "encode",
    "index",
    "search",
    "demo",
    "serve",
]
ENGLISH = ["a dog runs", "two men sit", "a red ball", "an old tree", "the blue sea", "a small house"]
GERMAN = [
    "ein Hund rennt",
    "zwei Männer sitzen",
    "ein roter Ball",
    "ein alter Baum",
    "das blaue Meer",
    "ein kleines Haus",
]


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_help_names_every_command_and_is_quick():
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "src")}
    start = time.perf_counter()
    command = [sys.executable, "-X", "importtime", "-m", "ccr_adapters", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert time.perf_counter() - start < 10
    assert all(f" {name}" in done.stdout for name in COMMANDS)
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert not imported & {"torch", "transformers", "peft", "datasets"}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_shows_an_example(command):
    found = run(command, "--help")
    assert found.exit_code == 0
    assert f"ccr-adapters {command}" in found.stdout


def test_the_version():
    assert run("--version").stdout.strip() == f"ccr-adapters {__version__}"


def test_an_error_of_the_user_is_a_line(tmp_path):
    found = run("train", tmp_path / "none.yaml")
    assert found.exit_code == 1
    assert found.stderr.startswith("error: There is no recipe")
    assert "Traceback" not in found.stderr


def translated(folder, translations):
    rows = {"caption": ENGLISH, "translation": translations, "language": ["de"] * 6}
    Dataset.from_dict(rows).save_to_disk(str(folder))


def test_noise_report_writes_and_filters(tmp_path):
    translated(tmp_path / "de", [*GERMAN[:4], ENGLISH[4], GERMAN[5]])
    found = run(
        "noise-report", tmp_path / "de", "--write", tmp_path / "report", "--minimum", 0.5, "--output", tmp_path / "ok"
    )
    assert found.exit_code == 0, found.output
    assert (tmp_path / "report" / "noise.md").is_file()
    assert load_from_disk(str(tmp_path / "ok"))["caption"] == [*ENGLISH[:4], ENGLISH[5]]
    again = run("noise-report", tmp_path / "de", "--minimum", 0.5, "--output", tmp_path / "ok")
    assert again.exit_code == 1
    assert again.stderr.startswith("error: ")


@pytest.fixture
def pictures(tmp_path):
    """A folder with English captions of forty pictures, and their translations."""
    noise = np.random.default_rng(0)
    rows = [
        {
            "image_id": f"p{index}",
            "caption": f"{ENGLISH[index % 6]} {['here', 'there', 'now'][index // 6 % 3]}",
            "translation": f"{GERMAN[index % 6]} {['hier', 'dort', 'jetzt'][index // 6 % 3]}",
            "image": Image.fromarray(noise.integers(0, 255, (16, 16, 3), dtype=np.uint8)),
        }
        for index in range(40)
    ]
    DatasetDict({"train": Dataset.from_list(rows)}).save_to_disk(str(tmp_path / "data"))
    return tmp_path / "data"


def test_a_language_is_added_and_the_command_goes_on_where_it_was(pictures, bases, tmp_path):
    output = tmp_path / "cs"
    command = ["add-language", "de", "--base", bases["clip"], "--dataset", pictures, "--output", output]
    command += [
        "arguments.max_steps=3",
        "arguments.use_cpu=true",
        "arguments.per_device_train_batch_size=4",
        "vocabulary.size=60",
        "adapter.r=4",
        "adapter.peft_type=DASD",
    ]
    found = run(*command)
    assert found.exit_code == 0, found.output
    adapter = output / "training" / "adapter"
    assert CCRModel.from_pretrained(adapter).languages == ["de"]
    card = (adapter / "README.md").read_text(encoding="utf-8")
    assert "flagged" in card
    assert "held-out" in found.output
    assert yaml.safe_load((output / "recipe.yaml").read_text(encoding="utf-8"))["language"] == "de"
    before = {path: path.stat().st_mtime_ns for path in (output / "training" / "joint").rglob("*") if path.is_file()}
    again = run(*command)
    assert again.exit_code == 0, again.output
    assert {path: path.stat().st_mtime_ns for path in before} == before
    # fewer pairs are another training, and the card of the first stays true
    kept = (adapter / "README.md").read_bytes()
    fewer = run(*command, "--limit", 30)
    assert fewer.exit_code == 1
    assert "other training pairs" in fewer.stderr
    assert (adapter / "README.md").read_bytes() == kept


@pytest.mark.parametrize("method", sorted(METHODS))
def test_every_method_makes_a_recipe_for_a_new_language(method):
    values = recipe_values("cs", "tiny_clip", "data", "runs", method, pairs=500)
    check_recipe(recipe_from_dict(values))
    assert [stage["name"] for stage in values["stages"]] == list(METHODS[method].stages)
    assert method in run("add-language", "--help").stdout


def test_the_second_of_two_stages_has_a_tenth_of_the_rates():
    values = recipe_values("cs", "org/base", "data", "runs", "dasd", pairs=3000)
    plan = recipe_from_dict(values)
    first, second = (stage_arguments(plan, stage) for stage in plan.stages)
    assert (first.learning_rate, second.learning_rate) == (2e-3, pytest.approx(2e-4))
    assert (first.vocabulary_learning_rate, second.vocabulary_learning_rate) == (2e-3, pytest.approx(2e-4))
    assert (first.num_train_epochs, second.num_train_epochs) == (3.0, 2.0)
    # what the user names holds for both
    given = ["arguments.num_train_epochs=1", "arguments.learning_rate=0.5"]
    values = recipe_values("cs", "org/base", "data", "runs", "dasd", pairs=3000, overrides=given)
    assert [set(stage["arguments"]) for stage in values["stages"]] == [set(), {"vocabulary_learning_rate"}]


def test_translations_are_listened_to_as_far_as_their_scores_go(pictures, bases, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr("ccr_adapters.cli.train.run_recipe", lambda recipe, corpus: seen.append(corpus) or 1 / 0)
    command = ["add-language", "de", "--base", bases["clip"], "--dataset", pictures, "--minimum", 0]
    assert isinstance(run(*command, "--output", tmp_path / "a", "--weights").exception, ZeroDivisionError)
    assert isinstance(run(*command, "--output", tmp_path / "b").exception, ZeroDivisionError)
    scores = np.load(tmp_path / "a" / "noise" / "scores.npy").astype("float32")
    assert set(seen[0].rows["weight"]) <= set(scores.tolist())
    assert "weight" not in seen[1].rows.column_names


def test_what_is_wrong_with_a_language_is_said_before_translating(pictures, bases, tmp_path):
    command = ["add-language", "de", "--base", bases["clip"], "--dataset", pictures, "--output", tmp_path / "x"]
    found = run(*command, "--method", "nrcr")
    assert found.exit_code == 1
    assert "no method 'nrcr'" in found.stderr
    # the translator is not even looked for
    found = run(*command, "--method", "nrccr", "--translator", tmp_path / "nowhere")
    assert found.exit_code == 1
    assert "needs back-translations: give --back-model too" in found.stderr
    found = run(*command, "--column", "caption")
    assert found.exit_code == 1
    assert "--column" in found.stderr
