"""Which kind of index a size asks for, and the two approximate kinds of FAISS: HNSW and IVF-PQ.

HNSW (Malkov and Yashunin, arXiv:1603.09320) keeps whole vectors and a graph in memory; IVF-PQ (Jegou et al.,
TPAMI 2011) keeps a short code of each vector in lists, and candidates are compared again with the vectors on disk.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from ccr_adapters.errors import SearchIndexError
from ccr_adapters.extras import require
from ccr_adapters.search.interface import Vectors

logger = logging.getLogger(__name__)

IndexKind: TypeAlias = Literal["exact", "hnsw", "ivfpq"]
KINDS: tuple[IndexKind, ...] = get_args(IndexKind)

EXACT_LIMIT = 200_000
HNSW_M = 32
HNSW_EF_CONSTRUCTION = 200
HNSW_EF_SEARCH = 256
"""At 100,000 vectors of width 512 that vary as 1/rank, recall@10 is 0.976 with 128 and 0.992 with 256."""
IVFPQ_CANDIDATES = 20
"""Candidates per result that IVF-PQ hands to the exact comparison."""

_SAMPLES_PER_LIST = 64


def hnsw_bytes(count: int, dim: int) -> int:
    """Memory of an HNSW index: whole vectors, twice M neighbours at the bottom, and a little above.

    Args:
        count: Number of vectors.
        dim: Their width.

    Returns:
        Bytes.
    """
    return count * (4 * dim + 4 * 2 * HNSW_M + 4 * 4)


def half_of_memory() -> int:
    """The default budget of an index: half of what the machine has."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


def choose_kind(count: int, dim: int, *, memory_budget: int, exact_limit: int = EXACT_LIMIT) -> IndexKind:
    """The rule: exact while that is fast enough, then HNSW while it fits into memory, then IVF-PQ.

    Exact search reads every vector for a question: 200,000 of width 512 take some 20 to 40 ms on one core.

    Args:
        count: Number of vectors.
        dim: Their width.
        memory_budget: Bytes that the index may take.
        exact_limit: Most vectors that are searched exactly.

    Returns:
        The kind.
    """
    if count <= exact_limit:
        return "exact"
    return "hnsw" if hnsw_bytes(count, dim) <= memory_budget else "ivfpq"


def build(kind: IndexKind, dim: int, count: int, sample: Vectors) -> Any:
    """Make an empty approximate index.

    Args:
        kind: `hnsw` or `ivfpq`.
        dim: Width of the vectors.
        count: How many will be added.
        sample: Some of them (S, d), to train IVF-PQ on; not read for HNSW.

    Returns:
        A FAISS index.
    """
    faiss = require("faiss", extra="search")
    if kind == "hnsw":
        index = faiss.IndexHNSWFlat(dim, HNSW_M, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = HNSW_EF_CONSTRUCTION
        return index
    # an eighth of the width in bytes; a divisor, as FAISS cuts vectors into equal pieces
    pieces = next(pieces for pieces in range(max(1, dim // 8), 0, -1) if dim % pieces == 0)
    bits = 8 if len(sample) >= 1024 else 4
    index = faiss.index_factory(dim, f"IVF{lists_of(count)},PQ{pieces}x{bits}np", faiss.METRIC_INNER_PRODUCT)
    index.cp.min_points_per_centroid = index.pq.cp.min_points_per_centroid = 1  # FAISS warns below 39 on its own
    logger.info("Training IVF-PQ on %d of %d vectors", len(sample), count)
    index.train(sample)
    return index


def lists_of(count: int) -> int:
    """How many lists IVF-PQ gets: four times the root of the number of vectors, as FAISS advises.

    Args:
        count: Number of vectors.

    Returns:
        Number of lists.
    """
    return max(1, min(int(4 * count**0.5), count // 40))


def sample_size(kind: IndexKind, count: int) -> int:
    """How many vectors to train on.

    Args:
        kind: Kind of index.
        count: Number of vectors there are.

    Returns:
        Number of vectors.
    """
    return min(count, max(1024, _SAMPLES_PER_LIST * lists_of(count))) if kind == "ivfpq" else 0


def extend(index: Any, blocks: Iterable[Vectors], path: Path) -> None:
    """Add vectors to an approximate index and write it.

    Args:
        index: From `build` or `load`.
        blocks: Vectors (N, d), in order.
        path: File to write.
    """
    faiss = require("faiss", extra="search")
    for block in blocks:
        index.add(block)
    faiss.write_index(index, str(path))


def load(path: Path, kind: IndexKind, dim: int, count: int, *, mapped: bool = True) -> Any:
    """Read an approximate index whose file was compared with its hash before.

    Args:
        path: The file.
        kind: The kind that it should be of.
        dim: The width that it should have.
        count: The number of vectors that it should hold.
        mapped: Leave vectors and graph on disk until they are needed; not for adding.

    Returns:
        A FAISS index.

    Raises:
        SearchIndexError: If FAISS refuses it, or it is of another kind or size.
    """
    faiss = require("faiss", extra="search")
    flags = faiss.IO_FLAG_MMAP_IFC if mapped and kind == "hnsw" else 0
    try:
        index = faiss.read_index(str(path), flags)
    except RuntimeError as error:
        raise SearchIndexError(f"FAISS cannot read '{path}' ({str(error)[-200:]}). Index again.") from error
    expected = faiss.IndexHNSWFlat if kind == "hnsw" else faiss.IndexIVFPQ
    if type(index) is not expected or (index.d, index.ntotal) != (dim, count):
        raise SearchIndexError(
            f"'{path}' holds a {type(index).__name__} of {index.ntotal:,} x {index.d}; expected {kind} of "
            f"{count:,} x {dim}. Index again."
        )
    # FAISS has checked the graph itself
    if kind == "hnsw" and faiss.downcast_index(index.storage).codes.size() != 4 * dim * count:
        raise SearchIndexError(f"'{path}' does not hold the {count:,} vectors of its graph. Index again.")
    return index


def stored_vectors(index: Any) -> NDArray[np.uint8]:
    """The vectors inside an HNSW index, without a copy.

    Args:
        index: The index, which has to outlive the array.

    Returns:
        Bytes (N, 4 d).
    """
    faiss = require("faiss", extra="search")
    codes = faiss.downcast_index(index.storage).codes
    flat = faiss.rev_swig_ptr(codes.data(), codes.size())
    return flat.reshape(index.ntotal, 4 * index.d)


def search(
    index: Any, kind: IndexKind, queries: Vectors, k: int, allowed: NDArray[np.bool_] | None
) -> tuple[Vectors, NDArray[np.int64]]:
    """Search an approximate index.

    Args:
        index: A FAISS index.
        kind: Its kind.
        queries: Vectors of length one (Q, d).
        k: How many to find.
        allowed: Which positions may be found (N,), or all.

    Returns:
        Scores (Q, k) and positions (Q, k), -1 where there is none.
    """
    faiss = require("faiss", extra="search")
    bits = None if allowed is None else np.packbits(allowed, bitorder="little")
    selector = None if bits is None else faiss.IDSelectorBitmap(bits)
    if kind == "hnsw":
        parameters = faiss.SearchParametersHNSW(sel=selector, efSearch=max(HNSW_EF_SEARCH, 2 * k))
    else:
        parameters = faiss.SearchParametersIVF(sel=selector, nprobe=max(16, index.nlist // 32))
    scores, positions = index.search(queries, k, params=parameters)
    return scores, positions
