"""The model: built on any base, given languages, chosen between, scored as transformers' dual encoders are."""

from __future__ import annotations

import copy

import pytest
import torch
from peft import LoraConfig
from torch import nn
from transformers import AutoModel, ViTConfig, ViTModel

from ccr_adapters.configuration import CCRConfig, VocabularyConfig
from ccr_adapters.dasd import DASDConfig
from ccr_adapters.errors import ConfigError, LanguageError
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
