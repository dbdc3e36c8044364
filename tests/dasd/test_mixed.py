"""Captions of several languages in one batch, each with its own adapter: the same as apart, however it is asked for."""

from __future__ import annotations

import pytest
import torch
from peft import get_peft_model, inject_adapter_in_model

from ccr_adapters.dasd import Condition, DASDConfig

CONFIGS = {
    "de": {"r": 4},
    "cs": {"r": 6, "prefix_blocks": 3, "generator_rank": 2, "sr_pooling": "mean"},
    "zh": {"mode": "static", "r": 5},
    "sw": {"r": 3, "layers_to_transform": [1, 2], "prefix_blocks": 1},
}
NAMES = ["cs", "de", "__base__", "zh", "de", "sw", "cs"]
TOLERANCE = {"rtol": 0.0, "atol": 1e-5}


@pytest.fixture
def wrapped(text_encoder, stir):
    """A PeftModel with four adapters of different kinds, all changed."""
    model = None
    for name, values in CONFIGS.items():
        if model is None:
            model = get_peft_model(text_encoder(), DASDConfig(**values), adapter_name=name)
        else:
            model.add_adapter(name, DASDConfig(**values))
    return stir(model).eval()


@pytest.fixture
def batch(random_batch):
    """One caption for each of the names."""
    return random_batch(B=len(NAMES), L=9)


def apart(model, batch, names):
    """Each caption by itself, with its adapter switched on for the whole model."""
    found = []
    for row, name in enumerate(names):
        one = {key: value[row : row + 1] for key, value in batch.items()}
        if name == "__base__":
            with model.disable_adapter():
                found.append(model(**one).last_hidden_state)
        else:
            model.set_adapter(name)
            found.append(model(**one).last_hidden_state)
    return torch.cat(found)


@torch.no_grad()
def test_a_mixed_batch_equals_the_captions_apart(wrapped, batch):
    real = batch["attention_mask"].bool()
    expected = apart(wrapped, batch, NAMES)
    found = wrapped(**batch, adapter_names=NAMES).last_hidden_state
    torch.testing.assert_close(found[real], expected[real], **TOLERANCE)
    for row, name in enumerate(NAMES):
        if name != "__base__":
            assert (found[row] - found[2]).abs().max() > 0.01


@torch.no_grad()
def test_names_need_no_wrapper(wrapped, batch):
    real = batch["attention_mask"].bool()
    expected = wrapped(**batch, adapter_names=NAMES).last_hidden_state
    injected = wrapped.get_base_model()
    found = injected(**batch, adapter_names=NAMES).last_hidden_state
    torch.testing.assert_close(found[real], expected[real], **TOLERANCE)
    condition = Condition(batch["input_ids"], batch["attention_mask"], NAMES)
    found = injected(**batch, dasd_condition=condition).last_hidden_state
    torch.testing.assert_close(found[real], expected[real], **TOLERANCE)
    assert {name: len(core) for name, core in condition.cores.items()} == {"de": 2, "cs": 2, "sw": 1}


@torch.no_grad()
def test_one_name_for_all_and_the_base_for_all(wrapped, batch, text_encoder):
    wrapped.set_adapter("cs")
    expected = wrapped(**batch).last_hidden_state
    wrapped.set_adapter("zh")
    found = wrapped(**batch, adapter_names=["cs"] * 7).last_hidden_state
    torch.testing.assert_close(found, expected, **TOLERANCE)
    base = wrapped(**batch, adapter_names=["__base__"] * 7).last_hidden_state
    assert torch.equal(base, text_encoder()(**batch).last_hidden_state)


@torch.no_grad()
def test_names_hold_for_one_call_only(wrapped, batch):
    wrapped.set_adapter("zh")
    before = wrapped(**batch).last_hidden_state
    wrapped(**batch, adapter_names=NAMES)
    with pytest.raises(ValueError, match="fr"):
        wrapped(**batch, adapter_names=["fr"] * 7)
    assert torch.equal(wrapped(**batch).last_hidden_state, before)


def test_a_name_that_is_not_there_is_refused(wrapped, batch):
    names = [*NAMES[:-1], "fr"]
    for model in (wrapped, wrapped.get_base_model()):
        with pytest.raises(ValueError, match=r"fr.*There are: .*cs"):
            model(**batch, adapter_names=names)


@pytest.mark.parametrize("names", [NAMES[:-1], [*NAMES, "de"], ["de"], []])
def test_one_name_a_caption_or_none(names, wrapped, batch):
    for model in (wrapped, wrapped.get_base_model()):
        with pytest.raises(ValueError, match=rf"{len(names)} .*7"):
            model(**batch, adapter_names=names)


def test_a_mixed_batch_trains_each_row_on_its_own_adapter(text_encoder, batch, stir):
    model = stir(inject_adapter_in_model(DASDConfig(r=4), text_encoder(), adapter_name="de"))
    inject_adapter_in_model(DASDConfig(r=3), model, adapter_name="cs")
    for name, parameter in stir(model).named_parameters():
        parameter.requires_grad_("dasd_" in name)
    model(**batch, adapter_names=["de", "de", "de", "cs", "cs", "cs", "__base__"]).last_hidden_state[
        :3
    ].sum().backward()
    for name, parameter in model.named_parameters():
        if ".de." in name:
            assert parameter.grad is not None, name
        elif ".cs." in name:
            assert parameter.grad is None or not parameter.grad.any(), name


@torch.no_grad()
@pytest.mark.parametrize("name", ["tiny_clip", "tiny_siglip"])
def test_a_whole_dual_encoder_takes_names_too(name, request, random_batch, stir):
    model = get_peft_model(request.getfixturevalue(name)(), DASDConfig(r=4), adapter_name="de")
    model.add_adapter("cs", DASDConfig(r=3))
    stir(model)
    inputs = {**random_batch(B=3, L=8), "pixel_values": torch.ones(1, 3, 16, 16)}
    found = model(**inputs, adapter_names=["cs", "__base__", "de"]).text_embeds
    for row, active in enumerate(["cs", "__base__", "de"]):
        alone = model(**inputs, adapter_names=[active] * 3).text_embeds
        torch.testing.assert_close(found[row], alone[row], **TOLERANCE)
