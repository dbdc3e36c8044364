"""Adapters on disk: the same numbers through every door of peft and transformers, and nothing saved but the adapter."""

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
from safetensors import safe_open
from safetensors.torch import load_file
from transformers import BertConfig, BertModel

from ccr_adapters.dasd import DASDConfig

CONFIGS = {
    "dynamic": {"r": 4, "generator_rank": None},
    "static": {"r": 4, "mode": "static"},
    "factorised": {"r": 4, "generator_rank": 3, "layers_to_transform": [0, 2]},
    "late": {"r": 4, "layers_to_transform": [2]},
}


@pytest.fixture(params=CONFIGS)
def saved(request, encoder, stir, states, random_batch, tmp_path):
    """A folder with a changed adapter, and the states it makes."""
    model = stir(get_peft_model(encoder(), DASDConfig(**CONFIGS[request.param])))
    model.save_pretrained(tmp_path)
    with torch.no_grad():
        return tmp_path, states(model, random_batch())


def test_a_round_trip_keeps_the_numbers(saved, encoder, states, random_batch):
    folder, expected = saved
    with torch.no_grad():
        assert torch.equal(states(PeftModel.from_pretrained(encoder(), folder), random_batch()), expected)
        slim = PeftModel.from_pretrained(encoder(), folder, low_cpu_mem_usage=True)
        assert torch.equal(states(slim, random_batch()), expected)


def test_only_adapter_weights_are_written(saved):
    folder, _ = saved
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    with safe_open(folder / "adapter_model.safetensors", framework="pt") as file:
        keys = list(file.keys())
    assert keys
    for key in keys:
        assert "dasd_" in key, key
        assert ".default" not in key, key
    owners = {key.split(".dasd_generator")[0] for key in keys if ".dasd_generator" in key}
    # the shared parts are written once
    assert len(owners) <= 1


def test_a_second_adapter_is_loaded_beside_the_first(saved, encoder, states, random_batch, stir):
    folder, expected = saved
    model = stir(get_peft_model(encoder(), DASDConfig(r=5), adapter_name="other"), seed=9)
    with torch.no_grad():
        before = states(model, random_batch())
        model.load_adapter(folder, adapter_name="saved")
        assert torch.equal(states(model, random_batch()), before)
        model.set_adapter("saved")
        assert torch.equal(states(model, random_batch()), expected)


def test_a_loaded_adapter_is_frozen_unless_it_is_to_be_trained(saved, encoder):
    folder, _ = saved
    assert not any(p.requires_grad for p in PeftModel.from_pretrained(encoder(), folder).parameters())
    model = PeftModel.from_pretrained(encoder(), folder, is_trainable=True)
    assert all(p.requires_grad == ("dasd_" in name) for name, p in model.named_parameters())


def test_each_adapter_gets_a_folder_of_its_own(encoder, stir, states, random_batch, tmp_path):
    model = get_peft_model(encoder(), DASDConfig(r=4), adapter_name="de")
    model.add_adapter("cs", DASDConfig(r=3, mode="static"))
    stir(model).save_pretrained(tmp_path)
    with torch.no_grad():
        for name in ("de", "cs"):
            model.set_adapter(name)
            loaded = PeftModel.from_pretrained(encoder(), tmp_path / name)
            assert torch.equal(states(loaded, random_batch()), states(model, random_batch()))


def test_transformers_own_load_adapter(saved, encoder, states, random_batch):
    folder, expected = saved
    model = encoder()
    with torch.no_grad():
        before = states(model, random_batch())
        model.load_adapter(str(folder), adapter_name="de")
        assert torch.equal(states(model, random_batch()), expected)
        model.disable_adapters()
        assert torch.equal(states(model, random_batch()), before)
        model.enable_adapters()
        assert torch.equal(states(model, random_batch()), expected)
    assert model.active_adapters() == ["de"]


def test_transformers_own_add_save_and_delete(encoder, states, random_batch, stir, tmp_path):
    model = encoder()
    model.add_adapter(DASDConfig(r=4), adapter_name="de")
    stir(model)
    with torch.no_grad():
        expected = states(model, random_batch())
        model.save_pretrained(tmp_path)
        assert (tmp_path / "adapter_model.safetensors").is_file()
        loaded = PeftModel.from_pretrained(encoder(), tmp_path)
        assert torch.equal(states(loaded, random_batch()), expected)
        model.delete_adapter("de")
        assert torch.equal(states(model, random_batch()), states(encoder(), random_batch()))


def test_the_state_of_an_injected_model_moves_to_another(encoder, states, random_batch, stir):
    model = stir(inject_adapter_in_model(DASDConfig(r=4), encoder(), adapter_name="one"))
    state = {key: value.clone() for key, value in get_peft_model_state_dict(model, adapter_name="one").items()}
    assert not [key for key in state if ".one." in key]
    other = inject_adapter_in_model(DASDConfig(r=4), encoder(), adapter_name="other")
    outcome = set_peft_model_state_dict(other, state, adapter_name="other")
    assert not outcome.unexpected_keys
    with torch.no_grad():
        assert torch.equal(states(other, random_batch()), states(model, random_batch()))


def test_extra_modules_train_and_travel_with_the_adapter(tiny_clip_text, states, random_batch, stir, tmp_path):
    model = stir(get_peft_model(tiny_clip_text(), DASDConfig(r=4, modules_to_save=["final_layer_norm"])))
    for name, parameter in model.named_parameters():
        if "modules_to_save" in name:
            assert parameter.requires_grad
            parameter.data += 0.5
    model.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(tiny_clip_text(), tmp_path)
    with torch.no_grad():
        assert torch.equal(states(loaded, random_batch()), states(model, random_batch()))
    keys = load_file(tmp_path / "adapter_model.safetensors")
    assert [key for key in keys if "dasd_" not in key] == [
        key for key in keys if key.rsplit(".", 1)[0].endswith("final_layer_norm")
    ]


def test_the_configuration_on_disk_says_what_it_is(tiny_bert, tmp_path):
    get_peft_model(tiny_bert(), DASDConfig(r=4, layers_to_transform=1)).save_pretrained(tmp_path)
    written = json.loads((tmp_path / "adapter_config.json").read_text(encoding="utf-8"))
    assert written["peft_type"] == "DASD"
    assert written["target_modules"] == ["encoder.layer.1"]
    assert (written["mode"], written["r"], written["inference_mode"]) == ("dynamic", 4, True)


@pytest.mark.parametrize(
    ("values", "bytes_each"), [({}, 4), ({"generator_rank": None}, 2)], ids=["default", "full, half"]
)
def test_an_adapter_for_512_x_12_is_at_most_16_mb(values, bytes_each, tmp_path):
    sizes = {"hidden_size": 512, "num_hidden_layers": 12, "num_attention_heads": 8, "intermediate_size": 8}
    base = BertModel(BertConfig(vocab_size=10, **sizes), add_pooling_layer=False)
    model = get_peft_model(base, DASDConfig(**values))
    (model.half() if bytes_each == 2 else model).save_pretrained(tmp_path)
    size = (tmp_path / "adapter_model.safetensors").stat().st_size
    assert size <= 16e6
    trained = sum(p.numel() for name, p in model.named_parameters() if "dasd_" in name)
    assert 0 < size - bytes_each * trained < 20_000  # the rest is the header
