"""A new adapter changes nothing, bit for bit; a changed one changes captions alone."""

from __future__ import annotations

import pytest
import torch
from peft import get_peft_model
from torch import nn

from ccr_adapters.dasd import DASDConfig

MODES = {
    "dynamic": {},
    "full": {"generator_rank": None},
    "static": {"mode": "static"},
    "long prefix": {"generator_rank": 2, "prefix_blocks": 3},
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("masked", [True, False], ids=["mask", "no mask"])
def test_an_untrained_adapter_is_the_identity_bit_for_bit(mode, masked, encoder, states, random_batch):
    batch = random_batch(B=5, L=9)
    if not masked:
        del batch["attention_mask"]
    with torch.no_grad():
        expected = states(encoder(), batch)
        found = states(get_peft_model(encoder(), DASDConfig(r=4, **MODES[mode])), batch)
    assert torch.equal(found, expected)


def test_weights_that_moved_do_change_the_captions(encoder, states, random_batch, stir):
    batch = random_batch(B=5, L=9)
    model = stir(get_peft_model(encoder(), DASDConfig(r=4)))
    with torch.no_grad():
        assert (states(model, batch) - states(encoder(), batch)).abs().amax(dim=(1, 2)).min() > 0.01


@pytest.mark.parametrize("name", ["tiny_clip", "tiny_siglip"])
def test_a_whole_dual_encoder_is_adapted_on_its_text_side_alone(name, request, random_batch, stir):
    # frozen like the adapted one: torch's attention pooling (SigLIP) takes another kernel for weights with a gradient
    base = request.getfixturevalue(name)().requires_grad_(False)
    model = stir(get_peft_model(request.getfixturevalue(name)(), DASDConfig(r=4)))
    inputs = {**random_batch(B=2, L=8), "pixel_values": torch.randn(3, 3, 16, 16)}
    with torch.no_grad():
        expected, found = base(**inputs), model(**inputs)
    assert torch.equal(found.image_embeds, expected.image_embeds)
    assert (found.text_embeds - expected.text_embeds).abs().max() > 0.01
    assert not [n for n, p in model.named_parameters() if "vision" in n and ("dasd_" in n or p.requires_grad)]


def test_only_adapter_weights_are_trainable_and_all_of_them_are(encoder):
    model = get_peft_model(encoder(), DASDConfig(r=4))
    for name, parameter in model.named_parameters():
        assert parameter.requires_grad == ("dasd_" in name), name


def test_every_adapter_weight_gets_a_gradient(encoder, states, random_batch, stir):
    model = stir(get_peft_model(encoder(), DASDConfig(r=4, generator_rank=3)))
    states(model, random_batch(B=3, L=9)).square().mean().backward()
    for name, parameter in model.named_parameters():
        if "dasd_" in name:
            assert parameter.grad is not None, name
            assert parameter.grad.abs().sum() > 0, name
        else:
            assert parameter.grad is None, name


def test_at_birth_the_core_is_the_identity_and_the_up_projections_are_zero(tiny_bert):
    model = get_peft_model(tiny_bert(), DASDConfig(r=4))
    layer = model.get_base_model().encoder.layer[0]
    bias = layer.dasd_generator["default"].cores.bias.view(3, 4, 4)
    assert torch.equal(bias, torch.eye(4).expand(3, 4, 4))
    for block in model.get_base_model().encoder.layer:
        up = block.dasd_bottleneck["default"].up
        assert not up.weight.any()
        assert not up.bias.any()


def test_weights_need_not_start_as_the_identity(tiny_bert, states, random_batch):
    batch = random_batch()
    model = get_peft_model(tiny_bert(), DASDConfig(r=4, init_weights=False))
    with torch.no_grad():
        assert not torch.allclose(states(model, batch), states(tiny_bert(), batch))


def test_the_wrapper_shows_the_attributes_of_the_block_it_wraps(tiny_bert):
    block = tiny_bert().encoder.layer[0]
    model = get_peft_model(tiny_bert(), DASDConfig(r=4))
    layer = model.get_base_model().encoder.layer[0]
    assert layer.seq_len_dim == block.seq_len_dim
    assert isinstance(layer.attention, nn.Module)
    with pytest.raises(AttributeError, match="no_such_thing"):
        _ = layer.no_such_thing
