"""A new copy changes nothing, bit for bit; a trained one changes captions alone, and the base never."""

from __future__ import annotations

import pytest
import torch
from peft import get_peft_model
from torch import nn

from ccr_adapters.full import FullConfig
from ccr_adapters.modeling.fingerprint import weights_sha256


@pytest.mark.parametrize("config", [{}, {"layers_to_transform": [1], "head": False}, {"layers_to_transform": [0, 2]}])
def test_an_untrained_copy_is_the_base_bit_for_bit(config, encoder, embed, random_batch):
    batch = random_batch(B=5, L=9)
    with torch.no_grad():
        expected = embed(encoder(), batch)
        assert torch.equal(embed(get_peft_model(encoder(), FullConfig(**config)), batch), expected)


def test_after_training_the_base_is_what_it_was_bit_for_bit(encoder, embed, random_batch):
    batch = random_batch(B=4, L=9)
    plain = encoder()
    model = get_peft_model(encoder(), FullConfig())
    before = weights_sha256(model.get_base_model())
    assert before == weights_sha256(plain)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        embed(model, batch).square().mean().backward()
        optimizer.step()
    assert weights_sha256(model.get_base_model()) == before
    with torch.no_grad():
        expected = embed(plain, batch)
        assert (embed(model, batch) - expected).abs().max() > 1e-3
        with model.disable_adapter():
            assert torch.equal(embed(model, batch), expected)


def test_trained_in_place_or_beside_the_base_comes_to_the_same(encoder, embed, random_batch):
    # the slow obvious version: the base itself, with everything frozen but what the configuration names
    plain = encoder().requires_grad_(False)
    model = get_peft_model(encoder(), FullConfig(layers_to_transform=[1, 2]))
    names = {name.replace(".full_copy.default", "") for name, p in model.named_parameters() if p.requires_grad}
    names = {name.removeprefix("base_model.model.") for name in names}
    trained = [parameter for name, parameter in plain.named_parameters() if name in names]
    assert len(trained) == len(names) == sum(p.requires_grad for p in model.parameters()) > 20
    for parameter in trained:
        parameter.requires_grad_(True)
    batch = random_batch(B=4, L=9)
    for each in (plain, model):
        optimizer = torch.optim.SGD([p for p in each.parameters() if p.requires_grad], lr=0.1)
        for _ in range(3):
            optimizer.zero_grad()
            embed(each, batch).square().mean().backward()
            optimizer.step()
    with torch.no_grad():
        torch.testing.assert_close(embed(model, batch), embed(plain, batch), rtol=0, atol=1e-5)
        torch.testing.assert_close(embed(model.merge_and_unload(), batch), embed(plain, batch), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["tiny_clip", "tiny_siglip"])
def test_a_whole_dual_encoder_is_trained_on_its_text_side_alone(name, request, random_batch, stir):
    # frozen like the adapted one: torch's attention pooling (SigLIP) takes another kernel for weights with a gradient
    base = request.getfixturevalue(name)().requires_grad_(False)
    model = stir(get_peft_model(request.getfixturevalue(name)(), FullConfig()))
    inputs = {**random_batch(B=2, L=8), "pixel_values": torch.randn(3, 3, 16, 16)}
    with torch.no_grad():
        expected, found = base(**inputs), model(**inputs)
    assert torch.equal(found.image_embeds, expected.image_embeds)
    assert (found.text_embeds - expected.text_embeds).abs().max() > 0.01
    assert not [n for n, p in model.named_parameters() if "vision" in n and ("full_" in n or p.requires_grad)]


def test_only_copies_train_and_every_weight_of_them_gets_a_gradient(encoder, embed, random_batch, stir):
    model = stir(get_peft_model(encoder(), FullConfig()))
    embed(model, random_batch(B=3, L=9)).square().mean().backward()
    for name, parameter in model.named_parameters():
        assert parameter.requires_grad == (".full_copy." in name), name
        assert (parameter.grad is not None) == (".full_copy." in name), name
    for module in model.modules():
        if isinstance(module, nn.LayerNorm):
            assert module.weight.grad is None or module.weight.grad.abs().sum() > 0


def test_the_wrapper_shows_the_attributes_of_the_module_it_wraps(tiny_bert, tiny_clip):
    block = tiny_bert().encoder.layer[0]
    layer = get_peft_model(tiny_bert(), FullConfig()).get_base_model().encoder.layer[0]
    assert layer.seq_len_dim == block.seq_len_dim
    assert isinstance(layer.attention, nn.Module)
    with pytest.raises(AttributeError, match="no_such_thing"):
        _ = layer.no_such_thing
    with pytest.raises(AttributeError):
        _ = layer.weight
    model = get_peft_model(tiny_clip(), FullConfig()).get_base_model()
    assert model.text_projection.weight is model.text_projection.base_layer.weight


def test_hidden_states_and_attentions_are_those_of_what_ran(text_encoder, random_batch, stir):
    batch = random_batch()
    plain, base = text_encoder(), text_encoder()
    wanted = {"output_hidden_states": True}
    with torch.no_grad():
        base(**batch, **wanted)  # transformers has put its hooks into the blocks before they are copied
        model = get_peft_model(base, FullConfig(layers_to_transform=[1]))
        expected = plain(**batch, **wanted).hidden_states
        found = model(**batch, **wanted).hidden_states
        assert len(found) == len(expected) == 4
        assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))
        found = stir(model)(**batch, **wanted).hidden_states
        assert len(found) == 4
        assert [torch.equal(one, other) for one, other in zip(found, expected, strict=True)] == [
            True,
            True,
            False,
            False,
        ]


def test_an_attention_implementation_chosen_later_reaches_the_copy(text_encoder, embed, random_batch):
    plain = text_encoder()
    model = get_peft_model(text_encoder(), FullConfig())
    for each in (plain, model.get_base_model()):
        each.set_attn_implementation("eager")
    with torch.no_grad():
        assert torch.equal(embed(model, random_batch()), embed(plain, random_batch()))
    kinds = {m.config._attn_implementation for m in model.modules() if hasattr(m, "config")}
    assert kinds == {"eager"}
