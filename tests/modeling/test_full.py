"""Languages whose blocks are fine-tuned whole: the model trains, saves and loads them, and its base stays as it is."""

from __future__ import annotations

import json

import pytest
import torch
from peft import LoraConfig
from safetensors.torch import load_file, save_file
from torch import nn

from ccr_adapters.dasd import DASDConfig
from ccr_adapters.errors import AdapterError, ConfigError, LanguageError
from ccr_adapters.full import FullConfig, FullLayer
from ccr_adapters.modeling import CCRModel
from ccr_adapters.processing import CCRProcessor

WEIGHTS = "adapter_model.safetensors"


def change(model: CCRModel, scale: float = 0.1) -> CCRModel:
    """Change all copies and vocabularies, so that a silent re-initialisation shows."""
    generator = torch.Generator().manual_seed(3)
    for name, parameter in model.named_parameters():
        if ".full_copy." in name or name.startswith("vocabularies"):
            parameter.data += scale * torch.randn(parameter.shape, generator=generator)
    return model


def same(found: torch.Tensor, expected: torch.Tensor) -> None:
    """Equal but for the rounding of kernels that look at where in memory a weight lies."""
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


@pytest.fixture
def two(family, bases) -> CCRModel:
    """A model with two changed languages, one with the head of its encoder and one without."""
    model = CCRModel.from_base(bases[family])
    model.add_language("de", FullConfig(layers_to_transform=[1]))
    model.add_language("cs", FullConfig(layers_to_transform=[1, 2], head=False))
    return change(model)


def test_a_new_language_starts_as_the_base(family, bases, english):
    model = CCRModel.from_base(bases[family])
    model.add_language("de", FullConfig())
    expected = model.encode_text(english, None)
    # another way through the same weights: equal to rounding
    torch.testing.assert_close(model.encode_text(english, "de"), expected, rtol=0, atol=1e-6)


def test_english_and_pictures_are_the_base_bit_for_bit(family, bases, two, english, pictures):
    plain = CCRModel.from_base(bases[family])
    expected = plain.encode_text(english, None)
    hashed = plain.base_sha256()
    assert two.base_sha256() == hashed
    for code in ("de", "cs"):
        assert (two.encode_text(english, code) - expected).abs().max() > 1e-3
        assert torch.equal(two.encode_text(english, None), expected)
        assert torch.equal(two.encode_text(english, "en"), expected)
    if "image" in two.modalities:
        assert torch.equal(two.encode_image(pictures), plain.encode_image(pictures))
    for code in ("de", "cs"):
        two.delete_language(code)
        assert torch.equal(two.encode_text(english, None), expected)
    assert two.base_sha256() == hashed


def test_training_moves_one_language_and_nothing_else(family, bases, two, english, german):
    before = {name: parameter.clone() for name, parameter in two.named_parameters()}
    english_before, czech = two.encode_text(english, None), two.encode_text(german, "cs")
    chosen = two.trainable("de")
    assert {id(p) for p in chosen} == {id(p) for n, p in two.named_parameters() if ".full_copy.de." in n}
    assert all(parameter.requires_grad for parameter in chosen)
    two.train()
    batch = two.processor(german, language="de")
    optimizer = torch.optim.AdamW(chosen, lr=1e-2)
    losses = []
    for _ in range(3):
        optimizer.zero_grad()
        loss = two.get_text_features(**batch, language="de").pooler_output.square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[2] < losses[0]
    two.eval()
    for name, parameter in two.named_parameters():
        assert torch.equal(parameter, before[name]) != (".full_copy.de." in name), name
    assert torch.equal(two.encode_text(english, None), english_before)
    assert torch.equal(two.encode_text(german, "cs"), czech)


def test_a_folder_and_back(two, english, german, tmp_path):
    codes = ["de", "cs", None] * 2
    expected = two.encode_text(german, codes)
    two.save_pretrained(tmp_path)
    loaded = CCRModel.from_pretrained(tmp_path)
    assert sorted(loaded.languages) == ["cs", "de"]
    same(loaded.encode_text(german, codes), expected)
    assert (expected[0] - two.encode_text(german[0], None)[0]).abs().max() > 1e-3
    assert torch.equal(loaded.encode_text(english, None), two.encode_text(english, None))
    assert not any(parameter.is_meta for parameter in loaded.parameters())
    for code in ("de", "cs"):
        written = load_file(tmp_path / code / WEIGHTS)
        assert all(".full_copy." in key for key in written)
        assert sum(value.numel() for value in written.values()) == sum(
            p.numel() for name, p in two.named_parameters() if f".full_copy.{code}." in name
        )


def test_a_language_with_words_of_its_own_is_loaded_beside_others(two, german, german_tokenizer, tmp_path):
    two.add_language("zh", FullConfig(layers_to_transform=[0]), tokenizer=german_tokenizer)
    expected = change(two).encode_text(german, "zh")
    two.save_pretrained(tmp_path, language="zh")
    two.delete_language("zh")
    assert two.load_language(tmp_path) == ["zh"]
    same(two.encode_text(german, "zh"), expected)


def test_a_base_in_half_precision_takes_copies_in_half_precision(two, german, tmp_path):
    expected = two.encode_text(german, "de")
    two.save_pretrained(tmp_path)
    loaded = CCRModel.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert {parameter.dtype for parameter in loaded.base.parameters()} == {torch.bfloat16}
    assert (loaded.encode_text(german, "de").float() * expected).sum(dim=1).min() > 0.98


def test_in_training_the_copy_drops_out_and_the_base_does_not(tiny_bert, base_tokenizer, english):
    base = tiny_bert()
    for module in base.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.5
    model = CCRModel.from_base(base, processor=CCRProcessor(base_tokenizer, base_max_length=24))
    model.train()
    model.add_language("de", FullConfig(layers_to_transform=[1]))
    batch = model.processor(english)
    with torch.no_grad():
        first, second = (model.get_text_features(**batch, language="de").pooler_output for _ in range(2))
        assert not torch.equal(first, second)
        still = model.get_text_features(**batch, language=None).pooler_output
        assert torch.equal(model.get_text_features(**batch, language=None).pooler_output, still)
        on = {name for name, module in model.named_modules() if isinstance(module, nn.Dropout) and module.training}
        assert len(on) > 2
        assert all(".full_copy.de." in name for name in on)
        model.eval()
        assert not [name for name, module in model.named_modules() if module.training]
        assert torch.equal(model.get_text_features(**batch, language=None).pooler_output, still)


def test_gradient_checkpointing_changes_nothing(two, german):
    batch = two.processor(german, language="de")
    found = []
    for checkpointing in (False, True):
        if checkpointing:
            two.gradient_checkpointing_enable()
        chosen = two.trainable("de")
        two.train()
        torch.manual_seed(0)  # BERT's copies drop out
        two.get_text_features(**batch, language="de").pooler_output.square().sum().backward()
        found.append([parameter.grad.clone() for parameter in chosen if parameter.grad is not None])
        two.zero_grad()
    assert len(found[0]) == len(found[1]) > 10
    for plain, recomputed in zip(*found, strict=True):
        torch.testing.assert_close(recomputed, plain, rtol=1e-4, atol=1e-6)


def test_a_batch_has_one_language(two, english):
    batch = two.processor(english[:2])
    with pytest.raises(LanguageError, match="one language a pass"):
        two.get_text_features(**batch, language=["de", "cs"])


@pytest.mark.parametrize("other", [DASDConfig(r=4), LoraConfig(r=4)], ids=["DASD", "LoRA"])
def test_methods_do_not_share_a_base(other, bases):
    model = CCRModel.from_base(bases["clip"])
    model.add_language("de", FullConfig())
    with pytest.raises(ConfigError, match="languages use .*FULL.*Build a second model"):
        model.add_language("cs", other)
    model.delete_language("de")
    with pytest.raises(ConfigError, match="languages use .*FULL"):
        model.add_language("cs", other)
    model = CCRModel.from_base(bases["clip"])
    model.add_language("de", other)
    before = [name for name, _ in model.named_modules()]
    with pytest.raises(ConfigError, match="FULL cannot stand beside them"):
        model.add_language("cs", FullConfig())
    assert [name for name, _ in model.named_modules()] == before


def test_a_language_that_comes_after_checkpointing_copies_blocks_alone(bases):
    """What a block is computed again by belongs to the model, which a copy of the block does not take along."""
    model = CCRModel.from_base(bases["clip"])
    model.add_language("de", FullConfig())
    model.gradient_checkpointing_enable()
    model.add_language("cs", FullConfig())
    blocks = [layer for layer in model.base.modules() if isinstance(layer, FullLayer)]
    again = [
        layer.base_layer._gradient_checkpointing_func for layer in blocks if hasattr(layer.base_layer, "self_attn")
    ]
    copies = [layer.full_copy["cs"] for layer in blocks if hasattr(layer.base_layer, "self_attn")]
    assert len(copies) == 3
    for original, copied in zip(again, copies, strict=True):
        assert copied._gradient_checkpointing_func.keywords["context_fn"] is original.keywords["context_fn"]


@pytest.mark.parametrize(
    ("adapter", "message"),
    [
        (FullConfig(layers_to_transform=[7]), "blocks 0 to 2"),
        (FullConfig(target_modules=["visual_projection"]), "which is no block"),
        (FullConfig(modules_to_save=["pooler"]), "would change the base"),
    ],
)
def test_a_language_that_cannot_be_added_leaves_no_trace(adapter, message, bases, english):
    model = CCRModel.from_base(bases["clip"])
    before = [name for name, _ in model.named_modules()]
    with pytest.raises(ValueError, match=message):
        model.add_language("de", adapter)
    assert model.languages == []
    assert [name for name, _ in model.named_modules()] == before
    model.add_language("de", FullConfig())


def test_a_language_called_to_is_refused_in_a_sentence(bases):
    # Tongan's code is the name of a method of every container of torch
    model = CCRModel.from_base(bases["bert"])
    with pytest.raises(ValueError, match="'to' cannot be added.*'ton'"):
        model.add_language("to", FullConfig())
    assert model.languages == []


def drop_one(folder):
    weights = load_file(folder / WEIGHTS)
    weights.pop(sorted(weights)[0])
    save_file(weights, folder / WEIGHTS)


def widen(folder):
    weights = load_file(folder / WEIGHTS)
    key = sorted(weights)[0]
    save_file({**weights, key: torch.cat([weights[key]] * 2)}, folder / WEIGHTS)


def another_block(folder):
    path = folder / "adapter_config.json"
    values = json.loads(path.read_text(encoding="utf-8"))
    values["target_modules"] = [name.replace("layers.1", "layers.0") for name in values["target_modules"]]
    path.write_text(json.dumps(values), encoding="utf-8")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [(drop_one, "1 missing"), (widen, "has shape"), (another_block, "16 missing .* 16 unexpected")],
)
def test_a_file_that_does_not_fit_is_refused(spoil, message, bases, tmp_path):
    model = CCRModel.from_base(bases["clip"])
    model.add_language("de", FullConfig(layers_to_transform=[1]))
    change(model).save_pretrained(tmp_path)
    spoil(tmp_path)
    with pytest.raises(AdapterError, match=message):
        CCRModel.from_pretrained(tmp_path)
