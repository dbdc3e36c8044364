"""Which blocks are adapted, and what is said when that cannot be; a failed call leaves the model as it was."""

from __future__ import annotations

import pytest
import torch
from peft import get_peft_model, inject_adapter_in_model
from peft.tuners.tuners_utils import BaseTunerLayer

from ccr_adapters.dasd import DASDConfig, DASDLayer, find_text_encoder


def adapted(model) -> list[int]:
    blocks = find_text_encoder(model.get_base_model()).blocks
    return [index for index, block in enumerate(blocks) if isinstance(block, DASDLayer)]


@pytest.mark.parametrize(
    ("layers", "expected"), [(None, [0, 1, 2]), (1, [1]), ([0, 2], [0, 2]), ([2, 0], [0, 2]), ([2], [2])]
)
def test_blocks_by_index(layers, expected, encoder, states, random_batch, stir):
    model = get_peft_model(encoder(), DASDConfig(r=4, layers_to_transform=layers))
    assert adapted(model) == expected
    batch = random_batch()
    with torch.no_grad():
        before = states(model, batch)
        assert torch.equal(before, states(encoder(), batch))
        assert not torch.allclose(states(stir(model), batch), before)


@pytest.mark.parametrize(
    ("targets", "expected"),
    [
        (["layers.1"], [1]),
        (["text_model.encoder.layers.0", "text_model.encoder.layers.2"], [0, 2]),
        (r"text_model\.encoder\.layers\.[01]", [0, 1]),
        (r".*\.layers\.\d", [0, 1, 2]),
    ],
)
def test_blocks_by_name_or_pattern(targets, expected, tiny_clip_text, random_batch, stir):
    model = get_peft_model(tiny_clip_text(), DASDConfig(r=4, target_modules=targets))
    assert adapted(model) == expected
    model.add_adapter("second", DASDConfig(r=3, target_modules=targets))
    model.set_adapter("second")
    batch = random_batch()
    with torch.no_grad():
        assert torch.equal(model(**batch).last_hidden_state, tiny_clip_text()(**batch).last_hidden_state)


def test_blocks_can_be_left_out(tiny_bert):
    model = get_peft_model(tiny_bert(), DASDConfig(r=4, exclude_modules=["encoder.layer.1"]))
    assert adapted(model) == [0, 2]


def test_adapters_above_the_prefix_read_what_comes_in(tiny_bert, random_batch, stir):
    # the condition of blocks {2} with a prefix of two is that of blocks {0, 1, 2}
    late = get_peft_model(tiny_bert(), DASDConfig(r=4, layers_to_transform=[2], condition_dim=8))
    stir(late)
    layer = find_text_encoder(late.get_base_model()).blocks[2]
    read = []
    layer.dasd_disentangler["default"].register_forward_hook(lambda _, args, __: read.append(args[0]))
    batch = random_batch()
    with torch.no_grad():
        late(**batch)
        expected = tiny_bert()(**batch, output_hidden_states=True).hidden_states[2]
    assert torch.equal(read[0], expected)


BAD = {
    "no such block": (
        {"layers_to_transform": [0, 3]},
        r"`layers_to_transform` is \[0, 3\]; the encoder has blocks 0 to 2",
    ),
    "negative block": ({"layers_to_transform": -1}, r"`layers_to_transform` is -1; the encoder has blocks 0 to 2"),
    "no block": ({"layers_to_transform": []}, r"`layers_to_transform` is \[\]"),
    "no match": ({"target_modules": ["decoder.7"]}, r"decoder\.7.* matches no block .*layers\.0 to .*layers\.2"),
    "half a block": ({"target_modules": ["q_proj"]}, r"q_proj.* no block"),
    "another part": ({"target_modules": ["final_layer_norm"]}, "final_layer_norm, which is no block"),
    "everything left out": ({"exclude_modules": r".*layers\.\d"}, "matches no block"),
    "above all": ({"adapt_from": 3}, "`adapt_from` is 3; the encoder has blocks 0 to 2"),
    "long prefix": ({"prefix_blocks": 4}, "`prefix_blocks` is 4, but the encoder has 3 blocks"),
    "high block": (
        {"layers_to_transform": [2], "prefix_blocks": 1},
        r"first adapted block is 2, behind the 1 blocks.*`prefix_blocks`",
    ),
    "no end token": ({"sr_pooling": "eos", "pooling_token_id": -1}, "`pooling_token_id` is -1"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_failed_call_leaves_the_model_as_it_was(case, tiny_clip_text, random_batch):
    values, message = BAD[case]
    model = tiny_clip_text()
    names = [name for name, _ in model.named_modules()]
    batch = random_batch()
    with torch.no_grad():
        before = model(**batch).last_hidden_state
        with pytest.raises(ValueError, match=message):
            get_peft_model(model, DASDConfig(r=4, **values))
        assert torch.equal(model(**batch).last_hidden_state, before)
    assert [name for name, _ in model.named_modules()] == names
    assert not model._forward_pre_hooks
    assert not model.text_model._forward_pre_hooks
    assert [p.requires_grad for p in model.parameters()] == [True] * len(list(model.parameters()))


@pytest.mark.parametrize("case", BAD)
def test_a_second_adapter_that_fails_leaves_the_first(case, tiny_clip_text, random_batch, stir):
    values, message = BAD[case]
    model = stir(get_peft_model(tiny_clip_text(), DASDConfig(r=4), adapter_name="de"))
    batch = random_batch()
    with torch.no_grad():
        before = model(**batch).last_hidden_state
        with pytest.raises(ValueError, match=message):
            model.add_adapter("cs", DASDConfig(r=3, **values))
        assert torch.equal(model(**batch).last_hidden_state, before)
    assert list(model.peft_config) == ["de"]
    assert not [name for name, _ in model.named_modules() if ".cs" in name]
    model.add_adapter("cs", DASDConfig(r=3))
    assert adapted(model) == [0, 1, 2]


def test_a_picture_tower_is_never_a_target(tiny_clip):
    with pytest.raises(ValueError, match=r"vision_model\.encoder\.layers\.0, which is no block of the text encoder"):
        get_peft_model(tiny_clip(), DASDConfig(r=4, target_modules=["layers.0"]))
    model = inject_adapter_in_model(DASDConfig(r=4), tiny_clip())
    assert not any(isinstance(m, BaseTunerLayer) for m in model.vision_model.modules())


def test_a_position_without_a_known_end_token_is_refused(tiny_bert):
    # BERT's configuration names no end token: `argmax(input_ids)` would read a random word
    base = tiny_bert()
    base.config.eos_token_id = None
    with pytest.raises(ValueError, match="`pooling_token_id`"):
        get_peft_model(base, DASDConfig(r=4, sr_pooling="eos"))
    get_peft_model(base, DASDConfig(r=4, sr_pooling="eos", pooling_token_id=3))
