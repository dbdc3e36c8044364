"""Corpora: captions or pictures of any number to sharded Parquet, on one machine, several processes, or a Ray cluster."""

from __future__ import annotations

from ccr_adapters.corpora.inputs import InputFile, choose_columns, find_inputs
from ccr_adapters.corpora.job import EncodeSummary, Settings
from ccr_adapters.corpora.ray_job import encode_on_ray
from ccr_adapters.corpora.rows import Columns
from ccr_adapters.corpora.shards import as_matrix, read_vectors
from ccr_adapters.corpora.work import encode_corpus, process_state

__all__ = [
    "Columns",
    "EncodeSummary",
    "InputFile",
    "Settings",
    "as_matrix",
    "choose_columns",
    "encode_corpus",
    "encode_on_ray",
    "find_inputs",
    "process_state",
    "read_vectors",
]
