"""The text encoder is found in whatever holds one, and an unknown model gets a sentence."""

from __future__ import annotations

import pytest
from torch import nn
from transformers import BertForMaskedLM, CLIPTextModel, RobertaConfig, RobertaForMaskedLM, ViTConfig, ViTModel

from ccr_adapters.dasd import find_text_encoder
from ccr_adapters.dasd.anatomy import embedding_dim_of, width_of

SIZES = {"hidden_size": 32, "intermediate_size": 40, "num_attention_heads": 2, "num_hidden_layers": 2}


def test_the_parts_are_found_without_naming_modules(encoder):
    model = encoder()
    found = find_text_encoder(model)
    assert len(found.blocks) == 3
    assert [model.get_submodule(name) for name in found.block_names] == list(found.blocks)
    assert found.token_embedding.num_embeddings == 200
    assert "vision" not in found.blocks_name
    assert width_of(found.config) == 32
    assert found.module is model.get_submodule(found.name)


@pytest.mark.parametrize(
    ("name", "pooling"),
    [("tiny_clip", "eos"), ("tiny_siglip", "last"), ("tiny_bert", "first"), ("tiny_xlmr", "first")],
)
def test_each_family_pools_where_it_does(name, pooling, request):
    assert find_text_encoder(request.getfixturevalue(name)()).anatomy.pooling == pooling


@pytest.mark.parametrize(
    ("name", "width"),
    [("tiny_clip", 24), ("tiny_clip_text", 24), ("tiny_siglip", 24), ("tiny_siglip_text", 24), ("tiny_bert", 32)],
)
def test_the_shared_space_is_as_wide_as_the_projection(name, width, request):
    model = request.getfixturevalue(name)()
    assert embedding_dim_of(model.config, find_text_encoder(model).config) == width


def test_a_text_tower_inside_a_model_with_a_head_is_found(tiny_bert, tiny_clip_text):
    assert find_text_encoder(BertForMaskedLM(tiny_bert().config)).block_names[0] == "bert.encoder.layer.0"
    roberta = RobertaForMaskedLM(RobertaConfig(vocab_size=50, **SIZES))
    assert find_text_encoder(roberta).block_names[-1] == "roberta.encoder.layer.1"
    assert len(find_text_encoder(CLIPTextModel(tiny_clip_text().config)).blocks) == 3


@pytest.mark.parametrize("model", [nn.Linear(2, 2), ViTModel(ViTConfig(image_size=16, patch_size=8, **SIZES))])
def test_a_model_without_a_text_encoder_is_refused_with_the_families_there_are(model):
    with pytest.raises(ValueError, match=f"No text encoder was found in a {type(model).__name__}.*clip.*xlm-roberta"):
        find_text_encoder(model)


def test_a_config_without_a_width_is_named():
    with pytest.raises(ValueError, match="object has neither `hidden_size` nor `d_model`"):
        width_of(object())
