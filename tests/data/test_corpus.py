"""A corpus from a recipe's `data:`, whatever files it lies in; what is wrong with it is said before any training."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, DatasetDict
from PIL import Image

from ccr_adapters.data.corpus import Corpus, load_corpus
from ccr_adapters.data.retrieval_set import RetrievalSet
from ccr_adapters.errors import CCRError, DataError, ImageError, LanguageError

TRAIN = {
    "image_id": ["a", "b", "a"],
    "caption": ["a dog", "a cat", "the dog"],
    "translation": ["ein Hund", "eine Katze", "der Hund"],
}
HELD_OUT = {"image_id": ["x", "y"], "caption": ["a bird", "a ball"], "target_caption": ["ein Vogel", "ein Ball"]}
COLOURS = {"a": "red", "b": "green", "x": "blue", "y": "white"}


def picture(name):
    return Image.new("RGB", (4, 4), COLOURS[name])


def dataset():
    splits = {"train": TRAIN, "validation": HELD_OUT, "test": HELD_OUT}
    return DatasetDict(
        {
            split: Dataset.from_dict({**columns, "image": [picture(name) for name in columns["image_id"]]})
            for split, columns in splits.items()
        }
    )


def write(folder, kind="jsonl", image="image", splits=("train", "validation", "test"), **extra):
    """Files of one split each, whose pictures lie beside them."""
    (folder / "pictures").mkdir(exist_ok=True)
    for name in COLOURS:
        picture(name).save(folder / "pictures" / f"{name}.png")
    for split in splits:
        columns = dict(TRAIN if split == "train" else HELD_OUT, **extra.get(split, {}))
        rows = Dataset.from_dict({**columns, image: [f"pictures/{name}.png" for name in columns["image_id"]]})
        if kind == "parquet":
            rows.to_parquet(folder / f"{split}.parquet")
        elif kind == "csv":
            rows.to_csv(folder / f"{split}.csv")
        else:
            text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            (folder / f"{split}.jsonl").write_text(text, encoding="utf-8")
    return {"path": str(folder)}


def check(corpus):
    assert list(corpus.rows["translation"]) == TRAIN["translation"]
    assert corpus.image_ids == ["a", "b"]
    assert corpus.image_index.tolist() == [0, 1, 0]
    assert [image.convert("RGB").getpixel((0, 0)) for image in corpus.pictures[:]] == [(255, 0, 0), (0, 128, 0)]
    assert corpus.validation.captions == {"en": ["a bird", "a ball"], "de": ["ein Vogel", "ein Ball"]}
    assert corpus.test["test"].pictures[1].convert("RGB").getpixel((0, 0)) == (255, 255, 255)


def test_from_a_data_set():
    check(Corpus.from_dataset(dataset(), "de"))


def test_a_folder_that_datasets_saved(tmp_path):
    dataset().save_to_disk(tmp_path / "saved")
    corpus = load_corpus({"path": str(tmp_path / "saved"), "translator": "nllb"}, "de")
    check(corpus)
    assert corpus.facts == {"data": "saved", "translator": "nllb"}


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
def test_files_of_one_split_each(kind, tmp_path):
    check(load_corpus(write(tmp_path, kind), "de"))


def test_files_of_different_kinds(tmp_path):
    write(tmp_path, "jsonl", splits=["train"])
    write(tmp_path, "csv", splits=["validation"])
    check(load_corpus(write(tmp_path, "parquet", splits=["test"]), "de"))


def test_all_parts_of_a_split_are_read(tmp_path):
    spec = write(tmp_path)
    lines = (tmp_path / "train.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (tmp_path / "train.jsonl").unlink()
    for part, line in enumerate(lines):
        (tmp_path / f"train-{part:05d}-of-00003.jsonl").write_text(line, encoding="utf-8")
    check(load_corpus(spec, "de"))


def test_columns_of_other_names_also_that_of_the_pictures(tmp_path):
    renamed = {"english": TRAIN["caption"], "mt": TRAIN["translation"]}
    spec = write(tmp_path, image="file")
    rows = [{**row, "file": f"pictures/{row['image_id']}.png"} for row in Dataset.from_dict({**TRAIN, **renamed})]
    for row in rows:
        del row["caption"], row["translation"]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    spec["columns"] = {"image": "file", "caption": "english", "translation": "mt"}
    check(load_corpus(spec, "de"))


def test_the_tiny_world(tmp_path):
    spec = {"name": "tiny_world", "train": 5, "validation": 2, "test": 3, "noise": 0.2}
    corpus = load_corpus(spec, "cs", seed=4)
    assert spec["name"] == "tiny_world"  # the caller's recipe stays as it is
    assert (len(corpus.rows), len(corpus.validation.image_ids), len(corpus.test["test"].image_ids)) == (5, 2, 3)
    assert list(corpus.rows["caption"]) == list(load_corpus(spec, "cs", seed=4).rows["caption"])
    assert list(corpus.rows["caption"]) != list(load_corpus(spec, "cs", seed=5).rows["caption"])
    assert corpus.facts["noise"] == "20% of words"


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({}, "name: tiny_world.*neither"),
        ({"name": "tiny_word"}, "got name instead"),
        ({"path": "/nowhere/at/all"}, "no folder '/nowhere/at/all'"),
        ({"path": ".", "colums": {}}, "got colums instead"),
        ({"path": ".", "columns": {"pictures": "x"}}, "maps pictures; it can map image"),
        ({"name": "tiny_world", "pictures": 3}, "tiny_world.*pictures"),
        ({"name": "tiny_world", "noise": 3}, "noise"),
        ({"name": "tiny_world", "noise": "much"}, "tiny_world"),
        ({"name": "tiny_world", "train": -1}, "train"),
    ],
)
def test_a_wrong_recipe(spec, message):
    with pytest.raises(CCRError, match=message):
        load_corpus(spec, "de")


def test_a_language_that_the_tiny_world_does_not_speak():
    with pytest.raises(LanguageError, match="'tlh'.*de, fr, cs"):
        load_corpus({"name": "tiny_world", "train": 1}, "tlh")


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_a_missing_split(split, tmp_path):
    spec = write(tmp_path, splits=[name for name in ("train", "validation", "test") if name != split])
    with pytest.raises(DataError, match=f"split '{split}'"):
        load_corpus(spec, "de")
    data = dataset()
    del data[split]
    with pytest.raises(DataError, match=f"no split '{split}'; it has"):
        Corpus.from_dataset(data, "de")


@pytest.mark.parametrize("column", ["image", "image_id", "caption", "translation"])
def test_a_missing_column(column):
    data = dataset()
    data["train"] = data["train"].remove_columns(column)
    with pytest.raises(DataError, match=f"training split lacks {column}; it has"):
        Corpus.from_dataset(data, "de")


def test_a_test_set_without_human_captions():
    data = dataset()
    data["test"] = data["test"].remove_columns("target_caption")
    with pytest.raises(DataError, match="lacks target_caption"):
        Corpus.from_dataset(data, "de")


def test_a_mapped_column_that_no_split_has(tmp_path):
    spec = write(tmp_path)
    with pytest.raises(DataError, match="translated.*no split has"):
        load_corpus({**spec, "columns": {"translation": "translated"}}, "de")


@pytest.mark.parametrize("empty", ["", "  \n", None])
@pytest.mark.parametrize("column", ["caption", "translation"])
def test_empty_captions_are_counted_and_the_first_is_named(column, empty):
    data = dataset()
    texts = [TRAIN[column][0], empty, empty]
    data["train"] = data["train"].remove_columns(column).add_column(column, texts)
    with pytest.raises(DataError, match=f"2 of 3 rows have an empty '{column}', the first is row 1"):
        Corpus.from_dataset(data, "de")


def test_a_missing_picture_is_named_when_the_data_is_loaded(tmp_path):
    spec = write(tmp_path)
    (tmp_path / "pictures" / "y.png").unlink()
    with pytest.raises(ImageError, match=r"y\.png"):
        load_corpus(spec, "de")


def test_a_file_that_is_no_table(tmp_path):
    spec = write(tmp_path)
    (tmp_path / "train.jsonl").write_text('{"caption": "a dog"', encoding="utf-8")
    with pytest.raises(DataError, match=r"train\.jsonl"):
        load_corpus(spec, "de")


def test_pictures_in_a_parquet_file_that_datasets_did_not_write(tmp_path):
    """pandas and polars write a picture as its bytes and its path, without saying that it is one."""
    spec = write(tmp_path, "parquet")
    for split, columns in (("train", TRAIN), ("validation", HELD_OUT), ("test", HELD_OUT)):
        files = [tmp_path / "pictures" / f"{name}.png" for name in columns["image_id"]]
        images = [{"bytes": file.read_bytes(), "path": file.name} for file in files]
        pq.write_table(pa.table({**columns, "image": images}), tmp_path / f"{split}.parquet")
    check(load_corpus(spec, "de"))
    pq.write_table(pa.table({**TRAIN, "image": [1, 2, 3]}), tmp_path / "train.parquet")
    with pytest.raises(ImageError, match="'image' holds .*int64.*expected pictures, or paths"):
        load_corpus(spec, "de")


def test_weights_of_a_csv_are_numbers(tmp_path):
    spec = write(tmp_path, "csv", train={"weight": ["1", "0.5", "0"]})
    assert list(load_corpus(spec, "de").rows["weight"]) == [1.0, 0.5, 0.0]
    write(tmp_path, "csv", train={"weight": ["1", "much", "0"]})
    with pytest.raises(DataError, match="no number.*much"):
        load_corpus(spec, "de")


ASKED = RetrievalSet(["x"], {}, {}, visual=np.zeros((1, 4)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"visual": None}, "either pictures or"),
        ({"pictures": ["a.png", "b.png"]}, "either pictures or"),
        ({"visual": np.zeros((3, 4))}, "2 image ids for 3"),
        ({"image_index": np.array([0, 1])}, "3 rows.*2"),
        ({"image_index": np.array([0, 1, 2])}, "outside"),
        ({"image_index": np.array([0, -1, 1])}, "outside"),
        ({"rows": Dataset.from_dict({"caption": ["a", "b", "c"]})}, "lack.* translation"),
        (
            {"rows": Dataset.from_dict({"caption": [["a"], ["b"], []], "translation": ["x", "y", "z"]})},
            "Row 0 has a list",
        ),
        ({"rows": Dataset.from_dict({"caption": ["a", "b", ""], "translation": ["x", "y", "z"]})}, "row 2"),
    ],
)
def test_a_corpus_built_by_hand_is_checked_too(changes, message):
    values = {
        "rows": Dataset.from_dict({key: TRAIN[key] for key in ("caption", "translation")}),
        "image_index": np.array([0, 1, 0]),
        "image_ids": ["a", "b"],
        "validation": ASKED,
        "test": {"test": ASKED},
        "visual": np.zeros((2, 4)),
    }
    assert len(Corpus(**values).rows) == 3
    with pytest.raises(DataError, match=message):
        Corpus(**{**values, **changes})


def test_back_translations_and_weights_come_along(tmp_path):
    write(tmp_path, train={"back_translation": ["a dog", "a cat", "that dog"], "trust": [1.0, 0.5, 0.0]})
    corpus = load_corpus({"path": str(tmp_path), "columns": {"weight": "trust"}}, "de")
    assert corpus.rows.column_names == ["caption", "translation", "back_translation", "weight"]
    assert corpus.rows["weight"] == [1.0, 0.5, 0.0]


@pytest.mark.parametrize("said", ["de", "DE", "de-AT", "de_DE", "deu", "German", "und", None])
def test_rows_that_say_their_language(said):
    data = dataset()
    data["train"] = data["train"].add_column("language", [said] * 3)
    assert len(Corpus.from_dataset(data, "de").rows) == 3


def test_an_older_name_of_a_language_is_no_other_language():
    data = dataset()
    data["train"] = data["train"].add_column("language", ["no", "nb", "nb-NO"])
    assert len(Corpus.from_dataset(data, "nb").rows) == 3


def test_pairs_have_a_fingerprint_of_all_that_is_trained_on():
    corpus = Corpus.from_dataset(dataset(), "de")
    same = replace(corpus, rows=corpus.rows.with_format("numpy"), image_ids=np.asarray(corpus.image_ids))
    assert same.pairs_fingerprint() == corpus.pairs_fingerprint()
    words = [*corpus.rows["translation"][:2], "anders"]
    other = replace(corpus, rows=corpus.rows.remove_columns("translation").add_column("translation", words))
    turned = replace(corpus, image_index=np.roll(corpus.image_index, 1))
    found = {each.pairs_fingerprint() for each in (corpus, other, turned)}
    assert len(found) == 3


def test_rows_that_say_that_they_are_in_another_language_are_refused():
    data = dataset()
    data["train"] = data["train"].add_column("language", ["de", "fr", "fr"])
    with pytest.raises(DataError, match="2 of 3 rows are in another language than 'de', the first is row 1, in 'fr'"):
        Corpus.from_dataset(data, "de")


@pytest.mark.parametrize(
    ("weights", "message"),
    [([1.0, 1.5, 0.0], "row 1: 1.5"), ([1.0, float("nan"), 0.0], "row 1: nan"), ([0.0, 0.0, 0.0], "weight. of 0")],
)
def test_weights_that_are_no_shares(weights, message):
    data = dataset()
    data["train"] = data["train"].add_column("weight", weights)
    with pytest.raises(DataError, match=message):
        Corpus.from_dataset(data, "de")


def test_vectors_take_the_place_of_pictures(tmp_path):
    write(tmp_path)
    vectors = np.arange(8.0).reshape(4, 2)
    np.save(tmp_path / "v.npy", vectors)
    (tmp_path / "ids.txt").write_text("y\nb\na\nx\n")
    corpus = load_corpus({"path": str(tmp_path), "visual": "v.npy", "visual_ids": "ids.txt"}, "de")
    assert corpus.pictures is None
    assert corpus.image_ids == ["a", "b"]
    assert corpus.visual.tolist() == [[4.0, 5.0], [2.0, 3.0]]
    assert corpus.test["test"].visual.tolist() == [[6.0, 7.0], [0.0, 1.0]]


@pytest.mark.parametrize(
    ("ids", "changes", "message"),
    [
        ("y\nb\na\nz\n", {}, "test: 1 of 2 images have no visual vector, the first is 'x'|validation: 1 of 2"),
        ("y\nb\na\n", {}, "shape .4, 2. for .* image ids"),
        ("y\nb\na\na\n", {}, "'a' names more than one"),
        ("y\nb\na\nx\n", {"visual": "w.npy"}, "no file .*w.npy"),
        ("y\nb\na\nx\n", {"visual_ids": None}, "visual_ids"),
        ("y\nb\na\nx\n", {"visual": "ids.txt"}, "no array of numbers"),
    ],
)
def test_vectors_that_do_not_fit(ids, changes, message, tmp_path):
    write(tmp_path)
    np.save(tmp_path / "v.npy", np.zeros((4, 2)))
    (tmp_path / "ids.txt").write_text(ids)
    with pytest.raises(DataError, match=message):
        load_corpus({"path": str(tmp_path), "visual": "v.npy", "visual_ids": "ids.txt", **changes}, "de")


def test_names_of_rows_without_rows_are_refused(tmp_path):
    with pytest.raises(DataError, match="`visual_ids` names the rows of `visual`, and there is no `visual`"):
        load_corpus({"path": str(tmp_path), "visual_ids": "ids.txt"}, "de")
