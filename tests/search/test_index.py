"""What every index does, whichever library is behind it."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from ccr_adapters.errors import LockedError, SearchIndexError
from ccr_adapters.search import index_exists

IDS = ["a.jpg", "фото/кот.jpg", "c d'\"\\%_.jpg", "dé.jpg"]
METADATA = [
    {"folder": "x", "year": 2020, "seen": True},
    {"folder": "y", "year": 2021.0, "seen": False},
    {"folder": 'x" or 1 == 1 or "', "year": 2022, "score": 0.5},
    {"folder": None, "год": "2020", "year": 1},
]
WORKER = Path(__file__).with_name("worker.py")


def names(hits):
    return [{hit.id for hit in row} for row in hits]


@pytest.fixture
def filled(place, random_vectors):
    """An open index of four."""
    with place.create() as index:
        index.add(IDS, random_vectors(4), METADATA, ["1", "2", "3", "4"])
        yield index


def test_search_is_the_obvious_one(place, random_vectors, obvious_search, same):
    vectors, queries = random_vectors(300), random_vectors(7, seed=1)
    stored = {f"{i:03d}": vector for i, vector in enumerate(vectors)}
    expected = obvious_search(stored, queries, 10)
    with place.create() as index:
        for start in range(0, 300, 90):
            index.add(list(stored)[start : start + 90], vectors[start : start + 90])
            if start == 90:
                index.save()
        same(index.search(queries, 10), expected)
        index.save()
        same(index.search(queries, 10), expected)
    with place.open() as index:
        same(index.search(queries, 10), expected)
        assert index.ids() == sorted(stored)


def test_a_known_name_is_replaced(filled, place, random_vectors):
    other = random_vectors(1, seed=5)
    for saved in (False, True):
        if saved:
            filled.save()
        filled.add([IDS[0]], other, [{"folder": f"z{saved}"}], [f"new {saved}"])
        assert len(filled) == 4
        assert filled.hashes()[IDS[0]] == f"new {saved}"
        hit = filled.search(other, 1)[0][0]
        assert (hit.id, hit.metadata) == (IDS[0], {"folder": f"z{saved}"})
        assert hit.score == pytest.approx(1, abs=1e-5)
        assert names(filled.search(other, 4, {"folder": "x"})) == [set()]
    filled.save()
    filled.close()
    with place.open() as index:
        assert index.hashes() == {IDS[0]: "new True", IDS[1]: "2", IDS[2]: "3", IDS[3]: "4"}


def test_deleted_is_gone_also_after_saving(filled, place, random_vectors):
    filled.save()
    filled.add(["late"], random_vectors(1, seed=3))
    assert filled.delete([IDS[1], "late", "never there"]) == 2
    assert filled.delete([IDS[1]]) == 0
    rest = {IDS[0], IDS[2], IDS[3]}
    assert (len(filled), set(filled.ids()), names(filled.search(random_vectors(1), 9))) == (3, rest, [rest])
    filled.save()
    filled.close()
    with place.open() as index:
        assert (len(index), names(index.search(random_vectors(1), 9))) == (3, [rest])


def test_everything_deleted(filled, place, random_vectors):
    filled.save()
    filled.delete(IDS)
    filled.save()
    filled.close()
    with place.open(writable=True) as index:
        assert (len(index), index.ids(), index.search(random_vectors(2), 3)) == (0, [], [[], []])
        assert index.optimise() == "exact"
        index.add(["again"], random_vectors(1))
        assert names(index.search(random_vectors(1), 3)) == [{"again"}]


@pytest.mark.parametrize(
    ("where", "found"),
    [
        (None, {0, 1, 2, 3}),
        ({}, {0, 1, 2, 3}),
        ({"folder": "x"}, {0}),
        ({"folder": METADATA[2]["folder"]}, {2}),
        ({"folder": None}, {3}),
        ({"folder": ["x", "y", "none"]}, {0, 1}),
        ({"folder": ("x", "y"), "year": [2021, 2022]}, {1}),
        ({"folder": []}, set()),
        ({"year": 2021}, {1}),
        ({"year": "2021"}, set()),
        ({"year": 1}, {3}),
        ({"year": True}, set()),
        ({"seen": True}, {0}),
        ({"seen": 1}, set()),
        ({"score": 0.5}, {2}),
        ({"год": "2020"}, {3}),
        ({"nowhere": 1}, set()),
    ],
)
def test_filter(filled, random_vectors, where, found):
    assert names(filled.search(random_vectors(2, seed=8), 4, where)) == [{IDS[i] for i in found}] * 2
    filled.save()
    assert names(filled.search(random_vectors(2, seed=8), 4, where)) == [{IDS[i] for i in found}] * 2


def test_metadata_comes_back_as_it_was(filled, place, random_vectors):
    filled.save()
    filled.close()
    with place.open() as index:
        found = {hit.id: hit.metadata for hit in index.search(random_vectors(1), 4)[0]}
    assert found == dict(zip(IDS, METADATA, strict=True))
    assert type(found[IDS[0]]["year"]) is int


def test_a_filter_comes_before_the_best_k(place, random_vectors, obvious_search, same):
    vectors, query = random_vectors(200), random_vectors(3, seed=1)
    rare = {f"{i:03d}": vectors[i] for i in range(0, 200, 50)}
    with place.create() as index:
        index.add([f"{i:03d}" for i in range(200)], vectors, [{"rare": i % 50 == 0} for i in range(200)])
        same(index.search(query, 3, {"rare": True}), obvious_search(rare, query, 3))


def test_no_question_no_vector_no_row(place, random_vectors):
    with place.create() as index:
        assert index.search(random_vectors(2), 5) == [[], []]
        assert index.search(random_vectors(0), 5) == []
        index.add([], random_vectors(0))
        index.save()
        assert (len(index), index.ids(), index.hashes(), index.delete([])) == (0, [], {}, 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ids": ["a"]}, "1 names, 2 vectors"),
        ({"ids": "ab"}, "names"),
        ({"ids": ["a", "a"]}, "'a' is twice"),
        ({"ids": ["a", ""]}, "cannot be a name"),
        ({"ids": ["a", "b" * 5000]}, "4,096 bytes"),
        ({"ids": ["a", "\udcff.jpg"]}, "not Unicode"),
        ({"hashes": ["1", "2" * 300]}, "at most 256 bytes"),
        ({"hashes": ["1"]}, "1 hashes"),
        ({"metadata": [{}, {"tags": ["x"]}]}, "'tags' is"),
        ({"metadata": [{}, {"x": float("nan")}]}, "'x' is nan"),
        ({"metadata": [{}, {1: "x"}]}, "flat dictionary"),
        ({"metadata": [{}, {"x": "y" * 70_000}]}, "65,535"),
        ({"vectors": np.ones((2, 5), np.float32)}, r"\(N, 16\)"),
        ({"vectors": np.ones((2, 16), np.int64)}, "int64"),
        ({"vectors": np.ones(16, np.float32)}, r"\(16,\)"),
        ({"vectors": np.zeros((2, 16), np.float32)}, "Vector 0 of 2"),
        ({"vectors": np.full((2, 16), np.inf, np.float32)}, "Vector 0 of 2"),
    ],
)
def test_a_bad_batch_changes_nothing(filled, random_vectors, change, message):
    batch = {"ids": ["a", IDS[0]], "vectors": random_vectors(2, seed=4), "metadata": None, "hashes": None, **change}
    with pytest.raises(SearchIndexError, match=message):
        filled.add(**batch)
    assert filled.hashes() == dict(zip(IDS, "1234", strict=True))


def test_bad_questions(filled, random_vectors):
    for k in (0, 20_000):
        with pytest.raises(SearchIndexError, match=f"k is {k}"):
            filled.search(random_vectors(1), k)
    with pytest.raises(SearchIndexError, match=r"\(N, 16\)"):
        filled.search(random_vectors(1, dim=8), 3)
    with pytest.raises(SearchIndexError, match="'x' is"):
        filled.search(random_vectors(1), 3, {"x": [object()]})


def test_the_caller_s_vectors_stay_as_they_are(place, random_vectors):
    vectors = random_vectors(5)
    before = vectors.copy()
    with place.create() as index:
        index.add(list("abcde"), vectors)
        index.search(vectors, 2)
    np.testing.assert_array_equal(vectors, before)


def test_the_header_and_another_base(place):
    with place.create() as index:
        index.save()
        header = index.header
    assert (header.base, header.base_sha256, header.dim) == ("tiny/clip", "ab" * 32, 16)
    with place.open(base="a copy of it", base_sha256="ab" * 32) as index:
        assert index.header == header
    with pytest.raises(SearchIndexError, match=r"'tiny/clip' \(sha256 abababababab\), not with 'other' \(sha256 cdcd"):
        place.open(base="other", base_sha256="cd" * 32)
    with pytest.raises(SearchIndexError, match=r"'tiny/clip'.*not with 'other'"):
        place.open(base="other")
    with place.open(writable=True):  # what was refused has left no lock
        pass


def test_there_is_one_already_or_none(place):
    with pytest.raises(SearchIndexError, match="Make one first"):
        place.open()
    assert not place.address.exists()
    place.create().close()
    with pytest.raises(SearchIndexError, match="already"):
        place.create()
    with place.open(writable=True):
        pass


def test_open_for_reading_does_not_write(place, random_vectors):
    place.create().close()
    with place.open() as index:
        for write in (lambda: index.add(["a"], random_vectors(1)), lambda: index.delete(["a"]), index.save):
            with pytest.raises(SearchIndexError, match="writable=True"):
                write()


def test_one_writer_at_a_time(place, random_vectors):
    first = place.create()
    with pytest.raises(LockedError, match=r"written to by process \d+"):
        place.open(writable=True)
    releasing = threading.Timer(0.3, first.close)
    releasing.start()
    started = time.monotonic()
    with place.open(writable=True, wait=20) as second:
        assert time.monotonic() - started > 0.2
        second.add(["a"], random_vectors(1))
    releasing.join()


def test_another_process_is_named_and_its_death_frees_the_index(place):
    place.create().close()
    holder = subprocess.Popen(
        [sys.executable, str(WORKER), "hold", str(place.address)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout.readline() == "ready\n"
        with pytest.raises(LockedError, match=f"process {holder.pid}"):
            place.open(writable=True)
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()
    with place.open(writable=True) as index:
        assert len(index) == 0


def test_the_end_of_another_process_is_waited_for(place):
    place.create().close()
    holder = subprocess.Popen(
        [sys.executable, str(WORKER), "hold", str(place.address)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout.readline() == "ready\n"
        ending = threading.Timer(0.5, holder.kill)
        ending.start()
        assert index_exists(place.address, wait=20)
        with place.open(writable=True, wait=20) as index:
            assert len(index) == 0
        ending.join()
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()


def test_a_reader_beside_a_writer(place, random_vectors):
    with place.create() as writer:
        writer.save()
        with place.open() as reader:
            writer.add(["a", "b"], random_vectors(2), None, ["1", "2"])
            writer.save()
            reader.refresh()
            assert reader.hashes() == {"a": "1", "b": "2"}
            writer.delete(["a"])
            writer.save()
            reader.refresh()
            assert names(reader.search(random_vectors(1), 3)) == [{"b"}]


def test_searches_from_several_threads(filled, random_vectors):
    filled.save()
    expected, found = filled.search(random_vectors(3), 3), []

    def ask():
        found.extend(filled.search(random_vectors(3), 3) for _ in range(10))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [expected] * 40
