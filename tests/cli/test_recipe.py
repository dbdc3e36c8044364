"""Recipes are read strictly: whatever is wrong with one is said before any work begins."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import yaml

from ccr_adapters.cli.checks import (
    adapter_of,
    check_recipe,
    head_of,
    needs_of,
    peft_config,
    stage_arguments,
    stage_terms,
)
from ccr_adapters.cli.recipe import Stage, VocabularyRecipe, load_recipe, recipe_from_dict
from ccr_adapters.dasd import DASDConfig
from ccr_adapters.errors import AdapterError, ConfigError, LanguageError
from ccr_adapters.methods import DASD, METHODS, NRCCR, DASDTerms

CONFIGS = sorted((Path(__file__).parents[2] / "examples" / "configs").glob("*.yaml"))
PLAIN = {
    "base": "tiny_clip",
    "language": "de",
    "data": {"name": "tiny_world"},
    "output_dir": "runs/x",
    "stages": [{"name": "cla"}],
}


def recipe(**changes):
    return recipe_from_dict({**PLAIN, **changes})


def written(folder, values):
    path = folder / "recipe.yaml"
    path.write_text(values if isinstance(values, str) else yaml.safe_dump(values), encoding="utf-8")
    return path


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_the_examples_are_recipes_that_can_work(path):
    check_recipe(load_recipe(path))


def test_defaults():
    found = recipe()
    assert found.stages == [Stage("cla")]
    assert (found.method, found.adapter, found.head) == ("dasd", None, None)
    assert adapter_of(found) == DASDConfig()
    assert (found.vocabulary, found.arguments, found.seed, found.save_dtype) == (None, {}, 0, "float32")
    assert recipe(vocabulary={}).vocabulary == VocabularyRecipe()
    assert recipe_from_dict(PLAIN) == recipe_from_dict(PLAIN)
    assert PLAIN["stages"] == [{"name": "cla"}]  # what was given is not changed


def test_a_key_without_a_value_is_a_key_left_out(tmp_path):
    text = yaml.safe_dump(PLAIN) + "arguments:\nvocabulary:\nseed:\nadapter:\n"
    assert load_recipe(written(tmp_path, text)) == recipe()
    stages = [{"name": "cla", "terms": None, "arguments": None, "patience": None}]
    assert recipe(stages=stages) == recipe()
    with pytest.raises(ConfigError, match="base"):
        recipe(base=None)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 3}, r"unknown key epochs\. Known: adapter, arguments, base"),
        ({"lr": 1, "bs": 2}, "unknown keys bs, lr"),
        ({"vocabulary": {"sise": 3}}, r"vocabulary: unknown key sise\. Known: kind"),
        ({"stages": [{"name": "cla"}, {"name": "cma", "term": {}}]}, r"stage 2: unknown key term\. Known: arguments"),
        ({"stages": [{"terms": {}}]}, "stage 1.*name"),
        ({"stages": ["cla"]}, "stage 1.*keys and values, got str"),
        ({"stages": []}, "at least one stage"),
        ({"stages": {"cla": {}}}, "at least one stage"),
        ({"stages": [{"name": "cla"}, {"name": "cla"}]}, "same name"),
        ({"stages": [{"name": "cla"}, {"name": "english"}]}, "comes first"),
        ({"stages": [{"name": "english"}]}, "english.*another stage"),
        ({"stages": [{"name": "english", "terms": {"cosine": 1}}, {"name": "cla"}]}, "english.*no `terms`"),
        ({"save_dtype": "int8"}, "int8.*'float32', 'float16' or"),
        ({"vocabulary": "mbert"}, "vocabulary.*got str"),
        ({"vocabulary": {"start": "alligned"}}, "start.*alligned.*'aligned', 'shared' or 'random'"),
        ({"vocabulary": {"kind": "wordpiece"}}, "kind.*wordpiece.*'unigram', 'bpe' or 'word'"),
        ({"vocabulary": {"train": "some"}}, "train.*some.*'all', 'touched' or 'none'"),
        ({"vocabulary": {"train": "none"}}, "source"),
        ({"vocabulary": {"source": "mbert"}}, "source.*tokenizer"),
        ({"warm_start_language": "sk"}, "adapter `warm_start`; name that too"),
        ({"pooling": "max"}, "pooling.*max.*'mean' or 'first'"),
        ({"data": "tiny_world"}, "data.*str"),
        ({"adapter": "DASD"}, "adapter.*str"),
        ({"arguments": [1]}, "arguments.*list"),
        ({"stages": [{"name": "cla", "terms": 3}]}, "stage 1.*terms.*int"),
        ({"seed": "one"}, "seed.*'one'"),
        ({"seed": True}, "seed.*True"),
        ({"seed": -1}, "seed.*-1; expected 0 to"),
        ({"vocabulary": {"size": 0}}, "size.*0; expected 5 or more"),
        ({"max_length": 12.5}, "max_length.*12.5"),
        ({"stages": [{"name": "cla", "patience": "2"}]}, "patience.*'2'"),
        ({"stages": [{"name": "cla", "patience": 0}]}, "patience.*0"),
        ({"language": False}, "language.*False"),  # what YAML makes of `no`, Norwegian
        ({"stages": [{"name": 1}]}, "name.*1"),
    ],
)
def test_what_is_wrong_is_named(changes, message):
    with pytest.raises(ConfigError, match=message):
        recipe(**changes)


@pytest.mark.parametrize("name", ["../up", "a/b", "", "  ", ".", "adapter", "vocabulary", "targets", "base", "c:\\x"])
def test_a_stage_whose_folder_would_be_anothers(name):
    with pytest.raises(ConfigError, match="name"):
        recipe(stages=[{"name": name, "terms": {"cosine": 1}}])


@pytest.mark.parametrize("key", ["base", "language", "data", "output_dir"])
def test_what_a_recipe_must_have(key):
    with pytest.raises(ConfigError, match=key):
        recipe_from_dict({name: value for name, value in PLAIN.items() if name != key})


def test_numbers_with_an_exponent_are_numbers(tmp_path):
    """YAML 1.1 reads `2e-4` as a text, because it has no dot."""
    text = yaml.safe_dump(PLAIN) + "arguments: {vocabulary_learning_rate: 2e-4, learning_rate: 1E-3, run_name: 3e}\n"
    found = load_recipe(written(tmp_path, text), ["arguments.weight_decay=5e-2"])
    assert found.arguments == {
        "vocabulary_learning_rate": 2e-4,
        "learning_rate": 1e-3,
        "weight_decay": 5e-2,
        "run_name": "3e",
    }


def test_overrides(tmp_path):
    path = written(tmp_path, {**PLAIN, "vocabulary": {"size": 10}})
    found = load_recipe(
        path,
        ["seed=3", "data.noise=0.2", "arguments.max_steps=5", "vocabulary.size=77", "language='no'", "adapter={r: 4}"],
    )
    assert (found.seed, found.vocabulary.size, found.arguments, found.adapter) == (3, 77, {"max_steps": 5}, {"r": 4})
    assert (found.data, found.language) == ({"name": "tiny_world", "noise": 0.2}, "no")
    assert load_recipe(path, ["output_dir=runs/a=b"]).output_dir == "runs/a=b"
    assert load_recipe(path, ["vocabulary="]).vocabulary is None


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seed", "'seed' is no override"),
        ("sead=1", "unknown key sead"),
        ("base.x=1", "base.x=1.*`base`"),
        ("stages.0.name=cma", "`stages`"),
        ("data={", "data={"),
        ("=1", "=1"),
    ],
)
def test_a_wrong_override(override, message, tmp_path):
    with pytest.raises(ConfigError, match=message):
        load_recipe(written(tmp_path, PLAIN), [override])


def test_files_that_are_no_recipes(tmp_path):
    with pytest.raises(ConfigError, match=r"no recipe '.*none.yaml'.*examples/configs"):
        load_recipe(tmp_path / "none.yaml")
    for text in ("", "- a\n- b\n", "just words"):
        with pytest.raises(ConfigError, match=r"recipe\.yaml' is empty or no mapping"):
            load_recipe(written(tmp_path, text))
    with pytest.raises(ConfigError, match=r"(?s)recipe\.yaml' is no valid YAML.*line 1"):
        load_recipe(written(tmp_path, "base: [a\nlanguage: b"))
    with pytest.raises(ConfigError, match="cannot be read"):
        load_recipe(tmp_path)
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00base")
    with pytest.raises(ConfigError, match="binary.yaml"):
        load_recipe(tmp_path / "binary.yaml")
    with pytest.raises(ConfigError, match="python/object"):  # YAML can name code to run; ours cannot
        load_recipe(written(tmp_path, "base: !!python/object/apply:os.getcwd []"))


def test_a_key_that_comes_twice_is_refused(tmp_path):
    """PyYAML would forget the first block without a word."""
    text = yaml.safe_dump(PLAIN) + "arguments: {seed: 1}\nvocabulary: {}\narguments:\n  max_steps: 5\n"
    with pytest.raises(ConfigError, match=r"(?s)recipe\.yaml'.*'arguments'.*line 8.*second time.*line 10"):
        load_recipe(written(tmp_path, text))
    merged = yaml.safe_dump(PLAIN) + "adapter: &own {r: 4}\nhead: {<<: *own, r: 5}\n"
    assert load_recipe(written(tmp_path, merged)).head == {"r": 5}


def test_arguments_of_a_stage_lie_over_those_of_the_recipe():
    arguments = {"learning_rate": 1e-3, "num_train_epochs": 7, "use_cpu": True}
    stage = Stage("cla", arguments={"learning_rate": 5e-4})
    found = stage_arguments(recipe(arguments=arguments, seed=5), stage)
    assert (found.learning_rate, found.num_train_epochs, found.seed) == (5e-4, 7, 5)
    assert Path(found.output_dir) == Path("runs/x/cla")
    assert (found.per_device_train_batch_size, found.adam_beta2, found.weight_decay) == (128, 0.98, 0.2)


def test_no_is_a_strategy(tmp_path):
    """YAML reads the word as false."""
    plan = load_recipe(written(tmp_path, PLAIN), ["arguments.eval_strategy=no", "arguments.save_strategy=no"])
    found = stage_arguments(plan, plan.stages[0])
    assert (found.eval_strategy, found.save_strategy) == ("no", "no")


def test_terms_of_a_stage_lie_over_the_published_ones():
    assert stage_terms(recipe(), Stage("cma")) == DASD.stages["cma"]
    assert stage_terms(recipe(), Stage("cma", terms={"alignment": 0.5})).contrastive == 1.0
    assert stage_terms(recipe(), Stage("own", terms={"bank": 1})) == DASDTerms(bank=1)
    assert stage_terms(recipe(method="nrccr"), Stage("joint", terms={"cycle": 0})) == dataclasses.replace(
        NRCCR.stages["joint"], cycle=0
    )


@pytest.mark.parametrize("name", METHODS)
def test_every_method_has_a_recipe_that_works_without_a_word_more(name):
    stages = [{"name": stage} for stage in METHODS[name].stages]
    found = recipe(method=name, stages=stages)
    check_recipe(found)
    assert (head_of(found) is None) == (METHODS[name].head is None)


def test_what_the_batches_of_a_recipe_must_hold():
    assert needs_of(recipe()) == {"source_vectors"}
    assert needs_of(recipe(stages=[{"name": "x", "terms": {"relational": 1}}])) == {"source_vectors", "bank"}
    joint = {"method": "nrccr", "stages": [{"name": "joint"}]}
    assert needs_of(recipe(**joint)) == {"source", "back"}
    assert needs_of(recipe(method="nrccr", stages=[{"name": "joint", "terms": {"cycle": 0}}])) == {"source"}
    assert needs_of(recipe(method="cl2cm", stages=[{"name": "joint"}])) == {"source"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stages": [{"name": "mine"}]}, "Stage 'mine' has no published terms.*cla, cma"),
        ({"method": "nrcr"}, "no method 'nrcr'. There are: dasd, mla, nrccr, cl2cm, transfer"),
        ({"method": "nrccr", "stages": [{"name": "cla"}]}, "Stage 'cla' has no published terms.*nrccr are joint"),
        ({"method": "nrccr", "stages": [{"name": "joint", "terms": {"cicle": 1}}]}, "No such term: cicle.*cycle"),
        ({"method": "nrccr", "stages": [{"name": "joint"}], "head": {"spaces": 3}}, "`head`.*spaces"),
        (
            {"method": "nrccr", "stages": [{"name": "joint"}], "head": {"width": 30, "attention_heads": 4}},
            "does not divide",
        ),
        ({"head": {}}, "'dasd' compares captions with the base's vectors; it takes no `head`"),
        ({"stages": [{"name": "cla", "terms": {"mse": 1}}]}, "No such term: mse"),
        ({"arguments": {"learning_rat": 1}}, "stage 'cla'.*learning_rat"),
        ({"stages": [{"name": "cla", "arguments": {"eval_strategy": "often"}}]}, "stage 'cla'.*often"),
        ({"arguments": {"load_best_model_at_end": True}}, "stage 'cla'.*load_best_model_at_end"),
        ({"stages": [{"name": "cla", "patience": 3}]}, "patience.*eval_strategy"),
        ({"arguments": {"vocabulary_learning_rate": "fast"}}, "vocabulary_learning_rate.*fast"),
        ({"arguments": {"learning_rate": -1}}, "learning_rate.*-1; expected a number, 0 or more"),
        ({"arguments": {"num_train_epochs": 0}}, "num_train_epochs.*0; expected a number, more than 0"),
        ({"arguments": {"learning_rate": "fast"}}, "learning_rate.*'fast'; expected a number"),
        ({"arguments": {"learning_rate": None}}, "learning_rate.*None; expected a number"),
        ({"arguments": {"weight_decay": "0.2"}}, "weight_decay.*'0.2'"),
        ({"arguments": {"num_train_epochs": "3"}}, "num_train_epochs.*'3'"),
        ({"arguments": {"bucket_chunk": 1.5}}, "bucket_chunk.*1.5; expected a whole number"),
        ({"arguments": {"mini_batch_size": 2.5}}, "mini_batch_size.*2.5; expected a whole number or nothing"),
        ({"arguments": {"max_steps": True}}, "max_steps.*True; expected a whole number"),
        ({"arguments": {"shard_base": "no"}}, "shard_base.*'no'; expected true or false"),
        ({"arguments": {"per_device_train_batch_size": 0}}, "per_device_train_batch_size.*0; .* 1 or more"),
        ({"arguments": {"gradient_accumulation_steps": 0}}, "gradient_accumulation_steps.*0; .* 1 or more"),
        (
            {"arguments": {"eval_strategy": "epoch", "metric_for_best_model": "mar"}},
            "metric_for_best_model.*'mar'; validation measures mAR and sumR",
        ),
        ({"arguments": {"data_seed": 7}}, "data_seed.*no effect; `seed` decides"),
        ({"arguments": {"train_sampling_strategy": "sequential"}}, "train_sampling_strategy.*`bucket_chunk`"),
        ({"stages": [{"name": "cla", "arguments": {"output_dir": "/elsewhere"}}]}, "output_dir.*the recipe's own"),
        ({"arguments": {"resume_from_checkpoint": "x"}}, "resume_from_checkpoint.*last whole checkpoint"),
        ({"adapter": {"peft_type": "MAGIC"}}, "'MAGIC'; peft knows .*LORA"),
        ({"adapter": {"peft_type": "DASD", "rank": 3}}, "adapter.*rank"),
        ({"adapter": {"mode": "quick"}}, "adapter.*quick"),
        ({"adapter": {"r": 0}}, "adapter.*`r` is 0"),
        (
            {"adapter": {"mode": "static"}, "stages": [{"name": "x", "terms": {"consistency": 1}}]},
            "'x'.*No term is left",
        ),
        (
            {"stages": [{"name": "cla", "terms": {"alignment": 0, "consistency": 0, "adversarial": 0}}]},
            "No term is left",
        ),
    ],
)
def test_a_recipe_that_cannot_work_is_refused_by_a_check(changes, message):
    with pytest.raises(ConfigError, match=message):
        check_recipe(recipe(**changes))


def test_an_adapter_to_start_from_is_looked_for_before_any_work(german_adapter):
    with pytest.raises(AdapterError, match="'nowhere' is neither a folder here nor"):
        check_recipe(recipe(warm_start="nowhere"))
    with pytest.raises(LanguageError, match="no language 'sk'. It has: de"):
        check_recipe(recipe(warm_start=str(german_adapter), warm_start_language="sk"))
    with pytest.raises(AdapterError, match="an adapter of DASD, which cannot start one of LORA"):
        check_recipe(recipe(warm_start=str(german_adapter), adapter={"peft_type": "LORA"}))


def test_an_adapter_to_start_from_stands_on_no_base_that_is_yet_to_be_trained(german_adapter):
    with pytest.raises(ConfigError, match="'english' makes another base"):
        check_recipe(recipe(warm_start=str(german_adapter), stages=[{"name": "english"}, {"name": "cla"}]))


def test_the_adapter():
    config = peft_config({"peft_type": "dasd", "r": 5})
    assert isinstance(config, DASDConfig)
    assert config.r == 5
    assert peft_config({}).mode == "dynamic"
    assert peft_config({"peft_type": "LORA", "r": 2}).r == 2
