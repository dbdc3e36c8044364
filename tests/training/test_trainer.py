"""The trainer: it learns, names what it learns from, and leaves the base alone."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from transformers import EarlyStoppingCallback, TrainingArguments

from ccr_adapters.configuration import VocabularyConfig
from ccr_adapters.dasd import DASDConfig
from ccr_adapters.errors import ConfigError, TrainingError
from ccr_adapters.methods import DASD, DASDTerms, Method
from ccr_adapters.modeling import packing
from ccr_adapters.training import CCRTrainingArguments


def logged(trainer, key):
    """Values of one key over the logs."""
    return [entry[key] for entry in trainer.state.log_history if key in entry]


def test_the_loss_falls_and_is_the_sum_of_its_named_terms(toy, tmp_path):
    trainer = toy.trainer(tmp_path, num_train_epochs=12, learning_rate=0.01)
    trainer.train()
    losses = logged(trainer, "loss")
    assert len(losses) == 36
    assert sum(losses[-6:]) < 0.95 * sum(losses[:6])
    names = {"cosine", "contrastive", "consistency", "discriminator", "adversarial"}
    terms = {name: logged(trainer, f"term/{name}") for name in names}
    assert {key for entry in trainer.state.log_history for key in entry if key.startswith("term/")} == {
        f"term/{name}" for name in names
    }
    for step, loss in enumerate(losses):
        assert sum(values[step] for values in terms.values()) == pytest.approx(loss, abs=1e-4)
    assert sum(terms["cosine"][-6:]) < 0.85 * sum(terms["cosine"][:6])
    assert sum(terms["contrastive"][-6:]) < 0.95 * sum(terms["contrastive"][:6])


def test_terms_are_means_since_the_last_log(toy, tmp_path):
    each = toy.trainer(tmp_path / "each", num_train_epochs=1)
    each.train()
    once = toy.trainer(tmp_path / "once", num_train_epochs=1, logging_steps=3)
    once.train()
    for name in ("cosine", "discriminator"):
        expected = sum(logged(each, f"term/{name}")) / 3
        assert logged(once, f"term/{name}") == [pytest.approx(expected, abs=1e-5)]


def test_only_the_language_and_the_discriminator_move(toy, tmp_path):
    method = toy.method()
    before = {name: value.clone() for name, value in method.state_dict().items()}
    sha256 = method.model.base_sha256()
    toy.trainer(tmp_path, method).train()
    after = method.state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert method.model.base_sha256() == sha256
    assert all("dasd_" in name or name.startswith("discriminator.") for name in moved)
    trained = {name for name, parameter in method.named_parameters() if parameter.requires_grad}
    assert moved == trained


def test_a_language_beside_the_trained_one_does_not_move(toy, tmp_path):
    method = toy.method()
    method.model.add_language("cs", DASDConfig(r=3, init_weights=False))
    method.model.trainable("de")
    before = {name: value.clone() for name, value in method.state_dict().items() if ".cs" in name}
    toy.trainer(tmp_path, method).train()
    after = method.state_dict()
    assert before
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_groups_of_the_optimiser(toy, tmp_path, german_tokenizer):
    method = toy.method()
    method.model.add_language("cs", DASDConfig(r=4, generator_rank=4), tokenizer=german_tokenizer)
    method.model.trainable("cs")
    method.language = "cs"
    trainer = toy.trainer(tmp_path, method, learning_rate=2e-3, vocabulary_learning_rate=7e-3, weight_decay=0.2)
    groups = trainer.create_optimizer().param_groups
    found = {(group["name"], group["weight_decay"]): group for group in groups}
    assert set(found) == {("adapter", 0.2), ("adapter", 0.0), ("auxiliary", 0.0), ("vocabulary", 0.0)}
    assert {key: group["lr"] for key, group in found.items()} == {
        ("adapter", 0.2): 2e-3,
        ("adapter", 0.0): 2e-3,
        ("auxiliary", 0.0): 1e-4,
        ("vocabulary", 0.0): 7e-3,
    }
    assert found["auxiliary", 0.0]["betas"] == (0.9, 0.999)
    assert found["adapter", 0.2]["betas"] == (0.9, 0.98)
    members = [parameter for group in groups for parameter in group["params"]]
    assert {id(p) for p in members} == {id(p) for p in method.parameters() if p.requires_grad}
    assert len(members) == len({id(p) for p in members})
    assert {id(p) for p in found["auxiliary", 0.0]["params"]} == {id(p) for p in method.discriminator.parameters()}
    table = method.model.vocabularies["cs"].table.weight
    assert any(p is table for p in found["vocabulary", 0.0]["params"])
    names = {id(p): name for name, p in method.named_parameters()}
    for parameter in found["adapter", 0.2]["params"]:
        assert not names[id(parameter)].endswith("bias")
        assert "norm" not in names[id(parameter)]


def test_the_core_of_all_captions_decays_no_more_than_a_bias(toy, tmp_path):
    method = toy.method()
    method.model.add_language("cs", DASDConfig(r=4, condition_on="nothing"))
    method.model.trainable("cs")
    method.language = "cs"
    groups = toy.trainer(tmp_path, method, weight_decay=0.2).create_optimizer().param_groups
    decays = {id(parameter): group["weight_decay"] for group in groups for parameter in group["params"]}
    found = {name: decays[id(p)] for name, p in method.named_parameters() if id(p) in decays and "generator" in name}
    assert list(found.values()) == [0.0]
    assert next(iter(found)).endswith("dasd_generator.cs.core")


def test_the_vocabulary_takes_the_common_rate_without_its_own(toy, tmp_path, german_tokenizer):
    method = toy.method()
    method.model.add_language("cs", DASDConfig(r=4, generator_rank=4), tokenizer=german_tokenizer)
    method.model.trainable("cs")
    method.language = "cs"
    groups = toy.trainer(tmp_path, method, learning_rate=2e-3).create_optimizer().param_groups
    assert {group["lr"] for group in groups if group["name"] == "vocabulary"} == {2e-3}


def test_a_rate_of_zero_is_a_rate(toy, tmp_path, german_tokenizer):
    method = toy.method()
    method.model.add_language("cs", DASDConfig(r=4, generator_rank=4), tokenizer=german_tokenizer)
    method.model.trainable("cs")
    method.language = "cs"
    trainer = toy.trainer(tmp_path, method, learning_rate=2e-3, vocabulary_learning_rate=0)
    assert {g["lr"] for g in trainer.create_optimizer().param_groups if g["name"] == "vocabulary"} == {0}


def test_the_map_behind_a_table_decays_and_its_rows_do_not(toy, tmp_path, german_tokenizer):
    method = toy.method()
    plan = VocabularyConfig(len(german_tokenizer), 20)
    method.model.add_language("cs", DASDConfig(r=4), tokenizer=german_tokenizer, vocabulary=plan)
    method.model.trainable("cs")
    method.language = "cs"
    groups = toy.trainer(tmp_path, method, weight_decay=0.2).create_optimizer().param_groups
    own = {group["weight_decay"]: group["params"] for group in groups if group["name"] == "vocabulary"}
    table = method.model.vocabularies["cs"]
    assert [id(p) for p in own[0.2]] == [id(table.projection.weight)]
    assert {id(p) for p in own[0.0]} == {id(table.table.weight), id(table.projection.bias)}


def test_nothing_to_train_is_an_error(toy, tmp_path):
    method = toy.method(DASDTerms(cosine=1.0))
    method.requires_grad_(False)
    with pytest.raises(ConfigError, match="trainable"):
        toy.trainer(tmp_path, method).train()


def test_static_adapters_and_lora_train_on_the_terms_that_they_have(toy, tmp_path):
    trainer = toy.trainer(tmp_path, toy.method(adapter=DASDConfig(mode="static", r=4)), num_train_epochs=1)
    trainer.train()
    found = {key for entry in trainer.state.log_history for key in entry if key.startswith("term/")}
    assert found == {"term/cosine", "term/contrastive"}


def test_validation_is_logged_and_chooses_the_best(toy, tmp_path, same):
    """A metric that is best in the middle: these weights are the ones that remain."""
    values, seen = iter([1.0, 5.0, 2.0]), []

    def evaluate(method):
        assert not method.training
        seen.append({name: value.clone() for name, value in method.trainable_state().items()})
        return {"mAR": next(values)}

    often = {"eval_strategy": "epoch", "save_strategy": "epoch", "load_best_model_at_end": True}
    trainer = toy.trainer(tmp_path, evaluate_method=evaluate, **often)
    trainer.train()
    assert logged(trainer, "eval_mAR") == [1.0, 5.0, 2.0]
    assert trainer.state.best_metric == 5.0
    kept = trainer.model.trainable_state()
    assert all(torch.equal(kept[name], seen[1][name]) for name in kept)
    assert not all(torch.equal(kept[name], seen[2][name]) for name in kept)


def test_the_best_is_kept_where_validation_is_more_frequent_than_saving(toy, tmp_path):
    scores, seen = iter([1.0, 5.0, 7.0, 6.0, 3.0, 2.0]), []

    def evaluate(method):
        seen.append({name: value.clone() for name, value in method.trainable_state().items()})
        return {"mAR": next(scores)}

    steps = {"eval_strategy": "steps", "eval_steps": 1, "save_strategy": "steps", "save_steps": 2}
    trainer = toy.trainer(tmp_path, evaluate_method=evaluate, max_steps=6, load_best_model_at_end=True, **steps)
    trainer.train()
    assert Path(trainer.state.best_model_checkpoint).name == "checkpoint-3"
    kept = trainer.model.trainable_state()
    assert all(torch.equal(kept[name], seen[2][name]) for name in kept)


def test_only_the_main_process_writes_weights(toy, tmp_path, monkeypatch):
    trainer = toy.trainer(tmp_path)
    monkeypatch.setattr(trainer.args, "distributed_state", SimpleNamespace(process_index=1, local_process_index=1))
    trainer.save_model(str(tmp_path / "checkpoint-1"))
    assert not (tmp_path / "checkpoint-1").exists()
    monkeypatch.setattr(trainer.args, "distributed_state", SimpleNamespace(process_index=0, local_process_index=0))
    trainer.save_model(str(tmp_path / "checkpoint-1"))
    assert [path.name for path in (tmp_path / "checkpoint-1").iterdir()] == ["trainable.safetensors"]


def test_training_stops_early(toy, tmp_path):
    values = iter([3.0, 2.0, 1.0, 0.5, 0.2])
    often = {"eval_strategy": "epoch", "save_strategy": "epoch", "load_best_model_at_end": True}
    stop = EarlyStoppingCallback(2)
    trainer = toy.trainer(
        tmp_path, evaluate_method=lambda _: {"mAR": next(values)}, callbacks=[stop], num_train_epochs=5, **often
    )
    trainer.train()
    assert trainer.state.global_step == 9


def test_every_epoch_has_its_own_order_of_like_lengths(toy, tmp_path):
    method = toy.method()
    seen, collate = [], toy.collator(method.model)

    def watch(examples):
        seen.append([example["row"] for example in examples])
        return collate(examples)

    toy.trainer(tmp_path, method, data_collator=watch, num_train_epochs=2, bucket_chunk=4).train()
    assert [len(batch) for batch in seen] == [8] * 6
    first, second = seen[:3], seen[3:]
    assert sorted(map(sorted, first)) != sorted(map(sorted, second))
    lengths = [[len(toy.captions[row].split()) for row in batch] for batch in first]
    assert sum(max(batch) - min(batch) for batch in lengths) < 10


class Alike(Method):
    """A method whose captions are one from some step on."""

    def __init__(self, model, start):
        super().__init__(model, "de")
        self.start, self.step = start, 0

    def forward(self, **batch):
        self.step += 1
        vectors = torch.randn(4, 8)
        self.observe_vectors(vectors if self.step < self.start else vectors[:1].expand(4, 8) + 1e-6, torch.randn(4, 8))
        return {"nothing": sum((p.float() * 0).sum() for p in self.parameters() if p.requires_grad)}


def test_a_collapse_stops_the_run_with_a_hint(toy, tmp_path):
    method = Alike(toy.method().model, start=12)
    with pytest.raises(TrainingError, match=r"collapsed: at step 14 .* 1.0000.*Lower the learning rate"):
        toy.trainer(tmp_path, method, max_steps=30).train()
    healthy = toy.trainer(tmp_path, Alike(toy.method().model, start=99), max_steps=20)
    healthy.train()
    logged = [entry for entry in healthy.state.log_history if "loss" in entry]
    assert {"health/mean_cosine", "health/alignment", "health/uniformity"} <= set(logged[0])


def test_few_rows_at_a_time_are_the_same_training(toy, tmp_path):
    runs = {}
    for name, chunk in (("whole", None), ("chunks", 3)):
        method = toy.method()
        trainer = toy.trainer(tmp_path / name, method, mini_batch_size=chunk, learning_rate=1e-3)
        trainer.train()
        runs[name] = logged(trainer, "loss"), method.trainable_state()
    assert runs["chunks"][0] == pytest.approx(runs["whole"][0], rel=1e-4)
    whole, chunks = runs["whole"][1], runs["chunks"][1]
    assert all(torch.allclose(chunks[name], value, atol=2e-4) for name, value in whole.items())


def test_captions_of_like_length_together_are_the_same_training(toy, tmp_path, monkeypatch):
    """Batches of eight captions of mixed lengths, each at once and in parts of one length."""
    runs = {}
    for name, fewest in (("whole", 99), ("parts", 1)):
        monkeypatch.setattr(packing, "_FEWEST_ROWS", fewest)
        monkeypatch.setattr(packing, "_FEWEST_TOKENS", {"cpu": fewest})
        method, widths = toy.method(), []
        encode = method.model._adapted_rows
        monkeypatch.setattr(
            method.model,
            "_adapted_rows",
            lambda ids, *rest, encode=encode, widths=widths: widths.append(ids.shape[1]) or encode(ids, *rest),
        )
        trainer = toy.trainer(tmp_path / name, method, learning_rate=1e-3, bucket_chunk=1)
        trainer.train()
        runs[name] = logged(trainer, "loss"), method.trainable_state(), widths
    assert len(runs["whole"][2]) == 9  # a pass a step
    assert len(runs["parts"][2]) > 18
    assert runs["parts"][0] == pytest.approx(runs["whole"][0], rel=1e-4)
    assert all(torch.allclose(runs["parts"][1][name], value, atol=2e-4) for name, value in runs["whole"][1].items())


def test_processes_that_share_out_the_base_make_as_many_passes(toy, tmp_path):
    met = []

    class Watched(DASD):
        def forward(self, **inputs):
            met.append(self.model._like_length)
            return super().forward(**inputs)

    method = Watched(toy.method().model, "de", DASDTerms(cosine=1.0))
    trainer = toy.trainer(tmp_path, method, max_steps=1)
    trainer.train()
    trainer.args.shard_base = True
    trainer.compute_loss(method, toy.collator(method.model)(toy.data[:8]))
    assert met == [True, False]
    assert not method.model._like_length


def test_rows_at_a_time_are_counted_from_one(tmp_path):
    with pytest.raises(ValueError, match="mini_batch_size.*expected 1 or more"):
        CCRTrainingArguments(output_dir=str(tmp_path), use_cpu=True, mini_batch_size=0)


def test_one_process_takes_one_gpu(tmp_path, monkeypatch, caplog):
    """transformers would replicate the method over all of them, and each replica had negatives of its own."""
    whole = TrainingArguments.__post_init__

    def with_two(arguments):
        whole(arguments)
        arguments._n_gpu = 2

    monkeypatch.setattr(TrainingArguments, "__post_init__", with_two)
    assert CCRTrainingArguments(output_dir=str(tmp_path), use_cpu=True).n_gpu == 1
    assert "accelerate launch --num_processes 2" in caplog.text


def test_workers_that_outlive_an_epoch_are_refused(tmp_path):
    with pytest.raises(ValueError, match="dataloader_persistent_workers"):
        CCRTrainingArguments(
            output_dir=str(tmp_path), use_cpu=True, dataloader_num_workers=1, dataloader_persistent_workers=True
        )
