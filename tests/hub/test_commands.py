"""The commands `push`, `pull`, `list` and `info`, in processes of their own that know the server by the environment."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ccr_adapters.cli.main import app
from ccr_adapters.modeling import CCRModel

OWNER = "hf_ownerownerowner"


@pytest.fixture
def run():
    """Function that runs a command in this process."""

    def call(*words):
        return CliRunner().invoke(app, [str(word) for word in words])

    return call


def test_push_and_pull(hub, saved, run, cache, english, monkeypatch):
    pushed = run("push", saved("de", "zh"), "org/clip", "--private", "--token", OWNER)
    assert pushed.exit_code == 0, pushed.stderr
    assert f"are in org/clip: {hub.endpoint}/org/clip/commit/" in pushed.stdout
    monkeypatch.setenv("HF_TOKEN", OWNER)
    folder = Path(run("pull", "org/clip", "--language", "zh").stdout.strip())
    assert folder.is_relative_to(cache)
    assert not (folder / "de").exists()
    assert CCRModel.from_pretrained(folder, languages=["zh"]).encode_text(english).shape == (6, 24)


def test_a_process_with_nothing_but_the_environment(hub, environment):
    line = [sys.executable, "-m", "ccr_adapters", "pull", "org/clip"]
    offline = {**environment, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(line, env=offline, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("error: 'org/clip' is not in the cache")
    assert "Traceback" not in done.stderr
    assert hub.seen == []


def test_list_and_info(hub, saved, run):
    assert run("push", saved("de", "zh"), "org/clip", "--token", OWNER).exit_code == 0
    base = CCRModel.from_pretrained(saved("de", "zh")).config.base_model_name_or_path
    assert run("list", "--base", base, "--language", "zh").stdout == f"org/clip  de,zh  dasd  for {base}\n"
    assert json.loads(run("list", "--json").stdout)[0]["languages"] == ["de", "zh"]
    nothing = run("list", "--language", "sw")
    assert (nothing.exit_code, nothing.stdout) == (0, "")
    assert "No adapter has these tags" in nothing.stderr
    for place in (saved("de", "zh"), "org/clip"):
        told = json.loads(run("info", place, "--json").stdout)
        assert told["languages"]["zh"]["tokenizer"] > 0
        assert "vocabulary rows" in run("info", place).stdout


def test_errors_are_a_line(hub, run, tmp_path):
    for words in (
        ("push", tmp_path, "org/clip", "--token", OWNER),
        ("pull", "org/nothing", "--token", OWNER),
        ("info", "org/nothing"),
    ):
        result = run(*words)
        assert result.exit_code == 1
        assert result.stderr.startswith("error: ")
        assert result.stderr.count("\n") == 1
        assert OWNER not in result.stderr
