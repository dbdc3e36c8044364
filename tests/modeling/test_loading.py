"""A base from its files: whole, or refused; only a pooler that nothing reads may be missing."""

from __future__ import annotations

import json
import shutil

import pytest
from safetensors.torch import load_file, save_file

from ccr_adapters.dasd import DASDConfig
from ccr_adapters.errors import AdapterError
from ccr_adapters.modeling import CCRModel, persistence
from ccr_adapters.modeling.fingerprint import weights_sha256


def without(prefix, base, folder):
    """A copy of a base whose file lacks some weights."""
    shutil.copytree(base, folder)
    kept = {name: value for name, value in load_file(folder / "model.safetensors").items() if prefix not in name}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.mark.parametrize("name", ["bert", "xlmr"])
def test_a_pooler_that_is_missing_and_not_read_is_left_out(name, bases, english, tmp_path):
    base = without("pooler.", bases[name], tmp_path / "base")
    model = CCRModel.from_base(base)
    model.add_language("de", DASDConfig(r=4))
    model.save_pretrained(tmp_path / "de")
    for _ in range(2):
        loaded = CCRModel.from_pretrained(tmp_path / "de")
        assert loaded.base_sha256() == model.base_sha256()
        assert loaded.encode_text(english).equal(model.encode_text(english))
    assert CCRModel.from_base(bases[name]).encode_text(english, None).equal(model.encode_text(english, None))


def test_a_whole_base_keeps_its_pooler_and_its_hash(bases, tiny_bert):
    assert CCRModel.from_base(bases["bert"]).base_sha256() == weights_sha256(tiny_bert())


@pytest.mark.parametrize(
    ("name", "prefix"),
    [("clip", "text_model.encoder.layers.1."), ("siglip", "vision_model."), ("bert", "encoder.layer.2.")],
)
def test_a_base_with_missing_weights_is_refused(name, prefix, bases, build, tmp_path):
    base = without(prefix, bases[name], tmp_path / "base")
    message = rf"cannot be loaded \(its files lack the weight {prefix}.* others, which would be random"
    with pytest.raises(AdapterError, match=message):
        CCRModel.from_base(base)
    build(name, "de").save_pretrained(tmp_path / "de")
    with pytest.raises(AdapterError, match=message):
        CCRModel.from_pretrained(tmp_path / "de", base=base)


def test_the_revision_of_the_base_is_not_that_of_a_mirror(build, bases, tmp_path, monkeypatch):
    model = build("bert", "de")
    model.config.base_revision = "c0ffee"
    model.save_pretrained(tmp_path / "de")
    shutil.copytree(bases["bert"], tmp_path / "mirror")
    asked = []
    load_base, for_base = persistence.load_base, persistence.CCRProcessor.for_base
    monkeypatch.setattr(
        persistence, "load_base", lambda *a, revision, **k: asked.append(revision) or load_base(*a, **k)
    )
    monkeypatch.setattr(
        persistence.CCRProcessor, "for_base", lambda *a, revision, **k: asked.append(revision) or for_base(*a, **k)
    )
    CCRModel.from_pretrained(tmp_path / "de")
    CCRModel.from_pretrained(tmp_path / "de", base=str(bases["bert"]))
    CCRModel.from_pretrained(tmp_path / "de", base=tmp_path / "mirror")
    assert asked == ["c0ffee"] * 4 + ["main"] * 2
    assert json.loads((tmp_path / "de/config.json").read_text())["base_revision"] == "c0ffee"
