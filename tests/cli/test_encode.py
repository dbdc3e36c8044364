"""`ccr-adapters encode` for real: what it makes and says, alone and as two processes of Accelerate."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import ccr_adapters
from ccr_adapters.cli.main import app
from ccr_adapters.corpora import as_matrix, read_vectors
from ccr_adapters.dasd import DASDConfig
from ccr_adapters.modeling import CCRModel

CAPTIONS = [f"a star number {number}" for number in range(19)]


def run(*arguments):
    return CliRunner().invoke(app, ["encode", *map(str, arguments)])


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "captions.txt"
    path.write_text("\n".join(CAPTIONS))
    return path


def vectors(output):
    return np.concatenate([as_matrix(table) for table in read_vectors(output)])


def test_captions_and_what_is_said(text, tmp_path):
    output = tmp_path / "out"
    found = run(text, "--model", "tiny_clip", "--output", output, "--shard-rows", 8)
    assert found.exit_code == 0, found.output
    assert f"19 vectors of captions are in {output} (3 shards)." in found.stdout
    assert "19 were encoded by this run" in found.stdout
    np.testing.assert_allclose(vectors(output), CCRModel.from_base("tiny_clip").encode_text(CAPTIONS), atol=1e-6)
    again = run(text, "--model", "tiny_clip", "--output", output, "--shard-rows", 8, "--json")
    assert json.loads(again.stdout) | {"seconds": 0} == {
        "folder": str(output),
        "rows": 19,
        "skipped": 0,
        "shards": 3,
        "encoded": 0,
        "seconds": 0,
    }


def test_pictures_in_half_precision_and_the_broken_one(tmp_path):
    (tmp_path / "photos").mkdir()
    for number in range(3):
        Image.new("RGB", (20, 20), (80 * number, 0, 0)).save(tmp_path / "photos" / f"{number}.png")
    (tmp_path / "photos" / "3.png").write_bytes(b"none")
    output = tmp_path / "out"
    found = run(tmp_path / "photos", "--model", "tiny_clip", "--output", output, "--precision", "bfloat16")
    assert found.exit_code == 0, found.output
    assert f"1 were skipped; {output / 'skipped.jsonl'} says which and why." in found.stdout
    exact = CCRModel.from_base("tiny_clip").encode_image([tmp_path / "photos" / f"{number}.png" for number in range(3)])
    assert 1e-6 < np.abs(vectors(output) - exact.numpy()).max() < 0.02


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--dtype", "int8"], "vectors cannot be 'int8'; expected float32 or float16"),
        (["--precision", "fp8"], "cannot run in 'fp8'"),
        (["--captions", "title"], "no column 'title'"),
        (["--language", "de"], "'de' has no adapter"),
        (["--ray", "--ray-address", "auto"], "no Ray cluster at 'auto'"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(text, tmp_path, options, message):
    found = run(text, "--model", "tiny_clip", "--output", tmp_path / "out", *options)
    assert found.exit_code == 1
    assert found.stderr.startswith("error: ")
    assert message in found.stderr


def start(rank, port, *arguments):
    """Start a process as `accelerate launch --num_processes 2 -m ccr_adapters encode ...` does where there is no GPU."""
    environment = {**os.environ, "PYTHONPATH": str(Path(ccr_adapters.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    environment |= {"ACCELERATE_USE_CPU": "true", "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
    environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    if "lo" in dict(map(reversed, socket.if_nameindex())):
        environment["GLOO_SOCKET_IFNAME"] = "lo"  # a machine need not be able to resolve its own name
    command = [sys.executable, "-m", "ccr_adapters", "-v", "encode", *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_two_processes_of_accelerate_make_what_one_makes(text, tmp_path):
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]
    options = [text, "--model", "tiny_clip", "--shard-rows", 4, "--output"]
    processes = [start(rank, port, *options, tmp_path / "two", "--json") for rank in range(2)]
    try:
        (out, errors), (nothing, more_errors) = (process.communicate(timeout=240) for process in processes)
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], errors[-2000:] + more_errors[-2000:]
    told = json.loads(out)
    assert nothing == ""
    # the first three of five shards are the main process's
    assert (told["rows"], told["shards"], told["encoded"]) == (19, 5, 19)  # of all processes
    written = [
        [line.split(":")[0] for line in said.splitlines() if "INFO shard " in line] for said in (errors, more_errors)
    ]
    assert written == [[f"INFO shard {number} of 5" for number in own] for own in ((0, 1, 2), (3, 4))]
    run(*options, tmp_path / "one")
    np.testing.assert_array_equal(vectors(tmp_path / "one"), vectors(tmp_path / "two"))


def test_which_of_several_languages_is_asked(text, tmp_path):
    model = CCRModel.from_base("tiny_clip")
    for code in ("zh", "cs"):
        model.add_language(code, DASDConfig(r=4, generator_rank=4))
    model.save_pretrained(tmp_path / "both")
    command = (text, "--model", tmp_path / "both", "--output", tmp_path / "out")
    refused = run(*command)
    assert refused.exit_code == 1
    assert "The model knows cs, zh and en: say which with --language." in " ".join(refused.stderr.split())
    assert run(*command, "--language", "zh").exit_code == 0


def test_half_precision_keeps_the_name_of_the_base(text, tmp_path):
    """What went through float16 rounds to another hash, and the vectors would be taken for those of another base."""
    found = {}
    for precision in ("float32", "float16"):
        told = run(text, "--model", "tiny_clip", "--output", tmp_path / precision, "--precision", precision)
        assert told.exit_code == 0, told.output
        found[precision] = json.loads((tmp_path / precision / "encode.json").read_text())["base_sha256"]
    assert found["float16"] == found["float32"] == CCRModel.from_base("tiny_clip").base_sha256()
