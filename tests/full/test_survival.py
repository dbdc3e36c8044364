"""What a model goes through in use: compilers, half precision, recomputation, copies."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys

import pytest
import torch
from peft import get_peft_model, inject_adapter_in_model
from torch import nn

from ccr_adapters.dasd import find_text_encoder
from ccr_adapters.full import FullConfig


@pytest.fixture
def model(text_encoder, stir):
    """Changed copies on each kind of encoder."""
    return stir(get_peft_model(text_encoder(), FullConfig(), adapter_name="de")).eval()


def gradients(model):
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def test_compiled_equals_eager_and_follows_the_choice(tiny_clip_text, random_batch, stir):
    model = stir(get_peft_model(tiny_clip_text(), FullConfig(layers_to_transform=[1]), adapter_name="de"))
    batch = random_batch(B=4, L=9)
    torch._dynamo.reset()
    compiled = torch.compile(model, backend="eager")
    with torch.no_grad():
        adapted = model(**batch).text_embeds
        torch.testing.assert_close(compiled(**batch).text_embeds, adapted, rtol=0, atol=1e-5)
        with model.disable_adapter():
            plain = model(**batch).text_embeds
            torch.testing.assert_close(compiled(**batch).text_embeds, plain, rtol=0, atol=1e-5)
    assert (plain - adapted).abs().max() > 1e-3


def test_bf16_autocast_stays_near_float32(model, embed, random_batch):
    batch = random_batch()
    expected = embed(model, batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = embed(model, batch)
    assert (found.float() - expected).abs().max() < 0.15
    found.float().square().mean().backward()
    for name, gradient in gradients(model).items():
        assert gradient.dtype == torch.float32, name
        assert torch.isfinite(gradient).all(), name


def test_on_a_base_in_half_precision_copies_are_too(text_encoder, embed, random_batch, stir):
    batch = random_batch()
    with torch.no_grad():
        plain = text_encoder().to(torch.bfloat16)
        model = get_peft_model(text_encoder().to(torch.bfloat16), FullConfig())
        assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
        assert torch.equal(embed(model, batch), embed(plain, batch))
        expected = embed(stir(get_peft_model(text_encoder(), FullConfig())), batch)
        assert (embed(stir(model), batch).float() - expected).abs().max() < 0.2


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("when", ["before", "after"])
def test_gradient_checkpointing_changes_nothing(reentrant, when, text_encoder, random_batch, embed, stir):
    batch = random_batch(B=4, L=9)

    def build(checkpointing: bool) -> nn.Module:
        base = text_encoder().train()
        for module in base.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        config = FullConfig(layers_to_transform=[0, 2])
        if checkpointing and when == "before":
            base.gradient_checkpointing_enable({"use_reentrant": reentrant})
        model = stir(get_peft_model(base, config, adapter_name="de")).train()
        if checkpointing and when == "after":
            model.get_base_model().gradient_checkpointing_enable({"use_reentrant": reentrant})
        if checkpointing and reentrant:
            # as everywhere in peft: this kind of recomputation asks the first block's input for a gradient
            model.get_base_model().enable_input_require_grads()
        return model

    plain, model = build(False), build(True)
    embed(plain, batch).square().mean().backward()
    expected = gradients(plain)
    calls = []
    for block in find_text_encoder(model.get_base_model()).blocks:
        # also of those that no copy was made of
        inside = block.full_copy["de"] if hasattr(block, "full_copy") else block
        inner = next(module for module in inside.modules() if isinstance(module, nn.LayerNorm))
        inner.register_forward_hook(lambda *_: calls.append(1))
    output = embed(model, batch).square().mean()
    assert len(calls) == 3
    output.backward()
    assert len(calls) > 3  # blocks were recomputed
    found = gradients(model)
    assert found.keys() == expected.keys()
    assert len(found) > 20
    for name, value in found.items():
        torch.testing.assert_close(value, expected[name], rtol=1e-4, atol=1e-6, msg=name)


def test_a_copy_of_the_model_stands_on_its_own(model, embed, random_batch, stir):
    batch = random_batch()
    with torch.no_grad():
        expected = embed(model, batch)
        twin = copy.deepcopy(model)
        assert torch.equal(embed(twin, batch), expected)
        stir(twin, seed=5)
        assert torch.equal(embed(model, batch), expected)
        assert not torch.allclose(embed(twin, batch), expected)
    assert not {id(module) for module in model.modules()} & {id(module) for module in twin.modules()}
    assert not {p.data_ptr() for p in model.parameters()} & {p.data_ptr() for p in twin.parameters()}


def test_copies_share_no_weight_with_the_base_or_each_other(model):
    model.add_adapter("cs", FullConfig())
    pointers = [parameter.data_ptr() for parameter in model.parameters()]
    assert len(set(pointers)) == len(pointers)


def test_a_pickled_model_comes_back(model, embed, random_batch):
    batch = random_batch()
    with torch.no_grad():
        assert torch.equal(embed(pickle.loads(pickle.dumps(model)), batch), embed(model, batch))


def test_a_model_is_unpickled_in_another_process(tiny_bert, random_batch, stir, tmp_path):
    model = stir(inject_adapter_in_model(FullConfig(), tiny_bert()))
    batch = random_batch()
    with torch.no_grad():
        expected = model(**batch).last_hidden_state
    (tmp_path / "model").write_bytes(pickle.dumps((model, batch, expected)))
    code = (
        "import pickle, sys, pathlib, torch\n"
        "model, batch, expected = pickle.loads(pathlib.Path(sys.argv[1]).read_bytes())\n"
        "with torch.no_grad(): found = model(**batch).last_hidden_state\n"
        "sys.exit(not torch.allclose(found, expected, atol=1e-6))\n"
    )
    outcome = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "model"],
        env={"PYTHONPATH": ":".join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert outcome.returncode == 0, outcome.stderr
