"""What benchmarks print they put on a page themselves, between its markers: small real runs of each."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

import pytest

from ccr_adapters.errors import DataError

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "benchmarks"
# the smallest sizes; and a heading that the page must have afterwards
RUNS = {
    "search": ("--count 60 90 --dim 8 --rounds 1", "90 hnsw"),
    "evaluation": ("--images 20 --captions 2 --width 8 --sample 10 --rounds 1", "seconds"),
    "export": ("--size tiny --rounds 1 --batch 4", "4 captions, times faster"),
    "loading": ("--quick --rounds 1", "download in MB"),
    "speed": ("--size tiny --rounds 1 --batch 4", "against LoRA"),
    "optimiser_states": ("--size tiny --steps 2 --batch 4 --optim adamw_torch", "resumes bit for bit"),
    "rehearsal": ("--data {home}/shards --pairs 60 --shard 30 --size tiny --batch 4 --steps 2", "cma"),
    "gradcache": ("--size tiny --batch 8 --chunk 4 --rounds 1 --threads 1", "seconds a sample"),
    "pictures": ("--count 6 --pixels 64 48 --size tiny --batch 2 --rounds 1 --threads 1", "decoded ahead"),
    "serving": ("--clients 2 --captions 4 --seconds 0.6", "against loop"),
    "language_id": ("--count 20", "taken for cs"),
    "corpus": ("--count 9 --size tiny --rounds 2 --threads 1", "captions a second"),
}
MARKED = re.compile(r"<!-- (\w+):begin -->\n(.*?)<!-- \1:end -->", flags=re.S)


@pytest.fixture
def page(tmp_path):
    """A page with the markers of all benchmarks, and prose around them."""
    path = tmp_path / "page.md"
    places = [f"<!-- {name}:begin -->\nold {name}\n<!-- {name}:end -->\n" for name in (*RUNS, "processes", "kills")]
    path.write_text("# Title – ü\n" + "between\n".join(places) + "the end\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("name", RUNS)
def test_a_run_puts_its_tables_where_they_belong(name, programs, page, tmp_path, capfd):
    options, heading = RUNS[name]
    words = options.format(home=tmp_path).split()
    outputs = ["--write", str(page), "--json", str(tmp_path / "figures.json")]
    assert programs(name).main([*words, *outputs]) == 0
    text = page.read_text(encoding="utf-8")
    found = dict(MARKED.findall(text))
    assert [other for other in found if other != name and found[other] != f"old {other}\n"] == []
    note, table, *_ = found[name].split("\n\n")
    facts = json.loads((tmp_path / "figures.json").read_text(encoding="utf-8"))["machine"]
    assert f"{facts['cores']} core" in note
    assert f"{facts['threads']} thread" in note
    assert facts["torch"] in note
    assert table.startswith("| ")
    assert heading in found[name]
    assert text.startswith("# Title – ü\n<!-- ")
    assert text.endswith("end -->\nthe end\n")
    told = capfd.readouterr().out
    assert note in told
    assert heading in told


def test_one_process_and_several_are_put_beside_each_other(programs, page, capsys):
    """One run stands for both: starting processes takes longer than all of this file."""
    processes = programs("processes")
    options = ["--size", "tiny", "--batch", "4", "--steps", "1", "--processes", "1"]
    args = processes.parsed([*options, "--write", str(page)])
    found = processes.trained(args)
    processes.report(args, found, {**found, "seconds": found["seconds"] / 2})
    written = dict(MARKED.findall(page.read_text(encoding="utf-8")))["processes"]
    assert re.search(r"throughput, times +\| 2\.00 +\| at least 1\.6 +\| met", written)
    assert re.search(r"losses apart.+\| 0\.0e\+00 +\| at most 0\.001 +\| met", written)
    assert f"{found['losses'][1]:.4f}" in written
    assert "{'loss'" not in capsys.readouterr().out


def test_what_stands_between_markers_is_replaced(programs, tmp_path):
    begin, end = "<!-- suite:begin -->", "<!-- suite:end -->"
    readme = tmp_path / "README.md"
    readme.write_text(f"# Title\n{begin}\nold\nolder\n{end}\nthe end – ü\n", encoding="utf-8")
    writing = programs("writing")
    for text in ("| a |", "| b |"):
        writing.write_into(readme, text, "suite")
        assert readme.read_text(encoding="utf-8") == f"# Title\n{begin}\n{text}\n{end}\nthe end – ü\n"
    for broken in ("nothing", begin, end, f"{end}\n{begin}", f"<!-- other:begin -->{end}"):
        readme.write_text(broken, encoding="utf-8")
        with pytest.raises(DataError, match=r"README\.md' has no place"):
            writing.write_into(readme, "| c |", "suite")
        assert readme.read_text(encoding="utf-8") == broken


def test_a_page_without_a_place_is_refused_before_anything_is_measured(programs, page, tmp_path, capsys):
    search = programs("search")
    page.write_text(page.read_text(encoding="utf-8").replace("kills:end", ""), encoding="utf-8")
    for path, message in ((page, "no place for the table: <!-- kills:begin"), (tmp_path / "none.md", "cannot be read")):
        with pytest.raises(SystemExit) as stopped:
            search.main(["--count", "999999999999", "--write", str(path)])
        assert stopped.value.code == 2
        assert message in capsys.readouterr().err


def test_shares_of_a_corpus_are_all_of_it_in_order(programs):
    shares_of = programs("corpus").shares_of
    for count in (5, 7, 9, 10, 23):
        captions = [str(number) for number in range(count)]
        shares = shares_of(captions, 5)
        assert [caption for share in shares for caption in share] == captions
        assert {len(share) for share in shares} <= {count // 5, -(-count // 5)}


def test_verdicts(programs):
    verdict = programs("writing").verdict
    assert verdict("a", 1.3, "at least", 1.3)["verdict"] == verdict("a", 1.3, "at most", 1.3)["verdict"] == "met"
    assert verdict("a", 1.2999, "at least", 1.3, ".2f") == {
        "what": "a",
        "value": "1.30",
        "target": "at least 1.3",
        "verdict": "missed",
    }
    assert verdict("a", 1.31, "at most", 1.3)["verdict"] == "missed"


def test_every_place_of_a_page_belongs_to_a_benchmark_that_writes_there():
    programs_text = "".join(path.read_text(encoding="utf-8") for path in FOLDER.glob("*.py"))
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        text = path.read_text(encoding="utf-8")
        names = [name for name, _ in MARKED.findall(text)]
        assert len(names) == text.count(":begin -->") == text.count(":end -->"), path
        for name in names:
            assert f'"{name}"' in programs_text, f"{path.name}: nothing writes {name}"


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.py")), ids=lambda path: path.stem)
def test_every_benchmark_shows_an_example_and_writes_json(path):
    text = path.read_text(encoding="utf-8")
    if "ArgumentParser(" in text and path.stem != "compare":
        assert f"    python benchmarks/{path.name}" in text.split('"""')[1]
        assert any(word in text for word in ("add_outputs(", "write_metrics(", "json.dumps("))


def test_short_captions_are_the_beginnings_of_long_ones(programs):
    beginnings = programs("language_id").beginnings
    captions = ["a b c d", "e f g h", "i", "一二三四五"]
    assert list(beginnings(captions, 1, 2)) == ["a", "e f", "i", "一二三四"]
    assert list(beginnings(captions, 3, 5)) == ["a b c", "e f g h", "一二三四五"]
    assert list(beginnings(captions, 4, None)) == ["a b c d", "e f g h"]


def test_languages_of_a_folder(programs, tmp_path, capsys):
    language_id = programs("language_id")
    with pytest.raises(SystemExit):
        language_id.main(["--data", str(tmp_path)])
    assert "Give the folder of Multi30K" in capsys.readouterr().err
    captions = {"de": "Ein Hund rennt schnell durch den tiefen weißen Schnee", "en": "A dog runs through the snow"}
    for code, caption in captions.items():
        with gzip.open(tmp_path / f"test.{code}.gz", "wt", encoding="utf-8") as file:
            file.write(f"{caption}\n{caption}\n")
    assert language_id.main(["--data", str(tmp_path), "--json", str(tmp_path / "found.json")]) == 0
    rows = json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))["rows"]
    assert {row["language"] for row in rows} == {"de", "en"}
    whole = next(row for row in rows if (row["language"], row["words"]) == ("de", "6-10"))
    assert whole["taken for"] == {"de": 2}
    assert whole["a stranger, to the base"] == 2
    told = capsys.readouterr().out
    assert "taken for de" in told
    assert "100.0%" in told
