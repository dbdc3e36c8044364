"""Rows to translate, from files whatever they are called."""

from __future__ import annotations

import json

import pytest
from datasets import Dataset, is_caching_enabled

from ccr_adapters.translation import load_rows
from ccr_adapters.translation.rows import one_caption_a_row


@pytest.mark.parametrize("name", ["br[v2]", "a*b", "what?"])
def test_a_path_is_no_pattern(name, tmp_path):
    for folder, text in (("brv", "of another"), (name, "mine")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "train.jsonl").write_text(json.dumps({"caption": text}) + "\n", encoding="utf-8")
    assert load_rows(tmp_path / name / "train.jsonl")["caption"] == ["mine"]
    assert load_rows(tmp_path / name)["caption"] == ["mine"]


def test_lists_of_captions_leave_the_input_as_it_was(tmp_path):
    rows = {"caption": [["one", "two"], ["three"]], "image": [b"a" * 99, b"b" * 99]}
    Dataset.from_dict(rows).save_to_disk(str(tmp_path / "data"))
    before = sorted(path.name for path in (tmp_path / "data").iterdir())
    found = one_caption_a_row(load_rows(tmp_path / "data"))
    assert found["caption"][:] == ["one", "two", "three"]
    assert [picture[:1] for picture in found["image"]] == [b"a", b"a", b"b"]
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == before
    assert is_caching_enabled()
