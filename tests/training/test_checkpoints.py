"""Killed at any moment and started again, training ends where it would have ended; a loss that is not finite stops it."""

from __future__ import annotations

import json
import logging
import os

import pytest
import torch
from safetensors.torch import load_file
from transformers import TrainerCallback

from ccr_adapters.dasd import DASDConfig
from ccr_adapters.errors import ConfigError, TrainingError
from ccr_adapters.methods import DASD, DASDTerms
from ccr_adapters.training import last_checkpoint
from ccr_adapters.training.checkpoints import COMPLETE, WEIGHTS, MarkComplete, Patience, ended, remove_incomplete


class PowerCutError(Exception):
    """The machine goes off."""


class PowerCut(TrainerCallback):
    """Ends a run in the middle of a step."""

    def __init__(self, step):
        self.step = step

    def on_pre_optimizer_step(self, args, state, control, **kwargs):
        if state.global_step + 1 == self.step:
            raise PowerCutError


def resumed(toy, folder, cut, **values):
    """Train until the power is cut, then go on with new objects, as a new process would."""
    values = {"save_strategy": "steps", **values}
    with pytest.raises(PowerCutError):
        toy.trainer(folder, callbacks=[PowerCut(cut)], **values).train()
    torch.manual_seed(99)
    trainer = toy.trainer(folder, **values)
    checkpoint = last_checkpoint(folder)
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    return trainer, checkpoint


CASES = {
    "in the first epoch": (3, {"save_steps": 2}, 2),
    "in the second epoch": (6, {"save_steps": 5}, 5),
    "between epochs": (5, {"save_steps": 3}, 3),
    "before any checkpoint": (2, {"save_steps": 4}, None),
    "with transformers' order": (6, {"save_steps": 5, "lengths": None}, 5),
    "with accumulated gradients": (
        3,
        {"save_steps": 2, "per_device_train_batch_size": 4, "gradient_accumulation_steps": 2},
        2,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_resumed_run_equals_one_that_was_never_cut(case, toy, tmp_path, same):
    cut, values, step = CASES[case]
    whole = toy.trainer(tmp_path / "whole", **values)
    whole.train()
    trainer, checkpoint = resumed(toy, tmp_path / "cut", cut, **values)
    assert (checkpoint and checkpoint.name) == (step and f"checkpoint-{step}")
    assert trainer.state.global_step == whole.state.global_step == 9
    same(trainer.model, whole.model)


def test_the_discriminator_and_the_vocabulary_resume_too(toy, tmp_path, same, german_tokenizer):
    def method():
        made = toy.method()
        torch.manual_seed(4)
        made.model.add_language("cs", DASDConfig(r=4, generator_rank=4), tokenizer=german_tokenizer)
        made.model.trainable("cs")
        return DASD(made.model, "cs", made.terms)

    values = {"save_steps": 2, "save_strategy": "steps"}
    whole = toy.trainer(tmp_path / "whole", method(), **values)
    whole.train()
    with pytest.raises(PowerCutError):
        toy.trainer(tmp_path / "cut", method(), callbacks=[PowerCut(6)], **values).train()
    trainer = toy.trainer(tmp_path / "cut", method(), **values)
    trainer.train(resume_from_checkpoint=str(last_checkpoint(tmp_path / "cut")))
    assert {name.split(".")[0] for name in whole.model.trainable_state()} == {"discriminator", "model"}
    assert any("vocabularies.cs" in name for name in whole.model.trainable_state())
    same(trainer.model, whole.model)


def test_a_checkpoint_holds_what_was_trained_and_no_more(toy, tmp_path):
    trainer = toy.trainer(tmp_path, save_strategy="epoch", save_total_limit=2)
    trainer.train()
    assert sorted(path.name for path in tmp_path.glob("checkpoint-*")) == ["checkpoint-6", "checkpoint-9"]
    newest = last_checkpoint(tmp_path)
    assert newest.name == "checkpoint-9"
    assert json.loads((newest / COMPLETE).read_text())["step"] == 9
    saved = load_file(newest / WEIGHTS)
    assert saved.keys() == trainer.model.trainable_state().keys()
    assert all("dasd_" in name or name.startswith("discriminator.") for name in saved)
    assert list(newest.glob("*.safetensors")) == [newest / WEIGHTS]
    assert not list(newest.glob(".*"))


def test_a_half_written_checkpoint_is_ignored_and_removed(toy, tmp_path, caplog):
    toy.trainer(tmp_path, save_strategy="epoch").train()
    (tmp_path / "checkpoint-9" / COMPLETE).unlink()
    (tmp_path / "checkpoint-old").mkdir()
    (tmp_path / "checkpoint-12").write_text("no folder", encoding="utf-8")
    assert last_checkpoint(tmp_path).name == "checkpoint-6"
    with caplog.at_level(logging.WARNING):
        assert remove_incomplete(tmp_path) == ["checkpoint-9"]
    assert "checkpoint-9" in caplog.text
    assert sorted(path.name for path in tmp_path.glob("checkpoint-*")) == [
        "checkpoint-12",
        "checkpoint-6",
        "checkpoint-old",
    ]


def test_the_newest_is_told_by_its_number_not_by_its_name(tmp_path):
    for step in (9, 10, 100):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        (folder / COMPLETE).write_text("{}", encoding="utf-8")
        (folder / WEIGHTS).write_bytes(b"")
    assert last_checkpoint(tmp_path).name == "checkpoint-100"
    (tmp_path / "checkpoint-100" / WEIGHTS).unlink()
    assert last_checkpoint(tmp_path).name == "checkpoint-10"
    assert last_checkpoint(tmp_path / "nowhere") is None


def test_a_damaged_checkpoint_is_named(toy, tmp_path):
    toy.trainer(tmp_path, save_strategy="epoch").train()
    path = last_checkpoint(tmp_path) / WEIGHTS
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(TrainingError, match="checkpoint-9.*cannot be read.*Remove"):
        toy.trainer(tmp_path).train(resume_from_checkpoint=str(path.parent))


@pytest.mark.parametrize(
    ("terms", "adapter"),
    [
        (DASDTerms(cosine=1.0), DASDConfig(r=4, condition_dim=16, generator_rank=4)),  # no discriminator
        (None, DASDConfig(r=3, condition_dim=16, generator_rank=4)),  # other shapes
    ],
)
def test_a_checkpoint_of_another_recipe_is_refused(terms, adapter, toy, tmp_path):
    toy.trainer(tmp_path, save_strategy="epoch").train()
    method = toy.method(**({"terms": terms} if terms else {}), adapter=adapter)
    before = {name: value.clone() for name, value in method.trainable_state().items()}
    with pytest.raises(ConfigError, match="another recipe"):
        toy.trainer(tmp_path, method).train(resume_from_checkpoint=str(last_checkpoint(tmp_path)))
    assert all(torch.equal(value, before[name]) for name, value in method.trainable_state().items())


class Spoiled:
    """A collator whose batches hold a value that is not finite, from one call on."""

    def __init__(self, collate, call, value):
        self.collate, self.call, self.value, self.calls, self.rows = collate, call, value, 0, None

    def __call__(self, examples):
        batch = self.collate(examples)
        self.calls += 1
        if self.calls == self.call:
            batch["source_vectors"][2, 3] = self.value
            self.rows = batch["image_index"].tolist()
        return batch


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_stops_the_run(value, toy, tmp_path):
    method = toy.method(DASDTerms(alignment=1.0, consistency=0.1))
    spoiled = Spoiled(toy.collator(method.model), 5, value)
    trainer = toy.trainer(tmp_path, method, data_collator=spoiled, save_strategy="steps", save_steps=2)
    with pytest.raises(TrainingError) as caught:
        trainer.train()
    message = str(caught.value)
    assert "not finite at step 5" in message
    assert "alignment" in message
    assert str(spoiled.rows)[:-1] in message  # the batch, by its pictures
    assert "checkpoint-4" in message
    kept = load_file(last_checkpoint(tmp_path) / WEIGHTS)
    assert last_checkpoint(tmp_path).name == "checkpoint-4"
    assert all(torch.isfinite(tensor).all() for tensor in kept.values())
    assert all(torch.equal(tensor, kept[name]) for name, tensor in method.trainable_state().items())


def test_without_a_checkpoint_the_message_says_so(toy, tmp_path):
    method = toy.method(DASDTerms(alignment=1.0))
    spoiled = Spoiled(toy.collator(method.model), 1, float("nan"))
    with pytest.raises(TrainingError, match=r"step 1 .*No checkpoint had been written"):
        toy.trainer(tmp_path, method, data_collator=spoiled).train()


class Steep(DASD):
    """A method whose loss is finite and whose gradient, at one step, is not."""

    calls = 0

    def forward(self, **batch):
        found = super().forward(**batch)
        self.calls += 1
        if self.calls == 5:
            found["steep"] = (found["alignment"] - found["alignment"].detach()).sqrt()
        return found


def test_weights_that_are_not_finite_are_never_the_last_good_checkpoint(toy, tmp_path):
    """The gradient spoils the weights one step before the loss shows it."""
    method = Steep(toy.method().model, "de", DASDTerms(alignment=1.0))
    trainer = toy.trainer(tmp_path, method, save_strategy="steps", save_steps=1, save_total_limit=1)
    with pytest.raises(TrainingError, match="not finite"):
        trainer.train()
    assert last_checkpoint(tmp_path).name == "checkpoint-4"
    assert all(torch.isfinite(tensor).all() for tensor in load_file(last_checkpoint(tmp_path) / WEIGHTS).values())


def test_patience_is_not_forgotten_where_a_run_resumes(toy, tmp_path, same):
    """Two evaluations without a gain, a kill, one more: the third is where it ends."""
    values = {
        "save_strategy": "steps",
        "save_steps": 1,
        "eval_strategy": "steps",
        "eval_steps": 1,
        "load_best_model_at_end": True,
        "save_total_limit": None,
    }

    def trainer(folder, *callbacks):
        scores = lambda method: {"mAR": 1.0}  # noqa: E731 - never better than at first
        return toy.trainer(folder, evaluate_method=scores, callbacks=[Patience(3), *callbacks], **values)

    whole = trainer(tmp_path / "whole")
    whole.train()
    assert whole.state.global_step == 4
    with pytest.raises(PowerCutError):
        trainer(tmp_path / "cut", PowerCut(4)).train()
    checkpoint = last_checkpoint(tmp_path / "cut")
    assert checkpoint.name == "checkpoint-3"
    assert not ended(checkpoint)
    again = trainer(tmp_path / "cut")
    again.train(resume_from_checkpoint=str(checkpoint))
    assert again.state.global_step == 4
    same(again.model, whole.model)
    # killed after the last checkpoint and before anybody wrote that the stage is finished
    last = last_checkpoint(tmp_path / "cut")
    assert ended(last)
    (tmp_path / "cut").rename(tmp_path / "moved")
    once_more = trainer(tmp_path / "moved")
    once_more.take_up(tmp_path / "moved" / last.name)
    assert once_more.state.global_step == 4
    same(once_more.model, whole.model)


def test_the_best_checkpoint_is_found_where_the_folder_has_moved(toy, tmp_path, same):
    """A gain, then none: the run ends by its patience, and no later checkpoint names the best one anew."""
    values = {"load_best_model_at_end": True, "save_total_limit": None}
    for name in ("save", "eval"):
        values |= {f"{name}_strategy": "steps", f"{name}_steps": 1}

    def trainer(folder, first, *callbacks):
        scores = iter([1.0, 2.0, 0.5, 0.5, 0.5][first:])
        found = {"callbacks": [Patience(2), *callbacks], "evaluate_method": lambda _: {"mAR": next(scores)}}
        return toy.trainer(folder, **found, **values)

    whole = trainer(tmp_path / "whole", 0)
    whole.train()
    with pytest.raises(PowerCutError):
        trainer(tmp_path / "cut", 0, PowerCut(4)).train()
    (tmp_path / "cut").rename(tmp_path / "moved")
    again = trainer(tmp_path / "moved", 3)
    again.train(resume_from_checkpoint=str(last_checkpoint(tmp_path / "moved")))
    assert again.state.best_model_checkpoint == str(tmp_path / "moved" / "checkpoint-2")
    same(again.model, whole.model)


def test_a_checkpoint_goes_only_when_the_next_one_is_whole(toy, tmp_path, monkeypatch):
    """Killed between writing and marking the second, the first must be there."""
    values = {"save_strategy": "steps", "save_steps": 2, "save_total_limit": 1}
    mark = MarkComplete.on_save

    def killed(self, args, state, control, **kwargs):
        if state.global_step == 4:
            raise PowerCutError
        return mark(self, args, state, control, **kwargs)

    monkeypatch.setattr(MarkComplete, "on_save", killed)
    with pytest.raises(PowerCutError):
        toy.trainer(tmp_path, **values).train()
    assert last_checkpoint(tmp_path).name == "checkpoint-2"
    monkeypatch.setattr(MarkComplete, "on_save", mark)
    trainer = toy.trainer(tmp_path, **values)
    remove_incomplete(tmp_path)
    trainer.train(resume_from_checkpoint=str(last_checkpoint(tmp_path)))
    assert [path.name for path in tmp_path.glob("checkpoint-*")] == ["checkpoint-9"]


def test_the_seconds_of_all_runs_count(toy, tmp_path):
    trainer, checkpoint = resumed(toy, tmp_path, 6, save_steps=5)
    before = json.loads((checkpoint / COMPLETE).read_text())["seconds"]
    alone = trainer.seconds
    trainer = toy.trainer(tmp_path)
    trainer.count_from(checkpoint)
    assert before > 0
    assert trainer.seconds >= before
    assert alone > 0


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), RuntimeError("PytorchStreamWriter failed")])
def test_a_full_disk_at_the_last_file_of_a_checkpoint_names_what_is_kept(error, toy, tmp_path, monkeypatch):
    def full(*given):
        if any("checkpoint-4" in str(each) for each in given):
            raise error
        return replace(*given)

    replace = os.replace
    monkeypatch.setattr("ccr_adapters.training.checkpoints.os.replace", full)
    with pytest.raises(TrainingError, match=r"cannot be written"):
        toy.trainer(tmp_path, save_strategy="steps", save_steps=2).train()
    assert last_checkpoint(tmp_path).name == "checkpoint-2"
