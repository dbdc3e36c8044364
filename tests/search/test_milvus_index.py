"""What only Milvus does: a change of its index, addresses, a token that is never shown."""

from __future__ import annotations

import logging
import subprocess
import sys
import traceback

import pytest
from pymilvus import MilvusClient

from ccr_adapters.errors import SearchIndexError
from ccr_adapters.search import FaissIndex, MilvusIndex, create_index, is_milvus, open_index


def test_which_library_an_address_is_for(tmp_path):
    assert [is_milvus(a) for a in ("photos.db", "http://host:19530", "https://host", tmp_path / "x.db")] == [True] * 4
    assert [is_milvus(a) for a in ("photos", tmp_path, "a.db/index", "C:/photos")] == [False] * 4
    with pytest.raises(SearchIndexError, match="'ftp' addresses"):
        is_milvus("ftp://host")
    for name, kind in (("index", FaissIndex), ("index.db", MilvusIndex)):
        with create_index(tmp_path / name, 4, base="b", base_sha256="0") as index:
            assert type(index) is kind
        with open_index(str(tmp_path / name)) as index:
            assert type(index) is kind


def test_hnsw_above_the_limit_and_back(tmp_path, random_vectors, obvious_search):
    vectors, queries = random_vectors(600), random_vectors(20, seed=1)
    expected = obvious_search({f"{i}": vector for i, vector in enumerate(vectors)}, queries, 10)
    with MilvusIndex.create(str(tmp_path / "i.db"), 16, base="b", base_sha256="0", exact_limit=500) as index:
        index.add([f"{i}" for i in range(600)], vectors)
        assert index.optimise() == "hnsw"
    with MilvusIndex.open(str(tmp_path / "i.db"), writable=True, exact_limit=1000) as index:
        found = zip(index.search(queries, 10), expected, strict=True)
        assert sum(len({h.id for h in hits} & {name for name, _ in best}) for hits, best in found) > 0.97 * 200
        assert index.optimise() == "exact"
        assert [[h.id for h in row] for row in index.search(queries, 10)] == [[n for n, _ in row] for row in expected]


def test_a_writer_stopped_while_milvus_built(tmp_path, random_vectors):
    address = str(tmp_path / "i.db")
    with MilvusIndex.create(address, 16, base="b", base_sha256="0") as index:
        index.add([f"{i}" for i in range(9)], random_vectors(9))
        index.save()
        client = MilvusClient(address)
        client.release_collection("pictures")
        client.drop_index("pictures", "vector")
        client.close()
    with pytest.raises(
        SearchIndexError, match="is being built, or was when its writer was stopped. Wait, or index again"
    ):
        MilvusIndex.open(address)
    with MilvusIndex.open(address, writable=True) as index:
        assert index.search(random_vectors(9)[4:5], 1)[0][0].id == "4"
        assert index.optimise() == "exact"


def test_collections_are_apart(tmp_path, random_vectors):
    address = str(tmp_path / "i.db")
    with MilvusIndex.create(address, 16, base="b", base_sha256="0", collection="one") as index:
        index.add(["a"], random_vectors(1))
        index.save()
    with MilvusIndex.create(address, 16, base="b", base_sha256="0", collection="two") as index:
        assert index.ids() == []
        with MilvusIndex.open(address, collection="one") as other:
            assert other.ids() == ["a"]
        assert index.ids() == []  # closing one leaves the other open
    with pytest.raises(SearchIndexError, match="no collection 'three'"):
        MilvusIndex.open(address, collection="three")


def test_a_collection_of_somebody_else_is_refused(tmp_path):
    address = str(tmp_path / "i.db")
    client = MilvusClient(address)
    client.create_collection("pictures", dimension=4)
    client.close()
    with pytest.raises(SearchIndexError, match="was not made by ccr-adapters"):
        MilvusIndex.open(address)


def test_a_closed_index_says_so(tmp_path, random_vectors):
    index = MilvusIndex.create(str(tmp_path / "i.db"), 16, base="b", base_sha256="0")
    index.close()
    index.close()
    with pytest.raises(SearchIndexError, match="is closed"):
        index.search(random_vectors(1), 1)


def test_bad_places(tmp_path):
    with pytest.raises(SearchIndexError, match="ending in .db"):
        MilvusIndex.create(str(tmp_path / "nowhere" / "i.db"), 4, base="b", base_sha256="0")
    (tmp_path / "file.db").write_bytes(b"an older format")
    with pytest.raises(SearchIndexError, match="file.db"):
        MilvusIndex.open(str(tmp_path / "file.db"))


def test_neither_token_nor_password_is_ever_shown(caplog, capfd):
    caplog.set_level(logging.DEBUG)
    with pytest.raises(SearchIndexError, match="cannot be reached at 'http://127.0.0.1:9'") as caught:
        MilvusIndex.open("http://somebody:geheim1@127.0.0.1:9", token="root:geheim2")
    shown = "".join(traceback.format_exception(caught.type, caught.value, caught.tb)) + caplog.text
    shown += "".join(capfd.readouterr())
    lines = [line for line in shown.splitlines() if "geheim" in line and "MilvusIndex.open(" not in line]
    assert lines == []
    assert caught.value.__suppress_context__


def test_nothing_heavy_is_imported_with_the_room():
    code = "import sys, ccr_adapters.search as s; print({'torch', 'faiss', 'pymilvus'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
