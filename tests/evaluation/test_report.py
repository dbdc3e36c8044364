"""Tables and JSON as they come out."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from ccr_adapters.errors import EvaluationError
from ccr_adapters.evaluation import console_table, evaluate_retrieval, markdown_table, write_metrics

ROWS = [
    {"model": "static | MLA", "sumR": 499.94, "sumR_ci95": [490.0, 508.27], "parameters": 1234567, "best": False},
    {"model": "動的", "sumR": 510, "parameters": None, "best": True},
]


def test_markdown():
    columns = {"model": "Model", "sumR": "SumR", "sumR_ci95": "95%", "parameters": "Parameters"}
    assert markdown_table(ROWS, columns) == "\n".join(
        [
            "| Model         |  SumR |         95% | Parameters |",
            "| ------------- | ----: | ----------: | ---------: |",
            "| static \\| MLA | 499.9 | 490.0–508.3 |  1,234,567 |",
            "| 動的          |   510 |           – |          – |",
        ]
    )


def test_console():
    assert console_table(ROWS, ["model", "sumR", "best"]) == "\n".join(
        [
            "model          sumR  best",
            "────────────  ─────  ────",
            "static | MLA  499.9  no",
            "動的            510  yes",
        ]
    )


def test_all_keys_are_shown_in_order_of_appearance():
    header = markdown_table([{"b": 1}, {"a": 2, "b": 3}]).splitlines()[0]
    assert [cell.strip() for cell in header.strip("|").split("|")] == ["b", "a"]


def test_a_table_of_nothing_has_its_heading():
    assert console_table([], ["model", "sumR"]).splitlines()[0] == "model  sumR"


def test_numbers_that_are_not_finite_are_not_shown_as_numbers():
    assert "nan" not in markdown_table([{"x": float("nan")}])


def test_metrics_go_to_json_and_into_a_table(tmp_path):
    metrics = evaluate_retrieval(torch.eye(3), torch.eye(3), torch.arange(3))
    path = write_metrics(tmp_path / "deep" / "metrics.json", {"de": metrics, "übung": "ä"})
    text = path.read_text(encoding="utf-8")
    assert json.loads(text) == {"de": metrics.to_dict(), "übung": "ä"}
    assert "übung" in text
    assert text.endswith("\n")
    assert "600.0" in markdown_table([metrics.to_dict()], ["sumR"])


def test_numbers_of_numpy_and_torch_and_paths_are_written(tmp_path):
    payload = {"a": np.float32(0.5), "b": torch.tensor(3), "c": np.arange(2), "d": tmp_path}
    written = json.loads(write_metrics(tmp_path / "m.json", payload).read_text(encoding="utf-8"))
    assert written == {"a": 0.5, "b": 3, "c": [0, 1], "d": str(tmp_path)}


@pytest.mark.parametrize("bad", [float("nan"), np.float32("inf"), object(), {1, 2}])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, bad):
    path = write_metrics(tmp_path / "metrics.json", {"sumR": 1})
    with pytest.raises(EvaluationError, match=r"metrics\.json was not written"):
        write_metrics(path, {"sumR": 2, "more": bad})
    assert json.loads(path.read_text(encoding="utf-8")) == {"sumR": 1}
    assert list(tmp_path.iterdir()) == [path]
