"""The ablations of the condition: what a caption's cores are generated from is all that they depend on."""

from __future__ import annotations

import pytest
import torch
from peft import PeftModel, get_peft_model

from ccr_adapters.dasd import DASDConfig
from ccr_adapters.dasd.condition import Features
from ccr_adapters.dasd.generator import CoreGenerator

KINDS = ["both", "related", "agnostic", "nothing"]


def cores(kind, related, agnostic):
    torch.manual_seed(0)
    return CoreGenerator(6, 8, 3, 4, 2, kind)(Features(related, agnostic))


@pytest.mark.parametrize(("kind", "reads"), [("both", {0, 1}), ("related", {0}), ("agnostic", {1})])
def test_a_core_depends_on_the_features_that_were_chosen(kind, reads):
    features = [torch.randn(5, 6), torch.randn(5, 6)]
    before = cores(kind, *features)
    for which in (0, 1):
        changed = list(features)
        changed[which] = torch.randn(5, 6)
        assert torch.equal(cores(kind, *changed), before) == (which not in reads)


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_saved_loaded_and_independent_of_batch_mates(kind, encoder, states, stir, random_batch, tmp_path):
    config = DASDConfig(r=4, condition_dim=8, generator_rank=3, condition_on=kind)
    model = stir(get_peft_model(encoder(), config))
    batch = random_batch(B=5, L=9)
    with torch.no_grad():
        expected = states(model, batch)
        alone = states(model, {key: value[2:3] for key, value in batch.items()})
    torch.testing.assert_close(expected[2:3], alone, atol=1e-5, rtol=0)
    model.save_pretrained(tmp_path)
    with torch.no_grad():
        assert torch.equal(states(PeftModel.from_pretrained(encoder(), tmp_path), batch), expected)
    assert DASDConfig.from_pretrained(tmp_path).condition_on == kind


@pytest.mark.parametrize("kind", KINDS)
def test_all_of_its_weights_learn(kind, encoder, states, stir, random_batch):
    model = stir(get_peft_model(encoder(), DASDConfig(r=4, condition_dim=8, generator_rank=3, condition_on=kind)))
    states(model, random_batch(B=5, L=9)).square().sum().backward()
    blind = {name for name, p in model.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())}
    # the feature that is not read is trained by its own terms alone
    unread = {"related": "agnostic", "agnostic": "related"}.get(kind)
    assert all("dasd_disentangler" in name and unread and unread in name for name in blind), blind


def test_one_core_for_all_captions_makes_the_adapter_a_static_one(tiny_bert, states, stir, random_batch):
    model = stir(get_peft_model(tiny_bert(), DASDConfig(r=4, condition_on="nothing")))
    assert not DASDConfig(condition_on="nothing").disentangles
    assert DASDConfig().disentangles
    assert not [name for name, _ in model.named_parameters() if "disentangler" in name]
    batch = random_batch(B=3, L=7)
    core = next(p for name, p in model.named_parameters() if name.endswith(".core"))
    static = get_peft_model(tiny_bert(), DASDConfig(mode="static", r=4))
    weights = dict(model.named_parameters())
    with torch.no_grad():
        blocks = core.view(-1, 4, 4)
        for name, parameter in static.named_parameters():
            if "dasd_bottleneck" not in name:
                continue
            index = int(name.split(".layer.")[1].split(".")[0])
            value = weights[name]
            if "down" in name:  # relu((D x) W) = relu((W' D) x)
                value = blocks[index].T @ value
            parameter.copy_(value)
        torch.testing.assert_close(states(static, batch), states(model, batch), atol=1e-5, rtol=1e-5)
