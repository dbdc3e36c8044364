"""`ccr-adapters demo` for real: adapters that are trained once, a page that answers and stops, and what is refused."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ccr_adapters.cli.demo_adapters import _fingerprint, cached_adapter, demo_folder, tiny_recipe
from ccr_adapters.cli.main import app
from ccr_adapters.cli.recipe import load_recipe, recipe_from_dict
from ccr_adapters.errors import ConfigError, LanguageError
from ccr_adapters.modeling import CCRModel

ROOT = Path(__file__).parents[2]
# a training of seconds
SMALL = {
    "data": {"name": "tiny_world", "train": 64, "validation": 4, "test": 4},
    "adapter": {"peft_type": "DASD", "r": 4, "condition_dim": 8, "generator_rank": 4},
    "vocabulary": {"kind": "word", "size": 300},
    "arguments": {"per_device_train_batch_size": 32, "max_steps": 2, "use_cpu": True, "save_steps": 1},
}


def invoke(*arguments):
    return CliRunner().invoke(app, ["demo", *map(str, arguments)])


@pytest.fixture
def index(home):
    return home / "p.index"


def test_the_recipe_is_the_published_one(tmp_path):
    own = recipe_from_dict(tiny_recipe("de", tmp_path))
    published = load_recipe(ROOT / "examples" / "configs" / "tiny_dasd_de.yaml", [])
    for part in ("base", "language", "data", "adapter", "vocabulary", "stages", "seed", "method"):
        assert getattr(own, part) == getattr(published, part), part
    for key in ("per_device_train_batch_size", "learning_rate", "vocabulary_learning_rate", "weight_decay"):
        assert own.arguments[key] == published.arguments[key], key


def test_an_adapter_is_trained_once(tmp_path, capsys):
    adapter = cached_adapter("cs", tmp_path, **SMALL)
    assert "Teaching the tiny CLIP Czech" in capsys.readouterr().err
    assert CCRModel.from_pretrained(adapter).languages == ["cs"]
    assert [path.name for path in (tmp_path / "training").iterdir() if path.name.startswith("cs")] == []
    times = {path: path.stat().st_mtime_ns for path in adapter.iterdir()}
    assert cached_adapter("cs", tmp_path, **SMALL) == adapter
    assert capsys.readouterr().err == ""
    assert {path: path.stat().st_mtime_ns for path in adapter.iterdir()} == times
    # what a stopped training has left is not used: the training goes on
    work = tmp_path / "training" / adapter.name
    (work / "adapter").mkdir(parents=True)
    (work / "adapter" / "config.json").write_text("{")
    adapter.rename(tmp_path / "gone")
    assert CCRModel.from_pretrained(cached_adapter("cs", tmp_path, **SMALL)).languages == ["cs"]


def test_another_recipe_is_another_adapter(tmp_path):
    one, same, other = (tiny_recipe("cs", tmp_path / name) for name in ("here", "there", "here"))
    assert _fingerprint(one) == _fingerprint(same)
    assert _fingerprint(one) != _fingerprint({**other, "seed": 1})


def test_the_cache_is_where_the_variable_says(monkeypatch, tmp_path):
    monkeypatch.setenv("CCR_ADAPTERS_CACHE", str(tmp_path))
    assert demo_folder() == tmp_path / "demo"
    monkeypatch.delenv("CCR_ADAPTERS_CACHE")
    assert demo_folder() == Path("~/.cache/ccr_adapters/demo").expanduser()


def test_a_cache_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="CCR_ADAPTERS_CACHE"):
        cached_adapter("de", tmp_path / "file")


def test_a_language_that_the_tiny_world_does_not_speak(tmp_path):
    with pytest.raises(LanguageError, match="no target language 'yo'.*de, fr, cs, zh, sw.*--model"):
        cached_adapter("yo", tmp_path)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--index", "nowhere.index"], "nowhere.index"),
        (["--languages", "yo"], "no target language 'yo'"),
        (["--space", "somewhere", "--model", "tiny_clip"], "`--space` writes the tiny world's page"),
    ],
)
def test_what_is_refused(arguments, told, monkeypatch, tmp_path):
    monkeypatch.setenv("CCR_ADAPTERS_CACHE", str(tmp_path))
    found = invoke(*arguments)
    assert found.exit_code == 1
    assert told in found.stderr
    assert found.stderr.startswith("error: ")


def test_an_index_without_a_language_is_refused(index):
    found = invoke("--index", index)
    assert "No language is loaded, only the base 'tiny_clip'" in found.stderr


def test_a_taken_port_is_told(index, german_adapter):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        found = invoke("--index", index, "--model", german_adapter, "--port", port)
    assert found.exit_code == 1
    assert f"Port {port} of 127.0.0.1 cannot be served on" in found.stderr


def test_the_page_answers_and_ctrl_c_stops_it(index, german_adapter):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "ccr_adapters", "demo", "--index", str(index), "--model", str(german_adapter)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    running = subprocess.Popen(
        [*command, "--port", str(port)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    try:
        line = running.stdout.readline()
        address = re.search(r"http://\S+", line)[0]
        with urllib.request.urlopen(address, timeout=20) as answer:
            page = answer.read().decode()
        running.send_signal(signal.SIGINT)
        rest, errors = running.communicate(timeout=30)
    finally:
        running.kill()
        running.wait()
    assert "9 pictures of p.index, encoded by tiny_clip. Ask in German, English." in page
    assert "Stopped." in rest
    assert running.returncode == 0
    assert "Traceback" not in errors
