"""A corpus in every form that can be encoded, and a model to encode it with."""

from __future__ import annotations

import csv
import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from ccr_adapters.corpora import as_matrix, choose_columns, encode_corpus, find_inputs, read_vectors
from ccr_adapters.modeling import CCRModel

WORDS = ["a red star", "two blue fish on sand", "a house", "one green heart in the night", 'snow, and "more" snow']


@pytest.fixture(scope="session")
def model() -> CCRModel:
    """The packaged model."""
    return CCRModel.from_base("tiny_clip").eval()


@pytest.fixture(scope="session")
def captions() -> list[str]:
    """Captions of several lengths; some hold what a CSV must quote."""
    return [f"{WORDS[index % 5]}{',' * (index % 3)} number {index}" for index in range(23)]


@pytest.fixture(scope="session")
def pictures() -> dict[str, bytes]:
    """Files of pictures of several sizes and formats, by name."""
    found, noise = {}, np.random.default_rng(0)
    for index in range(11):
        pixels = noise.integers(0, 255, (20 + index, 40 - index, 3), dtype=np.uint8)
        content = io.BytesIO()
        Image.fromarray(pixels).save(content, "PNG" if index % 2 else "JPEG")
        found[f"{index:02d}.{'png' if index % 2 else 'jpg'}"] = content.getvalue()
    return found


def write_table(path: Path, rows: list[dict]) -> Path:
    """Rows as a CSV, TSV, JSON lines or Parquet, by the ending."""
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=7)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    else:
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), delimiter="\t" if path.suffix == ".tsv" else ",")
            writer.writeheader()
            writer.writerows(rows)
    return path


def write_tar(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


@pytest.fixture(scope="session")
def tables():
    """Function that writes a table."""
    return write_table


@pytest.fixture(scope="session")
def tars():
    """Function that writes a tar."""
    return write_tar


@pytest.fixture
def folder(pictures, tmp_path) -> Path:
    """A folder of the pictures, some of them below."""
    home = tmp_path / "photos"
    for index, (name, content) in enumerate(pictures.items()):
        place = home / ("below" if index % 4 == 3 else "") / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
    return home


def result(output):
    """Names and vectors of a folder of vectors, in order."""
    found = list(read_vectors(output))
    return [name for table in found for name in table.column("id").to_pylist()], np.concatenate(
        [as_matrix(table) for table in found]
    )


@pytest.fixture(scope="session")
def vectors_in():
    """Function that reads a folder of vectors."""
    return result


@pytest.fixture(scope="session")
def encoded(model):
    """Function that encodes, in shards of four rows if nothing else is said."""

    def run(places, output, columns=None, **options):
        from ccr_adapters.corpora import Settings

        files = find_inputs(places if isinstance(places, list) else [places])
        settings = Settings(**{"shard_rows": 4, **options.pop("settings", {})})
        chosen = choose_columns(files, **(columns or {}))
        options = {"batch_size": 3, "workers": 2, "show_progress": False, **options}
        return encode_corpus(files, chosen, output, options.pop("model", model), settings=settings, **options)

    return run
