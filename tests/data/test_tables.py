"""Files of a split, and what a table says, to the letter."""

from __future__ import annotations

import pytest

from ccr_adapters.data.tables import read_tables, split_files
from ccr_adapters.errors import DataError


def named(folder, *names):
    for name in names:
        (folder / name).write_text('{"caption": "x"}\n', encoding="utf-8")
    return [file.name for file in split_files(folder, "train")]


@pytest.mark.parametrize(
    ("names", "taken"),
    [
        (["train.jsonl", "test.jsonl"], ["train.jsonl"]),
        (["train.jsonl", "train_small.jsonl", "train_stats.json"], ["train.jsonl"]),
        (["train-00001-of-00002.parquet", "train-00000-of-00002.parquet"], None),
        (["train_0.csv", "train_1.csv", "train_notes.json"], ["train_0.csv", "train_1.csv"]),
        ([f"train_{part}.csv" for part in range(1, 12)], [f"train_{part}.csv" for part in range(1, 12)]),
        (["train-00000-of-00001-0123456789abcdef.parquet"], None),
        (["train.de.jsonl"], ["train.de.jsonl"]),
        (["train_2016.jsonl"], ["train_2016.jsonl"]),
        (["validation.jsonl", "train.txt"], []),
    ],
)
def test_which_files_are_a_split(tmp_path, names, taken):
    assert named(tmp_path, *names) == (sorted(names) if taken is None else taken)


@pytest.mark.parametrize(
    "names",
    [
        ["train.de.jsonl", "train.fr.jsonl"],
        ["train_2016.jsonl", "train_2017.jsonl"],
        ["train.jsonl", "train.csv"],
        ["train_0.csv", "train_1.jsonl"],
        ["train_0.csv", "train_2.csv"],
    ],
)
def test_files_that_may_be_two_sets_are_refused(tmp_path, names):
    with pytest.raises(DataError, match=r"could be train.*Leave one"):
        named(tmp_path, *names)


def test_the_text_of_a_csv_stays_as_it_is(tmp_path):
    """`NA` is a word, and a leading zero part of a name."""
    (tmp_path / "train.csv").write_text(
        'image_id,caption,weight\n001,NA,0.5\n002,"null, None",\n', encoding="utf-8-sig"
    )
    rows = read_tables(split_files(tmp_path, "train"))
    assert rows[:] == {"image_id": ["001", "002"], "caption": ["NA", "null, None"], "weight": ["0.5", ""]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("caption,translation\na dog,Ein Hund, der liegt\n", "line 2: 3 fields, and 2 in the header"),
        ("caption,translation\na dog,ein Hund\na cat\n", "line 3: 1 fields"),
        ('caption,translation\na dog,"ein Hund\na cat,eine Katze\n', "unexpected end of data"),
        ("", "is empty"),
    ],
)
def test_a_csv_whose_rows_do_not_fit_is_refused(tmp_path, content, message):
    (tmp_path / "train.csv").write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        read_tables(split_files(tmp_path, "train"))
