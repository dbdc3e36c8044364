"""A recipe is run: what lies in its folder afterwards, and how it goes on after it was killed."""

from __future__ import annotations

import copy
import dataclasses
import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from ccr_adapters.cli.checks import stage_arguments
from ccr_adapters.cli.train import build_model, check_recipe, evaluate_model, run_recipe, visual_vectors
from ccr_adapters.errors import ConfigError, DataError, TrainingError
from ccr_adapters.modeling import CCRModel
from ccr_adapters.processing.collator import TargetCollator
from ccr_adapters.training import CCRTrainingArguments, TargetCache

CAPTIONS = ["Hund rot", "Katze", "altes blaues Haus"]


def weights(folder):
    """All tensors of an adapter folder."""
    return {**load_file(folder / "adapter_model.safetensors")}


def assert_same(one, other):
    left, right = weights(one), weights(other)
    assert left.keys() == right.keys()
    assert [name for name in left if not torch.equal(left[name], right[name])] == []


def test_a_run_leaves_an_adapter_that_loads_with_the_same_numbers(recipe, corpus):
    plan = recipe()
    outcome = run_recipe(plan, corpus)
    output = outcome.adapter.parent
    assert set(outcome.metrics) == {"test/en", "test/de before", "test/de"}
    loaded = CCRModel.from_pretrained(outcome.adapter)
    assert loaded.languages == ["de"]
    assert torch.equal(loaded.encode_text(CAPTIONS, "de"), outcome.model.encode_text(CAPTIONS, "de"))
    again = evaluate_model(loaded, corpus.test["test"], "de")
    assert again.sum_r == outcome.metrics["test/de"].sum_r
    saved = json.loads((output / "metrics.json").read_text(encoding="utf-8"))
    assert saved["test/de"]["sumR"] == pytest.approx(again.sum_r)
    summary = json.loads((output / "training_summary.json").read_text(encoding="utf-8"))
    assert {name: stage["steps"] for name, stage in summary["stages"].items()} == {"cla": 5, "cma": 5}
    assert summary["pairs"] == 20
    assert summary["trained_parameters"] == sum(tensor.numel() for tensor in weights(outcome.adapter).values())
    assert "toy" in (outcome.adapter / "README.md").read_text(encoding="utf-8")


def test_training_learns(recipe, corpus):
    stages = [{"name": "cla", "terms": {"cosine": 1.0, "alignment": 0.0}}]
    vocabulary = {"size": 60, "kind": "bpe", "start": "random"}
    arguments = {**recipe().arguments, "max_steps": 60, "learning_rate": 0.01, "save_strategy": "no"}
    outcome = run_recipe(recipe(stages=stages, vocabulary=vocabulary, arguments=arguments), corpus, evaluate=False)
    assert outcome.metrics == {}
    english = outcome.model.encode_text(corpus.validation.captions["en"], None)
    german = outcome.model.encode_text(corpus.validation.captions["de"], "de")
    assert (english * german).sum(-1).mean() > 0.9


def test_the_same_recipe_gives_the_same_model(recipe, corpus):
    stages = [{"name": "cla", "arguments": {"max_steps": 3}}]

    def run(output, seed):
        return run_recipe(recipe(output, stages=stages, seed=seed), corpus, evaluate=False).adapter

    first, again, other = run("a", 0), run("b", 0), run("c", 1)
    assert_same(first, again)
    left, right = weights(first), weights(other)
    assert any(not torch.equal(left[name], right[name]) for name in left)


def test_a_card_says_best_only_where_the_best_was_taken(recipe, corpus):
    arguments = {**recipe().arguments, "eval_strategy": "steps", "eval_steps": 5}
    arguments |= {"save_strategy": "steps", "save_steps": 5}
    kinds: dict[str, dict] = {
        "highest validation mAR of each stage": {"load_best_model_at_end": True},
        "highest validation sumR of each stage": {"load_best_model_at_end": True, "metric_for_best_model": "sumR"},
        "the last": {"load_best_model_at_end": False},
    }
    for place, (said, own) in enumerate(kinds.items()):
        outcome = run_recipe(recipe(f"{place}", arguments={**arguments, **own}), corpus)
        assert outcome.model.config.languages["de"].recipe["checkpoint"] == said
        assert f"| chosen checkpoint | {said} |" in (outcome.adapter / "README.md").read_text(encoding="utf-8")


def test_finished_stages_are_not_repeated(recipe, corpus):
    plan = recipe()
    first = run_recipe(plan, corpus)
    output = first.adapter.parent
    before = {path: path.stat().st_mtime_ns for path in (output / "cla").rglob("*") if path.is_file()}
    kept = weights(first.adapter)
    shutil.rmtree(first.adapter)
    second = run_recipe(plan, corpus)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert all(torch.equal(tensor, kept[name]) for name, tensor in weights(second.adapter).items())
    assert second.summary["stages"] == first.summary["stages"]


def drop(output, *names):
    for name in names:
        path = output / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()


# What is on disk when a run dies at that moment.
MOMENTS = {
    "before the second stage": ["cma", "adapter", "metrics.json", "training_summary.json"],
    "in the second stage": ["cma/stage.json", "cma/stage.safetensors", "cma/checkpoint-5", "adapter"],
    "while a checkpoint is written": ["cma/stage.json", "cma/checkpoint-5/complete.json", "adapter"],
    "after the weights of a stage": ["cma/stage.json", "adapter"],
    "after the last checkpoint": ["cma/stage.json", "cma/stage.safetensors", "adapter"],
    "in the first stage": ["cma", "cla/stage.json", "cla/stage.safetensors", "cla/checkpoint-5", "adapter"],
    "before the targets": ["cma", "cla", "targets", "adapter"],
    "before everything but the vocabulary": ["cma", "cla", "targets", "adapter", "recipe.json"],
}


def test_a_language_starts_from_an_earlier_adapter(recipe, corpus, tmp_path):
    stages = [{"name": "cla", "arguments": {"max_steps": 2}}]
    earlier = run_recipe(recipe("earlier", stages=stages, vocabulary=None), corpus, evaluate=False).adapter
    still = {**recipe().arguments, "learning_rate": 0.0, "vocabulary_learning_rate": 0.0}
    plan = recipe("later", stages=stages, vocabulary=None, arguments=still, warm_start=str(earlier))
    later = run_recipe(plan, corpus, evaluate=False).adapter
    assert_same(earlier, later)
    card = (later / "README.md").read_text(encoding="utf-8")
    assert "started from an adapter for de, then cla (2 steps)" in card
    assert str(tmp_path) not in card


@pytest.fixture(scope="module")
def whole(recipes, corpora, tmp_path_factory):
    """A run that nothing disturbed."""
    plan = recipes("bert", tmp_path_factory.mktemp("whole") / "run", vocabulary={"size": 60, "kind": "bpe"})
    return plan, run_recipe(plan, corpora(), evaluate=False).adapter


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_and_started_again_it_ends_the_same(moment, whole, corpus, tmp_path):
    plan, adapter = whole
    shutil.copytree(plan.output_dir, tmp_path / "run", dirs_exist_ok=True)
    drop(tmp_path / "run", *MOMENTS[moment])
    again = run_recipe(dataclasses.replace(plan, output_dir=str(tmp_path / "run")), corpus, evaluate=False)
    assert_same(again.adapter, adapter)
    assert {name: stage["steps"] for name, stage in again.summary["stages"].items()} == {"cla": 5, "cma": 5}
    left = load_file(again.adapter / "vocabulary.safetensors")
    assert torch.equal(left["table"], load_file(adapter / "vocabulary.safetensors")["table"])


def test_a_folder_of_another_recipe_is_refused(recipe, corpus):
    plan = recipe()
    outcome = run_recipe(plan, corpus, evaluate=False)
    before = weights(outcome.adapter)
    for changes in ({"seed": 2}, {"stages": [{"name": "cla"}]}, {"max_length": 9}):
        with pytest.raises(ConfigError, match=f"another recipe .different: {next(iter(changes))}.*output_dir"):
            run_recipe(recipe(**changes), corpus)
    assert all(torch.equal(tensor, before[name]) for name, tensor in weights(outcome.adapter).items())
    moved = dataclasses.replace(plan, cache_dir=str(outcome.adapter.parent / "elsewhere"))
    run_recipe(moved, corpus, evaluate=False)  # where things lie is no part of what is trained


def test_another_number_of_processes_is_another_training(recipe, corpus, monkeypatch):
    plan = recipe(stages=[{"name": "cla", "arguments": {"max_steps": 2}}])
    outcome = run_recipe(plan, corpus, evaluate=False)
    monkeypatch.setattr(CCRTrainingArguments, "world_size", 2)
    run_recipe(plan, corpus, evaluate=False)  # nothing is left to train
    (outcome.adapter.parent / "cla" / "stage.json").unlink()
    with pytest.raises(ConfigError, match=r"steps have 8 rows .* in 2 process.* would have 16\. Start as many"):
        run_recipe(plan, corpus, evaluate=False)


def test_a_run_that_never_began_does_not_hold_the_folder(recipe, corpus, tmp_path):
    with pytest.raises(DataError, match="no folder"):
        run_recipe(recipe(data={"path": str(tmp_path / "mistyped")}))
    stages = [{"name": "cla", "arguments": {"max_steps": 1}}]
    run_recipe(recipe(stages=stages), corpus, evaluate=False)


def test_a_stage_does_not_repeat_the_batches_and_cuts_of_the_one_before(recipe, corpus, monkeypatch):
    seen = []
    collate = TargetCollator.__call__

    def watched(self, examples):
        seen.append((self.seed, [example["row"] for example in examples]))
        return collate(self, examples)

    monkeypatch.setattr(TargetCollator, "__call__", watched)
    arguments = {**recipe().arguments, "max_steps": 2}
    run_recipe(recipe(arguments=arguments), corpus, evaluate=False)
    seeds = [seed for seed, _ in seen]
    first, second = ([rows for own, rows in seen if own == seed] for seed in (seeds[0], seeds[-1]))
    assert seeds[0] == 0  # that of the recipe: a single stage trains as it always did
    assert first != second
    assert len(set(seeds)) == 2


def test_other_pairs_in_the_folder_of_a_run_are_refused(recipe, corpus):
    """A path says nothing of what lies there: captions are filtered anew, files are replaced."""
    plan = recipe(stages=[{"name": "cla", "arguments": {"max_steps": 1}}])
    run_recipe(plan, corpus, evaluate=False)
    words = [f"{text} heute" for text in corpus.rows["translation"]]
    changed = corpus.rows.remove_columns("translation").add_column("translation", words)
    weighted = corpus.rows.add_column("weight", [1.0] * 19 + [0.5])
    for rows in (changed, weighted):
        with pytest.raises(ConfigError, match="other training pairs than there are now"):
            run_recipe(plan, dataclasses.replace(corpus, rows=rows))
    fewer = dataclasses.replace(corpus, rows=corpus.rows.select(range(16)), image_index=corpus.image_index[:16])
    with pytest.raises(ConfigError, match="other training pairs"):
        run_recipe(plan, fewer)
    assert run_recipe(plan, corpus, evaluate=False).summary["stages"]["cla"]["steps"] == 1


def test_another_base_in_the_place_of_a_runs_is_refused(recipe, corpus, tmp_path):
    base = tmp_path / "base"
    shutil.copytree(recipe().base, base)
    plan = dataclasses.replace(recipe(stages=[{"name": "cla", "arguments": {"max_steps": 1}}]), base=str(base))
    run_recipe(plan, corpus, evaluate=False)
    weights = load_file(base / "model.safetensors")
    name = next(name for name in weights if name.endswith("word_embeddings.weight"))
    save_file({**weights, name: weights[name] + 0.1}, base / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ConfigError, match="other base weights than there are now"):
        run_recipe(plan, corpus)


def test_rows_of_little_weight_do_not_fill_a_batch(recipe, corpus):
    rows = corpus.rows.add_column("weight", [0.1] * 20)
    with pytest.raises(TrainingError, match=r"20 pairs, which count as 2 by their weights, do not fill one batch of 8"):
        run_recipe(recipe(), dataclasses.replace(corpus, rows=rows))


def test_translations_in_another_language_are_said_before_training(recipe, corpus, caplog):
    words = ["un chien court dans la neige avec un homme", "deux femmes sont assises sur un banc rouge"] * 10
    rows = corpus.rows.remove_columns("translation").add_column("translation", words)
    plan = recipe(stages=[{"name": "cla", "arguments": {"max_steps": 1}}])
    run_recipe(plan, dataclasses.replace(corpus, rows=rows), evaluate=False)
    assert "Of 20 translations 20 read as 'fr' and 0 as 'de'" in caplog.text


def test_a_file_in_the_place_of_the_folder(recipe, corpus, tmp_path):
    (tmp_path / "run").write_text("mine", encoding="utf-8")
    with pytest.raises(ConfigError, match="is a file"):
        run_recipe(recipe(), corpus)


@pytest.mark.parametrize("first", ["cla", "english"])
def test_too_few_pairs_for_a_batch_are_refused_before_any_work(first, recipe, corpus, tmp_path):
    stages = [{"name": first}, {"name": "cma"}]
    arguments = {**recipe().arguments, "per_device_train_batch_size": 21}
    with pytest.raises(TrainingError, match=r"20 pairs do not fill one batch of 21.*per_device_train_batch_size"):
        run_recipe(recipe(stages=stages, arguments=arguments), corpus)
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == []


def test_a_recipe_that_is_refused_leaves_its_folder_free(recipe, corpus, tmp_path):
    """Free for a mended one, whose vocabulary may have another size; not so once something was trained."""
    wrong = {"peft_type": "LORA", "target_modules": ["nowhere"]}
    with pytest.raises(ConfigError, match="`adapter`: .*nowhere"):
        run_recipe(recipe(adapter=wrong, vocabulary={"size": 40}), corpus)
    assert [path.name for path in (tmp_path / "run").iterdir()] == []
    mended = recipe(vocabulary={"size": 24})
    assert len(run_recipe(mended, corpus, evaluate=False).model.processor.tokenizer_for("de")) <= 24
    with pytest.raises(ConfigError, match="another recipe"):
        run_recipe(recipe(vocabulary={"size": 40}), corpus)
    assert (tmp_path / "run" / "recipe.json").is_file()


def test_unknown_words_need_a_token_before_any_work(recipe, corpus, german_tokenizer, tmp_path):
    tokenizer = copy.deepcopy(german_tokenizer)
    tokenizer.unk_token = None
    tokenizer.save_pretrained(str(tmp_path / "tokenizer"))
    plan = {"tokenizer": str(tmp_path / "tokenizer"), "unknown": 0.1}
    with pytest.raises(ConfigError, match="needs a tokenizer with an unknown token"):
        run_recipe(recipe(vocabulary=plan, stages=[{"name": "english"}, {"name": "cla"}]), corpus)
    assert [path.name for path in (tmp_path / "run").iterdir()] == []


def test_visual_vectors_of_another_width_are_refused_before_any_work(recipe, corpus):
    corpus.visual = np.zeros((10, 33), dtype="float32")
    with pytest.raises(ConfigError, match=r"width 32.*have 33"):
        run_recipe(recipe(), corpus)


def test_pictures_for_a_text_encoder_alone_are_refused(recipe, corpora):
    with pytest.raises(ConfigError, match="no image tower"):
        run_recipe(recipe(), corpora(pictures=True))


def test_a_spoiled_target_stops_the_run(recipe, corpus):
    corpus.visual[3, 1] = np.nan
    stages = [{"name": "cma", "terms": {"scale": 10.0}}]
    with pytest.raises(TrainingError, match=r"not finite at step \d .*contrastive nan"):
        run_recipe(recipe(stages=stages), corpus)


@pytest.mark.parametrize(
    "changes",
    [
        {"adapter": {"mode": "static", "r": 4}},
        {"adapter": {"peft_type": "LORA", "r": 2}},
        {"stages": [{"name": "joint", "terms": {"cosine": 1, "relational": 1, "bank": 0.1, "scale": 5.0}}]},
        {"vocabulary": {"size": 60, "kind": "unigram", "train": "touched"}},
        {"vocabulary": {"size": 60, "kind": "bpe", "projection": True}},
        {"save_dtype": "float16"},
        {"pooling": "first", "max_length": 6},
    ],
    ids=str,
)
def test_kinds_of_recipes(changes, recipe, corpus):
    plan = recipe(**changes)
    check_recipe(plan)
    outcome = run_recipe(plan, corpus)
    loaded = CCRModel.from_pretrained(outcome.adapter)
    tolerance = 2e-2 if "save_dtype" in changes else 0
    found = loaded.encode_text(CAPTIONS, "de")
    torch.testing.assert_close(found, outcome.model.encode_text(CAPTIONS, "de"), rtol=0, atol=tolerance)
    bare = CCRModel.from_base(plan.base, pooling=plan.pooling)
    assert torch.equal(loaded.encode_text(CAPTIONS, None), bare.encode_text(CAPTIONS, None))


@pytest.mark.parametrize("base", ["clip", "siglip"])
def test_a_dual_encoder_is_trained_with_pictures(base, recipe, corpora):
    outcome = run_recipe(recipe(base=base), corpora(pictures=True))
    loaded = CCRModel.from_pretrained(outcome.adapter)
    assert torch.equal(loaded.encode_text(CAPTIONS, "de"), outcome.model.encode_text(CAPTIONS, "de"))
    assert visual_vectors(loaded, corpora(pictures=True).test["test"]).shape == (10, 24)


def test_what_out_of_memory_advises_is_taken_by_the_same_folder(recipe, corpus):
    """`mini_batch_size` and the like change time and memory, and a license the card; the stages that are finished stay."""
    outcome = run_recipe(recipe(), corpus, evaluate=False)
    before = weights(outcome.adapter)
    arguments = {**recipe().arguments, "mini_batch_size": 4, "on_out_of_memory": "stop"}
    stages = [{"name": "cla", "arguments": {"save_total_limit": 1}}, {"name": "cma", "terms": {"scale": 10.0}}]
    again = run_recipe(recipe(arguments=arguments, stages=stages, license="mit"), corpus, evaluate=False)
    assert 'license: "mit"' in (again.adapter / "README.md").read_text(encoding="utf-8")
    assert all(torch.equal(tensor, before[name]) for name, tensor in weights(again.adapter).items())
    with pytest.raises(ConfigError, match=r"another recipe .different: arguments"):
        run_recipe(recipe(arguments={**arguments, "learning_rate": 1e-3}), corpus)


def test_other_visual_vectors_in_the_folder_of_a_run_are_refused(recipe, corpus):
    plan = recipe(stages=[{"name": "cla", "arguments": {"max_steps": 1}}])
    run_recipe(plan, corpus, evaluate=False)
    with pytest.raises(ConfigError, match="other visual vectors than there are now"):
        run_recipe(plan, dataclasses.replace(corpus, visual=corpus.visual + 1))


def test_a_stage_has_the_published_rate_unless_the_recipe_names_one(recipe):
    plain = recipe(arguments={"use_cpu": True}, stages=[{"name": "english"}, {"name": "cla"}, {"name": "cma"}])
    assert [stage_arguments(plain, stage).learning_rate for stage in plain.stages] == [3e-6, 2e-4, 6e-6]
    assert stage_arguments(plain, plain.stages[0]).num_train_epochs == 5
    common = recipe(arguments={"use_cpu": True, "learning_rate": 1e-3})
    assert [stage_arguments(common, stage).learning_rate for stage in common.stages] == [1e-3, 1e-3]
    own = recipe(arguments={"use_cpu": True}, stages=[{"name": "cma", "arguments": {"learning_rate": 0.5}}])
    assert stage_arguments(own, own.stages[0]).learning_rate == 0.5
    nrccr = recipe(arguments={"use_cpu": True}, method="nrccr", stages=[{"name": "joint"}], adapter=None)
    found = stage_arguments(nrccr, nrccr.stages[0])
    assert (found.learning_rate, found.auxiliary_learning_rate, found.max_grad_norm) == (1e-4, 1e-3, 2.0)
    assert (found.adam_beta2, found.weight_decay, found.lr_scheduler_type) == (0.999, 0.0, "constant")


@pytest.mark.parametrize(
    "arguments",
    [{"per_device_train_batch_size": 1}, {"per_device_train_batch_size": 19, "dataloader_drop_last": False}],
)
def test_a_batch_of_one_row_cannot_be_normalised(arguments, recipe, corpus):
    head = {"space": 8, "width": 8, "attention_heads": 2}
    arguments = {"use_cpu": True, **arguments}
    plan = recipe(method="cl2cm", adapter=None, head=head, stages=[{"name": "joint"}], arguments=arguments)
    with pytest.raises(TrainingError, match=r"a batch of one row.*`dataloader_drop_last`"):
        run_recipe(plan, corpus)


def test_the_english_stage_needs_vectors_of_the_bases_width(recipe, corpus):
    corpus.visual = np.zeros((10, 33), dtype="float32")
    head = {"space": 8, "width": 8, "attention_heads": 2}
    plan = recipe(method="cl2cm", adapter=None, head=head, stages=[{"name": "english"}, {"name": "joint"}])
    with pytest.raises(ConfigError, match=r"of width 32, with visual vectors of width 33"):
        run_recipe(plan, corpus)


def test_what_training_puts_in_the_place_of_words_is_trained_too(recipe, corpus, tmp_path):
    plan = recipe(vocabulary={"kind": "word", "size": 60, "train": "touched", "unknown": 0.3})
    model = build_model(plan, corpus, plan.base, tmp_path / "vocabulary")
    unknown = model.processor.tokenizer_for("de").unk_token_id
    assert unknown in model.vocabularies["de"].ids.tolist()


def test_the_model_is_where_it_trains_before_anything_is_encoded(recipe, corpus, monkeypatch):
    moved = []
    monkeypatch.setattr(
        CCRModel, "to", lambda self, *given, to=CCRModel.to: moved.append(str(given[0])) or to(self, *given)
    )
    source = TargetCache.source
    monkeypatch.setattr(TargetCache, "source", lambda self, rows: moved.append("encoded") or source(self, rows))
    run_recipe(recipe(stages=[{"name": "cla", "arguments": {"max_steps": 1}}]), corpus, evaluate=False)
    assert moved.index("encoded") > moved.index("cpu")
