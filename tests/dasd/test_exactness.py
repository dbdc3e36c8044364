"""What a caption becomes: equal to a slow re-implementation, and independent of whom it is encoded with."""

from __future__ import annotations

import pytest
import torch
from peft import get_peft_model, inject_adapter_in_model
from torch import Tensor, nn

from ccr_adapters.dasd import DASDConfig, find_text_encoder

TOLERANCE = {"rtol": 0.0, "atol": 1e-5}


def wrapped_blocks(model: nn.Module) -> list[nn.Module]:
    return list(find_text_encoder(model.get_base_model()).blocks)


def run_block(block: nn.Module, states: Tensor) -> Tensor:
    output = block.base_layer(states, attention_mask=None)
    return output[0] if isinstance(output, tuple) else output


def oracle(model: nn.Module, caption: Tensor, end: int, family: str) -> Tensor:
    """One caption, from the equations of the paper: the prefix is run by itself, every core by itself. (1, L) -> (L, w)"""
    encoder = find_text_encoder(model.get_base_model())
    blocks = list(encoder.blocks)
    embedded: list[Tensor] = []
    handle = blocks[0].register_forward_pre_hook(lambda _, args: embedded.append(args[0]))
    masks: list[dict] = []
    other = blocks[0].base_layer.register_forward_pre_hook(
        lambda _, args, kwargs: masks.append((args, kwargs)), with_kwargs=True
    )
    with model.disable_adapter():
        model.get_base_model()(input_ids=caption)
    handle.remove()
    other.remove()
    args, kwargs = masks[0]

    def through(block: nn.Module, hidden: Tensor) -> Tensor:
        output = block.base_layer(hidden, *args[1:], **kwargs)
        return output[0] if isinstance(output, tuple) else output

    hidden = embedded[0]
    # first pass: the frozen prefix alone, block after block
    prefix = hidden
    for block in blocks[:2]:
        prefix = through(block, prefix)
    owner = blocks[0]
    heads, generator = owner.dasd_disentangler["default"], owner.dasd_generator["default"]
    at = {"eos": end, "first": 0, "last": caption.shape[1] - 1}[family]
    read = prefix[0, at]
    related = heads.related_head(heads.related_norm(read))  # (d,)
    total = torch.zeros_like(read)
    for token in range(caption.shape[1]):
        total = total + prefix[0, token]
    agnostic = heads.agnostic_head(heads.agnostic_norm(total / caption.shape[1]))  # (d,)
    z = generator.condition(torch.cat([related, agnostic]))
    z = z / (1 + torch.exp(-1.702 * z))
    if generator.mixture is not None:
        z = generator.mixture.weight @ z
    rank = generator.rank
    # second pass: adapted, with the core of each block cut out of the generator's matrix
    for index, block in enumerate(blocks):
        hidden = through(block, hidden)
        rows = slice(index * rank * rank, (index + 1) * rank * rank)
        core = (generator.cores.weight[rows] @ z + generator.cores.bias[rows]).view(rank, rank)
        bottleneck = block.dasd_bottleneck["default"]
        for token in range(caption.shape[1]):
            x = hidden[0, token].clone()
            inner = (bottleneck.down.weight @ x + bottleneck.down.bias) @ core
            hidden[0, token] = x + bottleneck.up.weight @ inner.clamp_min(0) + bottleneck.up.bias
    return hidden[0]


@pytest.mark.parametrize("generator_rank", [None, 3])
def test_dynamic_equals_the_equations_caption_by_caption(generator_rank, text_encoder, random_batch, stir):
    config = DASDConfig(r=4, condition_dim=16, generator_rank=generator_rank)
    model = stir(get_peft_model(text_encoder(), config))
    batch = random_batch(B=4, L=9)
    encoder = find_text_encoder(model.get_base_model())
    last: list[Tensor] = []
    encoder.blocks[-1].register_forward_hook(lambda _, __, output: last.append(output))
    with torch.no_grad():
        for ids, mask in zip(batch["input_ids"], batch["attention_mask"], strict=True):
            caption = ids[mask.bool()].unsqueeze(0)  # (1, L) without padding
            expected = oracle(model, caption, caption.shape[1] - 1, encoder.anatomy.pooling)
            last.clear()
            model(input_ids=caption, attention_mask=torch.ones_like(caption))
            found = last[0][0] if isinstance(last[0], tuple) else last[0]
            torch.testing.assert_close(found[0], expected, **TOLERANCE)


def test_static_equals_the_acquirer_by_hand(text_encoder, random_batch, stir):
    model = stir(get_peft_model(text_encoder(), DASDConfig(mode="static", r=5)))
    batch = random_batch(B=3, L=7)
    block = wrapped_blocks(model)[1]
    seen: list[tuple[Tensor, Tensor]] = []

    def look(module, args, kwargs, output):
        with torch.no_grad():
            plain = module.base_layer(*args, **{k: v for k, v in kwargs.items() if k != "dasd_condition"})
        first = (value[0] if isinstance(value, tuple) else value for value in (plain, output))
        seen.append(tuple(first))

    block.register_forward_hook(look, with_kwargs=True)
    with torch.no_grad():
        model(**batch)
    plain, found = seen[0]
    part = block.dasd_bottleneck["default"]
    expected = plain + torch.relu(plain @ part.down.weight.T + part.down.bias) @ part.up.weight.T + part.up.bias
    torch.testing.assert_close(found, expected, **TOLERANCE)
    assert (found - plain).abs().max() > 0.1


@pytest.mark.parametrize("mode", ["dynamic", "static"])
def test_a_caption_does_not_depend_on_its_batch_mates(mode, text_encoder, random_batch, stir, states):
    model = stir(get_peft_model(text_encoder(), DASDConfig(mode=mode, r=4)))
    batch = random_batch(B=6, L=10)
    with torch.no_grad():
        together = states(model, batch)
        for row in range(6):
            alone = states(model, {key: value[row : row + 1] for key, value in batch.items()})
            length = int(batch["attention_mask"][row].sum())
            torch.testing.assert_close(alone[0, :length], together[row, :length], **TOLERANCE)
        order = torch.tensor([3, 0, 5, 1, 4, 2])
        shuffled = states(model, {key: value[order] for key, value in batch.items()})
        torch.testing.assert_close(shuffled, together[order], **TOLERANCE)


@pytest.mark.parametrize("name", ["tiny_clip_text", "tiny_bert", "tiny_xlmr"])
def test_a_caption_does_not_depend_on_its_padding(name, request, random_batch, stir, states):
    # SigLIP is left out: it pools the last position, so that padding counts in the base already
    model = stir(get_peft_model(request.getfixturevalue(name)(), DASDConfig(r=4)))
    batch = random_batch(B=4, L=9)
    longer = {key: torch.cat([value, value.new_zeros(4, 7)], dim=1) for key, value in batch.items()}
    other_pad = {**longer, "input_ids": longer["input_ids"].masked_fill(longer["attention_mask"] == 0, 17)}
    real = batch["attention_mask"].bool()
    with torch.no_grad():
        expected = states(model, batch)
        for padded in (longer, other_pad) if name != "tiny_xlmr" else (longer,):
            torch.testing.assert_close(states(model, padded)[:, :9][real], expected[real], **TOLERANCE)


def test_the_features_of_a_pass_do_not_depend_on_padding_either(tiny_clip_text, random_batch, stir):
    from ccr_adapters.dasd import Condition

    model = stir(inject_adapter_in_model(DASDConfig(r=4), tiny_clip_text()))
    batch = random_batch(B=4, L=9)
    found = []
    for extra in (0, 8):
        padded = {key: torch.cat([value, value.new_zeros(4, extra)], dim=1) for key, value in batch.items()}
        condition = Condition(padded["input_ids"], padded["attention_mask"])
        with torch.no_grad():
            model(**padded, dasd_condition=condition)
        found.append(condition.features["default"])
    torch.testing.assert_close(found[0].related, found[1].related, **TOLERANCE)
    torch.testing.assert_close(found[0].agnostic, found[1].agnostic, **TOLERANCE)
    assert found[0].related.shape == found[0].agnostic.shape == (4, 24)
    assert found[0].related.std(dim=0).min() > 1e-3  # not the same for every caption
