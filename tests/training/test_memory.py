"""Out of memory: the step is taken again with fewer rows at a time, or the run stops and says how many fit."""

from __future__ import annotations

import logging
from collections import Counter

import pytest
import torch

from ccr_adapters.errors import TrainingError
from ccr_adapters.methods import DASD, DASDTerms
from ccr_adapters.training import CCRTrainingArguments
from ccr_adapters.training.memory import step_that_fits

WORDS = ["Hund", "Katze", "Kind", "Frau", "Mann", "Vogel", "Ball", "Baum", "Haus", "Schnee", "rot", "blau", "alt"]
TERMS = DASDTerms(cosine=1.0, contrastive=0.1, consistency=0.1, adversarial=0.01, scale=10.0)


def limit(method, most, when):
    """Let the last block run out of memory as a device does, above so many rows; returns the sizes that it met."""
    block, met = method.model._tower().encoder.blocks[-1], []

    def check(states):
        met.append(len(states))
        if len(states) > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.\nSee the manual.")

    if when == "forward":
        block.register_forward_pre_hook(lambda _, given: check(given[0]))
    else:
        block.register_full_backward_hook(lambda _, __, gradients: check(gradients[0]))
    return met


def trained(trainer):
    trainer.train()
    logged = [entry for entry in trainer.state.log_history if "loss" in entry]
    return [[entry["loss"], entry["term/discriminator"]] for entry in logged], trainer.model.trainable_state()


@pytest.mark.parametrize(("when", "accumulated"), [("forward", 2), ("backward", 1), ("backward", 2)])
def test_fewer_rows_at_a_time_train_the_same(when, accumulated, toy, tmp_path, caplog):
    values = {"gradient_accumulation_steps": accumulated, "learning_rate": 1e-3}
    # all of one length: a chunk has fewer rows where they are long
    pairs = [(one, other) for one in WORDS for other in WORDS]
    ids = toy.method().model.processor.token_ids([" ".join(pair) for pair in pairs], "de")
    length = Counter(map(len, ids)).most_common(1)[0][0]
    texts = [" ".join(pair) for pair, own in zip(pairs, ids, strict=True) if len(own) == length][: len(toy.data)]
    toy.data = [{"row": row, "translation": text} for row, text in enumerate(texts)]
    expected = trained(toy.trainer(tmp_path / "enough", **values))
    method = toy.method()
    met = limit(method, 3, when)
    with caplog.at_level(logging.WARNING):
        found = trained(toy.trainer(tmp_path / "little", method, **values))
    assert len(found[0]) == len(expected[0]) > 5
    for losses, others in zip(found[0], expected[0], strict=True):
        assert losses == pytest.approx(others, rel=1e-4)
    assert all(torch.allclose(found[1][name], value, atol=2e-4) for name, value in expected[1].items())
    assert [size for size in met if size > 3] == [8, 4]  # once each: what fits is remembered
    assert (
        "Out of memory with 8 rows at a time (CUDA out of memory. Tried to allocate 20.00 MiB.): trying 4"
        in caplog.text
    )
    assert "trying 2" in caplog.text


def test_a_run_that_is_to_stop_says_how_many_rows_fit(toy, tmp_path):
    method = toy.method()
    limit(method, 3, "backward")
    trainer = toy.trainer(tmp_path, method, on_out_of_memory="stop", mini_batch_size=6)
    with pytest.raises(TrainingError, match=r"at step 1 with 6 rows at a time; 3 fit\. Set `mini_batch_size: 3`"):
        trainer.train()
    assert trainer.state.global_step == 0


def test_nothing_fits(toy, tmp_path):
    method = toy.method()
    limit(method, 0, "forward")
    with pytest.raises(TrainingError, match=r"a single row at a time, in a batch of 8 .*Lower"):
        toy.trainer(tmp_path, method).train()


def test_processes_that_share_a_step_stop():
    def step(chunk):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried")

    with pytest.raises(TrainingError, match="with 8 rows at a time.*`mini_batch_size: 4`"):
        step_that_fits(step, 8, None, [], alone=False)


def test_other_errors_pass():
    def step(chunk):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="mat1"):
        step_that_fits(step, 8, None, [])


def test_the_choice_is_one_of_two(tmp_path):
    with pytest.raises(ValueError, match="on_out_of_memory.*'half'; expected 'chunk' or 'stop'"):
        CCRTrainingArguments(output_dir=str(tmp_path), use_cpu=True, on_out_of_memory="half")


def test_running_means_move_once_however_often_a_step_is_tried():
    norm = torch.nn.BatchNorm1d(3)
    rows = torch.randn(8, 3)

    def step(chunk):
        norm(rows)
        if chunk is None:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried")

    _, fits = step_that_fits(step, 8, None, norm.parameters(), buffers=list(norm.buffers()))
    once = torch.nn.BatchNorm1d(3)
    once(rows)
    assert fits == 4
    assert all(torch.equal(own, other) for own, other in zip(norm.buffers(), once.buffers(), strict=True))


class Normed(DASD):
    """A method that normalises over the rows of its batch, as a head does."""

    def forward(self, **batch):
        self.norm(batch["visual_vectors"])
        return super().forward(**batch)


def test_running_means_move_once_in_the_very_first_step(toy, tmp_path):
    """A model that was built just now stands in evaluation mode, and what a step moves was not yet to be seen."""
    method = Normed(toy.method().model, "de", TERMS)
    method.norm = torch.nn.BatchNorm1d(32, affine=False)
    method.eval()
    limit(method, 4, "backward")
    toy.trainer(tmp_path, method, max_steps=1).train()
    assert method.norm.num_batches_tracked == 1


def test_validation_is_scored_again_where_memory_runs_out_once(toy, tmp_path, caplog):
    tries = []

    def scores(method):
        tries.append(method)
        if len(tries) < 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried")
        return {"mAR": 1.0}

    trainer = toy.trainer(tmp_path, evaluate_method=scores)
    assert trainer.evaluate()["eval_mAR"] == 1.0
    assert "attempt 1" in caplog.text
    tries.clear()
    trainer.evaluate_method = lambda method: tries.clear() or scores(method)
    with pytest.raises(TrainingError, match=r"scoring the validation set at step 0 .*Lower"):
        trainer.evaluate()
