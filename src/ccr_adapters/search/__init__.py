"""Search: an index of vectors behind one interface, FAISS inside the process or Milvus; collections of pictures."""

from __future__ import annotations

from ccr_adapters.search.addresses import create_index, index_exists, is_milvus, open_index
from ccr_adapters.search.collection import Collection
from ccr_adapters.search.faiss_index import FaissIndex
from ccr_adapters.search.interface import Hit, IndexHeader, VectorIndex, Where
from ccr_adapters.search.kinds import choose_kind
from ccr_adapters.search.milvus_index import MilvusIndex
from ccr_adapters.search.notes import Notes
from ccr_adapters.search.queries import combine
from ccr_adapters.search.source_kinds import SourceRecord, source_of
from ccr_adapters.search.sources import Source
from ccr_adapters.search.update import Summary

__all__ = [
    "Collection",
    "FaissIndex",
    "Hit",
    "IndexHeader",
    "MilvusIndex",
    "Notes",
    "Source",
    "SourceRecord",
    "Summary",
    "VectorIndex",
    "Where",
    "choose_kind",
    "combine",
    "create_index",
    "index_exists",
    "is_milvus",
    "open_index",
    "source_of",
]
