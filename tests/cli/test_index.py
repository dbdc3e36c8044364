"""`ccr-adapters index` for real: what it makes, what it says, and what a kill -9 leaves."""

from __future__ import annotations

import fcntl
import importlib
import json
import os
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from ccr_adapters.cli.main import app
from ccr_adapters.search import Collection, FaissIndex

HERE = Path(__file__).parent


def run(*arguments):
    return CliRunner().invoke(app, ["index", *map(str, arguments)])


def summary(*arguments):
    found = run(*arguments, "--json")
    assert found.exit_code == 0, found.output
    return json.loads(found.stdout)


def vectors(address):
    with Collection.open(address) as collection:
        return collection.index.hashes(), collection.index.vectors(collection.index.ids())


def test_a_folder_is_indexed_with_the_packaged_model(photos, tmp_path):
    folder, index = photos.fill(tmp_path / "photos"), tmp_path / "photos.index"
    (folder / "broken.jpg").write_bytes(b"none")
    (folder / "read.me").write_text("x")
    found = run(folder, "--index", index, "--model", "tiny_clip")
    assert found.exit_code == 0, found.output
    assert f"9 pictures are in {index}: 9 new" in found.stdout
    assert "1 other files" in found.stdout
    assert "1 were skipped" in found.stdout
    assert "broken.jpg" in (index / "skipped.jsonl").read_text()
    # model and folder are known now
    again = summary("--index", index)
    assert (again["unchanged"], again["encoded"], again["skipped"]) == (9, 0, 1)
    (folder / photos.name(0)).unlink()
    assert summary("--index", index, "--keep")["total"] == 9
    assert summary("--index", index)["removed"] == 1
    assert "8 pictures of photos were taken out" in run("--index", index, "--forget", "photos").stdout


def test_that_nothing_was_there_is_told(tmp_path):
    (tmp_path / "photos").mkdir()
    found = run(tmp_path / "photos", "--index", tmp_path / "the.index", "--model", "tiny_clip")
    assert "nothing to index: check the path" in found.stdout


def test_options_reach_the_source(photos, tmp_path):
    folder, index = photos.fill(tmp_path / "photos"), tmp_path / "i"
    assert summary(folder, "--index", index, "--model", "tiny_clip", "--no-recursive", "--name", "mine")["total"] == 5
    with Collection.open(index) as collection:
        assert all(name.startswith("mine/") for name in collection.index.ids())
    # as it was read before, until told otherwise
    assert summary("--index", index)["total"] == 5
    assert summary(folder, "--index", index)["total"] == 9
    table = tmp_path / "t.csv"
    table.write_text(f"file,sku\nphotos/{photos.name(0)},7\n")
    columns = ["--column", "image=file", "--column", "id=sku"]
    assert summary(table, "--index", index, *columns)["total"] == 10
    with Collection.open(index) as collection:
        assert "t.csv/7" in collection.index.ids()


def test_milvus_lite_holds_the_same(photos, tmp_path):
    folder = photos.fill(tmp_path / "photos")
    for name in ("a.index", "a.db"):
        assert summary(folder, "--index", tmp_path / name, "--model", "tiny_clip")["total"] == 9
    (faiss_hashes, faiss), (milvus_hashes, milvus) = vectors(tmp_path / "a.index"), vectors(tmp_path / "a.db")
    assert faiss_hashes == milvus_hashes
    assert all(milvus[name] == pytest.approx(vector, abs=1e-6) for name, vector in faiss.items())
    assert (tmp_path / "a.db.collection" / "collection.json").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Nothing was indexed here yet"),
        (["{}/none"], "nothing at"),
        (["{}"], "give one with --model"),
        (["{}", "--model", "tiny_clip", "--name", "a/b"], "without a slash"),
        (["{}", "{}", "--name", "a"], "One name"),
        (["{}", "--column", "title=x"], "write image=NAME"),
        (["{}", "--model", "{}/nowhere/at/all"], "error: "),
        (["--forget", "x", "--model", "tiny_clip"], "no source 'x'"),
    ],
)
def test_what_is_wrong_is_a_line(tmp_path, arguments, message):
    (tmp_path / "photos").mkdir()
    found = run(*(each.format(tmp_path / "photos") for each in arguments), "--index", tmp_path / "the.index")
    assert found.exit_code == 1
    assert found.stderr.startswith("error: ")
    assert message in found.stderr


def test_a_model_of_another_base_is_refused(photos, bases, tmp_path):
    folder = photos.fill(tmp_path / "photos", 2)
    assert run(folder, "--index", tmp_path / "i", "--model", "tiny_clip").exit_code == 0
    found = run(folder, "--index", tmp_path / "i", "--model", bases["clip"])
    assert found.exit_code == 1
    assert "'tiny_clip'" in found.stderr
    assert str(bases["clip"]) in found.stderr
    with Collection.open(tmp_path / "i") as collection:
        assert collection.notes.model == "tiny_clip"


def test_a_second_indexer_says_who_is_at_work(photos, tmp_path):
    folder = photos.fill(tmp_path / "photos", 2)
    assert run(folder, "--index", tmp_path / "i", "--model", "tiny_clip").exit_code == 0
    with FaissIndex.open(tmp_path / "i", writable=True):
        found = run("--index", tmp_path / "i")
    assert found.exit_code == 1
    assert f"process {os.getpid()}" in found.stderr


# tests that run in the background of a shell have inherited that Ctrl-C is ignored; said in the process itself, because a
# `preexec_fn` would run between fork and exec, where the threads of gRPC (other tests start Milvus) have aborted it
STARTED = """
import runpy, signal
signal.signal(signal.SIGINT, signal.default_int_handler)
runpy.run_module("ccr_adapters", run_name="__main__", alter_sys=True)
"""


def started(*arguments):
    environment = {**os.environ, "PYTHONPATH": str(HERE.parents[1] / "src"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", STARTED, "index", *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def safe_pictures(index):
    try:
        with FaissIndex.open(index) as opened:
            return len(opened)
    except (FileNotFoundError, ValueError):
        return 0


@pytest.mark.parametrize(("kind", "code"), [(signal.SIGKILL, -9), (signal.SIGINT, 130)])
def test_interrupted_in_the_middle_the_same_command_goes_on(photos, tmp_path, kind, code):
    folder, index = photos.fill(tmp_path / "photos", 300), tmp_path / "i"
    (folder / "broken.png").write_bytes(b"none")
    process = started(folder, "--index", index, "--model", "tiny_clip", "--batch-size", 4)
    deadline = time.monotonic() + 120
    while safe_pictures(index) < 40 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(kind)
    out, err = process.communicate()
    assert process.returncode == code, (out, err)
    safe = safe_pictures(index)
    assert 40 <= safe < 300
    if kind == signal.SIGINT:
        assert "the same command goes on" in err
    rest = summary("--index", index)
    assert (rest["encoded"], rest["unchanged"], rest["total"]) == (300 - safe, safe, 300)
    whole = tmp_path / "whole"
    assert summary(folder, "--index", whole, "--model", "tiny_clip")["encoded"] == 300
    (hashes, found), (expected_hashes, expected) = vectors(index), vectors(whole)
    assert hashes == expected_hashes
    names = sorted(hashes)
    assert np.stack([found[name] for name in names]) == pytest.approx(
        np.stack([expected[name] for name in names]), abs=1e-5
    )


def test_a_bar_tells_rate_and_time_left_on_a_terminal(photos, tmp_path):
    folder = photos.fill(tmp_path / "photos", 60)
    leader, follower = os.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    environment = {**os.environ, "PYTHONPATH": str(HERE.parents[1] / "src")}
    command = [sys.executable, "-m", "ccr_adapters", "index", str(folder), "--index", str(tmp_path / "i")]
    process = subprocess.Popen(
        [*command, "--model", "tiny_clip", "--batch-size", "4"], env=environment, stderr=follower
    )
    os.close(follower)
    shown = b""
    while True:
        try:
            piece = os.read(leader, 4096)
        except OSError:  # the terminal is gone with the process
            break
        if not piece:
            break
        shown += piece
    os.close(leader)
    assert process.wait() == 0
    bar = shown.decode("utf-8", "replace")
    assert "photos" in bar
    assert "pictures/s" in bar
    assert "60/60" in bar


def test_two_indexers_at_once_do_not_take_each_others_names(photos, tmp_path, monkeypatch):
    """The second one finds what the first wrote between its look at the notes and its lock."""
    for number in range(2):
        photos.fill(tmp_path / f"{number}" / "photos", 3 + number)
    command = importlib.import_module("ccr_adapters.cli.index")
    index, load = tmp_path / "i", command.load_model

    def slowly(*arguments):
        monkeypatch.setattr(command, "load_model", load)
        assert run(tmp_path / "0" / "photos", "--index", index, "--model", "tiny_clip").exit_code == 0
        return load(*arguments)

    monkeypatch.setattr(command, "load_model", slowly)
    found = summary(tmp_path / "1" / "photos", "--index", index, "--model", "tiny_clip")
    assert (found["added"], found["removed"], found["total"]) == (4, 0, 7)
    with Collection.open(index) as collection:
        assert {source.name for source in collection.notes.sources} == {"photos", "photos-2"}
