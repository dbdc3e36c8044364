"""A folder of pictures with a table of captions, whatever the table's kind and columns are."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ccr_adapters.data.benchmarks import load_image_folder
from ccr_adapters.errors import DataError, ImageError

ROWS = [("a/1.png", "ein Hund, groß"), ("b/1.png", "eine Katze"), ("a/1.png", "noch ein Hund")]


@pytest.fixture
def folder(pictures):
    return pictures("a/1.png", "b/1.png", "unused.png")


def table(folder, name, image="file_name", caption="caption", rows=ROWS):
    if name.endswith(".parquet"):
        pq.write_table(
            pa.table({image: [file for file, _ in rows], caption: [text for _, text in rows]}), folder / name
        )
        return
    if name.endswith(".jsonl"):
        text = "".join(json.dumps({image: file, caption: text}, ensure_ascii=False) + "\n" for file, text in rows)
    else:
        tab = "\t" if name.endswith(".tsv") else ","
        quoted = [(file, f'"{text}"') for file, text in rows]
        text = "".join(tab.join(cells) + "\r\n" for cells in [(image, caption), *quoted])
    (folder / name).write_text(text, encoding="utf-8-sig", newline="")


def check(found):
    assert found.image_ids == ["a/1", "b/1"]
    assert found.captions["de"] == ["ein Hund, groß", "noch ein Hund", "eine Katze"]
    assert found.caption_to_image["de"].tolist() == [0, 0, 1]
    assert [path.parent.name for path in found.pictures] == ["a", "b"]


@pytest.mark.parametrize("name", ["metadata.jsonl", "metadata.csv", "captions.tsv", "captions.parquet"])
def test_tables_of_four_kinds(folder, name):
    table(folder, name)
    found = load_image_folder(folder, "de")
    check(found)
    assert found.name == "pictures"
    assert found.facts["source"] == f"'{name}'"


@pytest.mark.parametrize(("image", "caption"), [("filepath", "title"), ("image_path", "text")])
def test_columns_that_other_projects_use(folder, image, caption):
    table(folder, "metadata.csv", image, caption)
    check(load_image_folder(folder, "deu"))


def test_columns_and_tables_of_any_name(folder, tmp_path):
    table(folder, "mine.csv", "bild", "satz")
    check(load_image_folder(folder, "de", table="mine.csv", columns={"image": "bild", "caption": "satz"}))
    check(load_image_folder(folder, "de", table=folder / "mine.csv", columns={"image": "bild", "caption": "satz"}))
    with pytest.raises(DataError, match=r"no column image or file_name.*for the image; it has bild, satz"):
        load_image_folder(folder, "de", table="mine.csv")
    with pytest.raises(DataError, match="no column text for the caption; it has bild, satz"):
        load_image_folder(folder, "de", table="mine.csv", columns={"image": "bild", "caption": "text"})
    with pytest.raises(DataError, match="maps picture; it can map"):
        load_image_folder(folder, "de", table="mine.csv", columns={"picture": "bild"})


def test_lists_of_captions_and_ids(folder):
    rows = [
        {"image": "a/1.png", "captions": ["eins", "zwei"], "image_id": 7},
        {"image": "b/1.png", "captions": "drei", "image_id": 8},
    ]
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    found = load_image_folder(folder, "de")
    assert found.captions["de"] == ["eins", "zwei", "drei"]
    assert found.image_ids == ["7", "8"]


@pytest.mark.parametrize(
    ("rows", "message", "kind", "kept"),
    [
        ([*ROWS, ("b/1.png", "\u00a0")], "line 5: the caption of image 'b/1' is empty", "empty captions", 3),
        ([*ROWS, ("", "verloren")], "line 5: no picture is named", "captions without images", 3),
        ([*ROWS, ("1.png", "weg")], r"1 of 3 pictures are missing: '1\.png'", "missing pictures", 3),
    ],
)
def test_bad_rows_are_refused_or_counted(folder, rows, message, kind, kept):
    table(folder, "metadata.csv", rows=rows)
    with pytest.raises((DataError, ImageError), match=message):
        load_image_folder(folder, "de")
    found = load_image_folder(folder, "de", on_error="skip")
    assert len(found.captions["de"]) == kept
    assert found.facts["skipped"][kind]["count"] == 1


@pytest.mark.parametrize(
    ("name", "lines", "message"),
    [
        ("metadata.csv", ["a/1.png,Ein Hund, der im Gras liegt"], "line 2 has more fields than the header"),
        ("metadata.tsv", ['a/1.png\t"Hallo', "b/1.png\tEin Hund"], "line 2: unexpected end of data"),
        ("metadata.tsv", ['a/1.png\t"Hallo" sagt er', "b/1.png\tEin Hund"], "line 2: '.*' expected after"),
    ],
)
def test_text_that_a_separator_or_a_quotation_mark_would_cut_off(folder, name, lines, message):
    tab = "\t" if name.endswith(".tsv") else ","
    (folder / name).write_text("\n".join([f"file_name{tab}caption", *lines]) + "\n", encoding="utf-8")
    with pytest.raises(DataError, match=message):
        load_image_folder(folder, "de")


@pytest.mark.parametrize(
    "row", [{"image": "b/1.png"}, {"image": "b/1.png", "image_id": " "}, {"image": "/", "image_id": 8}]
)
def test_rows_that_name_no_picture(folder, row):
    rows = [{"image": "a/1.png", "caption": "eins", "image_id": 7}, {"caption": "zwei", **row}]
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(DataError, match="line 2: no picture is named"):
        load_image_folder(folder, "de")
    found = load_image_folder(folder, "de", on_error="skip")
    assert (found.image_ids, found.facts["skipped"]["captions without images"]["count"]) == (["7"], 1)


def test_a_table_that_holds_its_pictures(folder):
    rows = pa.Table.from_pylist([{"image": {"bytes": b"x", "path": None}, "caption": "eins"}])
    pq.write_table(rows, folder / "metadata.parquet")
    with pytest.raises(DataError, match="'image' holds a picture; expected the name of its file"):
        load_image_folder(folder, "de")
    (folder / "metadata.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match="'metadata.parquet' cannot be read"):
        load_image_folder(folder, "de")


def test_one_id_for_two_pictures(folder):
    rows = [{"image": name, "caption": name, "image_id": 7} for name in ("a/1.png", "b/1.png")]
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(
        DataError, match=r"line 2: image '7' is 'b/1\.png' here and 'a/1\.png' at 'metadata\.jsonl', line 1"
    ):
        load_image_folder(folder, "de")
    assert load_image_folder(folder, "de", on_error="skip").facts["skipped"]["duplicate images"]["count"] == 1


def test_what_is_not_there(folder, tmp_path):
    with pytest.raises(DataError, match=r"no table of captions \(metadata\.jsonl"):
        load_image_folder(folder, "de")
    with pytest.raises(DataError, match="no folder"):
        load_image_folder(tmp_path / "none", "de")
    (folder / "x.txt").write_text("")
    with pytest.raises(DataError, match=r"'x\.txt' is no CSV"):
        load_image_folder(folder, "de", table="x.txt")


def test_translations_of_the_captions_by_machine(pictures):
    place = pictures("a.png", "b.png")
    rows = [
        {"image": "a.png", "caption": ["ein Hund", "ein  Tier"], "english": ["a dog", "an animal"]},
        {"image": "b.png", "caption": "eine Katze", "english": None},
    ]
    (place / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    found = load_image_folder(place, "de", columns={"translation": "english"})
    assert found.extra == {"translation": {"ein Hund": "a dog", "ein Tier": "an animal", "eine Katze": ""}}
    assert load_image_folder(place, "de").extra == {}
    with pytest.raises(DataError, match="has no column english_de"):
        load_image_folder(place, "de", columns={"translation": "english_de"})
    rows[0]["english"] = ["a dog"]
    (place / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    with pytest.raises(DataError, match="2 captions and 1 translations"):
        load_image_folder(place, "de", columns={"translation": "english"})
