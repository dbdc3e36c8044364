"""The model: built on any base, given languages, chosen between, scored as transformers' dual encoders are."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from peft import LoraConfig, PeftModel
from torch import nn
from transformers import AutoModel, ViTConfig, ViTModel

from ccr_adapters.configuration import CCRConfig, VocabularyConfig
from ccr_adapters.dasd import DASDConfig
from ccr_adapters.errors import ConfigError, ImageError, LanguageError
from ccr_adapters.modeling import CCRModel
from ccr_adapters.processing import CCRProcessor


def test_built_on_a_folder(family, bases):
    model = CCRModel.from_base(str(bases[family]))
    assert model.embedding_dim == (32 if family == "bert" else 24)
    assert model.modalities == (["text"] if family == "bert" else ["text", "image"])
    assert model.languages == []
    assert model.config.pooling == ("mean" if family == "bert" else None)
    assert model.config.visual_dim == (32 if family == "bert" else None)
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert not model.training
    assert model.dtype == torch.float32


def test_a_checkpoint_in_half_precision_is_read_in_full(bases, tmp_path, english):
    # transformers 5 takes the precision of the file; adapters would then be trained in it
    base = AutoModel.from_pretrained(bases["clip"], dtype=torch.float16)
    base.save_pretrained(tmp_path)
    processor = CCRProcessor.for_base(bases["clip"], base.config)
    assert CCRModel.from_base(tmp_path, processor=processor).dtype == torch.float32
    assert CCRModel.from_base(tmp_path, processor=processor, dtype=torch.float16).dtype == torch.float16


def test_built_on_a_bare_module(tiny_clip, base_tokenizer, english):
    model = CCRModel.from_base(tiny_clip())
    model.add_language("de", DASDConfig(r=4))
    with pytest.raises(ConfigError, match="no processor"):
        model.encode_text(english)
    with pytest.raises(ConfigError, match="no processor"):
        model.encode_image([])
    processor = CCRProcessor(base_tokenizer, base_max_length=24)
    other = CCRModel.from_base(tiny_clip(), processor=processor)
    assert other.encode_text(english, None).shape == (6, 24)


def test_a_model_without_a_text_encoder_is_refused():
    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 2, "num_hidden_layers": 1}
    with pytest.raises(ValueError, match="No text encoder was found in a ViTModel"):
        CCRModel.from_base(ViTModel(ViTConfig(image_size=8, patch_size=8, **sizes)))


def test_built_from_a_configuration_alone_it_has_random_weights(bases):
    config = CCRModel.from_base(bases["bert"]).config
    assert CCRModel(config).base.config.hidden_size == 32
    with pytest.raises(ConfigError, match="base_config"):
        CCRModel(CCRConfig())


def test_a_new_language_starts_as_the_base(family, bases, english):
    model = CCRModel.from_base(bases[family])
    model.add_language("de", DASDConfig(r=4))
    model.add_language("cs", DASDConfig(r=4, mode="static"))
    expected = model.encode_text(english, None)
    for code in ("de", "cs"):
        # another way through the same weights: equal to rounding
        torch.testing.assert_close(model.encode_text(english, code), expected, rtol=0, atol=1e-6)


def test_xlm_r_numbers_its_positions_the_same_from_embeddings(bases, english):
    model = CCRModel.from_base(bases["xlmr"])
    assert model.processor.base_max_length == 24
    model.add_language("de", DASDConfig(r=4))
    expected = model.encode_text(english, None)
    torch.testing.assert_close(model.encode_text(english, "de"), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("code", ["en", "__base__", "", "de.v1", "de/x", "../de", "layers", "active"])
def test_a_code_that_means_something_else_is_refused(code, build):
    model = build("clip", "cs")
    with pytest.raises(ValueError, match=r"cannot be added|cannot be called"):
        model.add_language(code, DASDConfig(r=4))
    assert model.languages == ["cs"]


def test_a_code_that_is_taken_is_refused(build, english):
    model = build("clip", "de")
    before = model.encode_text(english)
    with pytest.raises(LanguageError, match=r"'de' is already there.*delete_language"):
        model.add_language("de", DASDConfig(r=8))
    assert torch.equal(model.encode_text(english), before)


@pytest.mark.parametrize(
    "adapter",
    [
        DASDConfig(r=4, prefix_blocks=9),
        DASDConfig(r=4, target_modules=["nowhere"]),
        LoraConfig(r=4, target_modules=["nowhere"]),
    ],
)
def test_a_language_that_cannot_be_added_leaves_no_trace(adapter, build, bases, english):
    for model in (CCRModel.from_base(bases["clip"]), build("clip", "cs")):
        there, before = model.languages, model.encode_text(english)
        with pytest.raises(ValueError, match=r"nowhere|prefix_blocks|LORA"):
            model.add_language("de", adapter)
        assert model.languages == there
        assert sorted(getattr(model.base, "peft_config", {})) == there
        assert list(model.processor.languages) == there
        assert torch.equal(model.encode_text(english), before)
        model.add_language("de", DASDConfig(r=4))  # the code is still free


def test_one_configuration_serves_several_languages_and_bases(bases, german_tokenizer):
    adapter = DASDConfig(r=4, layers_to_transform=[0, 1])
    before = copy.deepcopy(adapter)
    for family in ("clip", "bert"):
        model = CCRModel.from_base(bases[family])
        model.add_language("cs", adapter)
        model.add_language("de", adapter, tokenizer=german_tokenizer)
        assert adapter == before
        assert model.base.peft_config["de"].pooling_token_id == german_tokenizer.eos_token_id
        assert model.base.peft_config["cs"].pooling_token_id is None


def test_dynamic_and_lora_do_not_share_a_base(build):
    model = build("clip", "de")
    with pytest.raises(ConfigError, match="LORA cannot stand beside them"):
        model.add_language("cs", LoraConfig(r=4))
    model.delete_language("de")
    with pytest.raises(ConfigError, match="Build a second model"):
        model.add_language("cs", LoraConfig(r=4))


def test_bad_lengths_and_vocabularies(bases, german_tokenizer):
    model = CCRModel.from_base(bases["clip"])
    for length in (1, 25):
        with pytest.raises(ConfigError, match=f"`max_length` is {length}; the base takes 2 to 24"):
            model.add_language("de", DASDConfig(r=4), max_length=length)
    with pytest.raises(ConfigError, match="needs the `tokenizer`"):
        model.add_language("de", DASDConfig(r=4), vocabulary=VocabularyConfig(10, 32))
    with pytest.raises(ConfigError, match=f"10 rows, its tokenizer {len(german_tokenizer)} tokens"):
        model.add_language("de", DASDConfig(r=4), tokenizer=german_tokenizer, vocabulary=VocabularyConfig(10, 32))
    assert model.languages == []


def test_a_deleted_language_is_gone(build, english):
    model = build("clip", "de", "cs")
    cs = model.encode_text(english, "cs")
    model.set_language("de")
    model.delete_language("de")
    assert model.languages == ["cs"]
    assert model.active_language == "cs"
    assert not [name for name, _ in model.named_parameters() if ".de." in name]
    assert torch.equal(model.encode_text(english, "cs"), cs)
    for call in (model.delete_language, model.set_language, lambda code: model.encode_text(english, code)):
        with pytest.raises(LanguageError, match="'de' has no adapter. Loaded: cs. Load one with"):
            call("de")
    model.delete_language("cs")
    assert model.active_language is None
    assert torch.equal(model.encode_text(english), model.encode_text(english, None))


def test_a_language_for_a_while(build, english):
    model = build("clip", "de", "cs")
    de, cs, base = (model.encode_text(english, code) for code in ("de", "cs", None))
    model.set_language("cs")
    with model.language("de") as inside:
        assert inside is model
        assert torch.equal(model.encode_text(english), de)
        with model.language(None):
            assert torch.equal(model.encode_text(english), base)
        assert model.active_language == "de"
    assert torch.equal(model.encode_text(english), cs)

    def fail():
        with model.language("de"):
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    assert model.active_language == "cs"
    with pytest.raises(LanguageError, match="'zh'"), model.language("zh"):
        pass
    assert model.active_language == "cs"


def test_only_the_chosen_language_trains(build, german_tokenizer):
    model = build("clip", "de")
    model.add_language("cs", DASDConfig(r=4), tokenizer=german_tokenizer)
    for code in ("cs", "de"):
        chosen = model.trainable(code)
        names = {name for name, p in model.named_parameters() if p.requires_grad}
        assert len(names) == len(chosen) > 0
        assert all(f".{code}." in name for name in names)
        assert any(name.startswith("vocabularies.cs") for name in names) == (code == "cs")
    with pytest.raises(LanguageError, match="'zh' has no adapter"):
        model.trainable("zh")


@pytest.mark.parametrize("adapter", [DASDConfig(r=4), LoraConfig(r=4, lora_dropout=0.5)], ids=["DASD", "LoRA"])
def test_training_mode_keeps_the_frozen_base_still_but_not_the_adapters(adapter, tiny_bert, base_tokenizer, english):
    base = tiny_bert()
    for module in base.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.5
    model = CCRModel.from_base(base, processor=CCRProcessor(base_tokenizer, base_max_length=24))
    model.add_language("de", adapter)
    assert not [name for name, module in model.named_modules() if module.training]
    batch = model.processor(english)
    # attention in the base has a dropout of its own, beside the modules of that name
    expected = model.get_text_features(**batch, language=None).pooler_output
    model.train()
    assert model.training
    assert torch.equal(model.get_text_features(**batch, language=None).pooler_output, expected)
    on = {name for name, module in model.named_modules() if isinstance(module, nn.Dropout) and module.training}
    assert all("lora_dropout" in name for name in on)
    assert bool(on) == isinstance(adapter, LoraConfig)
    model.eval()
    assert not [name for name, module in model.named_modules() if module.training]


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
    for wrong in ({}, {**batch}, {"visual_embeds": torch.zeros(1, 32)}):
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
