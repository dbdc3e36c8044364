"""`ccr-adapters convert`: a checkpoint becomes a folder that loads, and what went wrong is a line."""

from __future__ import annotations

import argparse

import pytest
import torch
from transformers import BertConfig, BertModel, BertTokenizer
from typer.testing import CliRunner

from ccr_adapters.cli.main import app
from ccr_adapters.modeling import CCRModel


def run(*arguments):
    return CliRunner().invoke(app, ["convert", *map(str, arguments)])


@pytest.fixture
def mbert(tmp_path):
    """A BERT with its tokenizer."""
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "ein", "hund", "rennt"]
    config = {"hidden_size": 16, "intermediate_size": 20, "num_attention_heads": 2, "num_hidden_layers": 2}
    BertModel(BertConfig(vocab_size=len(names), **config)).save_pretrained(tmp_path / "mbert")
    BertTokenizer(vocab={name: index for index, name in enumerate(names)}).save_pretrained(tmp_path / "mbert")
    return tmp_path / "mbert"


@pytest.fixture
def checkpoint(mbert, tmp_path):
    """A checkpoint of NRCCR over features of pictures."""

    def linear(name, out, into):
        return {f"{name}.weight": torch.randn(out, into), f"{name}.bias": torch.randn(out)}

    def norm(name, width):
        return {f"{name}.weight": torch.rand(width), f"{name}.bias": torch.randn(width)}

    def mapping(into):
        rest = {"running_mean": torch.randn(6), "running_var": torch.rand(6), "num_batches_tracked": torch.tensor(1)}
        found = {**linear("mapping.fc1", 6, into), **norm("mapping.bn_1", 6)}
        return found | {f"mapping.bn_1.{name}": value for name, value in rest.items()}

    text = {
        f"text_bert.text_bert.{name}": value for name, value in BertModel.from_pretrained(mbert).state_dict().items()
    }
    text |= {**norm("input_proj_layer.LayerNorm", 16), **linear("input_proj_layer.net.1", 8, 16)}
    text |= {"pos_embed_layer.position_embeddings.weight": torch.randn(9, 8), **norm("pos_embed_layer.LayerNorm", 8)}
    for name, out in (("query", 4), ("key", 4), ("value", 8)):
        text |= linear(f"encoder_layer.self.{name}", out, 8)
    text |= {**linear("encoder_layer.output.dense", 8, 8), **norm("encoder_layer.output.LayerNorm", 8)}
    parts = [linear("proj", 5, 5), text, mapping(5), mapping(8), linear("discriminator.model", 2, 16)]
    path = tmp_path / "model_best.pth.tar"
    torch.save({"model": parts, "opt": argparse.Namespace(text_num_attention=2), "epoch": 1}, path)
    return path


def test_a_checkpoint_becomes_an_adapter(checkpoint, mbert, tmp_path):
    found = run(checkpoint, "--from", "nrccr", "--language", "de", "--base", mbert, "--output", tmp_path / "out")
    assert found.exit_code == 0, found.output
    assert f"nrccr for 'de' is in {tmp_path / 'out'}." in found.stdout
    assert "left out, as no vector depends on them: 4 tensors" in found.stdout
    model = CCRModel.from_pretrained(tmp_path / "out")
    assert model.encode_text(["Ein Hund rennt"], "de").shape == (1, 6)
    assert model.map_visual(torch.randn(2, 5), "de").shape == (2, 6)


def test_the_folder_has_a_name_by_itself(checkpoint, mbert, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run("model_best.pth.tar", "--from", "nrccr", "--language", "cs", "--base", mbert).exit_code == 0
    assert (tmp_path / "nrccr-cs/config.json").is_file()


def test_what_went_wrong_is_a_line(checkpoint, tmp_path):
    found = run(checkpoint, "--from", "dasd", "--language", "de", "--output", tmp_path / "out")
    assert found.exit_code == 1
    assert found.stderr.startswith("error: This is an NRCCR checkpoint")
    assert "Traceback" not in found.output
    found = run(tmp_path / "none.pt", "--from", "dasd", "--language", "de")
    assert found.stderr.startswith("error: There is no checkpoint")
    assert run(checkpoint, "--from", "mla", "--language", "de").exit_code == 2
