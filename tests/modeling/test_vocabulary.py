"""A language's own token embedding: which rows train, which are saved, and that both come back."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModel

from ccr_adapters.configuration import VocabularyConfig
from ccr_adapters.dasd import DASDConfig
from ccr_adapters.errors import AdapterError, ConfigError
from ccr_adapters.modeling import CCRModel, Vocabulary
from ccr_adapters.modeling.vocabulary_source import source_table, table_sha256
from ccr_adapters.processing.captions import token_ids

IDS = torch.tensor([[0, 3, 7], [7, 9, 3]])


@pytest.mark.parametrize(
    ("config", "keys"),
    [
        (VocabularyConfig(10, 6), ["table"]),
        (VocabularyConfig(10, 4), ["projection.bias", "projection.weight", "table"]),
        (VocabularyConfig(10, 6, projection=True), ["projection.bias", "projection.weight", "table"]),
        (VocabularyConfig(10, 6, train="touched"), ["ids", "rows"]),
        (VocabularyConfig(10, 4, train="touched"), ["ids", "projection.bias", "projection.weight", "rows"]),
        (VocabularyConfig(10, 4, train="none", source="x"), ["projection.bias", "projection.weight"]),
        (VocabularyConfig(10, 6, train="none", source="x"), []),
    ],
)
def test_only_what_was_trained_is_saved_and_it_comes_back(config, keys):
    source = torch.randn(10, config.width) if config.source else None
    vocabulary = Vocabulary(config, 6, source=source, touched=[9, 3, 3])
    with torch.no_grad():
        for parameter in vocabulary.parameters():
            if parameter.requires_grad:
                parameter += torch.randn_like(parameter)
    state = vocabulary.trained_state()
    assert sorted(state) == keys
    trained = sum(p.numel() for p in vocabulary.parameters() if p.requires_grad)
    assert trained == sum(value.numel() for value in state.values() if value.is_floating_point())
    again = Vocabulary.from_trained_state(config, 6, {k: v.clone() for k, v in state.items()}, source=source)
    assert vocabulary(IDS).shape == (2, 3, 6)
    torch.testing.assert_close(again(IDS), vocabulary(IDS))


def test_touched_rows_train_and_the_others_stand_still():
    source = torch.randn(10, 6)
    vocabulary = Vocabulary(VocabularyConfig(10, 6, train="touched", source="x"), 6, source=source, touched=[3, 9])
    torch.testing.assert_close(vocabulary(IDS), source[IDS])
    vocabulary(IDS).square().sum().backward()
    assert not vocabulary.table.weight.requires_grad
    assert vocabulary.rows.grad.abs().sum(dim=1).gt(0).all()
    with torch.no_grad():
        vocabulary.rows += 1.0
    moved = (vocabulary(IDS) != source[IDS]).any(dim=-1)
    assert moved.tolist() == [[False, True, False], [False, True, True]]


def test_rows_that_nobody_saves_are_what_a_loader_finds():
    # a table made from the data has no name to load it by: its untrained rows must not be used before saving either
    start = torch.randn(10, 6)
    vocabulary = Vocabulary(VocabularyConfig(10, 6, train="touched"), 6, source=start, touched=[3, 9])
    torch.testing.assert_close(vocabulary(torch.tensor([3, 9])), start[[3, 9]])
    again = Vocabulary.from_trained_state(vocabulary.config, 6, vocabulary.trained_state())
    torch.testing.assert_close(again(torch.arange(10)), vocabulary(torch.arange(10)))


def test_a_table_with_a_square_projection_starts_as_it_was():
    source = torch.randn(10, 6)
    vocabulary = Vocabulary(VocabularyConfig(10, 6, projection=True), 6, source=source)
    torch.testing.assert_close(vocabulary(IDS), source[IDS])


@pytest.mark.parametrize(
    ("config", "more", "message"),
    [
        (VocabularyConfig(10, 4), {"source": torch.zeros(9, 4)}, r"source table has shape \(9, 4\), .*\(10, 4\)"),
        (VocabularyConfig(10, 4, projection=False), {}, "width 4 need a projection into an encoder of width 6"),
        (VocabularyConfig(10, 6, train="touched"), {}, "No trained rows"),
        (VocabularyConfig(10, 6, train="touched"), {"touched": []}, "No trained rows"),
        (VocabularyConfig(10, 6, train="touched"), {"touched": [4, 10]}, "Trained rows 4 to 10 in a table of 10"),
        (VocabularyConfig(10, 6, train="touched"), {"touched": [-1]}, "Trained rows -1"),
    ],
)
def test_parts_that_do_not_fit_are_refused(config, more, message):
    with pytest.raises(AdapterError, match=message):
        Vocabulary(config, 6, **more)


@pytest.mark.parametrize("family", ["clip", "siglip", "bert"], indirect=True)
@pytest.mark.parametrize("train", ["all", "touched", "none"])
def test_a_model_with_its_own_vocabulary_makes_the_round_trip(
    train, family, bases, german, german_tokenizer, english, stir, tmp_path
):
    # rows of width 32 come from another model on disk, as mBERT's would
    table = source_table(bases["bert"])
    assert torch.equal(table, AutoModel.from_pretrained(bases["bert"]).get_input_embeddings().weight)
    config = VocabularyConfig(200, 32, projection=True, train=train, source=str(bases["bert"]))
    touched = {i for ids in token_ids(german[:4], german_tokenizer, 24) for i in ids} if train == "touched" else None
    model = CCRModel.from_base(bases[family])
    model.add_language(
        "de", DASDConfig(r=4), tokenizer=german_tokenizer, vocabulary=config, source=table, touched=touched
    )
    stir(model, scale=0.1)
    model.save_pretrained(tmp_path)
    state = load_file(tmp_path / "vocabulary.safetensors")
    assert ("table" in state, "rows" in state) == (train == "all", train == "touched")
    loaded = CCRModel.from_pretrained(tmp_path)
    for texts in (german, english):  # also words that no training caption had
        torch.testing.assert_close(loaded.encode_text(texts, "de"), model.encode_text(texts, "de"), rtol=0, atol=1e-6)
    assert loaded.config.languages["de"].vocabulary == replace(config, source_sha256=table_sha256(table))
    ids = model.processor(german, language="de")["input_ids"]
    assert torch.equal(loaded.embed_tokens(ids, "de"), model.embed_tokens(ids, "de"))


def test_the_language_is_read_at_its_own_end_token(bases, german, german_tokenizer, stir):
    # CLIP's own rule, the base's end token, would find a word here: the ids mean other things in this vocabulary
    assert german_tokenizer.eos_token_id != 3
    model = CCRModel.from_base(bases["clip"])
    model.add_language("de", DASDConfig(r=4), tokenizer=german_tokenizer)
    stir(model)
    batch = model.processor(german, language="de")
    ends = (batch["input_ids"] == german_tokenizer.eos_token_id).int().argmax(dim=1)
    assert torch.equal(batch["pooled_at"], ends)
    with torch.no_grad():
        output = model.get_text_features(**batch, language="de")
        expected = model.base.text_projection(output.last_hidden_state[torch.arange(6), ends])
    torch.testing.assert_close(output.pooler_output, expected)
    assert model.base.peft_config["de"].pooling_token_id == german_tokenizer.eos_token_id


def test_a_model_without_a_token_embedding_is_no_source(tmp_path):
    from transformers import ViTConfig, ViTModel

    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 2, "num_hidden_layers": 1}
    ViTModel(ViTConfig(image_size=8, patch_size=8, **sizes)).save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="has no input embeddings"):
        source_table(tmp_path)
