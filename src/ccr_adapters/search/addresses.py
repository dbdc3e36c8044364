"""From an address to an index: a folder is FAISS, a `.db` file or an `http://` address is Milvus."""

from __future__ import annotations

from os import fspath
from pathlib import Path

from ccr_adapters.errors import SearchIndexError
from ccr_adapters.search.faiss_index import FaissIndex
from ccr_adapters.search.generation import CURRENT
from ccr_adapters.search.interface import VectorIndex
from ccr_adapters.search.kinds import EXACT_LIMIT
from ccr_adapters.search.milvus_index import COLLECTION, MilvusIndex


def is_milvus(address: str | Path) -> bool:
    """Which library an address is for.

    Args:
        address: A folder, a `.db` file, or an `http://` or `https://` address.

    Returns:
        Whether it is Milvus.

    Raises:
        SearchIndexError: If it has another scheme.
    """
    text = fspath(address)
    scheme, separator, _ = text.partition("://")
    if separator and scheme not in ("http", "https", "tcp"):
        raise SearchIndexError(f"{scheme!r} addresses are not known; expected a folder, a .db file, or http://...")
    return bool(separator) or text.endswith(".db")


def index_exists(
    address: str | Path, *, wait: float = 0.0, token: str | None = None, collection: str = COLLECTION
) -> bool:
    """Whether there is an index.

    Args:
        address: As for `open_index`.
        wait: Seconds to wait for another process that has a file of Milvus Lite open.
        token: As for `open_index`.
        collection: As for `open_index`.

    Returns:
        False also where there is something else.

    Raises:
        SearchIndexError: If a cluster cannot be reached.
        LockedError: If another process has a file of Milvus Lite open.
    """
    if not is_milvus(address):
        return (Path(address) / CURRENT).is_file()
    return MilvusIndex.exists(fspath(address), wait=wait, token=token, collection=collection)


def open_index(
    address: str | Path,
    *,
    base: str | None = None,
    base_sha256: str | None = None,
    writable: bool = False,
    wait: float = 0.0,
    token: str | None = None,
    collection: str = COLLECTION,
    exact_limit: int = EXACT_LIMIT,
    memory_budget: int | None = None,
) -> VectorIndex:
    """Open an index.

    Args:
        address: A folder (FAISS), a `.db` file (Milvus Lite), or an `http://` address (a Milvus cluster).
        base: Name of the base at hand, to be compared.
        base_sha256: Hash of its weights, to be compared.
        writable: Whether to add and delete.
        wait: Seconds to wait for another writer.
        token: For a cluster.
        collection: For Milvus.
        exact_limit: Most vectors to search exactly, for `optimise`.
        memory_budget: Bytes that an index of FAISS may take, for `optimise`.

    Returns:
        The index.

    Raises:
        SearchIndexError: If there is none, it is broken, or was made with another base.
        LockedError: If another process is writing to it.
    """
    if is_milvus(address):
        return MilvusIndex.open(
            fspath(address),
            base=base,
            base_sha256=base_sha256,
            token=token,
            collection=collection,
            writable=writable,
            wait=wait,
            exact_limit=exact_limit,
        )
    return FaissIndex.open(
        address,
        base=base,
        base_sha256=base_sha256,
        writable=writable,
        wait=wait,
        exact_limit=exact_limit,
        memory_budget=memory_budget,
    )


def create_index(
    address: str | Path,
    dim: int,
    *,
    base: str,
    base_sha256: str,
    wait: float = 0.0,
    token: str | None = None,
    collection: str = COLLECTION,
    exact_limit: int = EXACT_LIMIT,
    memory_budget: int | None = None,
) -> VectorIndex:
    """Make an empty index, open for writing.

    Args:
        address: As for `open_index`.
        dim: Width of the vectors.
        base: Name of the base that makes them.
        base_sha256: Hash of its weights.
        wait: As for `open_index`.
        token: As for `open_index`.
        collection: As for `open_index`.
        exact_limit: As for `open_index`.
        memory_budget: As for `open_index`.

    Returns:
        The index.

    Raises:
        SearchIndexError: If there is one already, or it cannot be written.
        LockedError: If another process is writing to it.
    """
    if is_milvus(address):
        return MilvusIndex.create(
            fspath(address),
            dim,
            base=base,
            base_sha256=base_sha256,
            token=token,
            collection=collection,
            wait=wait,
            exact_limit=exact_limit,
        )
    return FaissIndex.create(
        address,
        dim,
        base=base,
        base_sha256=base_sha256,
        wait=wait,
        exact_limit=exact_limit,
        memory_budget=memory_budget,
    )
