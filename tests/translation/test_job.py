"""A data set is translated once, whatever happens in between."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset, DatasetDict, Image, concatenate_datasets, load_from_disk
from filelock import FileLock
from PIL import Image as Pictures

import ccr_adapters
from ccr_adapters.errors import CaptionError, DataError, TranslationError
from ccr_adapters.translation import Translator, translate_dataset
from ccr_adapters.translation.job import read_job
from ccr_adapters.translation.rows import find_captions, load_rows, one_caption_a_row

FAST = {"batch_size": 4, "num_beams": 2, "max_new_tokens": 6, "part_size": 25, "progress": False}


class Mortal(Translator):
    """Notes what it translates, and dies when it has translated so many batches."""

    batches_left = 10**9
    noted: list[str]

    def batches(self, texts, **decoding):
        for rows, translations in super().batches(texts, **decoding):
            if self.batches_left == 0:
                raise KeyboardInterrupt
            self.batches_left -= 1
            self.noted += [texts[row] for row in rows]
            yield rows, translations


@pytest.fixture
def translator(marian) -> Mortal:
    found = Mortal.from_pretrained(marian, device="cpu")
    found.noted = []
    return found


@pytest.fixture
def back(marian_back) -> Translator:
    return Translator.from_pretrained(marian_back, source="de", target="en", device="cpu")


@pytest.fixture
def rows(captions) -> Dataset:
    """90 rows with 70 different captions, and columns of their own."""
    texts = captions(70)
    texts = [*texts[:40], *texts[:20], *texts[40:]]
    return Dataset.from_dict({"caption": texts, "image_id": [f"p{i // 2}" for i in range(90)], "n": list(range(90))})


def columns(folder):
    data = load_from_disk(str(folder))
    return {name: data[name][:] for name in data.column_names}


def test_every_row_gets_its_translation_and_keeps_its_columns(rows, translator, back, tmp_path):
    summary = translate_dataset(rows, tmp_path / "de", translator, back, **FAST)
    found = columns(tmp_path / "de")
    assert list(found) == ["caption", "translation", "back_translation", "language", "translator", "image_id", "n"]
    for name in rows.column_names:
        assert found[name] == rows[name][:]
    decoding = {name: FAST[name] for name in ("batch_size", "num_beams", "max_new_tokens")}
    expected = translator.translate(rows["caption"][:], **decoding)
    assert found["translation"] == expected
    assert found["back_translation"] == back.translate(expected, **decoding)
    assert set(found["language"]) == {"de"}
    assert set(found["translator"]) == {"marian-en-de"}
    assert (summary.rows, summary.captions, summary.empty, summary.dropped) == (90, 70, 0, 0)
    assert (summary.counts["captions"], summary.counts["back_captions"]) == (70, 70)
    assert {path.name for path in (tmp_path / "de").iterdir()} == {
        "data-00000-of-00001.arrow", "dataset_info.json", "job.json", "state.json",
    }  # fmt: skip


def test_equal_captions_are_translated_once(rows, translator, tmp_path):
    translate_dataset(rows, tmp_path / "de", translator, **FAST)
    assert Counter(translator.noted) == Counter(set(rows["caption"]))
    assert "back_translation" not in columns(tmp_path / "de")


def test_a_finished_job_is_not_done_again(rows, translator, tmp_path):
    first = translate_dataset(rows, tmp_path / "de", translator, **FAST)
    before = columns(tmp_path / "de")
    translator.noted.clear()
    again = translate_dataset(rows, tmp_path / "de", translator, **{**FAST, "batch_size": 7, "part_size": 3})
    assert translator.noted == []
    assert columns(tmp_path / "de") == before
    assert (again.rows, again.captions, again.counts) == (first.rows, first.captions, first.counts)


@pytest.fixture
def whole(rows, translator, back, tmp_path) -> dict[str, list[object]]:
    """What a job gives that nothing disturbed."""
    translate_dataset(rows, tmp_path / "whole", translator, back, **FAST)
    translator.noted.clear()
    return columns(tmp_path / "whole")


@pytest.mark.parametrize("deaths", [(0,), (3,), (7, 2), (1, 1, 1, 9)])
def test_an_interrupted_job_goes_on_where_it_was(rows, translator, back, whole, deaths, tmp_path):
    for batches in deaths:
        translator.batches_left = batches
        with pytest.raises(KeyboardInterrupt):
            translate_dataset(rows, tmp_path / "de", translator, back, **FAST)
    translator.batches_left = 10**9
    summary = translate_dataset(rows, tmp_path / "de", translator, back, **FAST)
    assert columns(tmp_path / "de") == whole
    assert Counter(translator.noted) == Counter(set(rows["caption"]))
    assert summary.counts["captions"] == 70


@pytest.mark.parametrize("cut", [1, 5, 40])
def test_a_line_that_was_cut_short_is_translated_again(rows, translator, back, whole, cut, tmp_path):
    translator.batches_left = 9
    with pytest.raises(KeyboardInterrupt):
        translate_dataset(rows, tmp_path / "de", translator, back, **FAST)
    (journal,) = (tmp_path / "de" / "parts").glob("*.jsonl")
    os.truncate(journal, journal.stat().st_size - cut)
    translator.batches_left = 10**9
    translate_dataset(rows, tmp_path / "de", translator, back, **FAST)
    assert columns(tmp_path / "de") == whole
    assert max(Counter(translator.noted).values()) == 2
    assert len(translator.noted) <= 70 + FAST["batch_size"]


def test_a_job_that_died_while_it_was_put_together_translates_nothing_again(rows, translator, back, whole, tmp_path):
    folder = tmp_path / "de"
    translator.batches_left = 3
    with pytest.raises(KeyboardInterrupt):
        translate_dataset(rows, folder, translator, back, **FAST)
    translator.batches_left = 10**9
    # the last file to be moved finds its place taken
    (folder / "state.json").mkdir()
    with pytest.raises(IsADirectoryError):
        translate_dataset(rows, folder, translator, back, **FAST)
    (folder / "state.json").rmdir()
    (folder / "data-00007-of-00009.arrow").write_bytes(b"left by a job that was put together otherwise")
    assert Counter(translator.noted) == Counter(set(rows["caption"]))
    translator.noted.clear()
    translate_dataset(rows, folder, translator, back, **FAST)
    assert translator.noted == []
    assert columns(folder) == whole
    assert sorted(path.name for path in folder.iterdir()) == [
        "data-00000-of-00001.arrow", "dataset_info.json", "job.json", "state.json",
    ]  # fmt: skip


def test_after_kill_9_nothing_is_translated_twice_but_the_batch_in_flight(
    rows, marian, marian_back, translator, back, whole, tmp_path
):
    rows.to_json(str(tmp_path / "rows.jsonl"))
    log, output = tmp_path / "log", tmp_path / "de"
    worker = Path(__file__).with_name("worker.py")
    package = Path(ccr_adapters.__file__).parents[1]
    process = subprocess.Popen(
        [sys.executable, worker, marian, marian_back, tmp_path / "rows.jsonl", output, log],
        env={**os.environ, "PYTHONPATH": str(package), "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 120
    while not log.is_file() or len(log.read_text(encoding="utf-8").splitlines()) < 40:
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    before = log.read_text(encoding="utf-8").splitlines()
    assert 40 <= len(before) < 70
    assert not (output / "state.json").exists()
    translate_dataset(tmp_path / "rows.jsonl", output, translator, back, **FAST)
    assert columns(output) == whole
    times = Counter([*before, *translator.noted])
    assert set(times) == set(rows["caption"])
    assert sum(times.values()) - len(times) <= FAST["batch_size"]


def other_model(translator):
    with torch.no_grad():
        translator.model.model.encoder.layers[0].fc1.weight[0, 0] += 1
    return Mortal(translator.model, translator.tokenizer, name="marian-en-de")


@pytest.mark.parametrize("finished", [False, True])
def test_another_job_is_refused_naming_both(rows, translator, back, finished, tmp_path):
    folder = tmp_path / "de"
    translator.batches_left = 10**9 if finished else 3
    if finished:
        translate_dataset(rows, folder, translator, **FAST)
    else:
        with pytest.raises(KeyboardInterrupt):
            translate_dataset(rows, folder, translator, **FAST)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(
        TranslationError, match=r"different: captions.rows, captions.different, captions.sha256"
    ) as error:
        translate_dataset(rows.select(range(80)), folder, translator, **FAST)
    assert "There: 90 captions" in str(error.value)
    assert "Asked: 80 captions" in str(error.value)
    with pytest.raises(TranslationError, match=r"different: back_translator"):
        translate_dataset(rows, folder, translator, back, **FAST)
    with pytest.raises(TranslationError, match=r"(?s)different: settings.num_beams.*num_beams=2.*num_beams=1") as error:
        translate_dataset(rows, folder, translator, **{**FAST, "num_beams": 1})
    changed = other_model(translator)
    with pytest.raises(TranslationError, match=r"different: translator.weights") as error:
        translate_dataset(rows, folder, changed, **FAST)
    assert str(error.value).count("marian-en-de") == 2
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_a_finished_job_is_taken_in_another_precision(rows, marian, translator, tmp_path, caplog):
    other = Translator.from_pretrained(marian, device="cpu", dtype="bfloat16")
    translator.batches_left = 3
    with pytest.raises(KeyboardInterrupt):
        translate_dataset(rows, tmp_path / "de", translator, **FAST)
    with pytest.raises(TranslationError, match="different: translator.dtype"):
        translate_dataset(rows, tmp_path / "de", other, **FAST)
    translator.batches_left = 10**9
    translate_dataset(rows, tmp_path / "de", translator, **FAST)
    before = (tmp_path / "de" / "job.json").read_text()
    assert translate_dataset(rows, tmp_path / "de", other, **FAST).seconds == 0
    assert "was translated in float32, not in bfloat16: it is taken as it is" in caplog.text
    assert (tmp_path / "de" / "job.json").read_text() == before


def test_a_folder_with_something_else_is_left_alone(rows, translator, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(TranslationError, match="holds something else"):
        translate_dataset(rows, tmp_path, translator, **FAST)
    (tmp_path / "de").mkdir()
    (tmp_path / "de" / "job.json").write_text("{")
    with pytest.raises(TranslationError, match="cannot be read as a translation job"):
        translate_dataset(rows, tmp_path / "de", translator, **FAST)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["de", "notes.txt"]
    for text in ("{", "[]", '{"translator": "me"}', '{"translator": {}, "summary": 1}'):
        (tmp_path / "de" / "job.json").write_text(text)
        assert read_job(tmp_path / "de") is None


@pytest.fixture
def mute(translator, captions):
    """A translator that says nothing to captions that begin with 'the'."""

    class Mute(Mortal):
        def batches(self, texts, **decoding):
            for rows, translations in super().batches(texts, **decoding):
                quiet = [texts[row].startswith("the") for row in rows]
                yield rows, ["" if no else text for no, text in zip(quiet, translations, strict=True)]

    found = Mute(translator.model, translator.tokenizer, name="mute")
    found.noted = []
    return found


def test_empty_translations_are_dropped_and_counted_or_kept(rows, mute, back, tmp_path):
    # and one of them twice
    first = next(row for row, text in enumerate(rows["caption"]) if text.startswith("the"))
    rows = concatenate_datasets([rows.select(range(89)), rows.select([first])])
    silent = [text for text in rows["caption"] if text.startswith("the")]
    assert len(silent) > len(set(silent)) > 0
    summary = translate_dataset(rows, tmp_path / "dropped", mute, back, **FAST)
    assert (summary.empty, summary.dropped) == (len(set(silent)), len(silent))
    assert summary.rows == 90 - len(silent)
    found = columns(tmp_path / "dropped")
    assert all(found["translation"])
    assert found["n"] == [n for n, text in zip(rows["n"], rows["caption"], strict=True) if text not in silent]
    kept = translate_dataset(rows, tmp_path / "kept", mute, back, drop_empty=False, **FAST)
    assert (kept.rows, kept.empty, kept.dropped) == (90, len(set(silent)), 0)
    found = columns(tmp_path / "kept")
    assert [text for text, said in zip(found["caption"], found["translation"], strict=True) if not said] == silent
    assert [bool(text) for text in found["back_translation"]] == [bool(text) for text in found["translation"]]


def test_what_becomes_of_empty_ones_is_decided_at_the_end(rows, translator, mute, tmp_path):
    translate_dataset(rows, tmp_path / "whole", translator, **FAST)
    again = translate_dataset(rows, tmp_path / "whole", translator, drop_empty=False, **FAST)
    assert (again.empty, again.seconds) == (0, 0)  # there was none
    translate_dataset(rows, tmp_path / "gaps", mute, **FAST)
    with pytest.raises(TranslationError, match="different: settings.drop_empty"):
        translate_dataset(rows, tmp_path / "gaps", mute, drop_empty=False, **FAST)


def test_a_translator_that_says_nothing_at_all_is_an_error(rows, mute, tmp_path):
    silent = rows.filter(lambda row: row["caption"].startswith("the"))
    with pytest.raises(TranslationError, match=r"All \d+ translations are empty"):
        translate_dataset(silent, tmp_path / "de", mute, **FAST)
    assert not (tmp_path / "de" / "state.json").exists()


def test_the_same_captions_of_other_pictures_are_another_job(rows, translator, tmp_path):
    translate_dataset(rows, tmp_path / "de", translator, **FAST)
    renamed = rows.remove_columns("n").add_column("n", [n + 1 for n in rows["n"]])
    with pytest.raises(TranslationError, match=r"different: captions.others"):
        translate_dataset(renamed, tmp_path / "de", translator, **FAST)


def test_a_job_of_an_earlier_version_goes_on(rows, translator, tmp_path):
    translate_dataset(rows, tmp_path / "de", translator, **FAST)
    job = json.loads((tmp_path / "de" / "job.json").read_text())
    del job["captions"]["others"]
    (tmp_path / "de" / "job.json").write_text(json.dumps(job))
    assert translate_dataset(rows, tmp_path / "de", translator, **FAST).seconds == 0


def test_a_kill_before_the_job_was_written_leaves_the_folder_free(rows, translator, tmp_path):
    (tmp_path / "de").mkdir()
    (tmp_path / "de" / ".job.json").write_text('{"half')
    assert translate_dataset(rows, tmp_path / "de", translator, **FAST).rows == len(rows)


def test_pictures_stay_pictures(translator, tmp_path):
    noise = np.random.default_rng(0)
    pictures = [Pictures.fromarray(noise.integers(0, 255, (4, 4, 3), dtype=np.uint8)) for _ in range(6)]
    rows = Dataset.from_dict({"caption": ["a dog", "two men"] * 3, "image": pictures}).cast_column("image", Image())
    translate_dataset(rows, tmp_path / "de", translator, limit=5, **FAST)
    found = load_from_disk(str(tmp_path / "de"))
    assert len(found) == 5
    assert [np.asarray(row["image"]).tolist() for row in found] == [np.asarray(p).tolist() for p in pictures[:5]]


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet", "folder", "splits", "files"])
def test_rows_are_read_from_what_people_have(kind, tmp_path):
    rows = Dataset.from_dict({"caption": ["a dog", "two, men"], "image_id": ["p0", "p1"]})
    path = tmp_path / f"rows.{kind}"
    if kind == "jsonl":
        rows.to_json(str(path))
    elif kind == "csv":
        rows.to_csv(str(path))
    elif kind == "parquet":
        rows.to_parquet(str(path))
    elif kind == "folder":
        rows.save_to_disk(str(path))
    elif kind == "splits":
        DatasetDict({"train": rows, "test": rows.select([0])}).save_to_disk(str(path))
    else:
        path.mkdir()
        rows.select([0]).to_parquet(str(path / "train-0.parquet"))
        rows.select([1]).to_parquet(str(path / "train-1.parquet"))
    assert load_rows(path).to_dict() == rows.to_dict()
    if kind == "splits":
        assert len(load_rows(path, split="test")) == 1
        with pytest.raises(DataError, match="no split 'dev'; it has train, test"):
            load_rows(path, split="dev")


def test_what_cannot_be_read_is_refused(tmp_path):
    (tmp_path / "rows.txt").write_text("a dog")
    (tmp_path / "rows.jsonl").write_text("{'caption': \n")
    for name in ("nothing.jsonl", "rows.txt", "."):
        with pytest.raises(DataError, match="no rows at"):
            load_rows(tmp_path / name, split="test")
    with pytest.raises(DataError, match=r"rows.jsonl' cannot be read"):
        load_rows(tmp_path / "rows.jsonl")


def test_lists_of_captions_become_rows():
    rows = Dataset.from_dict({"title": [["a", "b"], [], ["c"]], "image_id": ["p0", "p1", "p2"]})
    found = one_caption_a_row(rows, "title")
    assert (found["caption"][:], found["image_id"][:]) == (["a", "b", "c"], ["p0", "p0", "p2"])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"text": ["a"]}, "lack the column 'caption'; they have text"),
        ({"caption": ["a"], "translation": ["b"], "language": ["de"]}, "already have language, translation"),
        ({"caption": [1]}, "holds Value"),
    ],
)
def test_columns_that_cannot_be_are_refused(data, message):
    with pytest.raises(DataError, match=message):
        one_caption_a_row(Dataset.from_dict(data))


def test_empty_captions_are_refused_before_anything_is_translated(translator, tmp_path):
    rows = Dataset.from_dict({"caption": ["a dog", " ", None]})
    with pytest.raises(CaptionError, match="2 of 3 captions are empty, the first is row 1"):
        translate_dataset(rows, tmp_path / "de", translator, **FAST)
    with pytest.raises(DataError, match="no rows to translate"):
        translate_dataset(Dataset.from_dict({"caption": ["x"]}).select([]), tmp_path / "de", translator, **FAST)
    assert not (tmp_path / "de").exists()


def test_equal_captions_are_found_as_a_dictionary_finds_them():
    draw = np.random.default_rng(0)
    texts = [f"a {'dog ' * int(draw.integers(1, 9))}".strip() for _ in range(200)]
    texts[7] = "a  dog\n"  # the same in one line
    found = find_captions(Dataset.from_dict({"caption": texts}))
    place: dict[str, int] = {}
    for row, text in enumerate(texts):
        place.setdefault(" ".join(text.split()), row)
    assert found.unique.tolist() == list(place.values())
    assert [texts[found.unique[n]] for n in found.number] == [texts[place[" ".join(text.split())]] for text in texts]
    other = find_captions(Dataset.from_dict({"caption": texts[::-1]}))
    assert other.sha256 != found.sha256


def test_a_back_translator_of_another_pair_is_refused(rows, translator, tmp_path):
    with pytest.raises(TranslationError, match="goes from en to de; expected de to en"):
        translate_dataset(rows, tmp_path / "de", translator, translator, **FAST)


def test_two_processes_do_not_translate_into_one_folder(rows, translator, tmp_path):
    (tmp_path / "de").mkdir()
    with FileLock(tmp_path / "de" / ".lock"), pytest.raises(TranslationError, match="Another process translates into"):
        translate_dataset(rows, tmp_path / "de", translator, **FAST)
    assert translator.noted == []
    translate_dataset(rows, tmp_path / "de", translator, **FAST)
    assert not (tmp_path / "de" / ".lock").exists()


def test_what_a_late_kill_left_is_cleared_away(rows, translator, tmp_path):
    translate_dataset(rows, tmp_path / "de", translator, **FAST)
    for name in ("parts", ".whole"):
        (tmp_path / "de" / name).mkdir()
        (tmp_path / "de" / name / "left.arrow").write_bytes(b"left")
    assert translate_dataset(rows, tmp_path / "de", translator, **FAST).seconds == 0
    assert sorted(path.name for path in (tmp_path / "de").iterdir())[-1] == "state.json"
    assert not (tmp_path / "de" / "parts").exists()
    assert not (tmp_path / "de" / ".whole").exists()


def test_a_finished_folder_is_read_by_many(rows, translator, tmp_path):
    translate_dataset(rows, tmp_path / "de", translator, **FAST)
    with FileLock(tmp_path / "de" / ".lock"):
        assert translate_dataset(rows, tmp_path / "de", translator, **FAST).seconds == 0
