"""Rows to translate, from files whatever they are called."""

from __future__ import annotations

import json

import pytest

from ccr_adapters.translation import load_rows


@pytest.mark.parametrize("name", ["br[v2]", "a*b", "what?"])
def test_a_path_is_no_pattern(name, tmp_path):
    for folder, text in (("brv", "of another"), (name, "mine")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "train.jsonl").write_text(json.dumps({"caption": text}) + "\n", encoding="utf-8")
    assert load_rows(tmp_path / name / "train.jsonl")["caption"] == ["mine"]
    assert load_rows(tmp_path / name)["caption"] == ["mine"]
