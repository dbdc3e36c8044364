"""Captions from a CSV file, and what is refused."""

from __future__ import annotations

import pytest

from ccr_adapters.demo.captions import Caption, captions_by_language, read_captions, write_captions
from ccr_adapters.errors import DataError


def test_what_is_written_is_read(tmp_path):
    captions = [Caption('Ein "roter" Stern,\nzwei Zeilen', "de", "terse", "1.png"), Caption("红色的星星", "zh")]
    write_captions(captions, tmp_path / "captions.csv")
    assert read_captions(tmp_path / "captions.csv") == captions
    assert captions_by_language(captions) == {"de": captions[:1], "zh": captions[1:]}


def test_other_columns_and_a_byte_order_mark_do_no_harm(tmp_path):
    path = tmp_path / "excel.csv"
    path.write_bytes("\ufefflanguage,year,caption\nde,2020, Ein Boot \n".encode())
    assert read_captions(path) == [Caption("Ein Boot", "de")]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"text,language\nEin Boot,de\n", "lacks the column caption; its first line names text, language"),
        (b"", "lacks the column caption and language; its first line names none"),
        (b"caption,language\nEin Boot,de\nzwei Boote\n", "row 2: expected a caption and the code"),
        (b"caption,language\nEin Hund, der bellt,de\n", "line 2: more fields than columns"),
        (b"caption,language\n\xff\xfe,de\n", "cannot be read"),
    ],
)
def test_what_is_no_table_of_captions_is_refused(tmp_path, content, told):
    path = tmp_path / "captions.csv"
    path.write_bytes(content)
    with pytest.raises(DataError, match="captions.csv") as error:
        read_captions(path)
    assert told in str(error.value)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(DataError, match=r"none\.csv.*cannot be read"):
        read_captions(tmp_path / "none.csv")
