"""Corpora in files: every kind can be entered at every row, and what is wrong with one is said before any work."""

from __future__ import annotations

import json
import os

import pytest

from ccr_adapters.corpora import choose_columns, find_inputs
from ccr_adapters.corpora.plan import fix_inputs, make_plan
from ccr_adapters.errors import DataError

ENDINGS = [".txt", ".csv", ".tsv", ".jsonl", ".parquet", ".tar"]


def plan_of(places, folder, size, **columns):
    files = find_inputs(places)
    return make_plan(fix_inputs(files, folder), choose_columns(files, **columns), size)


def rows_of(plan):
    """All rows, the last shard first: each is entered without the others."""
    shards = [list(plan.rows(shard)) for shard in reversed(plan.shards)]
    return [row for rows in reversed(shards) for row in rows]


@pytest.fixture(params=ENDINGS)
def captioned(request, captions, tables, tars, tmp_path):
    """The captions in a file of each kind."""
    path = tmp_path / f"corpus{request.param}"
    if request.param == ".txt":
        path.write_text("\n".join(captions), encoding="utf-8")
    elif request.param == ".tar":
        tars(path, {f"deep/{index:03d}.txt": text.encode() for index, text in enumerate(captions)})
    else:
        rows = [{"key": f"k{index}", "caption": text, "year": 2000 + index} for index, text in enumerate(captions)]
        tables(path, rows)
    return path


@pytest.mark.parametrize("size", [1, 4, 7, 23, 100])
def test_rows_are_those_of_the_file_in_order(captioned, captions, tmp_path, size):
    plan = plan_of([captioned], tmp_path, size, captions="txt" if captioned.suffix == ".tar" else None)
    rows = rows_of(plan)
    assert [row.content for row in rows] == captions
    assert [shard.cut.rows for shard in plan.shards][:-1] == [size] * (len(plan.shards) - 1)
    names = {".txt": "corpus.txt:1", ".tar": "deep/000"}
    assert rows[0].id == names.get(captioned.suffix, "k0")


@pytest.mark.parametrize("named", ["file", "folder"])
@pytest.mark.parametrize("name", ["DATA.PARQUET", "A.Tar"])
def test_endings_in_capitals_are_the_same(name, named, tables, tars, tmp_path):
    (tmp_path / "in").mkdir()
    path = tmp_path / "in" / name
    if name == "A.Tar":
        tars(tmp_path / "a.tar", {"0.txt": b"a star"}).rename(path)
    else:
        tables(tmp_path / "a.parquet", [{"caption": "a star"}]).rename(path)
    columns = {"captions": "txt"} if name == "A.Tar" else {}
    plan = plan_of([path if named == "file" else path.parent], tmp_path, 4, **columns)
    assert [row.content for row in rows_of(plan)] == ["a star"]


def test_what_is_quoted_of_a_file_is_printable_and_cut(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(",".join(["\x1b[2J\x07", "x" * 5000, *map(str, range(1000))]) + "\n")
    with pytest.raises(DataError) as told:
        choose_columns(find_inputs([path]))
    message = str(told.value)
    assert message.isprintable()
    assert r"\x1b[2J\x07, xxx" in message
    assert "17, and" not in message
    assert "17 and 982 more. Say which" in message
    assert len(message) < 600


def test_a_byte_order_mark_carriage_returns_and_empty_lines(tmp_path):
    (tmp_path / "a.csv").write_bytes('\ufeffcaption,n\r\n\r\n"zwei\r\nZeilen",1\r\nein Stück,2'.encode())
    (tmp_path / "a.txt").write_bytes("\ufeffein Stück\r\n\r\nEnde\r\n".encode())
    (tmp_path / "a.jsonl").write_bytes('\ufeff{"caption": "ein Stück"}\r\n\r\n{"caption": "Ende"}'.encode())
    csv, txt, lines = (rows_of(plan_of([tmp_path / f"a.{kind}"], tmp_path, 1)) for kind in ("csv", "txt", "jsonl"))
    assert [row.content for row in csv] == ["zwei\r\nZeilen", "ein Stück"]
    assert [(row.content, row.problem) for row in txt] == [("ein Stück", ""), ("", "is empty"), ("Ende", "")]
    assert [row.content for row in lines] == ["ein Stück", "Ende"]


def test_rows_that_cannot_be_used_say_why(tmp_path):
    lines = [
        '{"caption": "fine"}',
        "no json",
        "[1]",
        '{"caption": null}',
        '{"caption": 3}',
        '{"caption": "\\ud800"}',
        "{}",
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    (tmp_path / "a.csv").write_text("caption,n\nfine,1\nmore,2,3\n")
    reasons = [row.problem.split(" (")[0] for row in rows_of(plan_of([tmp_path / "a.jsonl"], tmp_path, 2))]
    assert reasons == [
        "",
        "is no JSON",
        "is a JSON list, not an object",
        "has no caption",
        "is a int, not a text",
        "holds half of a surrogate pair",
        "has no caption",
    ]
    assert rows_of(plan_of([tmp_path / "a.csv"], tmp_path, 2))[1].problem == "has 3 fields; the header has 2"


def test_pictures_of_tables_and_tars(pictures, folder, tables, tars, tmp_path):
    inside = [{"image": {"bytes": content, "path": name}} for name, content in pictures.items()]
    paths = [{"file_name": str(path.relative_to(tmp_path))} for path in sorted(folder.rglob("*.*"))]
    members = {f"x{name}": content for name, content in pictures.items()}
    members |= {f"x{name[:3]}json": json.dumps({"n": name}).encode() for name in pictures}
    members["x10.txt"] = b"the last"
    by_name = dict(sorted(members.items()))
    for path in (
        tables(tmp_path / "a.parquet", inside),
        tables(tmp_path / "a.csv", paths),
        tars(tmp_path / "a.tar", by_name),
    ):
        rows = rows_of(plan_of([path], tmp_path, 4))
        assert sorted(row.content() for row in rows) == sorted(pictures.values()), path
    kept = rows_of(plan_of([tmp_path / "a.tar"], tmp_path, 4, keep=["JSON.n", "TXT"], id="json.n"))
    *others, last = sorted(pictures)
    assert [(row.id, *row.kept) for row in kept] == [*((name, name, None) for name in others), (last, last, "the last")]


@pytest.mark.parametrize(
    "columns",
    [{"keep": ["json.titel"]}, {"keep": ["json.Title"]}, {"id": "kex"}, {"captions": "tex"}, {"pictures": "gif|bmp"}],
)
def test_what_no_sample_has_is_refused(columns, tars, tmp_path):
    members = {
        f"{row}.{ending}": content for row in "ab" for ending, content in (("jpg", b""), ("json", b'{"title": 1}'))
    }
    path = tars(tmp_path / "a.tar", members)
    with pytest.raises(
        DataError, match=r"None of the first samples .* has '.*'; the first one has jpg, json, json.title"
    ):
        plan_of([path], tmp_path, 4, **columns)


def test_tars_may_differ_in_what_is_kept(tars, tmp_path):
    for name, ending in (("a", "txt"), ("b", "cls")):
        tars(tmp_path / f"{name}.tar", {f"{name}.jpg": b"x", f"{name}.{ending}": b"kept"})
    plan = plan_of([tmp_path / "a.tar", tmp_path / "b.tar"], tmp_path, 4, keep=["txt", "cls"])
    assert [row.kept for row in rows_of(plan)] == [("kept", None), (None, "kept")]


def test_a_folder_lists_pictures_below_in_a_fixed_order(folder, tmp_path):
    (folder / ".hidden.png").write_bytes(b"")
    (folder / "notes.txt").write_text("x")
    odd = folder / "odd\udcff name.png"
    odd.write_bytes((folder / "00.jpg").read_bytes())
    rows = rows_of(plan_of([folder], tmp_path, 4))
    assert [row.id for row in rows][-4:] == ["10.jpg", "odd\\xff name.png", "below/03.png", "below/07.png"]
    assert rows[-3].content() == odd.read_bytes()


def test_links_to_folders_are_followed_and_loops_end(folder, tmp_path):
    elsewhere = tmp_path / "disk"
    elsewhere.mkdir()
    (elsewhere / "a.PPM").write_bytes(b"P6 1 1 255\n   ")
    (folder / "more").symlink_to(elsewhere)
    (folder / "twice").symlink_to(elsewhere)
    (elsewhere / "round").symlink_to(folder)
    (elsewhere / "itself").symlink_to("itself")
    rows = rows_of(plan_of([folder], tmp_path, 4))
    assert [row.id for row in rows][-4:] == ["10.jpg", "below/03.png", "below/07.png", "more/a.PPM"]
    assert not any(row.problem for row in rows)


def test_what_a_folder_has_and_cannot_be_read_is_a_row_that_says_so(folder, tmp_path):
    (folder / "gone").symlink_to(tmp_path / "drive")
    (folder / "phone.HEIC").write_bytes(b"x")
    os.mkfifo(folder / "pipe.png")
    rows = {row.id: row for row in rows_of(plan_of([folder], tmp_path, 4))}
    assert {name: row.problem for name, row in rows.items() if row.problem} == {
        "gone": "a link that leads nowhere",
        "phone.HEIC": "HEIC cannot be read here: convert it to JPEG",
        "pipe.png": "is no file",
    }
    assert len(rows) == 14


def test_a_folder_that_cannot_be_looked_into_is_named(folder, tmp_path, monkeypatch):
    scandir = os.scandir

    def closed(path):
        if str(path).endswith("below"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", closed)
    rows = {row.id: row.problem for row in rows_of(plan_of([folder], tmp_path, 4))}
    assert rows["below"] == "a folder that cannot be looked into (Permission denied)"


def test_shards_of_several_files_in_the_order_given(tables, tmp_path):
    paths = [tables(tmp_path / f"{name}.jsonl", [{"caption": f"{name}{n}"} for n in range(3)]) for name in "ba"]
    (tmp_path / "empty.jsonl").write_text("")
    plan = plan_of([*paths, tmp_path / "empty.jsonl"], tmp_path, 2)
    assert [row.content for row in rows_of(plan)] == ["b0", "b1", "b2", "a0", "a1", "a2"]
    assert [row.id for row in rows_of(plan)][2:4] == ["b.jsonl:3", "a.jsonl:1"]
    assert [shard.cut.rows for shard in plan.shards] == [2, 1, 2, 1]


@pytest.mark.parametrize("keep", [300, 512, 1000, 2000, -1024, -1])
def test_a_tar_that_breaks_off_gives_what_is_whole_and_says_so(tars, captions, tmp_path, keep):
    path = tars(tmp_path / "a.tar", {f"{index:03d}.txt": text.encode() for index, text in enumerate(captions)})
    content = path.read_bytes()
    # of the end only the marks matter: two empty blocks, and padding behind them
    end = content.rstrip(b"\0")
    whole = content[: len(content) if keep == -1 else -(-len(end) // 512) * 512 if keep == -1024 else keep]
    path.write_bytes(whole)
    if keep == 300:
        with pytest.raises(DataError, match="no tar that can be read in place"):
            plan_of([path], tmp_path, 4, captions="txt")
        return
    plan = plan_of([path], tmp_path, 4, captions="txt")
    rows = rows_of(plan)
    assert [row.content for row in rows if not row.problem] == captions[
        : len(rows) - sum(bool(r.problem) for r in rows)
    ]
    assert bool(plan.problems) == (keep != -1)
    if plan.problems:
        assert f"breaks off behind sample {len(rows)}" in plan.problems[str(path)]


def broken_parquet(path):
    path.write_bytes(b"PAR1 and nothing else")


@pytest.mark.parametrize(
    ("name", "write", "message"),
    [
        ("a.csv", lambda path: path.write_bytes("caption\nschön\n".encode("latin1")), "not UTF-8: byte 0xf6 at 11"),
        ("a.txt", lambda path: path.write_bytes("schön".encode("utf-16")), "not UTF-8: byte 0xff at 0.*iconv"),
        ("a.csv", lambda path: path.write_text('caption\nfine\n"open'), "no CSV at byte 13: unexpected end of data"),
        ("a.csv", lambda path: path.write_text(""), "'.*a.csv' has no rows"),
        ("a.csv", lambda path: path.write_text("caption\n"), "'.*a.csv' has no rows"),
        ("a.jsonl", lambda path: path.write_text("{]\n"), "first row is no JSON"),
        ("a.parquet", broken_parquet, "cannot be read as Parquet"),
        ("a.tar", lambda path: path.write_bytes(b""), "no tar that can be read in place"),
        ("a.tar", lambda path: path.write_bytes(b"\x1f\x8b packed"), "Unpack .gz"),
        ("a.docx", lambda path: path.write_text("x"), "none of .txt, .csv"),
        (
            "a.csv",
            lambda path: path.write_text("one,two\n1,2\n"),
            "no column of a known name.*one, two.*--captions NAME",
        ),
        ("a.csv", lambda path: path.write_text("image,text\n1,2\n"), "captions .'text'. and pictures .'image'."),
        ("a", lambda path: path.mkdir(), "has no pictures"),
    ],
)
def test_what_cannot_be_read_is_refused_before_any_work(tmp_path, name, write, message):
    write(tmp_path / name)
    with pytest.raises(DataError, match=message):
        plan_of([tmp_path / name], tmp_path, 4)


def test_what_does_not_go_together_is_refused(folder, tables, tars, tmp_path):
    csv = tables(tmp_path / "a.csv", [{"caption": "x", "id": "1"}])
    tars(folder / "a.tar", {"a.txt": b"x"})
    tables(folder / "a.parquet", [{"caption": "x"}])
    for places, message in (
        ([tmp_path / "none"], "nothing at"),
        ([csv, csv], "named 2 times"),
        ([csv, folder / "a.tar"], "is .csv, .tar; expected files of one kind"),
        ([folder], "both .parquet and .tar"),
    ):
        with pytest.raises(DataError, match=message):
            find_inputs(places)
    for columns, message in (
        ({"captions": "none"}, "no column 'none'; it has caption, id"),
        ({"keep": ["none"]}, "no column 'none'"),
        ({"keep": ["id"]}, "cannot be kept as 'id'"),
        ({"captions": "a", "pictures": "b"}, "both named"),
    ):
        with pytest.raises(DataError, match=message):
            choose_columns(find_inputs([csv]), **columns)


def test_a_file_that_changed_after_it_was_counted_is_named(captions, tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("\n".join(captions), encoding="utf-8")
    plan = plan_of([path], tmp_path, 10)
    path.write_text("less\n")
    with pytest.raises(DataError, match="has changed: 1 rows from row 1 on, where 10 were counted"):
        list(plan.rows(plan.shards[0]))
    path.unlink()
    with pytest.raises(DataError, match="cannot be read any more"):
        rows_of(plan)
