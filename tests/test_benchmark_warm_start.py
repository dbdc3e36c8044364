"""The parts of the benchmark of starts that need no data: its cells, which are those of the other benchmark, and its table."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import pytest

from ccr_adapters.cli.checks import check_recipe

FOLDER = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def starts(programs):
    """The benchmark as a module."""
    return programs("warm_start")


def test_each_start_is_a_recipe_in_a_folder_of_its_own(starts, tmp_path, german_adapter):
    contenders = sys.modules["contenders"]
    args = argparse.Namespace(output=tmp_path, settings=starts.SETTINGS, seeds=[0, 1])
    cells = starts.cells(args)
    assert len({(folder, contenders.name_of(cell)) for folder, cell in cells}) == len(cells) == 2 * 4 * 2 * 2
    seen = set()
    for folder, cell in cells:
        near = cell.get("warm_start")
        assert near is None or Path(near).parent.name == contenders.name_of(
            starts.standard(starts.NEIGHBOURS[cell["language"]], 0)
        )
        plan = contenders.recipe_of(
            {**cell, "warm_start": None if near is None else str(german_adapter)}, "tiny_clip", folder
        )
        check_recipe(plan)
        seen.add((plan.vocabulary.start, plan.warm_start is not None))
    assert seen == {("random", False), ("shared", False), ("aligned", False), ("aligned", True)}


def test_a_start_is_compared_with_the_default_over_both_languages(starts):
    noise = np.random.default_rng(0)

    def cell(rows, language, value):
        arrays = {"test": value + noise.normal(0, 1, size=200)}
        arrays |= {"varied": value - 50 + noise.normal(0, 1, size=200)} if language == "de" else {}
        return {"setting": (290, 10.0), "rows": rows, "language": language, "arrays": arrays}

    values = {"random": 100, "shared": 120, "aligned": 200, "neighbour": 210}
    rows = starts.table([cell(rows, code, value) for rows, value in values.items() for code in ("de", "cs")])
    found = {row["start"]: row for row in rows}
    near = found[starts.STARTS["neighbour"]]
    assert near["training"] == "290 pairs, 10 epochs"
    assert near["test"].startswith("210.") or near["test"].startswith("209.")
    assert near["test, difference"].startswith(("+10.", "+9."))
    assert near["test, difference"].endswith("above")
    assert near["varied"].startswith(("160.", "159."))
    assert found[starts.STARTS["random"]]["varied, difference"].endswith("below")
    assert "test, difference" not in found[starts.STARTS["aligned"]]
