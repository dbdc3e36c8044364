"""`ccr-adapters index` over what `encode` has made: the same hits as over the pictures, and nothing is encoded."""

from __future__ import annotations

import json
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from typer.testing import CliRunner

from ccr_adapters.cli.main import app
from ccr_adapters.search import Collection

COLOURS = ("red", "green", "blue", "white", "black")


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def vectors(tmp_path):
    """Vectors of five pictures, one of which comes twice under one name, with a column of metadata."""
    (tmp_path / "photos").mkdir()
    lines = ["image,id,year,words"]
    for number, colour in enumerate((*COLOURS, "red")):
        Image.new("RGB", (32, 32), colour).save(tmp_path / "photos" / f"{colour}.png")
        lines.append(f"photos/{colour}.png,{colour},{2000 + number},x")
    (tmp_path / "photos.csv").write_text("\n".join(lines))
    options = ["--model", "tiny_clip", "--keep", "year", "--keep", "words", "--shard-rows", 2]
    found = run("encode", tmp_path / "photos.csv", "--output", tmp_path / "vectors", *options)
    assert found.exit_code == 0, found.output
    return tmp_path / "vectors"


def test_vectors_are_indexed_as_they_are(vectors, tmp_path):
    found = run("index", vectors, "--index", tmp_path / "a.index")
    assert found.exit_code == 0, found.output
    assert "5 new, 1 left out, for their names came before." in found.stdout
    run("index", tmp_path / "photos", "--index", tmp_path / "b.index", "--model", "tiny_clip")
    hits = []
    for name in "ab":
        told = run("search", "a red thing", "--index", tmp_path / f"{name}.index", "--json")
        hits.append(
            [(hit["id"].split("/")[1].removesuffix(".png"), hit["score"]) for hit in json.loads(told.stdout)[0]["hits"]]
        )
    assert [name for name, _ in hits[0]] == [name for name, _ in hits[1]]
    assert [score for _, score in hits[0]] == pytest.approx([score for _, score in hits[1]], abs=1e-5)
    told = run("search", "a red thing", "--index", tmp_path / "a.index", "--json", "--filter", "year=2002")
    assert [hit["id"] for hit in json.loads(told.stdout)[0]["hits"]] == ["vectors/blue"]
    with Collection.open(tmp_path / "a.index") as opened:
        assert opened.index.ids() == sorted(f"vectors/{colour}" for colour in COLOURS)


def test_a_row_that_the_index_cannot_hold_is_named_and_ends_nothing(tmp_path):
    """More metadata than an index holds, a name that is too long, a vector of zeros; bytes are no metadata."""
    rows = [{"id": name, "caption": f"a star {name}", "note": "x"} for name in "abcd"]
    rows[1]["note"] = "x" * 70_000
    rows[2]["id"] = "c" * 5000
    path = tmp_path / "a.parquet"
    thumbs = pa.array([b"\xff" * 20_000] * 4)
    pq.write_table(pa.Table.from_pylist(rows).append_column("thumb", thumbs), path)
    kept = ["--keep", "note", "--keep", "thumb", "--model", "tiny_clip"]
    assert run("encode", path, "--output", tmp_path / "vectors", *kept).exit_code == 0
    zero_last_vector(tmp_path / "vectors" / "part-00000.parquet")
    found = run("index", tmp_path / "vectors", "--index", tmp_path / "a.index")
    assert found.exit_code == 0, found.output
    assert "1 new, 3 skipped." in found.stdout
    assert "skipped.jsonl says which were skipped and why." in found.stdout
    lines = (tmp_path / "a.index" / "skipped.jsonl").read_text().splitlines()
    skipped = {each["item"][:10]: each["reason"] for each in map(json.loads, lines)}
    assert "the metadata has 2 keys and 70,0" in skipped["vectors/b"]
    assert "expected text of 1 to 4,096 bytes" in skipped["vectors/cc"]
    assert "is zero or not finite" in skipped["vectors/d"]
    with Collection.open(tmp_path / "a.index") as opened:
        assert opened.index.metadata(opened.index.ids()) == {"vectors/a": {"source": "vectors", "note": "x"}}


def zero_last_vector(path):
    """Write a shard again with zeros as its last vector."""
    table = pq.read_table(path)
    width = table.schema.field("vector").type.list_size
    vectors = [*table.column("vector").to_pylist()[:-1], [0.0] * width]
    at = table.schema.get_field_index("vector")
    pq.write_table(table.set_column(at, table.schema.field(at), [pa.array(vectors, table.schema.field(at).type)]), path)


def test_folders_of_one_name_do_not_take_each_others_place(vectors, tmp_path):
    shutil.copytree(vectors, tmp_path / "other/vectors")
    both = run("index", vectors, tmp_path / "other/vectors", "--index", tmp_path / "a.index")
    assert both.exit_code == 1
    assert "would be called 'vectors', as what came from" in both.stderr
    assert not (tmp_path / "a.index").exists()
    assert run("index", tmp_path / "other/vectors", "--index", tmp_path / "a.index").exit_code == 0
    again = run("index", vectors, "--index", tmp_path / "a.index")
    assert again.exit_code == 1
    assert "other/vectors' is. Give its vectors a name of their own: --name NAME." in again.stderr
    assert run("index", vectors, "--index", tmp_path / "a.index", "--name", "mine").exit_code == 0
    with Collection.open(tmp_path / "a.index") as opened:
        ids = opened.index.ids()
    assert ids == sorted(f"{name}/{colour}" for name in ("mine", "vectors") for colour in COLOURS)
    # named, the folder has moved here
    assert run("index", vectors, "--index", tmp_path / "a.index", "--name", "vectors").exit_code == 0
    assert run("index", vectors, "--index", tmp_path / "a.index").exit_code == 0


def test_pictures_do_not_take_the_place_of_vectors_either(vectors, tmp_path):
    run("index", vectors, "--index", tmp_path / "a.index")
    shutil.copytree(tmp_path / "photos", tmp_path / "pictures/vectors")
    place = ["index", tmp_path / "pictures/vectors", "--index", tmp_path / "a.index", "--model", "tiny_clip"]
    named = run(*place, "--name", "vectors")
    assert named.exit_code == 1
    assert "'vectors' is what vectors in the collection are called. Choose another name." in named.stderr
    found = run(*place)
    assert found.exit_code == 0, found.output
    assert "0 removed" in found.stdout
    with Collection.open(tmp_path / "a.index") as opened:
        starts = [name.split("/")[0] for name in opened.index.ids()]
    assert {start: starts.count(start) for start in starts} == {"vectors": 5, "vectors-2": 5}


@pytest.mark.parametrize("name", ["", "a/b"])
def test_a_name_that_names_cannot_begin_with(name, vectors, tmp_path):
    found = run("index", vectors, "--index", tmp_path / "a.index", "--name", name)
    assert found.exit_code == 1
    assert "cannot be the name of a source" in found.stderr
    assert not (tmp_path / "a.index").exists()


def test_what_is_gone_may_be_kept(vectors, tmp_path):
    run("index", vectors, "--index", tmp_path / "a.index")
    table = vectors.parent / "photos.csv"
    table.write_text("\n".join(table.read_text().splitlines()[:4]))
    shutil.rmtree(vectors)
    assert run("encode", table, "--output", vectors, "--model", "tiny_clip").exit_code == 0
    found = run("index", vectors, "--index", tmp_path / "a.index", "--keep")
    assert "removed" not in found.stdout
    with Collection.open(tmp_path / "a.index") as opened:
        assert len(opened.index) == 5


def test_again_replaces_and_removes(vectors, tmp_path):
    run("index", vectors, "--index", tmp_path / "a.index")
    shutil.rmtree(vectors)
    table = vectors.parent / "photos.csv"
    table.write_text("\n".join(table.read_text().splitlines()[:4]))
    assert run("encode", table, "--output", vectors, "--model", "tiny_clip").exit_code == 0
    found = run("index", vectors, "--index", tmp_path / "a.index")
    assert "3 written again" in found.stdout
    assert "2 removed" in found.stdout


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"complete": False, "finished_shards": 1}, "has 1 of 3 shards"),
        ({"space": "de"}, "in the space of 'de' alone"),
        ({"base_sha256": "ab" * 32}, "base"),
        ({"format": 1, "shards": None, "dim": None, "complete": None}, "has 3 of None shards"),
    ],
)
def test_vectors_that_cannot_be_searched_are_refused(vectors, tmp_path, change, message):
    run("index", vectors, "--index", tmp_path / "a.index")
    about = json.loads((vectors / "encode.json").read_text())
    (vectors / "encode.json").write_text(json.dumps({**about, **change}))
    found = run("index", vectors, "--index", tmp_path / "a.index")
    assert found.exit_code == 1
    assert found.stderr.startswith("error: ")
    assert message in found.stderr


@pytest.mark.parametrize("harm", ["missing", "truncated", "other"])
def test_a_shard_that_is_lost_removes_nothing_from_the_index(harm, vectors, tmp_path):
    """What is missing is not what is gone."""
    folder, index = tmp_path / "v", tmp_path / "i.index"
    shutil.copytree(vectors, folder)
    assert run("index", folder, "--index", index).exit_code == 0
    with Collection.open(index) as opened:
        before = opened.index.ids()
    path = sorted(folder.glob("part-*.parquet"))[-1]
    if harm == "missing":
        path.unlink()
    elif harm == "truncated":
        path.write_bytes(path.read_bytes()[:-40])
    else:
        about = json.loads((folder / "encode.json").read_text())
        (folder / "encode.json").write_text(json.dumps({**about, "rows": about["rows"] + 1}))
    found = run("index", folder, "--index", index)
    assert found.exit_code == 1
    said = {"missing": "shards are missing", "truncated": "is no shard of vectors", "other": "its encode.json says"}
    assert said[harm] in found.stderr
    with Collection.open(index) as opened:
        assert opened.index.ids() == before


def test_vectors_and_pictures_in_one_command_are_refused(vectors, tmp_path):
    found = run("index", vectors, tmp_path / "photos", "--index", tmp_path / "a.index")
    assert "index them in commands of their own" in found.stderr


def test_vectors_can_be_taken_out(vectors, tmp_path):
    run("index", vectors, "--index", tmp_path / "a.index")
    run("index", vectors, "--index", tmp_path / "a.index", "--name", "mine")
    found = run("index", "--index", tmp_path / "a.index", "--forget", "vectors")
    assert "5 vectors of vectors were taken out." in found.stdout, found.output
    with Collection.open(tmp_path / "a.index") as opened:
        assert {name.split("/")[0] for name in opened.index.ids()} == {"mine"}
        assert list(opened.notes.vectors) == ["mine"]
    again = run("index", "--index", tmp_path / "a.index", "--forget", "vectors")
    assert "no source 'vectors'; the collection has mine." in again.stderr


@pytest.mark.parametrize(
    "option", [["--forget", "vectors"], ["--json"], ["--allow-empty"], ["--model", "tiny_clip"], ["--no-recursive"]]
)
def test_options_that_do_not_apply_to_vectors_are_refused(option, vectors, tmp_path):
    found = run("index", vectors, "--index", tmp_path / "a.index", *option)
    assert found.exit_code == 1
    assert "does not apply to a folder of vectors; leave it out." in found.stderr
    assert not (tmp_path / "a.index").exists()


def test_what_is_there_already_is_not_written_again(vectors, tmp_path):
    run("index", vectors, "--index", tmp_path / "a.index")
    again = run("index", vectors, "--index", tmp_path / "a.index")
    assert "5 as they were, 1 left out" in again.stdout
    assert "written again" not in again.stdout
