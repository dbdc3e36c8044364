"""The files of the NRCCR and DASD authors, for training and for evaluation."""

from __future__ import annotations

import json

import numpy as np
import pytest

from ccr_adapters.data.benchmarks import (
    dasd_entries,
    dasd_rows,
    load_dasd,
    load_nrccr,
    nrccr_entries,
    nrccr_rows,
    read_caption_json,
)
from ccr_adapters.errors import DataError, ImageError, LanguageError


def test_ids_captions_and_places(write):
    folder = write(
        "x.caption.txt",
        "y#b#enc#5 a man  walks ",
        "10.jpg#de#0 zwei Männer",
        "",
        "y#b#enc#6",
        "v.mp4#zh#0 一 个",
        end="\r\n",
    )
    found = nrccr_entries(folder / "x.caption.txt")
    assert [entry.image_id for entry in found] == ["y#b", "10", "v"]
    assert [caption.text for caption in found[0].captions] == ["a man  walks", ""]
    assert found[0].captions[1].where == "'x.caption.txt', line 4"
    assert found[2].captions[0].text == "一 个"


@pytest.mark.parametrize("line", ["10.jpg zwei Männer", "10.jpg#0 zwei"])
def test_a_line_that_is_no_nrccr(write, line):
    folder = write("x.caption.txt", "10#de#0 eins", line)
    with pytest.raises(DataError, match=r"'x\.caption\.txt', line 2: '.*' is no id of the form"):
        nrccr_entries(folder / "x.caption.txt")


def test_training_rows_of_nrccr_are_joined_by_id(write):
    folder = write("train_enc.caption.txt", "a#enc#0 a dog", "a#enc#1 the dog", "b#enc#0 a cat")
    write("train_de.caption.txt", "b#enc2de#0 eine Katze", "a#enc2de#0 ein Hund", "a#enc2de#1 der Hund")
    write("train_back.caption.txt", "a#enc2de2enc#0 one dog", "a#enc2de2enc#1 the dog", "b#enc2de2enc#0 one cat")
    files = [folder / f"train_{name}.caption.txt" for name in ("enc", "de", "back")]
    rows, skipped = nrccr_rows(*files)
    assert rows == [
        {"image_id": "a", "caption": "a dog", "translation": "ein Hund", "back_translation": "one dog"},
        {"image_id": "a", "caption": "the dog", "translation": "der Hund", "back_translation": "the dog"},
        {"image_id": "b", "caption": "a cat", "translation": "eine Katze", "back_translation": "one cat"},
    ]
    assert skipped == {}
    write("train_de.caption.txt", "b#enc2de#0", "a#enc2de#0 ein Hund", "a#enc2de#0 ein Hund")
    with pytest.raises(
        DataError, match=r"'train_de\.caption\.txt', line 3: caption 0 of 'a' was there before, in line 2"
    ):
        nrccr_rows(*files)
    rows, skipped = nrccr_rows(*files[:2], on_error="skip")
    assert rows == [{"image_id": "a", "caption": "a dog", "translation": "ein Hund"}]
    assert {kind: found["count"] for kind, found in skipped.items()} == {
        "captions without translation": 1,
        "duplicate captions": 1,
        "empty captions": 1,
    }


def test_an_evaluation_set_of_nrccr_over_pictures(write, pictures):
    folder = write("multi30ktest_de_2016.caption.txt", "20#de#0 zwei", "10#de#0 eins")
    found = load_nrccr(folder / "multi30ktest_de_2016.caption.txt", "de", images=pictures("10.jpg", "20.jpg"))
    assert [path.name for path in found.pictures] == ["20.jpg", "10.jpg"]
    with pytest.raises(DataError, match="no caption file"):
        load_nrccr(folder / "none.caption.txt", "de", images=folder)


@pytest.mark.parametrize(
    "content",
    [
        {"a.jpg": ["one", "uno"], "b.jpg": ["two"]},
        {"a.jpg": ["one", "uno"], "b.jpg": "two"},
        [
            {"image": "a.jpg", "caption": "one"},
            {"image": "b.jpg", "caption": ["two"]},
            {"image": "a.jpg", "caption": "uno"},
        ],
        [
            {"img_path": "a.jpg", "id": 1, "sentences": ["one", "uno"]},
            {"img_path": "b.jpg", "id": 2, "sentences": ["two"]},
        ],
    ],
)
def test_json_of_captions_in_its_forms(write, content):
    folder = write("captions.json", json.dumps(content))
    assert read_caption_json(folder / "captions.json") == {"a.jpg": ["one", "uno"], "b.jpg": ["two"]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('"text"', "holds a str"),
        ('{"a": 3}', "'a': expected a caption or a list"),
        ('{"a": ["x", null]}', "'a': expected a caption or a list"),
        ('["a"]', "row 0, is a str"),
        ('[{"picture": "a", "caption": "x"}]', "row 0 has picture, caption; expected one of image"),
        ('[{"image": "a"}]', "row 0 has image; expected one of caption"),
        ('{"a": [', r"line 2, is no JSON"),
    ],
)
def test_json_of_another_form(write, content, message):
    with pytest.raises(DataError, match=message):
        read_caption_json(write("captions.json", content) / "captions.json")


def dasd(write, names=("b.jpg", "a.jpg")):
    folder = write("dataset/Multi30k/de.json", json.dumps({"a.jpg": ["eins", "uno"], "b.jpg": ["zwei"]}))
    np.save(folder / "dataset/Multi30k/test_names.npy", np.array(names, dtype="S"))
    entry = {
        "anno_file": ["dataset/Multi30k/en.json", "dataset/Multi30k/de.json"],
        "name_file": ["dataset/Multi30k/test_names.npy"] * 2,
        "feature": ["dataset/Multi30k/images"] * 2,
        "langs": ["en", "de"],
    }
    write("dataset/Multi30k/path.json", json.dumps({"test": entry}))
    return folder / "dataset/Multi30k/path.json"


def test_a_path_file_of_dasd(write, pictures):
    path = dasd(write)
    found = load_dasd(path, "test", "de", root=path.parents[2], images=pictures("a.jpg", "b.jpg"))
    assert found.image_ids == ["b", "a"]
    assert found.captions["de"] == ["zwei", "eins", "uno"]
    assert found.caption_to_image["de"].tolist() == [0, 1, 1]
    (path.parent / "images").mkdir()
    for name in ("a.jpg", "b.jpg"):
        (path.parent / "images" / name).write_bytes((pictures("a.jpg", "b.jpg") / name).read_bytes())
    assert load_dasd(path, "test", "de").pictures == [path.parent / "images/b.jpg", path.parent / "images/a.jpg"]


def test_a_list_with_a_line_for_each_caption_names_an_image_once(write, pictures):
    path = dasd(write, names=("b.jpg", "a.jpg", "a.jpg"))
    found = load_dasd(path, "test", "de", root=path.parents[2], images=pictures("a.jpg", "b.jpg"))
    assert found.captions["de"] == ["zwei", "eins", "uno"]


def test_names_that_folders_alone_tell_apart(write, pictures):
    """`a/0.jpg` and `b/0.jpg` are two images; `c/1.jpg`, the only `1`, keeps its short id."""
    names = ["a/0.jpg", "b/0.jpg", "c/1.jpg"]
    path = dasd(write, names=names)
    (path.parent / "de.json").write_text(json.dumps({name: [f"{name} deutsch"] for name in names}))
    (path.parent / "en.json").write_text(json.dumps({name: [name] for name in names}))
    root, folder = path.parents[2], pictures(*names)
    found = load_dasd(path, "test", "de", root=root, images=folder)
    assert found.image_ids == ["a/0", "b/0", "1"]
    assert found.captions["de"] == [f"{name} deutsch" for name in names]
    assert found.caption_to_image["de"].tolist() == [0, 1, 2]
    assert found.pictures == [folder / name for name in names]
    with pytest.raises(ImageError, match=r"3 of 3 pictures are missing: 'a/0\.jpg', 'b/0\.jpg'"):
        load_dasd(path, "test", "de", root=root, images=folder / "a")
    rows, _ = dasd_rows(path.parent / "en.json", path.parent / "de.json")
    assert [row["image_id"] for row in rows] == ["a/0", "b/0", "1"]


def test_nrccr_ids_with_folders(write, pictures):
    folder = write("x_de.caption.txt", "a/0.jpg#de#0 eins", "b/0.jpg#de#0 zwei")
    images = pictures("deep/a/0.jpg", "deep/b/0.jpg")
    found = load_nrccr(folder / "x_de.caption.txt", "de", images=images)
    assert found.pictures == [images / "deep/a/0.jpg", images / "deep/b/0.jpg"]
    flat = write("y_de.caption.txt", "0#de#0 eins", "1#de#0 zwei") / "y_de.caption.txt"
    pictures("deep/a/0.jpg", "deep/b/0.jpg", "deep/a/1.jpg")
    with pytest.raises(ImageError, match=r"1 of 2 pictures are ambiguous: '0 \(deep/a/0\.jpg, deep/b/0\.jpg\)'"):
        load_nrccr(flat, "de", images=images)
    found = load_nrccr(flat, "de", images=images, on_error="skip")
    assert found.image_ids == ["1"]
    assert found.facts["skipped"]["ambiguous pictures"]["count"] == 1


def test_a_path_file_that_lacks_something(write):
    path = dasd(write, names=("c.jpg",))
    with pytest.raises(DataError, match="no split 'val'; it has test"):
        load_dasd(path, "val", "de")
    with pytest.raises(LanguageError, match="no 'fr'; it has en, de"):
        load_dasd(path, "test", "fr")
    with pytest.raises(DataError, match=r"'dataset/Multi30k/en\.json', which 'path\.json' names.*: move the path file"):
        load_dasd(path, "test", "en")
    with pytest.raises(DataError, match=r"lacks 1 of 1 names, the first is 'c\.jpg'"):
        load_dasd(path, "test", "de", features={"c": np.zeros(2)})
    write("dataset/Multi30k/path.json", json.dumps({"test": {"anno_file": ["x"], "langs": ["en", "de"]}}))
    with pytest.raises(DataError, match="expected anno_file, name_file, feature, langs"):
        load_dasd(path, "test", "de")


@pytest.mark.parametrize("form", ["npy", "json", "txt"])
def test_lists_of_names(write, form):
    folder = write("captions.json", json.dumps({"ä.jpg": ["x"], "b.jpg": ["y"]}))
    path = folder / f"names.{form}"
    names = ["b.jpg", "ä.jpg"]
    if form == "npy":
        np.save(path, np.array(names))
    else:
        path.write_text(json.dumps(names) if form == "json" else "\n".join(names) + "\n", encoding="utf-8")
    found = dasd_entries(folder / "captions.json", path)
    assert [entry.files for entry in found] == [("b.jpg",), ("ä.jpg",)]


def test_lists_of_something_else(write):
    folder = write("captions.json", json.dumps({"a": ["x"]}))
    np.save(folder / "numbers.npy", np.arange(3))
    (folder / "names.json").write_text('{"a": 1}')
    for name, message in (("numbers.npy", "expected names"), ("names.json", "holds a dict"), ("none.txt", "no list")):
        with pytest.raises(DataError, match=message):
            dasd_entries(folder / "captions.json", folder / name)


def test_training_rows_of_dasd(write):
    folder = write("en.json", json.dumps({"a.jpg": ["a dog", "the dog"], "b.jpg": ["a cat"], "c.jpg": ["x"]}))
    write("de.json", json.dumps({"a.jpg": ["ein Hund", " "], "b.jpg": ["eine Katze", "Katze"]}))
    with pytest.raises(DataError, match=r"'a\.jpg' has an empty caption or translation"):
        dasd_rows(folder / "en.json", folder / "de.json")
    rows, skipped = dasd_rows(folder / "en.json", folder / "de.json", on_error="skip")
    assert rows == [{"image_id": "a", "image": "a.jpg", "caption": "a dog", "translation": "ein Hund"}]
    assert {kind: found["count"] for kind, found in skipped.items()} == {
        "empty captions": 1,
        "images with unequal captions": 1,
        "images without captions": 1,
    }
