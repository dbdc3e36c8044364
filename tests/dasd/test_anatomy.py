"""The text encoder is found in whatever holds one, and an unknown model gets a sentence."""

from __future__ import annotations

import pytest
from torch import nn
from transformers import (
    AutoConfig,
    AutoModel,
    BertForMaskedLM,
    CLIPTextModel,
    DistilBertConfig,
    DistilBertForMaskedLM,
    RobertaConfig,
    RobertaForMaskedLM,
    ViTConfig,
    ViTModel,
)

from ccr_adapters.dasd import find_text_encoder
from ccr_adapters.dasd.anatomy import embedding_dim_of, width_of
from ccr_adapters.dasd.families import ANATOMIES, anatomy_of, caption_limit

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


def test_every_row_says_enough():
    for name, row in ANATOMIES.items():
        assert row.blocks.startswith(("encoder.", "transformer.")), name
        # a text module that takes ids alone is written out from embeddings to norm; only causal ones and SigLIP's do so
        assert (row.norm is not None) == (row.pooling in ("eos", "last")), name
        assert not (row.fixed_length and row.pooling != "last"), name
    assert {name for name, row in ANATOMIES.items() if row.legacy_end and row.pooling != "eos"} == set()


@pytest.mark.parametrize("kind", ["ernie", "convbert", "layoutlm"])
def test_an_unknown_family_is_found_by_structure(kind):
    assert kind not in ANATOMIES
    model = AutoModel.from_config(AutoConfig.for_model(kind, vocab_size=50, **SIZES))
    found = find_text_encoder(model)
    assert not found.known
    assert len(found.blocks) == 2
    assert found.token_embedding is model.get_input_embeddings()
    assert found.anatomy.pooling == "mean"  # of which no encoder says nothing


def test_a_known_family_whose_parts_have_new_names_is_found_all_the_same(monkeypatch):
    from dataclasses import replace

    row = replace(ANATOMIES["roberta"], blocks="encoder.layers_of_old", token_embedding="embeddings.words_of_old")
    monkeypatch.setitem(ANATOMIES, "roberta", row)
    model = RobertaForMaskedLM(RobertaConfig(vocab_size=50, **SIZES))
    found = find_text_encoder(model)
    assert found.known
    assert found.block_names == ["roberta.encoder.layer.0", "roberta.encoder.layer.1"]
    assert found.token_embedding is model.get_input_embeddings()
    assert (found.anatomy.pooling, found.anatomy.positions_from) == ("first", "padding")


def test_a_text_module_with_other_names_is_found_inside_a_model_with_a_head():
    config = DistilBertConfig(vocab_size=50, dim=32, hidden_dim=40, n_layers=2, n_heads=2)
    assert find_text_encoder(DistilBertForMaskedLM(config)).block_names[0] == "distilbert.transformer.layer.0"
    assert width_of(config) == 32


def test_the_row_of_a_configuration():
    composed = AutoConfig.for_model("vision-text-dual-encoder", text_config={"model_type": "xlm-roberta"})
    assert anatomy_of(composed) is ANATOMIES["xlm-roberta"]
    assert anatomy_of(AutoConfig.for_model("altclip")).projection[-1] == "text_projection"
    assert anatomy_of(AutoConfig.for_model("vit")) is None
    assert caption_limit(AutoConfig.for_model("ernie", max_position_embeddings=30)) == 30
    assert caption_limit(AutoConfig.for_model("roberta", max_position_embeddings=30, pad_token_id=1)) == 28
