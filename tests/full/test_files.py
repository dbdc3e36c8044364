"""Copies on disk: the same numbers through every door of peft and transformers, and nothing saved but the copies."""

from __future__ import annotations

import json

import pytest
import torch
from peft import (
    PeftModel,
    get_peft_model,
    get_peft_model_state_dict,
    inject_adapter_in_model,
    set_peft_model_state_dict,
)
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertModel

from ccr_adapters.full import FullConfig, FullLayer

CONFIGS = {
    "all": {},
    "blocks": {"head": False},
    "one": {"layers_to_transform": [1]},
    "named": {"target_modules": r".*layers?\.[02]"},
}


@pytest.fixture(params=["all", "one"])
def saved(request, encoder, stir, embed, random_batch, tmp_path):
    """A folder with changed copies, and what they make of captions."""
    model = stir(get_peft_model(encoder(), FullConfig(**CONFIGS[request.param])))
    model.save_pretrained(tmp_path)
    with torch.no_grad():
        return tmp_path, embed(model, random_batch())


def test_a_round_trip_keeps_the_numbers(saved, encoder, embed, random_batch):
    folder, expected = saved
    with torch.no_grad():
        assert torch.equal(embed(PeftModel.from_pretrained(encoder(), folder), random_batch()), expected)
        slim = PeftModel.from_pretrained(encoder(), folder, low_cpu_mem_usage=True)
        # the tensors of the file lie elsewhere in memory, which some kernels look at
        torch.testing.assert_close(embed(slim, random_batch()), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("config", CONFIGS)
def test_only_copies_are_written(config, text_encoder, stir, tmp_path):
    values = dict(CONFIGS[config])
    if "target_modules" in values:
        values["target_modules"] = r"(.*\.)?encoder\.layers?\.[02]"
    model = stir(get_peft_model(text_encoder(), FullConfig(**values)))
    model.save_pretrained(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    weights = load_file(tmp_path / "adapter_model.safetensors")
    copies = {name: p for name, p in model.named_parameters() if ".full_copy.default." in name}
    assert sorted(weights) == sorted(name.replace(".default", "") for name in copies)
    assert all(torch.equal(weights[name.replace(".default", "")], parameter) for name, parameter in copies.items())
    written = json.loads((tmp_path / "adapter_config.json").read_text(encoding="utf-8"))
    assert (written["peft_type"], written["inference_mode"]) == ("FULL", True)
    if config == "one":
        assert written["layers_to_transform"] is None
        assert [name for name in written["target_modules"] if name.endswith(".1")]


def test_a_second_adapter_is_loaded_beside_the_first(saved, encoder, embed, random_batch, stir):
    folder, expected = saved
    model = stir(get_peft_model(encoder(), FullConfig(layers_to_transform=[0, 1]), adapter_name="other"), seed=9)
    with torch.no_grad():
        before = embed(model, random_batch())
        model.load_adapter(folder, adapter_name="saved")
        assert torch.equal(embed(model, random_batch()), before)
        model.set_adapter("saved")
        assert torch.equal(embed(model, random_batch()), expected)


def test_a_loaded_adapter_is_frozen_unless_it_is_to_be_trained(saved, encoder):
    folder, _ = saved
    assert not any(p.requires_grad for p in PeftModel.from_pretrained(encoder(), folder).parameters())
    model = PeftModel.from_pretrained(encoder(), folder, is_trainable=True)
    assert all(p.requires_grad == (".full_copy." in name) for name, p in model.named_parameters())


def test_transformers_own_load_adapter(saved, encoder, embed, random_batch, tmp_path_factory):
    folder, expected = saved
    base = tmp_path_factory.mktemp("base")
    encoder().save_pretrained(base)
    with torch.no_grad():
        for model in (encoder(), type(encoder()).from_pretrained(base)):
            before = embed(model, random_batch())
            outcome = model.load_adapter(str(folder), adapter_name="de")
            assert not outcome.unexpected_keys
            # it takes all keys with the adapter's name or the method's in them, "encoder" too
            assert not [key for key in outcome.missing_keys if ".full_copy." in key]
            assert torch.equal(embed(model, random_batch()), expected)
            model.disable_adapters()
            assert torch.equal(embed(model, random_batch()), before)
            model.enable_adapters()
            assert torch.equal(embed(model, random_batch()), expected)
            assert model.active_adapters() == ["de"]


def test_transformers_own_add_save_and_delete(encoder, embed, random_batch, stir, tmp_path):
    model = encoder()
    model.add_adapter(FullConfig(), adapter_name="de")
    stir(model)
    with torch.no_grad():
        expected = embed(model, random_batch())
        model.save_pretrained(tmp_path)
        assert (tmp_path / "adapter_model.safetensors").is_file()
        loaded = PeftModel.from_pretrained(encoder(), tmp_path)
        assert torch.equal(embed(loaded, random_batch()), expected)
        model.delete_adapter("de")
        assert torch.equal(embed(model, random_batch()), embed(encoder(), random_batch()))


def test_the_state_of_an_injected_model_moves_to_another(encoder, embed, random_batch, stir):
    model = stir(inject_adapter_in_model(FullConfig(), encoder(), adapter_name="one"))
    state = {key: value.clone() for key, value in get_peft_model_state_dict(model, adapter_name="one").items()}
    assert not [key for key in state if ".one." in key]
    other = inject_adapter_in_model(FullConfig(), encoder(), adapter_name="other")
    outcome = set_peft_model_state_dict(other, state, adapter_name="other")
    assert not outcome.unexpected_keys
    with torch.no_grad():
        assert torch.equal(embed(other, random_batch()), embed(model, random_batch()))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_copies_injected_without_memory_are_filled_from_a_file(dtype, encoder, embed, random_batch, stir, tmp_path):
    model = stir(inject_adapter_in_model(FullConfig(), encoder(), adapter_name="one"))
    state = get_peft_model_state_dict(model, adapter_name="one")
    save_file({key: value.contiguous() for key, value in state.items()}, tmp_path / "copies.safetensors")
    base = encoder().to(dtype)
    with torch.device("meta"):
        other = inject_adapter_in_model(FullConfig(), base, adapter_name="two")
    for name, parameter in other.named_parameters():
        assert (parameter.device.type == "meta") == (".full_copy." in name), name
    set_peft_model_state_dict(other, load_file(tmp_path / "copies.safetensors"), "two", low_cpu_mem_usage=True)
    # a copy of another precision than the base could not take its states
    assert {(p.device.type, p.dtype) for p in other.parameters()} == {("cpu", dtype)}
    with torch.no_grad():
        found, expected = embed(other, random_batch()), embed(model.to(dtype), random_batch())
    assert found.dtype == dtype
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 if dtype == torch.float32 else 0.05)


def test_extra_modules_train_and_travel_with_the_adapter(tiny_bert, embed, random_batch, stir, tmp_path):
    model = stir(get_peft_model(tiny_bert(), FullConfig(layers_to_transform=[1], modules_to_save=["pooler"])))
    for name, parameter in model.named_parameters():
        assert parameter.requires_grad == ("modules_to_save" in name or ".full_copy." in name)
        if "modules_to_save" in name:
            parameter.data += 0.5
    model.save_pretrained(tmp_path)
    with torch.no_grad():
        loaded = PeftModel.from_pretrained(tiny_bert(), tmp_path)
        assert torch.equal(embed(loaded, random_batch()), embed(model, random_batch()))


def test_the_names_of_many_blocks_are_kept_apart(random_batch, embed, stir, tmp_path):
    # peft shortens a list of 20 names and more to what tells them from the rest
    sizes = {"hidden_size": 8, "num_hidden_layers": 24, "num_attention_heads": 2, "intermediate_size": 8}

    def build() -> BertModel:
        torch.manual_seed(0)
        return BertModel(BertConfig(vocab_size=200, **sizes)).eval()

    model = stir(get_peft_model(build(), FullConfig(layers_to_transform=list(range(2, 23)))))
    model.save_pretrained(tmp_path)
    with torch.no_grad():
        expected = embed(model, random_batch())
        assert torch.equal(embed(PeftModel.from_pretrained(build(), tmp_path), random_batch()), expected)
    wrapped = [isinstance(block, FullLayer) for block in model.get_base_model().encoder.layer]
    assert wrapped == [2 <= index < 23 for index in range(24)]
