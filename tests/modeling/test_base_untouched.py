"""With any adapter loaded, English captions and pictures come out as from the bare base, bit for bit."""

from __future__ import annotations

import pytest
import torch
from peft import AdaLoraConfig, KasaConfig, LoHaConfig, LoraConfig
from torch.nn import functional as F
from transformers import AutoImageProcessor, AutoModel, AutoTokenizer

from ccr_adapters.dasd import DASDConfig
from ccr_adapters.errors import ConfigError
from ccr_adapters.modeling import CCRModel, host

ADAPTERS = {
    "dynamic": lambda: DASDConfig(r=4),
    "static": lambda: DASDConfig(mode="static", r=4),
    "LoRA": lambda: LoraConfig(r=4),
    "LoRA everywhere": lambda: LoraConfig(r=4, target_modules=["q_proj", "v_proj", "query", "value", "fc1"]),
}


@pytest.fixture
def bare(family, bases):
    """The base by transformers alone: captions and pictures to what `get_*_features` gives."""
    model = AutoModel.from_pretrained(bases[family], dtype=torch.float32).eval().requires_grad_(False)
    tokenizer = AutoTokenizer.from_pretrained(bases[family])

    @torch.no_grad()
    def text(captions):
        if family == "siglip":
            ids = tokenizer(captions, padding="max_length", max_length=24, return_tensors="pt").input_ids
            return model.get_text_features(input_ids=ids).pooler_output
        batch = tokenizer(captions, padding=True, return_tensors="pt")
        batch = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}
        if family == "clip":
            return model.get_text_features(**batch).pooler_output
        states, mask = model(**batch).last_hidden_state, batch["attention_mask"].unsqueeze(-1)
        return (states * mask).sum(1) / mask.sum(1)

    @torch.no_grad()
    def image(pictures):
        processor = AutoImageProcessor.from_pretrained(bases[family])
        pixels = processor(images=pictures, return_tensors="pt").pixel_values
        return model.get_image_features(pixel_values=pixels).pooler_output

    return text, image


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_english_is_the_base_bit_for_bit(adapter, family, bases, bare, english, stir):
    model = CCRModel.from_base(bases[family])
    model.add_language("de", ADAPTERS[adapter]())
    model.add_language("cs", ADAPTERS[adapter]())
    stir(model, scale=0.5)
    captions = sorted(english, key=len, reverse=True)
    raw = bare[0](captions)
    expected = F.normalize(raw, dim=-1)
    for language in (None, "en", "__base__"):
        assert torch.equal(model.encode_text(captions, language), expected)
    with torch.no_grad():
        batch = model.processor(captions)
        for language in (None, "en"):
            assert torch.equal(model.get_text_features(**batch, language=language).pooler_output, raw)
    model.encode_text(captions, "de")  # a pass in between leaves nothing behind
    assert torch.equal(model.encode_text(captions, None), expected)
    assert not torch.allclose(model.encode_text(captions, "de"), expected, atol=1e-3)


@pytest.mark.parametrize("adapter", ADAPTERS)
@pytest.mark.parametrize("family", ["clip", "siglip"], indirect=True)
def test_pictures_are_the_base_bit_for_bit(adapter, family, bases, bare, pictures, stir):
    model = CCRModel.from_base(bases[family])
    model.add_language("de", ADAPTERS[adapter]())
    stir(model, scale=0.5)
    raw = bare[1](pictures)
    assert torch.equal(model.encode_image(pictures), F.normalize(raw, dim=-1))
    pixels = model.processor(images=pictures)["pixel_values"]
    with torch.no_grad():
        assert torch.equal(model.get_image_features(pixels).pooler_output, raw)
        with model.language("de"):
            assert torch.equal(model.get_image_features(pixels).pooler_output, raw)


def test_english_is_the_base_after_training_loading_and_deleting(family, bases, bare, english, build, tmp_path):
    expected = F.normalize(bare[0](english), dim=-1)
    model = build(family, "de", "cs")
    model.trainable("de")
    model.train()
    batch = model.processor(english)
    model.get_text_features(**batch, language="de").pooler_output.sum().backward()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter -= parameter.grad
    model.eval()
    assert torch.equal(model.encode_text(english, None, batch_size=6), in_order(expected, model, english))
    model.save_pretrained(tmp_path)
    loaded = CCRModel.from_pretrained(tmp_path)
    assert torch.equal(loaded.encode_text(english, None), model.encode_text(english, None))
    for code in ("de", "cs"):
        loaded.delete_language(code)
        assert torch.equal(loaded.encode_text(english, None), model.encode_text(english, None))


def in_order(expected, model, captions):
    """The reference, encoded in the order in which `encode_text` does: longest first."""
    plain = CCRModel.from_base(model.config.base_model_name_or_path)
    found = plain.encode_text(captions, None)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    return found


@pytest.mark.parametrize(
    "adapter",
    [
        DASDConfig(r=4, modules_to_save=["final_layer_norm", "LayerNorm"]),
        LoraConfig(r=4, bias="all"),
        LoraConfig(r=4, init_lora_weights="pissa"),
        LoraConfig(r=4, init_lora_weights="OLoRA"),
        LoraConfig(r=4, kasa_config=KasaConfig()),
        LoraConfig(r=4, trainable_token_indices=[5]),
    ],
    ids=["modules_to_save", "bias", "pissa", "olora", "kasa", "tokens"],
)
def test_an_adapter_that_would_change_the_base_is_refused(adapter, family, bases, english):
    model = CCRModel.from_base(bases[family])
    before = model.encode_text(english, None)
    with pytest.raises(ValueError, match="base"):
        model.add_language("de", adapter)
    assert model.languages == []
    assert torch.equal(model.encode_text(english, None), before)


@pytest.mark.parametrize("share", [2.0, 1.0001])
def test_a_method_that_rewrites_the_base_is_found_out(share, bases, monkeypatch):
    """As peft has some, and may have more: what it did to the weights is seen, however little."""
    model = CCRModel.from_base(bases["bert"])
    inject = host.inject_adapter_in_model

    def rewriting(adapter, base, adapter_name):
        with torch.no_grad():
            base.encoder.layer[1].output.dense.weight.mul_(share)
        return inject(adapter, base, adapter_name=adapter_name)

    model.add_language("cs", LoHaConfig(r=4, target_modules=["query"]))
    model.delete_language("cs")
    monkeypatch.setattr(host, "inject_adapter_in_model", rewriting)
    with pytest.raises(ConfigError, match="LOHA rewrote weights of the base"):
        model.add_language("de", LoHaConfig(r=4, target_modules=["query"]))
    assert model.languages == []
    assert "de" not in model.base.peft_config


def test_other_kinds_of_lora_are_no_lora(bases):
    model = CCRModel.from_base(bases["bert"])
    # not: change the base
    with pytest.raises(ConfigError, match="of ADALORA could not be saved here and loaded again"):
        model.add_language("de", AdaLoraConfig(init_r=4, target_r=2, total_step=10))
