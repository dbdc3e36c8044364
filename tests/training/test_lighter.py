"""Less memory through the real trainer: bf16, activation checkpointing, another optimiser."""

from __future__ import annotations

from dataclasses import fields

import pytest
import torch
from transformers import TrainingArguments

from ccr_adapters.configuration import VocabularyConfig
from ccr_adapters.dasd import DASDConfig
from ccr_adapters.methods import DASD
from ccr_adapters.processing.collator import TargetCollator


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


# the same under both its names, as far as this version of transformers knows them
NAMES = {"activation_checkpointing", "gradient_checkpointing"} & {field.name for field in fields(TrainingArguments)}


@pytest.mark.parametrize("name", sorted(NAMES))
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


def test_the_optimiser_is_the_one_asked_for(toy, tmp_path):
    """With the groups' own rates."""
    trainer = toy.trainer(tmp_path, max_steps=2, optim="rmsprop", auxiliary_learning_rate=0.5)
    before = {name: value.clone() for name, value in trainer.model.trainable_state().items()}
    trainer.train()
    optimizer = trainer.optimizer.optimizer
    assert type(optimizer) is torch.optim.RMSprop
    assert {group["name"]: group["initial_lr"] for group in optimizer.param_groups} == {
        "adapter": 5e-3,
        "auxiliary": 0.5,
    }
    assert all(not value.equal(before[name]) for name, value in trainer.model.trainable_state().items() if "up" in name)


def test_states_in_eight_bits_take_a_quarter_and_resume_bit_for_bit(toy, tmp_path, same):
    def method():
        made = toy.method()
        torch.manual_seed(4)
        made.model.add_language("cs", DASDConfig(r=16, generator_rank=64))
        made.model.trainable("cs")
        return DASD(made.model, "cs", made.terms)

    def states(trainer):
        """Bytes kept for each byte of the largest tensor; small ones keep 32 bits."""
        largest = max((p for p in trainer.model.parameters() if p.requires_grad), key=torch.numel)
        kept = trainer.optimizer.optimizer.state[largest]
        return sum(value.nbytes for value in kept.values() if isinstance(value, torch.Tensor)) / largest.nbytes

    values = {"max_steps": 4, "save_strategy": "steps", "save_steps": 2}
    plain = toy.trainer(tmp_path / "plain", method(), **values)
    plain.train()
    whole = toy.trainer(tmp_path / "whole", method(), optim="adamw_8bit", **values)
    whole.train()
    assert states(plain) == pytest.approx(2, rel=0.01)
    assert states(whole) == pytest.approx(0.5, abs=0.1)
    again = toy.trainer(tmp_path / "whole", method(), optim="adamw_8bit", **values)
    again.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-2"))
    same(again.model, whole.model)
    assert losses(whole) == pytest.approx(losses(plain), rel=0.05)


def test_a_vocabularys_table_keeps_states_of_32_bits(toy, german_tokenizer, tmp_path):
    """As transformers has it for embeddings: at a step most of their rows get no gradient."""
    method = toy.method()
    plan = VocabularyConfig(400, 32)
    adapter = DASDConfig(r=64, condition_dim=64, generator_rank=4)
    method.model.add_language("cs", adapter, tokenizer=german_tokenizer, vocabulary=plan)
    method.model.trainable("cs")
    own = DASD(method.model, "cs", method.terms)
    collator = TargetCollator(own.model.processor, "cs", toy.visual, toy.image_index, source=toy.source)
    trainer = toy.trainer(tmp_path, own, optim="adamw_8bit", max_steps=1, data_collator=collator)
    trainer.train()
    kept = trainer.optimizer.optimizer.state
    states = {name: kept[p] for name, p in own.named_parameters() if p in kept}
    kinds = {name: found["state1"].dtype for name, found in states.items()}
    (table,) = [name for name in kinds if name.endswith("table.weight")]
    assert kinds.pop(table) == torch.float32
    assert torch.uint8 in kinds.values()
