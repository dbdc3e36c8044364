"""Indexes of both libraries, and an obvious search to compare them with."""

from __future__ import annotations

import numpy as np
import pytest

from ccr_adapters.modeling import CCRModel
from ccr_adapters.search import create_index, open_index
from ccr_adapters.search.encoder import PictureEncoder

DIM = 16
BASE = {"base": "tiny/clip", "base_sha256": "ab" * 32}


class Place:
    """Where one index is, to be made and opened again and again."""

    def __init__(self, address):
        self.address = address

    def create(self, dim=DIM, **options):
        return create_index(self.address, dim, **{**BASE, **options})

    def open(self, **options):
        return open_index(self.address, **options)


@pytest.fixture(params=["faiss", "milvus"])
def place(request, tmp_path) -> Place:
    """An address of each library at which there is nothing yet."""
    return Place(tmp_path / ("index" if request.param == "faiss" else "index.db"))


@pytest.fixture
def faiss_place(tmp_path) -> Place:
    """The same of FAISS alone."""
    return Place(tmp_path / "index")


@pytest.fixture(scope="session")
def model() -> CCRModel:
    """The packaged model."""
    return CCRModel.from_base("tiny_clip")


@pytest.fixture(scope="session")
def encoder(model) -> PictureEncoder:
    """Its image tower."""
    return PictureEncoder(model)


@pytest.fixture(scope="session")
def random_vectors():
    """Function that makes vectors of different lengths; real ones vary along few directions, and so do these."""

    def make(count, seed=0, dim=DIM):
        rng = np.random.default_rng(seed)
        mixing = np.random.default_rng(99).normal(size=(8, dim))
        vectors = rng.normal(size=(count, 8)) @ mixing + 0.1 * rng.normal(size=(count, dim))
        return (vectors * rng.uniform(0.5, 2, size=(count, 1))).astype(np.float32)

    return make


@pytest.fixture(scope="session")
def obvious_search():
    """Function that sorts all cosines: names of the best `k` of each query, and their scores."""

    def search(stored, queries, k):
        names = sorted(stored)
        if not names:
            return [[] for _ in queries]
        matrix = np.stack([stored[name] for name in names]).astype(np.float64)
        matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
        queries = queries.astype(np.float64) / np.linalg.norm(queries, axis=1, keepdims=True)
        scores = queries @ matrix.T
        order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        return [[(names[i], row[i]) for i in best] for row, best in zip(scores, order, strict=True)]

    return search


@pytest.fixture(scope="session")
def same():
    """Function that compares hits with an obvious result."""

    def check(hits, expected):
        assert [[hit.id for hit in row] for row in hits] == [[name for name, _ in row] for row in expected]
        for row, wanted in zip(hits, expected, strict=True):
            assert [hit.score for hit in row] == pytest.approx([score for _, score in wanted], abs=1e-5)

    return check
