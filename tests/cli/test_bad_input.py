"""What hurried and hostile users give to the commands: one line, exit code 1, nothing written and nothing destroyed."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ccr_adapters.cli.main import app
from ccr_adapters.configuration import VocabularyConfig
from ccr_adapters.dasd import DASDConfig
from ccr_adapters.modeling import CCRModel
from ccr_adapters.serving import run as serving

WEIGHTS = "adapter_model.safetensors"


@pytest.fixture(scope="module")
def whole(bases, german_tokenizer, tmp_path_factory) -> Path:
    """An adapter that is as it should be. Not to be written to."""
    folder = tmp_path_factory.mktemp("whole") / "adapter"
    model = CCRModel.from_base(bases["clip"])
    model.add_language("de", DASDConfig(r=4), tokenizer=german_tokenizer, vocabulary=VocabularyConfig(120, 20))
    model.save_pretrained(folder)
    return folder


def contents(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture
def refused(tmp_path, monkeypatch):
    """Function that runs a command in the test's folder, and gives the line that it ends with."""
    monkeypatch.chdir(tmp_path)
    # or a server that should have been refused would never end
    monkeypatch.setattr(serving, "run", lambda *_, **__: pytest.fail("It serves."))

    def run(*words):
        before = contents(tmp_path)
        found = CliRunner().invoke(app, [str(word) for word in words])
        assert found.exit_code == 1, (words, found.output, found.exception)
        assert isinstance(found.exception, SystemExit), (words, found.exception)
        line = found.stderr.splitlines()[-1]
        assert line.startswith("error: "), (words, found.stderr)
        assert contents(tmp_path) == before
        return line

    return run


def cut(folder):
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:2000])


def change(name, **values):
    def write(folder):
        known = json.loads((folder / name).read_text(encoding="utf-8"))
        (folder / name).write_text(json.dumps({**known, **values}), encoding="utf-8")

    return write


def language(**values):
    def write(folder):
        known = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        known["languages"]["de"].update(values)
        change("config.json", languages=known["languages"])(folder)

    return write


BROKEN = {
    "weights cut in half": (cut, "is truncated or no safetensors file"),
    "a pickle for weights": (
        lambda folder: (folder / WEIGHTS).write_bytes(pickle.dumps([1.0])),
        "is truncated or no safetensors file",
    ),
    "no weights": (lambda folder: (folder / WEIGHTS).unlink(), f"'{WEIGHTS}' is missing"),
    "no JSON": (lambda folder: (folder / "adapter_config.json").write_text("{ a"), "is no valid JSON"),
    "a list": (
        lambda folder: (folder / "adapter_config.json").write_text("[1]"),
        "holds a list; expected a JSON object",
    ),
    "10^12 rows": (language(vocabulary={"size": 10**12, "width": 20}), "1000000000000"),
    "climbs out": (language(folder="../whole"), "points outside its repository: '../whole'"),
    "no base": (change("config.json", base_model_name_or_path="/no/such/base"), "base"),
}
COMMANDS = {
    "export": ("export", "broken", "--output", "out"),
    "encode": ("encode", "captions.txt", "--model", "broken", "--output", "out"),
    "index": ("index", "photos", "--model", "broken", "--index", "out"),
    "serve": ("serve", "--model", "broken", "--port", "0"),
    "evaluate": ("evaluate", "broken", "--benchmark", "tiny-world", "--limit", "4", "--output", "out"),
    "push": ("push", "broken", "org/broken"),
    "trim-vocab": ("trim-vocab", "broken", "--languages", "de", "--output", "out"),
}
# these need no base
ALONE = ("push", "trim-vocab")


@pytest.mark.parametrize("case", BROKEN)
@pytest.mark.parametrize("command", COMMANDS)
def test_a_broken_adapter(command, case, whole, refused, tmp_path):
    if case == "no base" and command in ALONE:
        return
    spoil, message = BROKEN[case]
    spoil(shutil.copytree(whole, tmp_path / "broken"))
    (tmp_path / "photos").mkdir()
    (tmp_path / "captions.txt").write_text("ein Hund\n\n", encoding="utf-8")
    assert message in refused(*COMMANDS[command])
    assert not (tmp_path / "out").exists()
    assert {path.name for path in tmp_path.iterdir()} == {"broken", "photos", "captions.txt"}


OUTPUTS = {
    "export": ("export", "whole", "--output"),
    "encode": ("encode", "captions.txt", "--model", "whole", "--output"),
    "index": ("index", "photos", "--model", "whole", "--index"),
    "evaluate": ("evaluate", "whole", "--benchmark", "tiny-world", "--output"),
    "trim-vocab": ("trim-vocab", "whole", "--languages", "de", "--output"),
    "translate": ("translate", "captions.csv", "--model", "no/model"),
    "demo": ("demo", "--space"),
}


@pytest.mark.parametrize("command", OUTPUTS)
@pytest.mark.parametrize("output", ["captions.txt", "captions.txt/below"])
def test_a_file_where_a_folder_belongs(command, output, whole, refused, tmp_path):
    shutil.copytree(whole, tmp_path / "whole")
    (tmp_path / "photos").mkdir()
    (tmp_path / "captions.txt").write_text("ein Hund\n", encoding="utf-8")
    (tmp_path / "captions.csv").write_text("caption\na dog\n", encoding="utf-8")
    assert "captions.txt" in refused(*OUTPUTS[command], output)


def test_export_replaces_exports_alone(whole, refused, tmp_path):
    mine = shutil.copytree(whole, tmp_path / "mine")
    for kind in ("onnx", "sentence-transformers"):
        assert "holds files that no export wrote (README.md)" in refused(
            "export", whole, "--format", kind, "--output", mine
        )
    assert "has no language 'fr'. It has: de" in refused("export", whole, "--language", "fr", "--output", "out")
    assert "torch cannot write opset 3; it gave" in refused("export", whole, "--opset", "3", "--output", "out")


def test_export_of_a_base(bases, tmp_path):
    words = ["export", str(bases["clip"]), "--format", "torch", "--tower", "image", "--output", str(tmp_path / "out")]
    found = CliRunner().invoke(app, words)
    assert found.exit_code == 0, found.output
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["image.pt2"]
    assert CliRunner().invoke(app, words).exit_code == 0  # an earlier export is replaced


def test_devices_columns_and_addresses_are_refused_before_models_are_loaded(refused, tmp_path):
    (tmp_path / "captions.csv").write_text("caption\na dog\n", encoding="utf-8")
    here = ("--model", "tiny_clip", "--device", "gpu")
    for words in (
        ("encode", "captions.csv", *here, "--output", "out"),
        ("serve", *here, "--port", "0"),
        ("evaluate", "tiny_clip", "--benchmark", "tiny-world", "--device", "gpu"),
    ):
        assert "`--device gpu` is not here; this machine has" in refused(*words)
    no_model = ("translate", "captions.csv", "out", "--model", "no/model")
    assert "`--device gpu` is not here; this machine has" in refused(*no_model, "--device", "gpu")
    assert "lack the column 'text'; they have caption" in refused(*no_model, "--caption-column", "text")
    assert "The captions 'none.csv' cannot be read" in refused("demo", "--captions", "none.csv")
    assert "Port 7860 of nowhere.invalid cannot" in refused("demo", "--host", "nowhere.invalid")


def test_a_space_is_refused_before_its_adapters_are_trained(refused, tmp_path):
    (tmp_path / "space").mkdir()
    (tmp_path / "space/notes.txt").write_text("mine", encoding="utf-8")
    assert "`--space space` is there already. Name a new folder" in refused("demo", "--space", "space")


def test_an_index_whose_model_has_gone(home, whole, refused, tmp_path):
    shutil.copytree(home / "p.index", tmp_path / "p.index")
    notes = json.loads((tmp_path / "p.index/collection.json").read_text(encoding="utf-8"))
    notes["model"] = str(tmp_path / "gone")
    (tmp_path / "p.index/collection.json").write_text(json.dumps(notes), encoding="utf-8")
    shutil.copytree(home / "photos", tmp_path / "photos")
    for words in (("search", "ein Hund"), ("index", "photos"), ("serve", "--port", "0"), ("demo", "--port", "7899")):
        line = refused(*words, "--index", "p.index")
        assert f"was made with '{tmp_path / 'gone'}', which is not there. Say where it is: --model" in line


def test_words_that_are_no_utf8(home, refused):
    assert "Caption 0 holds bytes that are no UTF-8" in refused("search", "\udcff\udcfe", "--index", home / "p.index")
