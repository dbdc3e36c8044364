"""Benchmarks by name, other people's file formats, and the check that training and test images do not overlap."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ccr_adapters.data.benchmarks.bigfile import BigFile
    from ccr_adapters.data.benchmarks.dasd_files import dasd_entries, dasd_paths, dasd_rows, read_caption_json
    from ccr_adapters.data.benchmarks.definitions import BENCHMARKS, find_benchmark
    from ccr_adapters.data.benchmarks.formats import load_dasd, load_nrccr
    from ccr_adapters.data.benchmarks.hashes import difference_hash, hash_pictures
    from ccr_adapters.data.benchmarks.imagefolder import load_image_folder
    from ccr_adapters.data.benchmarks.languages import primary_language
    from ccr_adapters.data.benchmarks.leak import Overlap, find_overlap, known_overlaps, normalise_image_id
    from ccr_adapters.data.benchmarks.loaders import load_benchmark, load_languages
    from ccr_adapters.data.benchmarks.nrccr import nrccr_entries, nrccr_rows
    from ccr_adapters.data.benchmarks.schema import Benchmark, HubCopy, KnownOverlap
    from ccr_adapters.data.benchmarks.shards import webdataset_rows

_ROOM = "ccr_adapters.data.benchmarks"
_WHERE = {
    "BENCHMARKS": "definitions",
    "Benchmark": "schema",
    "BigFile": "bigfile",
    "HubCopy": "schema",
    "KnownOverlap": "schema",
    "Overlap": "leak",
    "dasd_entries": "dasd_files",
    "dasd_paths": "dasd_files",
    "dasd_rows": "dasd_files",
    "difference_hash": "hashes",
    "find_benchmark": "definitions",
    "find_overlap": "leak",
    "hash_pictures": "hashes",
    "known_overlaps": "leak",
    "load_benchmark": "loaders",
    "load_dasd": "formats",
    "load_image_folder": "imagefolder",
    "load_languages": "loaders",
    "load_nrccr": "formats",
    "normalise_image_id": "leak",
    "nrccr_entries": "nrccr",
    "nrccr_rows": "nrccr",
    "primary_language": "languages",
    "read_caption_json": "dasd_files",
    "webdataset_rows": "shards",
}

__all__ = [
    "BENCHMARKS",
    "Benchmark",
    "BigFile",
    "HubCopy",
    "KnownOverlap",
    "Overlap",
    "dasd_entries",
    "dasd_paths",
    "dasd_rows",
    "difference_hash",
    "find_benchmark",
    "find_overlap",
    "hash_pictures",
    "known_overlaps",
    "load_benchmark",
    "load_dasd",
    "load_image_folder",
    "load_languages",
    "load_nrccr",
    "normalise_image_id",
    "nrccr_entries",
    "nrccr_rows",
    "primary_language",
    "read_caption_json",
    "webdataset_rows",
]


def __getattr__(name: str) -> object:
    """Import a name on first use (PEP 562): listing the benchmarks must not import `datasets`, which costs a second."""
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it exports {', '.join(__all__)}")
    value: object = getattr(import_module(f"{_ROOM}.{_WHERE[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the lazy names too, for completion."""
    return sorted({*globals(), *__all__})
