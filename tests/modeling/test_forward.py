"""Passes through the model: scored as transformers' dual encoders are, in mixed batches, copied, recomputed."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from peft import LoraConfig, PeftModel
from transformers import AutoModel

from ccr_adapters.dasd import DASDConfig
from ccr_adapters.errors import ConfigError, ImageError, LanguageError
from ccr_adapters.modeling import CCRModel


@pytest.mark.parametrize("family", ["clip", "siglip"], indirect=True)
def test_the_loss_is_that_of_transformers(family, bases, build, english):
    plain = AutoModel.from_pretrained(bases[family], dtype=torch.float32).eval()
    model = build(family, "de")
    batch = dict(model.processor(english[:4]))
    pixels = torch.randn(4, 3, 16, 16)
    with torch.no_grad():
        expected = plain(**batch, pixel_values=pixels, return_loss=True)
        found = model(**batch, pixel_values=pixels, return_loss=True, language=None)
        german = model(**batch, pixel_values=pixels, return_loss=True, language="de")
        quiet = model(**batch, visual_embeds=found.image_embeds, language=None)
    for name in ("loss", "logits_per_image", "logits_per_text", "text_embeds", "image_embeds"):
        torch.testing.assert_close(found[name], expected[name], rtol=1e-5, atol=1e-5)
    assert torch.equal(german.image_embeds, found.image_embeds)
    assert (german.loss - found.loss).abs() > 1e-4
    assert quiet.loss is None
    torch.testing.assert_close(quiet.logits_per_text, found.logits_per_text)


def test_a_text_encoder_is_scored_against_precomputed_vectors(build, english):
    model = build("bert", "de")
    batch = model.processor(english)
    output = model(**batch, visual_embeds=torch.randn(9, 32), return_loss=False)
    assert output.logits_per_text.shape == (6, 9)
    assert output.logits_per_image.shape == (9, 6)
    torch.testing.assert_close(output.logits_per_text, 100 * model.similarity(output.text_embeds, output.image_embeds))
    with pytest.raises(ImageError, match="no image tower"):
        model(**batch, pixel_values=torch.zeros(1, 3, 16, 16))
    with pytest.raises(ImageError, match="no image tower"):
        model.encode_image(torch.zeros(1, 3, 16, 16))
    vectors = {"visual_embeds": torch.randn(3, 32)}
    assert torch.equal(model(**batch)[0], output.text_embeds)
    torch.testing.assert_close(model(**vectors)[0], torch.nn.functional.normalize(vectors["visual_embeds"], dim=-1))
    both = {**vectors, "pixel_values": torch.zeros(1, 3, 16, 16)}
    for wrong in ({}, {**batch, "return_loss": True}, {**vectors, "return_loss": True}, {**batch, **both}):
        with pytest.raises(ConfigError, match="Pass `input_ids`, and either"):
            model(**wrong)


def test_copies_and_pickles(build, english, stir):
    model = build("clip", "de")
    expected = model.encode_text(english)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(twin.encode_text(english), expected)
        stir(twin)
        twin.set_language(None)
        assert torch.equal(model.encode_text(english), expected)
        assert not torch.allclose(twin.encode_text(english, "de"), expected)


def test_plain_peft_reads_the_same_from_the_same_weights(family, bases, build, english, tmp_path):
    model = build(family, "de")
    model.save_pretrained(tmp_path)
    plain = PeftModel.from_pretrained(AutoModel.from_pretrained(bases[family], dtype=torch.float32), tmp_path).eval()
    batch = dict(model.processor(english))
    with torch.no_grad():
        expected = model.get_text_features(**batch, language="de")
        if family == "bert":
            found = plain(**batch).last_hidden_state
            real = batch["attention_mask"].bool()
            torch.testing.assert_close(found[real], expected.last_hidden_state[real], rtol=0, atol=1e-5)
        else:
            found = plain.get_text_features(**batch).pooler_output
            torch.testing.assert_close(found, expected.pooler_output, rtol=0, atol=1e-5)


@pytest.mark.parametrize("family", ["clip", "siglip", "bert"], indirect=True)
def test_tensors_of_several_languages_share_a_pass(family, build, english):
    model = build(family, "de", "cs")
    codes = ["cs", "de", None, "en", "de", "cs"]
    batch = model.processor(english, language="de")
    with torch.no_grad():
        found = model.get_text_features(**batch, language=codes).pooler_output
        for row, code in enumerate(codes):
            alone = model.get_text_features(**batch, language=code).pooler_output[row]
            torch.testing.assert_close(found[row], alone, rtol=0, atol=1e-5)
        for wrong in (["fr", *codes[1:]], "fr"):
            with pytest.raises(LanguageError, match="'fr' has no adapter. Loaded: cs, de"):
                model.get_text_features(**batch, language=wrong)
        with pytest.raises(ValueError, match="2 .*6"):
            model.get_text_features(**batch, language=["de", "cs"])


def test_adapters_that_know_no_names_per_row_say_so(bases, english, stir):
    model = CCRModel.from_base(bases["clip"])
    for code in ("de", "cs"):
        model.add_language(code, LoraConfig(r=4))
    stir(model, scale=0.3)
    batch = model.processor(english[:2])
    with torch.no_grad():
        with pytest.raises(LanguageError, match="one language a pass"):
            model.get_text_features(**batch, language=["de", "cs"])
        alone = model.get_text_features(**batch, language="de").pooler_output
        assert torch.equal(model.get_text_features(**batch, language=["de", "de"]).pooler_output, alone)
        base = model.get_text_features(**batch, language=None).pooler_output
        found = model.get_text_features(**batch, language=[None, "en"]).pooler_output
        torch.testing.assert_close(found, base, rtol=0, atol=1e-5)


@pytest.mark.parametrize("family", ["clip", "siglip", "bert"], indirect=True)
def test_gradient_checkpointing_changes_nothing(family, build, english, german_tokenizer):
    model = build(family)
    model.add_language("de", DASDConfig(r=4), tokenizer=german_tokenizer)
    batch = model.processor(english, language="de")
    found = []
    for checkpointing in (False, True):
        if checkpointing:
            model.gradient_checkpointing_enable()
        chosen = model.trainable("de")
        model.train()
        model.get_text_features(**batch, language="de").pooler_output.square().sum().backward()
        found.append([parameter.grad.clone() for parameter in chosen if parameter.grad is not None])
        model.zero_grad()
    assert len(found[0]) == len(found[1]) > 10
    for plain, recomputed in zip(*found, strict=True):
        torch.testing.assert_close(recomputed, plain, rtol=1e-4, atol=1e-6)
