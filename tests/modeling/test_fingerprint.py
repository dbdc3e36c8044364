"""The hash of a base: the same however it is wrapped or loaded, another for other weights."""

from __future__ import annotations

import pytest
import torch
from peft import LoraConfig, get_peft_model

from ccr_adapters.dasd import DASDConfig
from ccr_adapters.modeling.fingerprint import weights_sha256


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
