"""The benchmark suite in small: what it measures, what it writes, and what a comparison of two runs says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

FOLDER = Path(__file__).parents[1] / "benchmarks"
ROWS = {"bare encoder", "LoRA r=16", "static acquirer", "DASD", "DASD, adapt_from=1"}


@pytest.fixture(scope="module")
def run(programs, tmp_path_factory):
    """Folder of a run over the smallest towers, with all that it writes."""
    home = tmp_path_factory.mktemp("suite")
    (home / "captions.txt").write_text("\n".join(f"ein Hund {i} " + "im Schnee " * (i % 5) for i in range(40)))
    places = ("suite", "sizes", "training", "training_small")
    (home / "page.md").write_text("# Page\n" + "".join(f"<!-- {n}:begin -->\n<!-- {n}:end -->\n" for n in places))
    options = [
        "--captions",
        str(home / "captions.txt"),
        "--sizes",
        "tiny",
        "--rounds",
        "1",
        "--threads",
        "1",
        "--quick",
    ]
    outputs = ["--json", str(home / "a.json"), "--write", str(home / "page.md"), "--plot", str(home / "bars.png")]
    assert programs("suite").main([*options, "--sections", "encode", "step", "search", *outputs]) == 0
    alone = [*options, "--sections", "step", "--write", str(home / "page.md")]
    assert programs("suite").main(alone) == 0
    assert programs("suite").main([*alone, "--batch", "8", "--place", "training_small"]) == 0
    return home


def test_every_row_is_measured(run):
    found = json.loads((run / "a.json").read_text())
    rows = {section: set() for section in ("encode", "step", "search")}
    for figure in found["figures"]:
        assert figure["value"] > 0
        assert figure["ratio"] > 0
        rows[figure["section"]].add(figure["row"])
    assert rows["search"] == ROWS
    assert rows["encode"] == {*ROWS, "bare encoder, naive loop", "DASD, bfloat16", "authors' schedule"}
    assert {"DASD, cached", "LoRA r=16, teacher's text pass", "LoRA r=16, text and image passes"} < rows["step"]
    assert len(found["targets"]) == 4
    assert (run / "bars.png").read_bytes().startswith(b"\x89PNG")
    first, _, training, small = (run / "page.md").read_text().split("begin -->")[1:]
    assert "| encode" in first
    assert "40 captions" in first
    assert "| step" in training
    assert "| encode" not in training
    assert "steps of 16 rows (" in training
    assert "captions," not in training  # nothing was encoded
    assert "| step" in small


def test_a_page_without_the_place_is_refused_first(programs, tmp_path, capsys):
    (tmp_path / "page.md").write_text("<!-- suite:begin -->\n<!-- suite:end -->\n")
    write = ["--write", str(tmp_path / "page.md")]
    assert programs("suite").parsed(write).place == "suite"
    with pytest.raises(SystemExit):
        programs("suite").parsed([*write, "--place", "training_small"])
    assert "<!-- training_small:begin -->" in capsys.readouterr().err


def test_the_tokens_of_a_step_are_told(programs, run):
    """Nine short captions and a long one: a batch is padded to that, its parts to what there is."""
    sections = programs("sections")
    tokenizer = programs("speed").train_tokenizer(["a b c d"] * 3, size=60, max_length=77)
    captions = ["a"] * 9 + [" ".join("abcd" * 7)]
    lengths = [len(ids) for ids in sections.token_ids(captions, tokenizer, 77)]
    setting = sections.Setting(sections_size(programs), tokenizer, captions, 1, 10, 10, 10)
    mean = sum(lengths) / 10
    whole = f"{mean:.1f} tokens a row, padded to {max(lengths)}, in parts of like length to "
    # ten rows are fewer than the tokens of two parts
    assert sections.tokens_a_row(setting) == f"{whole}{max(lengths):.1f}"
    setting.batch = 400
    assert sections.tokens_a_row(setting) == f"{whole}{mean:.1f}"


def test_the_rows_encode_the_same_captions(programs, run):
    """The bare loop and the library agree; the published schedule gives what its adapter gives without padding."""
    sections = programs("sections")
    captions = (run / "captions.txt").read_text().splitlines()
    tokenizer = programs("speed").train_tokenizer(captions, size=200, max_length=77)
    setting = sections.Setting(sections_size(programs), tokenizer, captions, 1, 8, 10, 10)
    bare = setting.model("bare encoder")
    torch.testing.assert_close(sections.naive_loop(bare, captions), bare.encode_text(captions, None), rtol=0, atol=1e-5)
    model = setting.model("authors' schedule")
    padded = sections.naive_loop(model, captions, schedule=True)
    torch.testing.assert_close(padded, model.encode_text(captions, "de"), rtol=0, atol=1e-5)


def sections_size(programs):
    return programs("towers").SIZES["tiny"]


def test_ratios_are_medians_of_rounds(programs):
    """A slow minute that meets both rows of a round changes nothing."""
    seconds = {"a": [1.0, 10.0, 1.0], "b": [2.0, 20.0, 3.0]}
    assert programs("measure").against(seconds, "a") == {"a": 1.0, "b": 2.0}


def test_rows_take_turns(programs):
    seen = []
    rows = {name: lambda name=name: seen.append(name) for name in "ab"}
    assert programs("measure").alternating(rows, 2).keys() == {"a", "b"}
    assert seen == ["a", "b"] * 3  # a warm-up, then two rounds


def written(path, **ratios):
    figures = [{"section": "step", "size": "s", "row": row, "ratio": r, "value": 2 * r} for row, r in ratios.items()]
    path.write_text(json.dumps({"figures": figures}))
    return str(path)


def test_comparing_two_runs(programs, tmp_path, capsys):
    compare = programs("compare")
    old = written(tmp_path / "old.json", lora=1.0, dasd=0.5, gone=1.0)
    same = written(tmp_path / "same.json", lora=1.04, dasd=0.5)
    better = written(tmp_path / "better.json", lora=1.0, dasd=0.25)
    worse = written(tmp_path / "worse.json", lora=0.5, dasd=0.6, new=1.0)
    assert compare.main([old, same]) == 0
    assert "Nothing changed by more than 10%" in capsys.readouterr().out
    assert compare.main([old, same, "--threshold", "0.03"]) == 1
    assert compare.main([old, better, "--absolute"]) == 0
    out = capsys.readouterr().out
    assert "-50%" in out
    assert "only in the old run: 1" in out
    assert compare.main([old, worse]) == 1
    out = capsys.readouterr().out
    assert out.index("+20%") < out.index("-50%")  # the worst comes first
    assert "only in the new run: 1, for example step, s, new" in out


def test_files_that_are_no_runs(programs, tmp_path, capsys):
    compare = programs("compare")
    good = written(tmp_path / "good.json", dasd=0.5)
    (tmp_path / "other.json").write_text("[1]")
    (tmp_path / "empty.json").write_text('{"figures": []}')
    for name, message in (("none", "cannot be read"), ("other", "no output of suite.py"), ("empty", "in common")):
        assert compare.main([good, str(tmp_path / f"{name}.json")]) == 2
        assert message in capsys.readouterr().err
