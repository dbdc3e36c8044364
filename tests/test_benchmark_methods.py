"""The parts of the benchmark of all methods that need no data: recipes, back-translations, tables."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ccr_adapters.cli.checks import check_recipe
from ccr_adapters.errors import DataError
from ccr_adapters.methods import CL2CM, DASD, METHODS, NRCCR, Transfer

FOLDER = Path(__file__).parents[1] / "benchmarks"
CELL = {"world": "multi30k", "language": "de", "regime": "2900", "noise": 0.0, "pairs": 2900, "epochs": 5.0, "seed": 0}


@pytest.fixture(scope="module")
def methods(programs):
    """The benchmark as a module."""
    return programs("methods")


@pytest.fixture(scope="module")
def contenders(methods):
    """Its recipes."""
    return sys.modules["contenders"]


@pytest.fixture(scope="module")
def tables(methods):
    """Its tables."""
    return sys.modules["cell_tables"]


def test_every_row_is_a_recipe_that_can_work(contenders, tmp_path):
    for world in ("multi30k", "tiny"):
        for method in contenders.CONTENDERS:
            plan = contenders.recipe_of({**CELL, "world": world, "method": method}, "tiny_clip", tmp_path)
            check_recipe(plan)
            shares = [stage["share"] for stage in contenders.CONTENDERS[method]["stages"]]
            assert sum(shares) == pytest.approx(contenders.CONTENDERS[method].get("epochs", 1.0)), method
    used = {contenders.CONTENDERS[name].get("method", "dasd") for name in contenders.CONTENDERS}
    assert used == set(METHODS)


def test_words_come_back_as_what_they_are_paired_with_most(methods):
    pairs = {"ein roter Hund": "a red dog", "ein Hund": "a dog", "eine rote Katze": "a red cat", "ein Ball": "a ball"}
    back = sys.modules["cells"].word_by_word(list(pairs) * 3, list(pairs.values()) * 3)
    assert back[:4] == ["a red dog", "a dog", "a red cat", "a ball"]


def cell(method, seed, values, **changes):
    facts = {"seconds_a_step": 0.5, "parameters": 2_000_000, "bytes": 1_000_000, "peak_bytes": 2e9}
    return {**CELL, **facts, "method": method, "seed": seed, "arrays": {"test": np.asarray(values, float)}, **changes}


def test_the_table_has_means_over_seeds(tables):
    cells = [
        cell("base", 0, [10, 30], seconds_a_step=0.0),
        cell("dasd", 0, [100, 300]),
        cell("dasd", 1, [200, 400], seconds_a_step=0.7),
    ]
    cells[0]["arrays"]["english test"] = np.array([500.0, 600.0])
    rows = tables.table(cells)
    assert [row["method"] for row in rows] == ["English captions (the ceiling)", "no adaptation", "DASD"]
    assert rows[0]["test"].startswith("550.0")
    assert rows[2]["test"].startswith("250.0 [")
    assert (rows[2]["seeds"], rows[2]["s a step"], rows[2]["trained"]) == ("2", "0.50", "2.00 M")
    assert "s a step" not in rows[1]


def test_a_reference_is_compared_over_languages(contenders, tables):
    generator = np.random.default_rng(0)
    cells = []
    for language, shift in (("de", 30.0), ("cs", 50.0)):
        base = generator.normal(300, 20, size=400)
        noisy = generator.normal(0, 5, size=400)
        cells.append(cell("mla", 0, base, language=language))
        cells.append(cell("dasd", 0, base + shift + noisy, language=language))
        cells.append(cell("lora", 0, base + shift + generator.normal(0, 5, size=400), language=language))
    rows = {row["method"]: row for row in tables.over_languages(cells, "dasd")}
    told = "dasd against it, test"
    assert {row["seeds compared"] for row in rows.values()} == {"1", ""}
    mla = rows[contenders.title_of("mla")]
    assert mla["test in"] == "de cs"
    assert mla["training"] == "2,900 pairs"
    assert mla[told].startswith("+40.") or mla[told].startswith("+39.")
    assert mla[told].endswith("above")
    assert rows[contenders.title_of("lora")][told].endswith("tie")
    assert told not in rows["DASD"]


def test_languages_show_the_same_pictures(tables):
    """What a picture adds in one language it adds in the others too: two of them tell no more than one."""
    generator = np.random.default_rng(0)
    base, shift = np.full(400, 300.0), generator.normal(1, 20, size=400)
    one = [cell("mla", 0, base), cell("dasd", 0, base + shift)]
    two = [*one, *({**found, "language": "cs"} for found in one)]
    told = [tables.over_languages(cells, "dasd")[0]["dasd against it, test"] for cells in (one, two)]
    assert told[0] == told[1]
    low, high = tables.interval(shift)
    assert f"[{low:+.1f}, {high:+.1f}]" in told[0]


def test_differences_are_of_the_seeds_that_both_have(tables):
    cells = [cell("mla", 0, [100, 200]), cell("dasd", 0, [110, 210])]
    cells += [cell("dasd", seed, [500, 600]) for seed in (1, 2)]
    row, ours = tables.over_languages(cells, "dasd")
    assert row["dasd against it, test"].startswith("+10.0 ")
    assert row["seeds compared"] == "1"
    assert ours["test, mean"] == "420.0"  # of all three
    (row, _) = tables.over_languages([cell("mla", 3, [100, 200]), *cells[1:]], "dasd")
    assert "dasd against it, test" not in row


def test_an_archive_gives_back_what_it_was_given(methods, tmp_path):
    archive = sys.modules["archive"]
    path = tmp_path / "results" / "cells.parquet"
    assert archive.read_archive(path) == {}
    first = cell("dasd", 0, [100, 220.0], pairs=None, regime="all")
    other = cell("base", 0, [1, 2], peak_bytes=7)
    other["arrays"]["english test"] = np.array([500.0, 600.0])
    archive.add_to_archive(path, [first, other])
    archive.add_to_archive(path, [cell("dasd", 0, [300, 400], pairs=None, regime="all"), cell("dasd", 1, [5, 6])])
    found = archive.read_archive(path)
    assert len(found) == 3
    assert found[archive.key_of(first)]["arrays"]["test"].tolist() == [300, 400]
    back = found[archive.key_of(other)]
    assert back["arrays"].keys() == {"test", "english test"}
    assert {name: back[name] for name in CELL} == {name: other[name] for name in CELL}
    assert back["peak_bytes"] == 7
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_what_is_no_archive_says_so(methods, tmp_path):
    path = tmp_path / "cells.parquet"
    path.write_text("no Parquet")
    with pytest.raises(DataError, match="no archive of cells"):
        sys.modules["archive"].read_archive(path)
    assert path.read_text() == "no Parquet"


def test_tables_of_an_archive_are_written_each_to_its_place(methods, tmp_path, capsys):
    cells = [cell(name, seed, [100, 200 + seed]) for name in ("mla", "dasd") for seed in (0, 1)]
    cells.append(cell("mla", 0, [300, 400], regime="all", pairs=None, epochs=2.0))
    sys.modules["archive"].add_to_archive(tmp_path / "cells.parquet", cells)
    page = tmp_path / "page.md"
    places = ("methods_note", *methods.PLACES.values())
    page.write_text("\n".join(f"<!-- {name}:begin -->\nbefore\n<!-- {name}:end -->" for name in places))
    given = ["--archive", str(tmp_path / "cells.parquet"), "--output", str(tmp_path / "runs"), "--finished"]
    assert methods.main([*given, "--languages", "de", "--seeds", "0", "1", "2", "--write", str(page)]) == 0
    _, few, every, tiny = page.read_text().split(":begin -->\n")[1:]
    assert "| 2 " in few
    assert "350.0" in every
    assert "350.0" not in few
    assert tiny.startswith("before")
    assert "bootstrap" in capsys.readouterr().out


def test_what_noise_costs(tables, tmp_path):
    cells = [cell("dasd", 0, [100, 200], noise=0.0), cell("dasd", 0, [90, 200], noise=0.4)]
    # a second seed without noise alone counts in the score, and not in what was lost
    (row,) = tables.noise_table([*cells, cell("dasd", 1, [300, 300], noise=0.0)])
    lost = row.pop("lost at 40%")
    assert lost.startswith("5.0 [")
    assert row == {
        "training": "de, 2,900 pairs",
        "method": "DASD",
        "0%": "225.0",
        "40%": "145.0 (-5.0)",
        "seeds": "2, 1",
    }
    tables.noise_plot(cells, tmp_path / "a" / "noise.png")
    assert (tmp_path / "a" / "noise.png").read_bytes()[:4] == b"\x89PNG"


def test_a_method_is_shown_where_it_has_all_languages(methods):
    cells = [cell(name, 0, [1], language=code) for name, code in (("mla", "de"), ("mla", "cs"), ("dasd", "de"))]
    assert [methods.in_all_languages(one, cells) for one in cells] == [True, True, False]
    noisy = cell("dasd", 0, [1], noise=0.2)
    assert methods.in_all_languages(noisy, [*cells, noisy])


def test_a_block_says_how_many_pairs_it_had(contenders):
    assert contenders.training_of(CELL) == "de, 2,900 pairs"
    assert contenders.training_of({**CELL, "pairs": 1160, "noise": 0.2}) == "de, 1,160 pairs, 20% noise"  # a quick run
    assert contenders.training_of({**CELL, "regime": "all", "pairs": None}) == "de, all pairs"
    assert contenders.training_of({**CELL, "regime": "tiny"}) == "de, tiny world"


def test_the_plan_of_a_quick_run(methods, contenders):
    args = methods.parsed(["--quick", "--worlds", "tiny"])
    cells = methods.plan(args)
    assert [found["method"] for found in cells] == ["base", "aligned", *contenders.QUICK_METHODS]
    assert {found["language"] for found in cells} == {"de"}
    assert {found["varied"] for found in cells} == {1}
    full = methods.plan(methods.parsed(["--seeds", "0", "1"]))
    assert len({contenders.name_of(found) for found in full}) == len(full)
    assert not any("varied" in found for found in full)
    assert {found["language"] for found in full if found["world"] == "tiny"} == set(contenders.TINY_LANGUAGES)


def test_the_passes_of_a_step_are_those_of_its_terms(programs):
    """The table of docs/methods/index.md, together with what fewer terms leave out."""
    passes_of = programs("step_cost").passes_of
    full = CL2CM.stages["joint"]

    def captions(terms, needs=frozenset()):
        return sum(copies for _, copies in passes_of(terms, needs))

    assert captions(DASD.stages["cma"]) == captions(Transfer.stages["joint"]) == 1
    assert captions(NRCCR.stages["joint"], frozenset({"source", "back"})) == 3
    assert captions(NRCCR.stages["joint"], frozenset({"source"})) == 2
    assert captions(full) == 6
    assert captions(replace(full, words=0.0)) == 4
    assert captions(replace(full, words=0.0, sentence=0.0, transfer=0.0)) == 2
