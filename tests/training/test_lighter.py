"""Less memory through the real trainer: bf16, activation checkpointing, 8-bit optimiser states."""

from __future__ import annotations

import pytest
import torch

from ccr_adapters.dasd import DASDConfig


def losses(trainer):
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def products(method):
    """Precision of each product that the last block computes; filled as training goes on."""
    seen = []
    dense = method.model._tower().encoder.blocks[-1].get_submodule("base_layer.intermediate.dense")
    dense.register_forward_hook(lambda *given: seen.append(given[2].dtype))
    return seen


def test_bf16_computes_in_bf16_and_keeps_the_weights_in_float32(toy, tmp_path):
    whole = toy.trainer(tmp_path / "whole", max_steps=2)
    whole.train()
    method = toy.method()
    kinds = products(method)
    trainer = toy.trainer(tmp_path / "half", method, max_steps=2, bf16=True)
    trainer.train()
    assert set(kinds) == {torch.bfloat16}
    assert {value.dtype for value in method.trainable_state().values()} == {torch.float32}
    assert losses(trainer) == pytest.approx(losses(whole), rel=0.02)
    assert losses(trainer) != losses(whole)


@pytest.mark.parametrize("name", ["activation_checkpointing", "gradient_checkpointing"])
@pytest.mark.parametrize("chunk", [None, 3])
def test_checkpointing_trains_the_same(name, chunk, toy, tmp_path, same):
    whole = toy.trainer(tmp_path / "whole", max_steps=2, mini_batch_size=chunk)
    plain = products(whole.model)
    whole.train()
    method = toy.method()
    again = products(method)
    trainer = toy.trainer(tmp_path / "again", method, max_steps=2, mini_batch_size=chunk, **{name: True})
    trainer.train()
    assert len(again) > len(plain)
    same(method, whole.model)


@pytest.fixture
def wide(toy):
    """A method whose adapter is large enough for states in 8 bits: bitsandbytes leaves small ones as they are."""
    return lambda: toy.method(adapter=DASDConfig(r=16, condition_dim=64, generator_rank=32))


def test_eight_bit_states_resume(wide, toy, tmp_path, same):
    values = {"optim": "adamw_8bit", "save_strategy": "steps", "save_steps": 2, "num_train_epochs": 2}
    whole = toy.trainer(tmp_path / "whole", wide(), **values)
    whole.train()
    states = whole.optimizer.state.values()
    assert torch.uint8 in {state["state1"].dtype for state in states}
    plain = toy.trainer(tmp_path / "plain", wide(), num_train_epochs=2)
    plain.train()
    assert losses(whole) == pytest.approx(losses(plain), rel=0.02)
    cut = toy.trainer(tmp_path / "whole", wide(), **values)
    cut.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-4"))
    same(cut.model, whole.model)
