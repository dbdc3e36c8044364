"""The index in a folder: any order of changes, approximate kinds, crashes, broken files."""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import faiss
import numpy as np
import pytest

from ccr_adapters.errors import SearchIndexError
from ccr_adapters.search import segment as segment_module
from ccr_adapters.search.faiss_index import FaissIndex
from ccr_adapters.search.kinds import choose_kind, hnsw_bytes

WORKER = Path(__file__).with_name("worker.py")
KINDS = {"hnsw": {"exact_limit": 100}, "ivfpq": {"exact_limit": 100, "memory_budget": 1}}


def contents(folder):
    """Every file with its bytes."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def files(folder, part):
    return sorted(path for path in folder.iterdir() if path.suffix.startswith(f".{part}"))


def filled(place, vectors, **options):
    index = place.create(**options)
    index.add([f"{i:04d}" for i in range(len(vectors))], vectors, [{"third": i % 3} for i in range(len(vectors))])
    return index


def recall(index, queries, expected, k=10, where=None):
    hits = index.search(queries, k, where)
    found = [
        len({hit.id for hit in row} & {name for name, _ in best}) for row, best in zip(hits, expected, strict=True)
    ]
    return sum(found) / (k * len(queries))


@pytest.mark.parametrize("seed", range(4))
def test_any_order_of_changes_is_the_obvious_one(faiss_place, random_vectors, obvious_search, same, monkeypatch, seed):
    monkeypatch.setattr(segment_module, "BLOCK", 7)
    monkeypatch.setattr(segment_module, "OVERFETCH", 3)
    rng = random.Random(seed)
    queries = random_vectors(3, seed=1000 + seed)
    stored, hashes = {}, {}
    index = faiss_place.create()
    for step in range(60):
        action = rng.choice(["add", "add", "delete", "save", "optimise", "reopen"])
        if action == "add":
            names = rng.sample([f"{i:02d}" for i in range(90)], rng.randint(1, 15))
            vectors = random_vectors(len(names), seed=step + 100 * seed)
            index.add(names, vectors, [{"even": int(n) % 2 == 0} for n in names], [f"{step}"] * len(names))
            stored.update(zip(names, vectors, strict=True))
            hashes.update(dict.fromkeys(names, f"{step}"))
        elif action == "delete":
            names = rng.sample([f"{i:02d}" for i in range(90)], rng.randint(1, 30))
            assert index.delete(names) == len(set(names) & set(stored))
            for name in names:
                stored.pop(name, None)
                hashes.pop(name, None)
        elif action == "reopen":
            index.save()
            index.close()
            index = faiss_place.open(writable=True)
        else:
            getattr(index, action)()
        assert (len(index), index.hashes()) == (len(stored), hashes)
        same(index.search(queries, 5), obvious_search(stored, queries, 5))
        even = {name: vector for name, vector in stored.items() if int(name) % 2 == 0}
        same(index.search(queries, 5, {"even": True}), obvious_search(even, queries, 5))
    index.close()


def test_saving_often_leaves_few_segments_and_no_other_files(faiss_place, random_vectors):
    with faiss_place.create() as index:
        for batch in range(40):
            index.add([f"{batch}-{i}" for i in range(5)], random_vectors(5, seed=batch))
            index.save()
            generation = json.loads((faiss_place.address / "current.json").read_text(encoding="utf-8"))
            named = {file["name"] for segment in generation["segments"] for file in segment["files"].values()}
            assert len(generation["segments"]) <= 7  # log2(40) and one
            assert {path.name for path in faiss_place.address.iterdir()} == named | {"current.json", "write.lock"}
        assert len(index) == 200


def test_saving_nothing_writes_nothing(faiss_place, random_vectors):
    with filled(faiss_place, random_vectors(10)) as index:
        index.optimise()
        before = contents(faiss_place.address)
        index.save()
        index.optimise()
        index.delete(["nobody"])
        index.save()
        assert contents(faiss_place.address) == before


@pytest.mark.parametrize("kind", KINDS)
def test_an_approximate_kind_finds_nearly_all(faiss_place, random_vectors, obvious_search, kind):
    vectors, queries = random_vectors(3000), random_vectors(50, seed=1)
    stored = {f"{i:04d}": vector for i, vector in enumerate(vectors)}
    with filled(faiss_place, vectors, **KINDS[kind]) as index:
        assert index.optimise() == kind
        assert recall(index, queries, obvious_search(stored, queries, 10)) > 0.97
    with faiss_place.open() as index:
        assert recall(index, queries, obvious_search(stored, queries, 10)) > 0.97
        hits = index.search(queries, 3)
        for query, row in zip(queries, hits, strict=True):
            for hit in row:  # scores are cosines of the vectors, not of their codes
                vector = stored[hit.id]
                cosine = query @ vector / np.linalg.norm(query) / np.linalg.norm(vector)
                assert hit.score == pytest.approx(cosine, abs=1e-5)


@pytest.mark.parametrize("gathered", [0, 20_000])
@pytest.mark.parametrize("kind", KINDS)
def test_an_approximate_kind_with_additions_deletions_and_filters(
    faiss_place, random_vectors, obvious_search, monkeypatch, kind, gathered
):
    monkeypatch.setattr(segment_module, "_GATHERED", gathered)
    vectors, queries = random_vectors(2000), random_vectors(30, seed=1)
    stored = {f"{i:04d}": vector for i, vector in enumerate(vectors)}

    def check(index):
        assert index.ids() == sorted(stored)
        assert recall(index, queries, obvious_search(stored, queries, 10)) > 0.95
        third = {name: vector for name, vector in stored.items() if int(name) % 3 == 1}
        assert recall(index, queries, obvious_search(third, queries, 10), where={"third": 1}) > 0.95
        assert {hit.metadata["third"] for row in index.search(queries, 10, {"third": 1}) for hit in row} == {1}

    with filled(faiss_place, vectors, **KINDS[kind]) as index:
        index.optimise()
        gone = [f"{i:04d}" for i in range(0, 2000, 25)]
        index.delete(gone)
        for name in gone:
            del stored[name]
        check(index)
        more = random_vectors(100, seed=7)
        names = [f"{i:04d}" for i in range(1950, 2050)]  # half of them replace
        index.add(names, more, [{"third": int(name) % 3} for name in names])
        stored.update(zip(names, more, strict=True))
        check(index)
        index.save()
        check(index)
        assert index.optimise() == kind  # extended: few are deleted
        check(index)
    with faiss_place.open(writable=True, **KINDS[kind]) as index:
        check(index)
        assert len(files(faiss_place.address, "deleted")) == 1
        gone = [f"{i:04d}" for i in range(300)]
        index.delete(gone)
        for name in gone:
            stored.pop(name, None)
        assert index.optimise() == kind  # built anew
        assert files(faiss_place.address, "deleted") == []
        check(index)
        index.delete(sorted(stored)[80:])
        stored = {name: stored[name] for name in sorted(stored)[:80]}
        assert index.optimise() == "exact"
        check(index)


def test_the_rule_for_the_kind():
    gib = 2**30
    assert choose_kind(0, 512, memory_budget=gib) == "exact"
    assert choose_kind(200_000, 512, memory_budget=1) == "exact"
    assert choose_kind(200_001, 512, memory_budget=gib) == "hnsw"
    assert choose_kind(1_000_000, 512, memory_budget=8 * gib) == "hnsw"
    assert choose_kind(1_000_000, 512, memory_budget=gib) == "ivfpq"
    assert choose_kind(11, 512, memory_budget=gib, exact_limit=10) == "hnsw"
    # whole vectors and a graph of 32 links: 2.05 GB and 0.27 GB
    assert 2.2e9 < hnsw_bytes(1_000_000, 512) < 2.5e9


def test_a_folder_that_is_only_read_is_not_touched(faiss_place, random_vectors):
    with filled(faiss_place, random_vectors(50)) as index:
        index.delete(["0001"])
        index.save()
    before = contents(faiss_place.address)
    for path in [*faiss_place.address.iterdir(), faiss_place.address]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    changed = faiss_place.address.stat().st_mtime_ns
    with faiss_place.open() as index:
        assert len(index.search(random_vectors(2), 3, {"third": 2})[0]) == 3
    assert (contents(faiss_place.address), faiss_place.address.stat().st_mtime_ns) == (before, changed)
    faiss_place.address.chmod(0o755)


def test_a_folder_that_cannot_be_made(faiss_place, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    for place in (tmp_path / "file", tmp_path / "file" / "index"):
        with pytest.raises(SearchIndexError, match="file"):
            FaissIndex.create(place, 4, base="b", base_sha256="0")
        with pytest.raises(SearchIndexError, match="holds no index"):
            FaissIndex.open(place)


def header(**change):
    def edit(folder):
        values = json.loads((folder / "current.json").read_text(encoding="utf-8"))
        values.update(change)
        (folder / "current.json").write_text(json.dumps(values), encoding="utf-8")

    return edit


def file_record(part, **change):
    def edit(folder):
        values = json.loads((folder / "current.json").read_text(encoding="utf-8"))
        values["segments"][0]["files"][part].update(change)
        (folder / "current.json").write_text(json.dumps(values), encoding="utf-8")

    return edit


def cut(part):
    return lambda folder: os.truncate(files(folder, part)[0], files(folder, part)[0].stat().st_size - 1)


def flip(part):
    def edit(folder):
        path = files(folder, part)[0]
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)

    return edit


@pytest.mark.parametrize("writable", [False, True])
@pytest.mark.parametrize(
    ("harm", "message"),
    [
        *((cut(part), "bytes; the index wrote") for part in ("rows", "vectors", "ann", "deleted")),
        *((flip(part), "another sha256") for part in ("rows", "vectors", "ann", "deleted")),
        *((lambda f, p=part: files(f, p)[0].unlink(), "missing") for part in ("rows", "vectors", "ann", "deleted")),
        (lambda folder: (folder / "current.json").write_bytes(b"{"), "cannot be read"),
        (lambda folder: (folder / "current.json").write_bytes(b"\xff"), "cannot be read"),
        (lambda folder: (folder / "current.json").write_bytes(b"[" * 100_000), "cannot be read"),
        (lambda folder: (folder / "current.json").write_bytes(b"[]"), "has format"),
        (lambda folder: (folder / "current.json").unlink(), "holds no index"),
        (header(format=2), "has format 2; expected 1"),
        (header(dim=0), "dim 0"),
        (header(dim="16"), "'dim'; expected a int"),
        (header(base=None), "'base'"),
        (header(segments=None), "segments"),
        (header(segments=[{"count": 2}]), "which is none of an index"),
        (header(segments=["x"]), "which is none of an index"),
        (header(generation="1"), "generation"),
        (header(dim=8), r"is not|not hold|expected ivfpq of"),
        (file_record("rows", name="../../etc/passwd"), "which is none of an index"),
        (file_record("rows", name="/etc/passwd"), "which is none of an index"),
        (file_record("rows", size=None), "which is none of an index"),
    ],
)
def test_broken_files_are_one_clear_error(tmp_path, broken_source, harm, message, writable):
    folder = tmp_path / "index"
    shutil.copytree(broken_source, folder)
    harm(folder)
    with pytest.raises(SearchIndexError, match=message):
        FaissIndex.open(folder, writable=writable)


@pytest.fixture(scope="module")
def broken_source(tmp_path_factory, random_vectors):
    """An index with a file of every part."""
    folder = tmp_path_factory.mktemp("good") / "index"
    with FaissIndex.create(folder, 16, base="b", base_sha256="0", **KINDS["ivfpq"]) as index:
        index.add([f"{i}" for i in range(400)], random_vectors(400))
        index.optimise()
        index.delete(["3"])
        index.save()
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_a_crafted_file_with_a_right_hash_is_refused(faiss_place, random_vectors, kind):
    """Hashes keep out accidents; whoever writes files on purpose writes hashes too."""
    with filled(faiss_place, random_vectors(300), **KINDS[kind]) as index:
        index.optimise()
    path = files(faiss_place.address, "ann")[0]
    index = faiss.read_index(str(path))
    if kind == "hnsw":
        neighbours = faiss.rev_swig_ptr(index.hnsw.neighbors.data(), index.hnsw.neighbors.size())
        neighbours[0] = 10**6
    else:
        index = faiss.IndexFlatIP(16)
        index.add(random_vectors(300))
    faiss.write_index(index, str(path))
    write_record(faiss_place.address, path)
    with pytest.raises(SearchIndexError, match="FAISS cannot read.*out of range|expected ivfpq"):
        faiss_place.open()
    path.write_bytes(b"IxXX" + bytes(100))
    write_record(faiss_place.address, path)
    with pytest.raises(SearchIndexError, match="FAISS cannot read"):
        faiss_place.open()


def write_record(folder, path):
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    file_record("ann", size=path.stat().st_size, sha256=digest)(folder)


def test_a_refresh_that_fails_leaves_what_is_searched_as_it_was(faiss_place, random_vectors, monkeypatch):
    """New files that this user may not read: what is deleted stays so, and nothing new is half there."""
    vectors = random_vectors(20)
    with filled(faiss_place, vectors) as index:
        index.save()
        index.delete(["0003"])
        index.save()
    reader = faiss_place.open()
    before = [hit.id for hit in reader.search(vectors[3:4], 20)[0]]
    assert "0003" not in before
    with faiss_place.open(writable=True) as writer:
        writer.delete(["0004"])
        writer.add(["new"], random_vectors(1, seed=9))
        writer.save()

    def forbidden(*_, **__):
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(segment_module.Segment, "open", forbidden)
        with pytest.raises(PermissionError):
            reader.refresh()
    assert [hit.id for hit in reader.search(vectors[3:4], 20)[0]] == before
    assert reader.refresh()
    after = {hit.id for hit in reader.search(vectors[3:4], 20)[0]}
    assert after == {*before, "new"} - {"0004"}
    reader.close()


def test_what_a_crash_leaves_is_neither_read_nor_kept(faiss_place, random_vectors, obvious_search, same):
    vectors = random_vectors(30)
    with filled(faiss_place, vectors) as index:
        index.save()
    left = ["segment-000002.vectors", "segment-000002.rows", "current.json.new", "segment-000001.deleted-000009"]
    for name in left:
        (faiss_place.address / name).write_bytes(b"half")
    (faiss_place.address / "notes.txt").write_text("mine", encoding="utf-8")
    stored = {f"{i:04d}": vector for i, vector in enumerate(vectors)}
    for writable in (False, True):
        with faiss_place.open(writable=writable) as index:
            same(index.search(vectors[:3], 4), obvious_search(stored, vectors[:3], 4))
    names = {path.name for path in faiss_place.address.iterdir()}
    assert not names & set(left)
    assert "notes.txt" in names


def test_a_save_that_fails_loses_nothing(faiss_place, random_vectors, obvious_search, same):
    vectors = random_vectors(30)
    stored = {f"{i:04d}": vector for i, vector in enumerate(vectors)}
    with filled(faiss_place, vectors) as index:
        blocked = faiss_place.address / "segment-000001.vectors"
        blocked.mkdir()  # as a full disk: the file cannot be written
        with pytest.raises(OSError, match="segment-000001"):
            index.save()
        same(index.search(vectors[:3], 4), obvious_search(stored, vectors[:3], 4))
        blocked.rmdir()
        index.save()
    with faiss_place.open() as index:
        same(index.search(vectors[:3], 4), obvious_search(stored, vectors[:3], 4))


@pytest.fixture
def worker(monkeypatch):
    """The program of the other process, as a module."""
    monkeypatch.syspath_prepend(WORKER.parent)
    yield importlib.import_module("worker")
    del sys.modules["worker"]


def test_killed_at_any_step_the_old_or_the_new_opens(faiss_place, worker):
    with faiss_place.create() as index:
        index.add([f"{n}" for n in range(20)], np.stack([worker.vector_of(n) for n in range(20)]))
        index.save()
        old = index.hashes()
    new = {f"{n}": "" for n in range(40) if n not in (1, 2)}
    subprocess.run([sys.executable, str(WORKER), "crash", str(faiss_place.address)], check=True)
    copies = sorted(faiss_place.address.parent.glob("index-*"))
    states = []
    for copy in copies:
        for writable in (False, True):  # the second removes what was left
            with FaissIndex.open(copy, writable=writable) as index:
                found = index.hashes()
                numbers = sorted(map(int, found))
                hits = index.search(np.stack([worker.vector_of(n) for n in numbers]), 1)
                assert [row[0].id for row in hits] == [f"{n}" for n in numbers]
        states.append(found)
        assert found in (old, new)
    changes = [i for i in range(1, len(states)) if states[i] != states[i - 1]]
    assert len(changes) == 1, "first the old one, from one step on the new one"
    assert 5 < changes[0] < len(states) - 10  # there are steps before, and those of optimise after


def test_killed_at_random_moments_the_old_or_the_new_opens(faiss_place, worker):
    rng = random.Random(5)
    subprocess.run([sys.executable, str(WORKER), "create", str(faiss_place.address)], check=True)
    kept = 0
    for _ in range(6):
        process = subprocess.Popen(
            [sys.executable, str(WORKER), "fill", str(faiss_place.address)], stdout=subprocess.PIPE, text=True
        )
        for _ in range(rng.randint(1, 5)):
            process.stdout.readline()
        time.sleep(rng.uniform(0, 0.02))
        process.kill()
        lines = process.stdout.read().split("\n")
        process.wait()
        process.stdout.close()
        told = max([kept, *(int(line.split()[1]) for line in lines if line.startswith("saved "))])
        with faiss_place.open() as index:
            kept = len(index)
            assert kept % worker.BATCH == 0
            assert kept >= told
            assert index.hashes() == {f"{n}": f"h{n}" for n in range(kept)}
            numbers = range(0, kept, 7)
            queries = np.array([worker.vector_of(n) for n in numbers], np.float32).reshape(len(numbers), worker.DIM)
            assert [row[0].id for row in index.search(queries, 1)] == [f"{n}" for n in numbers]
    assert kept > 0


def test_whether_an_index_is_arranged_is_read_off_the_index(faiss_place, random_vectors):
    index = faiss_place.create(exact_limit=50)
    assert index.is_optimised()
    index.add([f"{i}" for i in range(100)], random_vectors(100))
    index.save()
    assert not index.is_optimised()  # above the limit, and exact
    assert index.optimise() == "hnsw"
    assert index.is_optimised()
    index.add([f"few {i}" for i in range(9)], random_vectors(9, seed=1))
    assert index.is_optimised()
    index.add([f"more {i}" for i in range(9)], random_vectors(9, seed=2))
    assert not index.is_optimised()
    index.optimise()
    index.delete([f"{i}" for i in range(30)])
    assert not index.is_optimised()
    index.close()
