"""What a pass costs: one block more than the bare encoder, one product for all cores, no loop over captions."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from peft import get_peft_model
from torch import nn

from ccr_adapters.dasd import DASDConfig, DASDLayer, find_text_encoder


def calls_of(model: nn.Module, run) -> Counter[str]:
    """How often each part of the adapter, and each base block, is called."""
    counts: Counter[str] = Counter()
    handles = []
    for layer in [module for module in model.modules() if isinstance(module, DASDLayer)]:
        parts = {"block": [layer.base_layer], "bottleneck": layer.dasd_bottleneck.values()}
        parts["disentangler"] = layer.dasd_disentangler.values()
        parts["cores"] = [generator.cores for generator in layer.dasd_generator.values()]
        for name, modules in parts.items():
            for module in modules:
                handles.append(module.register_forward_hook(lambda *_, name=name: counts.update([name])))
    with torch.no_grad():
        run()
    for handle in handles:
        handle.remove()
    return counts


@pytest.mark.parametrize(
    ("config", "blocks"),
    [
        ({"prefix_blocks": 1}, 3),  # the first block's output serves both paths
        ({"prefix_blocks": 2}, 4),
        ({"prefix_blocks": 3}, 5),
        ({"mode": "static"}, 3),
        ({"layers_to_transform": [1, 2]}, 3),  # the second block's output serves both paths
        ({"layers_to_transform": [1, 2], "prefix_blocks": 3}, 4),
        ({"layers_to_transform": [2]}, 3),  # what comes in is the prefix
        ({"adapt_from": 1}, 3),
        ({"adapt_from": 2}, 3),
        ({"adapt_from": 1, "prefix_blocks": 3}, 4),
    ],
)
def test_the_condition_costs_only_the_blocks_that_are_not_shared(config, blocks, text_encoder, random_batch, stir):
    model = stir(get_peft_model(text_encoder(), DASDConfig(r=4, **config)))
    counts = calls_of(model, lambda: model(**random_batch(B=5, L=8)))
    adapted = len(config.get("layers_to_transform", [0, 1, 2][config.get("adapt_from", 0) :]))
    unwrapped = 3 - adapted
    assert counts["block"] == blocks - unwrapped
    assert counts["bottleneck"] == adapted
    dynamic = config.get("mode") != "static"
    assert counts["cores"] == counts["disentangler"] == dynamic


@pytest.mark.parametrize("B", [1, 7])
def test_nothing_is_called_more_often_for_more_captions(B, text_encoder, random_batch, stir):
    model = stir(get_peft_model(text_encoder(), DASDConfig(r=4, generator_rank=2)))
    counts = calls_of(model, lambda: model(**random_batch(B=B, L=8) if B > 1 else one(random_batch)))
    assert counts == {"block": 4, "bottleneck": 3, "disentangler": 1, "cores": 1}


def one(random_batch):
    return {key: value[:1] for key, value in random_batch(B=2, L=8).items()}


def test_the_adapters_of_a_mixed_batch_share_the_prefix(text_encoder, random_batch, stir):
    model = get_peft_model(text_encoder(), DASDConfig(r=4), adapter_name="de")
    model.add_adapter("cs", DASDConfig(r=3))
    names = ["de", "cs", "__base__", "cs", "de"]
    counts = calls_of(stir(model), lambda: model(**random_batch(B=5, L=8), adapter_names=names))
    assert counts == {"block": 4, "bottleneck": 6, "disentangler": 2, "cores": 2}


def test_a_batch_of_base_captions_costs_nothing_more(text_encoder, random_batch, stir):
    model = stir(get_peft_model(text_encoder(), DASDConfig(r=4)))
    batch = random_batch(B=3, L=8)
    assert calls_of(model, lambda: model(**batch, adapter_names=["__base__"] * 3)) == {"block": 3}
    with model.disable_adapter():
        assert calls_of(model, lambda: model(**batch)) == {"block": 3}


def test_all_cores_come_out_of_one_matrix(tiny_bert):
    model = get_peft_model(tiny_bert(), DASDConfig(r=4, condition_dim=16, generator_rank=None))
    layer = find_text_encoder(model.get_base_model()).blocks[0]
    assert layer.dasd_generator["default"].cores.weight.shape == (3 * 4 * 4, 16)
    small = get_peft_model(tiny_bert(), DASDConfig(r=4, condition_dim=16, generator_rank=2))
    generator = find_text_encoder(small.get_base_model()).blocks[0].dasd_generator["default"]
    assert generator.cores.weight.shape == (3 * 4 * 4, 2)
    assert generator.mixture.weight.shape == (2, 16)
