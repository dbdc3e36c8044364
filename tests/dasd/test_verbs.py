"""The verbs of peft that change what is on a model: adding, choosing, switching off, deleting, unloading."""

from __future__ import annotations

import pytest
import torch
from peft import get_peft_model, inject_adapter_in_model
from peft.tuners.tuners_utils import BaseTunerLayer, delete_adapter

from ccr_adapters.dasd import DASDConfig, find_text_encoder
from ccr_adapters.dasd.condition import attach_condition


def hooks(model) -> int:
    module = find_text_encoder(model).module
    return sum(hook is attach_condition for hook in module._forward_pre_hooks.values())


@pytest.fixture
def two(encoder, stir):
    """A model with two adapters of different sizes, both changed; `first` is active."""
    model = get_peft_model(encoder(), DASDConfig(r=4), adapter_name="first")
    model.add_adapter("second", DASDConfig(r=6, generator_rank=2, prefix_blocks=1, layers_to_transform=[0, 2]))
    return stir(model)


def test_several_adapters_and_the_choice_between_them(two, states, random_batch, encoder, stir):
    batch = random_batch()
    with torch.no_grad():
        first = states(two, batch)
        two.set_adapter("second")
        second = states(two, batch)
        two.set_adapter("first")
        assert torch.equal(states(two, batch), first)
        alone = get_peft_model(encoder(), DASDConfig(r=4), adapter_name="first")
        alone.load_state_dict({k: v for k, v in two.state_dict().items() if ".second." not in k}, strict=True)
        torch.testing.assert_close(states(alone, batch), first)
    assert (first - second).abs().max() > 0.01
    assert two.active_adapter == "first"


def test_only_the_chosen_adapter_trains(two):
    for chosen in ("second", "first"):
        two.set_adapter(chosen)
        trained = {name.split(".")[-3] for name, p in two.named_parameters() if p.requires_grad and ".up." in name}
        assert trained == {chosen}
        for name, parameter in two.named_parameters():
            assert parameter.requires_grad == (f".{chosen}." in name), name


def test_two_adapters_at_once_are_refused(two, states, random_batch):
    batch = random_batch()
    with torch.no_grad():
        before = states(two, batch)
        with pytest.raises(ValueError, match=r"One DASD adapter can be active at a time.*adapter_names"):
            two.base_model.set_adapter(["first", "second"])
        assert torch.equal(states(two, batch), before)


def test_a_disabled_adapter_is_not_there(two, states, random_batch, encoder):
    batch = random_batch()
    with torch.no_grad():
        expected = states(encoder(), batch)
        with two.disable_adapter():
            assert torch.equal(states(two, batch), expected)
        assert not torch.equal(states(two, batch), expected)


def test_a_deleted_adapter_leaves_the_other_alone(two, states, random_batch):
    batch = random_batch()
    with torch.no_grad():
        two.set_adapter("second")
        second = states(two, batch)
        two.delete_adapter("first")
        assert torch.equal(states(two, batch), second)
    assert not [name for name, _ in two.named_parameters() if ".first." in name]
    assert list(two.peft_config) == ["second"]
    for layer in two.modules():
        if isinstance(layer, BaseTunerLayer):
            assert "first" not in layer.dasd_settings


def test_deleting_the_last_adapter_leaves_the_base(encoder, states, random_batch, stir):
    # through transformers' verb: `PeftModel.forward` itself needs an active adapter, of any method
    model = stir(inject_adapter_in_model(DASDConfig(r=4), encoder(), adapter_name="de"))
    with torch.no_grad():
        delete_adapter(model, "de", prefix="dasd_")
        assert torch.equal(states(model, random_batch()), states(encoder(), random_batch()))


def test_merging_is_refused_and_says_why(two, states, random_batch):
    batch = random_batch()
    with torch.no_grad():
        before = states(two, batch)
        for call in (two.merge_and_unload, two.merge_adapter, two.base_model.merge_and_unload):
            with pytest.raises(ValueError, match=r"cannot be merged.*generated anew for every caption.*unload\(\)"):
                call()
        assert torch.equal(states(two, batch), before)
    layer = next(module for module in two.modules() if isinstance(module, BaseTunerLayer))
    with pytest.raises(ValueError, match="cannot be merged"):
        layer.merge()
    with pytest.raises(ValueError, match="cannot be merged"):
        layer.unmerge()
    assert not layer.merged


def test_a_static_adapter_cannot_be_merged_either(tiny_bert):
    # its relu stands between the two maps
    with pytest.raises(ValueError, match="cannot be merged"):
        get_peft_model(tiny_bert(), DASDConfig(mode="static", r=4)).merge_and_unload()


def test_unload_gives_the_base_back_bit_for_bit(two, states, random_batch, encoder):
    assert hooks(two.get_base_model()) == 1
    base = two.unload()
    plain = encoder()
    assert type(base) is type(plain)
    assert not any(isinstance(module, BaseTunerLayer) for module in base.modules())
    assert hooks(base) == 0
    assert list(base.state_dict()) == list(plain.state_dict())
    batch = random_batch()
    with torch.no_grad():
        assert torch.equal(states(base, batch), states(plain, batch))


def test_a_model_can_be_adapted_again_after_unloading(encoder, states, random_batch, stir):
    base = stir(get_peft_model(encoder(), DASDConfig(r=4))).unload()
    with torch.no_grad():
        again = get_peft_model(base, DASDConfig(r=6))
        assert torch.equal(states(again, random_batch()), states(encoder(), random_batch()))
        stir(again)
        assert not torch.allclose(states(again, random_batch()), states(encoder(), random_batch()))
    assert hooks(base) == 1


def test_injection_without_a_wrapper(encoder, states, random_batch, stir):
    batch = random_batch()
    torch.manual_seed(0)
    model = inject_adapter_in_model(DASDConfig(r=4), encoder(), adapter_name="one")
    with torch.no_grad():
        assert torch.equal(states(model, batch), states(encoder(), batch))
        stir(model)
        torch.manual_seed(0)
        wrapped = stir(get_peft_model(encoder(), DASDConfig(r=4), adapter_name="one"))
        torch.testing.assert_close(states(model, batch), states(wrapped, batch))
    assert hooks(model) == 1
    inject_adapter_in_model(DASDConfig(r=8, mode="static"), model, adapter_name="two")
    assert hooks(model) == 1


def test_print_trainable_parameters_counts_the_adapter(encoder, capsys):
    model = get_peft_model(encoder(), DASDConfig(r=4))
    own = sum(p.numel() for name, p in model.named_parameters() if "dasd_" in name)
    every = sum(p.numel() for p in model.parameters())
    model.print_trainable_parameters()
    assert capsys.readouterr().out.startswith(f"trainable params: {own:,} || all params: {every:,}")


@pytest.mark.parametrize("name", ["__base__", "de.v1", "layer", "encoder", "down", "weight", "cores"])
def test_a_name_that_cannot_be_an_adapter_is_refused(name, tiny_bert, states, random_batch):
    # peft tells adapters apart by ".name." in a key: one called "layer" would be lost on saving, without a word
    model = get_peft_model(tiny_bert(), DASDConfig(r=4), adapter_name="de")
    with pytest.raises(ValueError, match=f"cannot be called '{name}'"):
        get_peft_model(tiny_bert(), DASDConfig(r=4), adapter_name=name)
    with pytest.raises(ValueError, match=f"cannot be called '{name}'"):
        model.add_adapter(name, DASDConfig(r=4))
    assert list(model.peft_config) == ["de"]


def test_the_name_of_a_deleted_adapter_is_free_again(two):
    two.set_adapter("second")
    two.delete_adapter("first")
    two.add_adapter("first", DASDConfig(r=2))
    assert list(two.peft_config) == ["second", "first"]
