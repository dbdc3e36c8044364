"""A corpus on a real Ray cluster: what the local run makes, also when every worker is killed on the way."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import ccr_adapters
from ccr_adapters.corpora import Settings, choose_columns, find_inputs
from ccr_adapters.corpora.job import identity_of, join_job, open_job
from ccr_adapters.corpora.ray_job import ShardWorker
from ccr_adapters.errors import DataError
from ccr_adapters.modeling import CCRModel

WORKER = Path(__file__).with_name("ray_cluster.py")
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(ccr_adapters.__file__).parents[1]), "RAY_USAGE_STATS_ENABLED": "0"}
ROWS, SHARD, FINISHED = 1000, 10, 5


def test_killed_workers_cost_nothing_but_time(captions, encoded, vectors_in, tmp_path):
    """A job that this process has begun goes on on a cluster, all of whose workers are killed."""
    text, here, there = tmp_path / "captions.txt", tmp_path / "here", tmp_path / "there"
    lines = [f"{captions[number % 23]}, and again {number}" for number in range(ROWS)]
    text.write_text("\n".join(lines), encoding="utf-8")
    encoded(text, here, settings={"shard_rows": SHARD}, batch_size=64)
    shutil.copytree(here, there)
    for path in sorted(there.glob("part-*"))[FINISHED:]:
        path.unlink()
    stamps = {path: path.stat().st_mtime_ns for path in there.glob("part-*")}
    done = subprocess.run([sys.executable, WORKER, text, there], env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    said = json.loads((tmp_path / "there.json").read_text())
    assert said["killed"]
    assert max(said["killed"]) < said["shards"] == ROWS // SHARD
    assert said["rows"] == ROWS
    assert said["encoded"] == ROWS - FINISHED * SHARD
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in stamps.items())
    (names, vectors), (expected, wanted) = vectors_in(there), vectors_in(here)
    assert names == expected
    np.testing.assert_allclose(vectors, wanted, atol=1e-6)


def test_an_error_of_a_worker_comes_back_as_text(tables, model, tmp_path):
    """Actors are plain objects: this one runs here."""
    path = tables(tmp_path / "gone.csv", [{"image": f"gone/{number}.jpg"} for number in range(16)])
    files = find_inputs([path])
    about = identity_of(model, "tiny_clip", "pictures")
    (tmp_path / "out").mkdir()
    open_job(tmp_path / "out", files, choose_columns(files), about, Settings())
    options = {"name": "tiny_clip", "language": None, "batch_size": 4, "workers": 1, "allow_missing": False}
    worker = ShardWorker(folder=str(tmp_path / "out"), load=lambda: model, what="pictures", **options)
    (told,) = worker({"shard": np.array([0])})["problem"]
    assert told.startswith("None of the 16 pictures of shard 0 is there")
    elsewhere = ShardWorker(folder=str(tmp_path / "not mounted"), load=lambda: model, what="pictures", **options)
    (told,) = elsewhere({"shard": np.array([0])})["problem"]
    assert "All machines need one common output folder" in told


def test_a_finished_shard_that_is_given_out_again_is_not_encoded_again(tables, model, tmp_path):
    """Its actor died between writing it and saying so."""
    path = tables(tmp_path / "text.csv", [{"caption": f"a dog {number}"} for number in range(6)])
    files = find_inputs([path])
    about = identity_of(model, "tiny_clip", "captions")
    (tmp_path / "out").mkdir()
    open_job(tmp_path / "out", files, choose_columns(files), about, Settings(shard_rows=3))
    options = {"name": "tiny_clip", "language": None, "batch_size": 4, "workers": 1, "allow_missing": False}
    worker = ShardWorker(folder=str(tmp_path / "out"), load=lambda: model, what="captions", **options)
    assert worker({"shard": np.array([1])})["vectors"] == [3]
    before = (tmp_path / "out" / "part-00001.parquet").stat()
    again = worker({"shard": np.array([1, 0])})
    assert again == {"shard": [1, 0], "vectors": [3, 3], "problem": ["", ""]}
    after = (tmp_path / "out" / "part-00001.parquet").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_a_worker_with_another_model_refuses(tables, model, bases, tmp_path):
    files = find_inputs([tables(tmp_path / "a.csv", [{"caption": "a star"}])])
    (tmp_path / "out").mkdir()
    open_job(tmp_path / "out", files, choose_columns(files), identity_of(model, "a", "captions"), Settings())
    with pytest.raises(DataError, match=r"base_sha256 24a9.*\.\.\., asked for"):
        join_job(tmp_path / "out", identity_of(CCRModel.from_base(bases["clip"]), "a", "captions"))
