"""The commands `push`, `pull`, `list` and `info`, in processes of their own that know the server by the environment."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from datasets import load_from_disk
from transformers import T5Config, T5ForConditionalGeneration, T5Tokenizer
from typer.testing import CliRunner

from ccr_adapters.cli.main import app
from ccr_adapters.cli.translate import load_translators, name_and_revision
from ccr_adapters.errors import TranslationError
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


@pytest.fixture
def translators(hub, contents, tmp_path) -> dict[str, str]:
    """Two commits of a translator into German and English, by branch."""
    codes = ["<2de>", "<2en>"]
    pieces = [(piece, -2.0) for piece in "▁abcdefghijklmnopqrstuvwxyz"]
    words = [*((piece, 0.0) for piece in ("<pad>", "</s>", "<unk>", *codes)), *pieces]
    tokenizer = T5Tokenizer(vocab=words, extra_ids=0, model_max_length=32, additional_special_tokens=codes)
    sizes = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2, "decoder_start_token_id": 0}
    found = {}
    for seed, branch in enumerate(("main", "refs/pr/1")):
        torch.manual_seed(seed)
        model = T5ForConditionalGeneration(T5Config(vocab_size=len(tokenizer), **sizes))
        for weight in (parameter for parameter in model.parameters() if parameter.ndim > 1):
            torch.nn.init.normal_(weight)  # it says something
        model.save_pretrained(tmp_path / "t5")
        tokenizer.save_pretrained(tmp_path / "t5")
        found[branch] = hub.add("org/t5", contents(tmp_path / "t5"), branch=branch)
    return found


def test_a_translator_at_a_revision(translators, run, tmp_path):
    captions = tmp_path / "captions.jsonl"
    lines = [json.dumps({"caption": " ".join(("dog", "cat", "bird")[: 1 + i % 3] * (1 + i))}) for i in range(9)]
    captions.write_text("\n".join(lines), encoding="utf-8")
    words = ("translate", captions, tmp_path / "de", "--num-beams", 1, "--max-new-tokens", 6)
    done = run(*words, "--model", "org/t5@refs/pr/1", "--back-model", "org/t5")
    assert done.exit_code == 0, done.output
    job = json.loads((tmp_path / "de/job.json").read_text(encoding="utf-8"))
    assert job["translator"]["revision"] == job["back_translator"]["revision"] == translators["refs/pr/1"]
    assert "back_translation" in load_from_disk(tmp_path / "de").column_names
    assert done.stdout.endswith("noise-report {}\n".format(tmp_path / "de"))
    other = run(
        *words[:2], tmp_path / "en", *words[3:], "--model", "org/t5@refs/pr/1", "--source", "de", "--target", "en"
    )
    assert other.exit_code == 0, other.output
    assert other.stdout.endswith("noise-report {} --source de\n".format(tmp_path / "en"))


def test_revisions_of_a_translator_and_of_the_one_back(translators):
    def commits(model, back_model, revision=None):
        pair = load_translators(model, back_model, "en", "de", "cpu", None, revision)
        return tuple(translator.revision for translator in pair)

    main, other = translators["main"], translators["refs/pr/1"]
    assert commits("org/t5", "org/t5") == (main, main)
    assert commits("org/t5@refs/pr/1", "org/t5") == (other, other)  # of one name: the same model
    assert commits("org/t5", "org/t5", "refs/pr/1") == (other, other)
    assert commits("org/t5", "org/t5@refs/pr/1") == (main, other)
    assert commits(f"org/t5@{other}", "org/t5@main") == (other, main)
    with pytest.raises(TranslationError, match="'org/t5' cannot be loaded"):
        commits("org/t5@nope", None)
    with pytest.raises(TranslationError, match="name two revisions"):
        commits("org/t5@main", None, "refs/pr/1")


def test_a_folder_may_have_an_at_in_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("de@home").mkdir()
    assert name_and_revision("de@home") == ("de@home", None)
    assert name_and_revision("org/de@home") == ("org/de", "home")
    assert name_and_revision("org/de") == ("org/de", None)
    assert name_and_revision("org/de@") == ("org/de", None)
