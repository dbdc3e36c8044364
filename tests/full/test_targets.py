"""What is copied, and what is said when that cannot be; a failed call leaves the model as it was."""

from __future__ import annotations

import pytest
import torch
from peft import LoraConfig, get_peft_model, inject_adapter_in_model
from torch import nn

from ccr_adapters.dasd import DASDConfig
from ccr_adapters.full import FullConfig, FullLayer

HEAD = {
    "tiny_clip_text": ["text_model.final_layer_norm", "text_projection"],
    "tiny_siglip_text": ["final_layer_norm", "head"],
    "tiny_bert": [],
    "tiny_xlmr": [],
    "tiny_clip": ["text_model.final_layer_norm", "text_projection"],
    "tiny_siglip": ["text_model.final_layer_norm", "text_model.head"],
}


def copied(model: nn.Module) -> list[str]:
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    return [name for name, module in inner.named_modules() if isinstance(module, FullLayer)]


@pytest.mark.parametrize("name", HEAD)
@pytest.mark.parametrize(
    ("layers", "expected"), [(None, [0, 1, 2]), (1, [1]), ([2, 0, 0], [0, 2]), ([2], [2])], ids=repr
)
@pytest.mark.parametrize("head", [True, False])
def test_blocks_by_index_and_the_head(layers, expected, head, name, request):
    model = get_peft_model(request.getfixturevalue(name)(), FullConfig(layers_to_transform=layers, head=head))
    blocks = [each for each in copied(model) if ".layer" in each]
    assert [int(each.rsplit(".", 1)[1]) for each in blocks] == expected
    assert not [each for each in blocks if "vision" in each]
    assert sorted(set(copied(model)) - set(blocks)) == sorted(HEAD[name] if head else [])


def test_the_head_alone(tiny_siglip, random_batch, embed, stir):
    model = get_peft_model(tiny_siglip(), FullConfig(layers_to_transform=[]))
    assert copied(model) == ["text_model.final_layer_norm", "text_model.head"]
    with torch.no_grad():
        before = embed(model, random_batch())
        assert not torch.equal(embed(stir(model), random_batch()), before)


def test_a_bare_text_model_of_clip_has_a_norm_and_no_projection(tiny_clip_text):
    model = inject_adapter_in_model(FullConfig(), tiny_clip_text().text_model)
    assert copied(model) == ["encoder.layers.0", "encoder.layers.1", "encoder.layers.2", "final_layer_norm"]


@pytest.mark.parametrize(
    ("targets", "expected"),
    [
        (["layers.1"], ["text_model.encoder.layers.1"]),
        (["text_projection", "layers.2"], ["text_model.encoder.layers.2", "text_projection"]),
        (r"text_model\.encoder\.layers\.[01]", ["text_model.encoder.layers.0", "text_model.encoder.layers.1"]),
    ],
)
def test_targets_by_name_or_pattern(targets, expected, tiny_clip_text, random_batch, embed):
    model = get_peft_model(tiny_clip_text(), FullConfig(target_modules=targets))
    assert copied(model) == expected
    model.add_adapter("second", FullConfig(target_modules=targets))
    model.set_adapter("second")
    with torch.no_grad():
        assert torch.equal(embed(model, random_batch()), embed(tiny_clip_text(), random_batch()))
    assert sum(".full_copy.second." in name for name, _ in model.named_parameters()) == sum(
        ".full_copy.default." in name for name, _ in model.named_parameters()
    )


def test_modules_can_be_left_out(tiny_clip_text):
    model = get_peft_model(tiny_clip_text(), FullConfig(exclude_modules=["layers.1", "final_layer_norm"]))
    assert copied(model) == ["text_model.encoder.layers.0", "text_model.encoder.layers.2", "text_projection"]


BAD = {
    "no such block": (
        {"layers_to_transform": [0, 3]},
        r"`layers_to_transform` is \[0, 3\]; the encoder has blocks 0 to 2",
    ),
    "nothing": ({"layers_to_transform": [], "head": False}, "`head` is False, so there is nothing to train"),
    "no match": (
        {"target_modules": ["decoder.7"]},
        r"decoder\.7.* matches no block .*layers\.0 to .*layers\.2, .*norm",
    ),
    "half a block": ({"target_modules": ["layer_norm1"]}, r"layers\.0\.layer_norm1, .* which is no block"),
    "a block and its parts": ({"target_modules": r".*layers\.1.*"}, r"layers\.1\.self_attn, .* which is no block"),
    "another part": ({"target_modules": ["embeddings"]}, "text_model.embeddings, which is no block"),
    "everything left out": ({"exclude_modules": r"text_.*"}, "matches no block"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_failed_call_leaves_the_model_as_it_was(case, tiny_clip_text, random_batch, embed):
    values, message = BAD[case]
    model = tiny_clip_text()
    names = [name for name, _ in model.named_modules()]
    with torch.no_grad():
        before = embed(model, random_batch())
        with pytest.raises(ValueError, match=message):
            get_peft_model(model, FullConfig(**values))
        assert torch.equal(embed(model, random_batch()), before)
    assert [name for name, _ in model.named_modules()] == names
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("case", BAD)
def test_a_second_adapter_that_fails_leaves_the_first(case, tiny_clip_text, random_batch, embed, stir):
    values, message = BAD[case]
    model = stir(get_peft_model(tiny_clip_text(), FullConfig(), adapter_name="de"))
    with torch.no_grad():
        before = embed(model, random_batch())
        with pytest.raises(ValueError, match=message):
            model.add_adapter("cs", FullConfig(**values))
        assert torch.equal(embed(model, random_batch()), before)
    assert list(model.peft_config) == ["de"]
    assert not [name for name, _ in model.named_modules() if ".cs" in name]


def test_a_picture_tower_is_never_a_target(tiny_clip):
    with pytest.raises(ValueError, match=r"vision_model\.encoder\.layers\.0, which is no block"):
        get_peft_model(tiny_clip(), FullConfig(target_modules=["layers.0"]))


@pytest.mark.parametrize(
    "other", [DASDConfig(r=4), LoraConfig(r=4, target_modules=["q_proj"])], ids=["around the block", "inside it"]
)
def test_blocks_with_adapters_of_another_method_are_refused(other, tiny_clip_text, random_batch, embed, stir):
    model = inject_adapter_in_model(other, tiny_clip_text(), "de")
    names = [name for name, _ in model.named_modules()]
    with (
        pytest.raises(ValueError, match="carries adapters of another method"),
        pytest.warns(UserWarning, match="Already"),
    ):
        inject_adapter_in_model(FullConfig(), model, "cs")
    assert [name for name, _ in model.named_modules()] == names


def test_a_quantised_base_is_refused(tiny_bert):
    model = tiny_bert()
    weight = model.encoder.layer[1].output.dense.weight
    model.encoder.layer[1].output.dense.weight = nn.Parameter(weight.to(torch.int8), requires_grad=False)
    with pytest.raises(ValueError, match=r"'encoder\.layer\.1' is quantised"):
        get_peft_model(model, FullConfig())
    assert copied(get_peft_model(model, FullConfig(layers_to_transform=[0]))) == ["encoder.layer.0"]
