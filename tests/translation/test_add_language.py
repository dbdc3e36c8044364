"""The command that chains everything, with real translators: translate, and back, look for noise, train, write a card."""

from __future__ import annotations

import json

import numpy as np
import pytest
from datasets import Dataset, DatasetDict, load_from_disk
from PIL import Image
from typer.testing import CliRunner

from ccr_adapters.cli import train
from ccr_adapters.cli.main import app
from ccr_adapters.cli.translated_corpus import read_splits
from ccr_adapters.modeling import CCRModel

FAST = [
    "arguments.max_steps=2",
    "arguments.use_cpu=true",
    "arguments.per_device_train_batch_size=4",
    "vocabulary.size=60",
]


@pytest.fixture
def dataset(captions, tmp_path):
    """Forty pictures with English captions of words that the translators know."""
    noise = np.random.default_rng(0)
    drawn = [Image.fromarray(noise.integers(0, 255, (16, 16, 3), dtype=np.uint8)) for _ in range(40)]
    rows = {"image_id": [f"p{row}" for row in range(40)], "caption": captions(40), "image": drawn}
    DatasetDict({"train": Dataset.from_dict(rows)}).save_to_disk(str(tmp_path / "data"))
    return tmp_path / "data"


def run(*command):
    return CliRunner().invoke(app, ["add-language", "de", *map(str, command)])


@pytest.mark.parametrize("method", ["transfer", "nrccr"])
def test_from_english_captions_to_an_adapter(method, dataset, marian, marian_back, bases, tmp_path):
    output = tmp_path / "de"
    command = [
        "--base",
        bases["clip"],
        "--dataset",
        dataset,
        "--output",
        output,
        "--translator",
        marian,
        "--num-beams",
        1,
    ]
    command += ["--method", method, "--minimum", 0, "--device", "cpu", *FAST]
    command += ["--back-model", marian_back] if method == "nrccr" else []
    command += ["adapter.r=4", "adapter.peft_type=DASD"] if method == "transfer" else ["head.space=8", "head.width=8"]
    found = run(*command)
    assert found.exit_code == 0, found.output
    made = load_from_disk(str(output / "translations"))
    assert ("back_translation" in made.column_names) == (method == "nrccr")
    assert (output / "noise" / "noise.md").is_file()
    adapter = output / "training" / "adapter"
    assert CCRModel.from_pretrained(adapter).languages == ["de"]
    card = (adapter / "README.md").read_text(encoding="utf-8")
    assert "| machine translation | marian-en-de |" in card
    assert "No caption in the target language that a person wrote" in card
    # again: nothing is translated or trained twice
    before = {path: path.stat().st_mtime_ns for path in (output / "translations").glob("data-*")}
    again = run(*command)
    assert again.exit_code == 0, again.output
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_rows_that_come_back_empty_are_left_out_and_counted(dataset, marian, marian_back, bases, tmp_path, monkeypatch):
    """The translator back may say nothing; hours of translating are not lost for it."""
    rows = load_from_disk(str(dataset))["train"]
    texts = list(rows["caption"])
    rows = rows.add_column("translation", texts).add_column("back_translation", ["", " ", *texts[2:]])
    DatasetDict({"train": rows}).save_to_disk(str(tmp_path / "both"))
    command = ["--base", bases["clip"], "--dataset", tmp_path / "both", "--output", tmp_path / "de"]
    found = run(*command, "--method", "nrccr", "--minimum", 0, "head.space=8", "head.width=8", *FAST)
    assert found.exit_code == 0, found.output
    assert "2 rows have an empty back_translation and are left out." in found.output
    summary = json.loads((tmp_path / "de" / "training" / "training_summary.json").read_text(encoding="utf-8"))
    assert summary["pairs"] <= 38
    card = (tmp_path / "de" / "training" / "adapter" / "README.md").read_text(encoding="utf-8")
    assert "No caption in the target language" not in card  # nobody said who translated


def rewritten(folder, change):
    """The training rows, changed."""
    rows = change(load_from_disk(str(folder))["train"])
    rows.cleanup_cache_files()
    other = folder.with_name("changed")
    DatasetDict({"train": rows}).save_to_disk(str(other))
    return other


def test_weights_of_the_data_are_trained_with(dataset, german, bases, tmp_path, monkeypatch):
    def translated(rows):
        return rows.add_column("translation", german[:1] * len(rows)).add_column("weight", [0.25, 1.0] * 20)

    seen = []
    monkeypatch.setattr(train, "run_recipe", lambda recipe, corpus: seen.append(corpus) or 1 / 0)
    place = rewritten(dataset, translated)
    done = run("--base", bases["clip"], "--dataset", place, "--output", tmp_path / "o", "--minimum", 0, *FAST)
    assert isinstance(done.exception, ZeroDivisionError)
    assert set(seen[0].rows["weight"]) == {0.25, 1.0}


def test_weights_of_the_noise_report_take_the_place_of_those_of_the_data(dataset, german, bases, tmp_path, monkeypatch):
    def translated(rows):
        return rows.add_column("translation", german[:1] * len(rows)).add_column("weight", [0.125] * len(rows))

    seen = []
    monkeypatch.setattr(train, "run_recipe", lambda recipe, corpus: seen.append(corpus) or 1 / 0)
    options = ["--dataset", rewritten(dataset, translated), "--output", tmp_path / "o", "--minimum", 0, "--weights"]
    done = run("--base", bases["clip"], *options, *FAST)
    assert isinstance(done.exception, ZeroDivisionError), done.output
    assert "weights of the data give way" in done.output
    assert 0.125 not in set(seen[0].rows["weight"])


def test_a_row_without_an_id_is_said_before_anything_is_translated(dataset, bases, tmp_path):
    ids = ["p0", None, *(f"p{row}" for row in range(2, 40))]
    place = rewritten(dataset, lambda rows: rows.remove_columns("image_id").add_column("image_id", ids))
    done = run(
        "--base", bases["clip"], "--dataset", place, "--output", tmp_path / "o", "--translator", "no/model", *FAST
    )
    assert done.exit_code == 1
    assert "train: 1 of 40 rows have no `image_id`, the first is row 1" in done.output


@pytest.mark.parametrize(
    ("columns", "message"),
    [(["image_id=imgid"], "maps image_id to 'imgid', which no split has"), (["caption=nowhere"], "'nowhere'")],
)
def test_a_column_that_no_split_has_is_refused(columns, message, dataset, bases, tmp_path):
    options = [word for column in columns for word in ("--column", column)]
    done = run("--base", bases["clip"], "--dataset", dataset, "--output", tmp_path / "o", *options, *FAST)
    assert done.exit_code == 1
    assert message in done.output


def test_a_column_under_another_name_takes_the_place_of_the_one_that_has_it(dataset):
    place = rewritten(dataset, lambda rows: rows.add_column("caption_en", rows["image_id"]))
    splits = read_splits(place, {"caption": "caption_en"})
    assert splits.train.column_names.count("caption") == 1
    assert list(splits.train["caption"]) == [f"p{row}" for row in range(40)]
