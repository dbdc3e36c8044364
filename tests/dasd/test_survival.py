"""What a model goes through in use: compilers, half precision, recomputation, copies, threads."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from peft import get_peft_model, inject_adapter_in_model

from ccr_adapters.dasd import DASDConfig, find_text_encoder
from ccr_adapters.dasd.condition import attach_condition


@pytest.fixture
def model(text_encoder, stir):
    """A changed dynamic adapter on each kind of encoder."""
    return stir(get_peft_model(text_encoder(), DASDConfig(r=4), adapter_name="de")).eval()


def gradients(model):
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def test_compiled_equals_eager(model, random_batch):
    batch = random_batch(B=4, L=9)
    torch._dynamo.reset()
    compiled = torch.compile(model, backend="eager")
    with torch.no_grad():
        expected = model(**batch).last_hidden_state
        torch.testing.assert_close(compiled(**batch).last_hidden_state, expected, rtol=0, atol=1e-5)


def test_compiled_trains_like_eager_and_takes_names(tiny_clip_text, random_batch, stir):
    model = stir(get_peft_model(tiny_clip_text(), DASDConfig(r=4, layers_to_transform=[0, 1]), adapter_name="de"))
    batch = random_batch(B=3, L=8)
    model(**batch).last_hidden_state.square().mean().backward()
    eager = gradients(model)
    model.zero_grad()
    torch._dynamo.reset()
    compiled = torch.compile(model, backend="aot_eager")
    compiled(**batch).last_hidden_state.square().mean().backward()
    for name, value in gradients(model).items():
        torch.testing.assert_close(value, eager[name], rtol=1e-3, atol=1e-5)
    names = ["de", "__base__", "de"]
    with torch.no_grad():
        expected = model(**batch, adapter_names=names).last_hidden_state
        torch.testing.assert_close(
            compiled(**batch, adapter_names=names).last_hidden_state, expected, rtol=0, atol=1e-5
        )


def test_bf16_autocast_stays_near_float32(model, random_batch):
    batch = random_batch()
    expected = model(**batch).last_hidden_state
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = model(**batch).last_hidden_state
    assert (found.float() - expected).abs().max() < 0.15
    found.float().square().mean().backward()
    for name, gradient in gradients(model).items():
        assert gradient.dtype == torch.float32, name
        assert torch.isfinite(gradient).all(), name


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_base_in_half_precision(dtype, text_encoder, random_batch, stir):
    batch = random_batch()
    expected = stir(get_peft_model(text_encoder(), DASDConfig(r=4)))
    model = get_peft_model(text_encoder().to(dtype), DASDConfig(r=4))
    # trained weights stay in full precision, as in every method of peft
    assert {p.dtype for p in model.parameters() if p.requires_grad} == {torch.float32}
    model.load_state_dict(expected.state_dict(), strict=True)
    found = model(**batch).last_hidden_state
    assert found.dtype == dtype
    assert (found.float() - expected(**batch).last_hidden_state).abs().max() < 0.2
    found.float().square().mean().backward()
    assert all(torch.isfinite(gradient).all() for gradient in gradients(model).values())


def test_everything_in_bf16(model, random_batch):
    expected = model(**random_batch()).last_hidden_state
    found = model.to(torch.bfloat16)(**random_batch()).last_hidden_state
    assert found.dtype == torch.bfloat16
    assert (found.float() - expected).abs().max() < 0.2


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("mixed", [False, True])
def test_gradient_checkpointing_changes_nothing(reentrant, mixed, text_encoder, random_batch, stir):
    model = stir(get_peft_model(text_encoder(), DASDConfig(r=4), adapter_name="de")).train()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    batch = random_batch(B=4, L=9)
    extra = {"adapter_names": ["de", "__base__", "de", "de"]} if mixed else {}
    model(**batch, **extra).last_hidden_state.square().mean().backward()
    expected = gradients(model)
    model.zero_grad()
    model.gradient_checkpointing_enable({"use_reentrant": reentrant})
    calls = []
    for block in find_text_encoder(model.get_base_model()).blocks:
        inner = next(m for m in block.base_layer.modules() if isinstance(m, torch.nn.LayerNorm))
        inner.register_forward_hook(lambda *_: calls.append(1))
    output = model(**batch, **extra).last_hidden_state.square().mean()
    assert len(calls) == 4
    output.backward()
    assert len(calls) > 4  # blocks were recomputed
    found = gradients(model)
    assert found.keys() == expected.keys()
    for name, value in found.items():
        torch.testing.assert_close(value, expected[name], rtol=1e-4, atol=1e-6, msg=name)


def test_a_copy_stands_on_its_own(model, random_batch, stir):
    batch = random_batch()
    with torch.no_grad():
        expected = model(**batch).last_hidden_state
        twin = copy.deepcopy(model)
        assert torch.equal(twin(**batch).last_hidden_state, expected)
        stir(twin, seed=5)
        # the prefix is run through blocks of its own
        for name, parameter in twin.named_parameters():
            if "base_layer" in name:
                parameter.zero_()
        assert torch.equal(model(**batch).last_hidden_state, expected)
        assert not torch.allclose(twin(**batch).last_hidden_state, expected)
    originals = {id(module) for module in model.modules()}
    assert not originals & {id(module) for module in twin.modules()}
    for layer in twin.modules():
        for block in getattr(layer, "_blocks", []):
            assert id(block) not in originals


def test_a_pickled_model_comes_back(model, random_batch):
    batch = random_batch()
    with torch.no_grad():
        expected = model(**batch).last_hidden_state
        twin = pickle.loads(pickle.dumps(model))
        assert torch.equal(twin(**batch).last_hidden_state, expected)
        assert torch.equal(twin(**batch, adapter_names=["de"] * 4).last_hidden_state, expected)


def test_a_model_is_unpickled_in_another_process(tiny_bert, random_batch, stir, tmp_path):
    model = stir(inject_adapter_in_model(DASDConfig(r=4), tiny_bert()))
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


def test_two_threads_encode_at_once(tiny_clip_text, random_batch, stir):
    model = get_peft_model(tiny_clip_text(), DASDConfig(r=4), adapter_name="de")
    model.add_adapter("cs", DASDConfig(r=6))
    stir(model).eval()
    batches = [random_batch(B=B, L=L, seed=B) for B, L in ((2, 6), (5, 12), (3, 9), (7, 4))]
    names = ["de", "cs", "__base__", "de"]

    def encode(index: int) -> torch.Tensor:
        with torch.no_grad():
            batch = batches[index]
            return model(**batch, adapter_names=[names[index]] * len(batch["input_ids"])).last_hidden_state

    expected = [encode(index) for index in range(4)]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(15):
            for found, alone in zip(pool.map(encode, range(4)), expected, strict=True):
                torch.testing.assert_close(found, alone, rtol=0, atol=1e-5)
    module = model.get_base_model().text_model
    assert list(module._forward_pre_hooks.values()).count(attach_condition) <= 1
