"""The verbs of peft that change what is on a model: adding, choosing, switching off, deleting, merging, unloading."""

from __future__ import annotations

import pytest
import torch
from peft import get_peft_model, inject_adapter_in_model
from peft.tuners.tuners_utils import BaseTunerLayer, delete_adapter

from ccr_adapters.full import FullConfig


@pytest.fixture
def two(encoder, stir):
    """A model with two adapters on different blocks, both changed; `first` is active."""
    model = get_peft_model(encoder(), FullConfig(layers_to_transform=[0, 1]), adapter_name="first")
    model.add_adapter("second", FullConfig(layers_to_transform=[1, 2], head=False))
    return stir(model)


def test_several_adapters_and_the_choice_between_them(two, embed, random_batch, encoder):
    batch = random_batch()
    with torch.no_grad():
        first = embed(two, batch)
        two.set_adapter("second")
        second = embed(two, batch)
        two.set_adapter("first")
        assert torch.equal(embed(two, batch), first)
        for name, expected in (("first", first), ("second", second)):
            alone = get_peft_model(encoder(), FullConfig(target_modules=list(two.peft_config[name].target_modules)))
            state = {key: value for key, value in two.state_dict().items() if f".full_copy.{name}." in key}
            state = {key.replace(f".{name}.", ".default."): value for key, value in state.items()}
            base = {key: value for key, value in alone.state_dict().items() if ".full_copy." not in key}
            alone.load_state_dict({**base, **state}, strict=True)
            assert torch.equal(embed(alone, batch), expected)
    assert (first - second).abs().max() > 0.01
    assert two.active_adapter == "first"


def test_only_the_chosen_adapter_trains(two):
    for chosen in ("second", "first"):
        two.set_adapter(chosen)
        for name, parameter in two.named_parameters():
            assert parameter.requires_grad == (f".full_copy.{chosen}." in name), name


def test_two_adapters_at_once_are_refused(two, embed, random_batch, tiny_bert):
    batch = random_batch()
    with torch.no_grad():
        before = embed(two, batch)
        with pytest.raises(ValueError, match="One fully fine-tuned adapter can be active"):
            two.base_model.set_adapter(["first", "second"])
        with pytest.raises(ValueError, match="`adapter_names` is not known"):
            embed(two, batch, adapter_names=["first", "second", "first", "first"])
        assert torch.equal(embed(two, batch), before)
        # transformers' verb asks no tuner
        model = tiny_bert()
        model.add_adapter(FullConfig(), "first")
        model.add_adapter(FullConfig(), "second")
        model.set_adapter(["first", "second"])
        with pytest.raises(ValueError, match=r"not \['first', 'second'\]"):
            model(**batch)


def test_a_disabled_adapter_is_not_there(two, embed, random_batch, encoder):
    batch = random_batch()
    with torch.no_grad():
        expected = embed(encoder(), batch)
        with two.disable_adapter():
            assert torch.equal(embed(two, batch), expected)
        assert not torch.equal(embed(two, batch), expected)


def test_a_new_adapter_starts_from_the_base_not_from_the_active_one(two, embed, random_batch, encoder):
    two.add_adapter("third", FullConfig())
    two.set_adapter("third")
    with torch.no_grad():
        assert torch.equal(embed(two, random_batch()), embed(encoder(), random_batch()))


def test_a_deleted_adapter_leaves_the_other_alone(two, embed, random_batch):
    batch = random_batch()
    with torch.no_grad():
        two.set_adapter("second")
        second = embed(two, batch)
        two.delete_adapter("first")
        assert torch.equal(embed(two, batch), second)
        assert not [name for name, _ in two.named_parameters() if ".first." in name]
        assert list(two.peft_config) == ["second"]
        two.add_adapter("first", FullConfig())  # the name is free again
        assert torch.equal(embed(two, batch), second)


def test_deleting_the_last_adapter_leaves_the_base(encoder, embed, random_batch, stir):
    # through transformers' verb: `PeftModel.forward` itself needs an active adapter, of any method
    model = stir(inject_adapter_in_model(FullConfig(), encoder(), adapter_name="de"))
    with torch.no_grad():
        delete_adapter(model, "de", prefix="full_")
        assert torch.equal(embed(model, random_batch()), embed(encoder(), random_batch()))


@pytest.mark.parametrize("name", ["first", "second"])
@pytest.mark.parametrize("named", [True, False])
def test_merged_it_is_a_plain_model(name, named, two, embed, random_batch, encoder):
    batch, plain = random_batch(), encoder()
    two.set_adapter(name)
    with torch.no_grad():
        expected = embed(two, batch)
        if named:
            two.set_adapter("first")
        merged = two.merge_and_unload(safe_merge=True, adapter_names=[name] if named else None)
        assert torch.equal(embed(merged, batch), expected)
        assert not torch.equal(embed(merged, batch), embed(plain, batch))
    assert type(merged) is type(plain)
    assert not any(isinstance(module, BaseTunerLayer) for module in merged.modules())
    assert list(merged.state_dict()) == list(plain.state_dict())
    assert not any(parameter.requires_grad for parameter in merged.parameters())


def test_what_cannot_be_merged_is_refused_before_anything_changes(two, embed, random_batch):
    batch = random_batch()
    layer = next(module for module in two.modules() if isinstance(module, BaseTunerLayer))
    with torch.no_grad():
        before = embed(two, batch)
        for call in (two.merge_adapter, layer.merge, layer.unmerge):
            with pytest.raises(ValueError, match=r"not merged into the base in place.*`merge_and_unload\(\)`"):
                call()
        for names in (["first", "second"], ["nobody"], []):
            with pytest.raises(ValueError, match="One adapter can be merged.*There are: first, second"):
                two.merge_and_unload(adapter_names=names)
        broken = next(p for name, p in two.named_parameters() if ".full_copy.second." in name)
        kept = broken.clone()
        broken[0] = torch.inf
        with pytest.raises(ValueError, match="'second' seems to be broken"):
            two.merge_and_unload(safe_merge=True, adapter_names=["second"])
        broken.copy_(kept)
        assert torch.equal(embed(two, batch), before)
    assert not layer.merged


def test_unload_gives_the_base_back_bit_for_bit(two, embed, random_batch, encoder, stir):
    base, plain, batch = two.unload(), encoder(), random_batch()
    assert type(base) is type(plain)
    assert not any(isinstance(module, BaseTunerLayer) for module in base.modules())
    assert list(base.state_dict()) == list(plain.state_dict())
    with torch.no_grad():
        expected = embed(plain, batch)
        assert torch.equal(embed(base, batch), expected)
        again = get_peft_model(base, FullConfig(layers_to_transform=[2]))
        assert torch.equal(embed(again, batch), expected)
        assert not torch.allclose(embed(stir(again), batch), expected)


def test_print_trainable_parameters_counts_the_copies(encoder, capsys):
    model = get_peft_model(encoder(), FullConfig(layers_to_transform=[0]))
    own = sum(p.numel() for name, p in model.named_parameters() if ".full_copy." in name)
    every = sum(p.numel() for p in model.parameters())
    assert every == own + sum(p.numel() for p in encoder().parameters())
    model.print_trainable_parameters()
    assert capsys.readouterr().out.startswith(f"trainable params: {own:,} || all params: {every:,}")


@pytest.mark.parametrize("name", ["de.v1", "layer", "encoder", "weight", "base_layer", "full_copy", "to", "training"])
def test_a_name_that_cannot_be_an_adapter_is_refused(name, tiny_bert):
    # peft tells adapters apart by ".name." in a key: one called "layer" would be lost on saving, without a word
    model = get_peft_model(tiny_bert(), FullConfig(), adapter_name="de")
    with pytest.raises(ValueError, match=f"cannot be called '{name}'"):
        get_peft_model(tiny_bert(), FullConfig(), adapter_name=name)
    with pytest.raises(ValueError, match=f"cannot be called '{name}'"):
        model.add_adapter(name, FullConfig())
    assert list(model.peft_config) == ["de"]
