"""Search: an index of vectors behind one interface, FAISS inside the process or Milvus."""

from __future__ import annotations

from ccr_adapters.search.addresses import create_index, is_milvus, open_index
from ccr_adapters.search.faiss_index import FaissIndex
from ccr_adapters.search.interface import Hit, IndexHeader, VectorIndex, Where
from ccr_adapters.search.kinds import choose_kind
from ccr_adapters.search.milvus_index import MilvusIndex
from ccr_adapters.search.queries import combine

__all__ = [
    "FaissIndex",
    "Hit",
    "IndexHeader",
    "MilvusIndex",
    "VectorIndex",
    "Where",
    "choose_kind",
    "combine",
    "create_index",
    "is_milvus",
    "open_index",
]
