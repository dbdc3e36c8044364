"""The hash of a base: the same however it is wrapped or loaded, another for other weights."""

from __future__ import annotations

import os

import pytest
import torch
from peft import LoraConfig, get_peft_model

from ccr_adapters.dasd import DASDConfig
from ccr_adapters.errors import AdapterError
from ccr_adapters.modeling import CCRModel, fingerprint
from ccr_adapters.modeling.fingerprint import remembered_sha256, weights_sha256
from ccr_adapters.processing.bases import weight_files


@pytest.mark.parametrize("name", ["tiny_clip", "tiny_siglip", "tiny_bert"])
def test_adapters_do_not_count(name, request):
    build = request.getfixturevalue(name)
    expected = weights_sha256(build())
    assert len(expected) == 64
    for config in (
        DASDConfig(r=4),
        DASDConfig(r=4, layers_to_transform=[1]),
        LoraConfig(r=2, target_modules=".*fc1|.*key"),
    ):
        wrapped = get_peft_model(build(), config)
        assert weights_sha256(wrapped.get_base_model()) == expected
        wrapped.add_adapter("second", config)
        assert weights_sha256(wrapped.get_base_model()) == expected


def test_bfloat16_and_float32_agree(tiny_clip):
    assert weights_sha256(tiny_clip().to(torch.bfloat16)) == weights_sha256(tiny_clip())


def test_every_weight_counts(tiny_bert):
    expected = weights_sha256(tiny_bert())
    for index in range(len(list(tiny_bert().parameters()))):
        model = tiny_bert()
        with torch.no_grad():
            list(model.parameters())[index].view(-1)[-1] += 0.5
        assert weights_sha256(model) != expected


def test_names_and_shapes_count(tiny_bert):
    model = tiny_bert()
    with torch.no_grad():
        layers = model.encoder.layer
        layers[0], layers[1] = layers[1], layers[0]
    assert weights_sha256(model) != weights_sha256(tiny_bert())


@pytest.fixture
def hashed(monkeypatch, tmp_path):
    """How often weights were really hashed, with an empty cache."""
    monkeypatch.setenv("CCR_ADAPTERS_CACHE", str(tmp_path / "cache"))
    calls = []

    def counted(model):
        calls.append(model)
        return weights_sha256(model)

    monkeypatch.setattr(fingerprint, "weights_sha256", counted)
    return calls


def test_the_same_files_are_hashed_once(hashed, tiny_bert, tmp_path):
    tiny_bert().save_pretrained(tmp_path / "base")
    files = weight_files(str(tmp_path / "base"))
    assert [path.name for path in files] == ["model.safetensors"]
    expected = weights_sha256(tiny_bert())
    assert [remembered_sha256(tiny_bert(), files) for _ in range(3)] == [expected] * 3
    assert len(hashed) == 1
    remembered_sha256(tiny_bert().to(torch.bfloat16), files)
    assert len(hashed) == 2
    os.utime(files[0], ns=(0, 12345))
    assert remembered_sha256(tiny_bert(), files) == expected
    assert len(hashed) == 3
    assert remembered_sha256(tiny_bert(), []) == expected
    assert len(hashed) == 4


@pytest.mark.parametrize("content", [b"", b"not a hash", b"\xff\xfe", b"A" * 64])
def test_a_broken_note_is_made_anew(hashed, tiny_bert, tmp_path, content):
    tiny_bert().save_pretrained(tmp_path / "base")
    files = weight_files(str(tmp_path / "base"))
    expected = remembered_sha256(tiny_bert(), files)
    (note,) = (tmp_path / "cache" / "bases").iterdir()
    note.write_bytes(content)
    assert remembered_sha256(tiny_bert(), files) == expected
    assert note.read_text() == expected


def test_a_folder_that_cannot_be_written_is_no_obstacle(hashed, tiny_bert, tmp_path, monkeypatch):
    tiny_bert().save_pretrained(tmp_path / "base")
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CCR_ADAPTERS_CACHE", str(tmp_path / "file"))
    files = weight_files(str(tmp_path / "base"))
    assert remembered_sha256(tiny_bert(), files) == weights_sha256(tiny_bert())


def test_a_base_that_was_replaced_is_refused_though_its_hash_was_noted(hashed, tiny_bert, bases, tmp_path):
    model = CCRModel.from_base(bases["bert"])
    model.base.save_pretrained(tmp_path / "base")
    model.processor.tokenizer.save_pretrained(tmp_path / "base")
    model = CCRModel.from_base(tmp_path / "base")
    model.add_language("de", DASDConfig(r=4, condition_dim=16, generator_rank=4))
    model.save_pretrained(tmp_path / "de")
    for _ in range(2):
        CCRModel.from_pretrained(tmp_path / "de")
    assert len(hashed) == 1
    fresh = tiny_bert()
    with torch.no_grad():
        next(fresh.parameters()).add_(1.0)
    fresh.save_pretrained(tmp_path / "base")
    with pytest.raises(AdapterError, match="other weights"):
        CCRModel.from_pretrained(tmp_path / "de")
