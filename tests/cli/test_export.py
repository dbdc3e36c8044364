"""`ccr-adapters export` run for real, in all its formats."""

from __future__ import annotations

import pytest
import torch
from sentence_transformers import SentenceTransformer
from typer.testing import CliRunner

from ccr_adapters.cli.main import app
from ccr_adapters.dasd import DASDConfig
from ccr_adapters.export import OnnxEncoder, load_program
from ccr_adapters.modeling import CCRModel


def run(*arguments):
    return CliRunner().invoke(app, ["export", *(str(argument) for argument in arguments)])


@pytest.fixture
def adapter(bases, tmp_path):
    """A saved adapter with two languages."""
    model = CCRModel.from_base(bases["clip"])
    for code in ("de", "cs"):
        model.add_language(code, DASDConfig(mode="static", r=4, init_weights=False))
    model.save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


def test_onnx_in_bytes_with_its_report(adapter, german, tmp_path):
    (tmp_path / "captions.txt").write_text("\n\n".join(german), encoding="utf-8")
    captions = ("--captions", tmp_path / "captions.txt")
    found = run(adapter, "--language", "de", "--int8", *captions, "--output", tmp_path / "onnx")
    assert found.exit_code == 0, found.output
    lines = {line[:17].strip(): line[17:].split() for line in found.stdout.splitlines()}
    assert lines["rows"] == ["6"]
    assert 0.9 < float(lines["smallest cosine"][0]) < 1
    assert "text.onnx" in found.stderr
    expected = CCRModel.from_pretrained(adapter).encode_text(german, "de")
    encoder = OnnxEncoder.from_folder(tmp_path / "onnx")
    assert encoder.manifest.towers["text"].precision == "int8"
    cosine = (torch.from_numpy(encoder.encode_text(german)) * expected).sum(dim=1)
    assert cosine.min().item() == pytest.approx(float(lines["smallest cosine"][0]), abs=1e-5)


def test_a_program_and_sentence_transformers(adapter, german, tmp_path):
    model = CCRModel.from_pretrained(adapter)
    found = run(adapter, "--language", "en", "--format", "torch", "--tower", "image", "--output", tmp_path / "torch")
    assert found.exit_code == 0, found.output
    assert load_program(tmp_path / "torch" / "image.pt2")(torch.zeros(1, 3, 16, 16)).shape == (1, 24)
    kind = ("--format", "sentence-transformers")
    found = run(adapter, "--language", "cs", *kind, "--output", tmp_path / "st")
    assert found.exit_code == 0, found.output
    loaded = SentenceTransformer(str(tmp_path / "st"), trust_remote_code=True, device="cpu")
    vectors = loaded.encode(german, convert_to_tensor=True, show_progress_bar=False)
    torch.testing.assert_close(vectors, model.encode_text(german, "cs"), rtol=0, atol=2e-6)


def test_what_is_wrong_is_a_line(adapter, tmp_path):
    for arguments, message in (
        ((), "has 2 languages (cs, de); choose one with --language"),
        (("--language", "fr"), "has no language 'fr'"),
        (("--format", "torch", "--int8"), "`--int8` goes with --format onnx, not with torch"),
        (("--merged",), "`--merged` goes with --format sentence-transformers, not with onnx"),
        (("--captions", tmp_path / "none.txt"), "none.txt' cannot be read"),
    ):
        found = run(adapter, *arguments, "--output", tmp_path / "out")
        assert found.exit_code == 1, found.output
        assert found.stderr.splitlines()[-1].startswith("error: ")
        assert message in found.stderr
        assert "Traceback" not in found.stderr
    assert not (tmp_path / "out").exists()
