"""Everything that can be wrong in a recipe, built and refused before any work."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import numpy as np
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from peft.utils import PeftType

import ccr_adapters.full  # noqa: F401 - registers its method with peft
from ccr_adapters.cli.recipe import Recipe, Stage
from ccr_adapters.configuration import HeadConfig
from ccr_adapters.dasd import DASDConfig
from ccr_adapters.data.corpus import Corpus
from ccr_adapters.errors import ConfigError, DataError, TrainingError
from ccr_adapters.methods import NO_TERM, EnglishFineTune, Method, Terms, method_of
from ccr_adapters.modeling.warm_start import find_start
from ccr_adapters.processing.language_id import mostly_other
from ccr_adapters.processing.video import is_features
from ccr_adapters.training import CCRTrainingArguments

logger = logging.getLogger(__name__)

STRATEGIES = ("eval_strategy", "save_strategy", "logging_strategy")
# what `Validation` measures
METRICS = ("mAR", "sumR")
# arguments of transformers that would have no effect, and what decides in their place
_DECIDED_BY = {
    "output_dir": "the recipe's own `output_dir`",
    "resume_from_checkpoint": "the output folder, whose last whole checkpoint is taken up",
    "data_seed": "`seed`",
    "train_sampling_strategy": "`bucket_chunk`, the batches that are sorted by length together",
}
_LEAST = {
    "learning_rate": 0,
    "weight_decay": 0,
    "per_device_train_batch_size": 1,
    "gradient_accumulation_steps": 1,
    "seed": 0,
}
# transformers would train nothing, and the card say that it did
_ABOVE_ZERO = frozenset({"num_train_epochs"})
_KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a text", type(None): "nothing"}
_HINTS = get_type_hints(CCRTrainingArguments)


def peft_config(values: Mapping[str, Any]) -> Any:
    """A peft configuration from a recipe's `adapter:`.

    Raises:
        ConfigError: If the method or a key is unknown.
    """
    values = dict(values)
    name = str(values.pop("peft_type", "DASD")).upper()
    if name not in PEFT_TYPE_TO_CONFIG_MAPPING:
        known = ", ".join(sorted(str(getattr(key, "value", key)) for key in PEFT_TYPE_TO_CONFIG_MAPPING))
        raise ConfigError(f"`peft_type` is {name!r}; peft knows {known}.")
    try:
        return PEFT_TYPE_TO_CONFIG_MAPPING[PeftType(name)](**values)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"`adapter`: {str(error).split('__init__() ')[-1]}") from error


def adapter_of(recipe: Recipe) -> Any:
    """The adapter of a recipe, or the one that its method has by default."""
    return peft_config(method_of(recipe.method).adapter if recipe.adapter is None else recipe.adapter)


def head_of(recipe: Recipe) -> HeadConfig | None:
    """The mapping head of a recipe, or the one that its method has by default.

    Raises:
        ConfigError: If a key is unknown.
    """
    values = method_of(recipe.method).head if recipe.head is None else recipe.head
    if values is None:
        return None
    try:
        return HeadConfig(**values)
    except TypeError as error:
        raise ConfigError(f"`head`: {str(error).split('__init__() ')[-1]}") from error


def _check_argument(name: str, value: Any, where: str) -> None:
    """Refuse a value of another type than the argument is declared to have: transformers takes any, and fails hours later."""
    hint = _HINTS.get(name, object)  # an unknown name is refused by the class itself
    members = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    kinds = tuple(kind for kind in (get_origin(member) or member for member in members) if isinstance(kind, type))
    taken = (*kinds, int) if float in kinds else kinds
    wrong = not isinstance(value, taken) or (isinstance(value, bool) and not {bool, object} & set(kinds))
    least, above = _LEAST.get(name), name in _ABOVE_ZERO
    if wrong or (least is not None and not value >= least) or (above and not value > 0):
        named = " or ".join(_KINDS.get(kind, kind.__name__) for kind in kinds)
        bound = ", more than 0" if above else "" if least is None else f", {least} or more"
        raise ConfigError(f"{where}: `{name}` is {value!r}; expected {named}{bound}.")


def stage_arguments(recipe: Recipe, stage: Stage) -> CCRTrainingArguments:
    """Training arguments of a stage: the method's published ones, over them the recipe's, and over them the stage's own.

    Raises:
        ConfigError: If a name is unknown or a value impossible.
    """
    method = EnglishFineTune if stage.name == "english" else method_of(recipe.method)
    values = {"seed": recipe.seed, **method.arguments.get(stage.name, {}), **recipe.arguments, **stage.arguments}
    # YAML reads the word `no` as false
    values.update({name: "no" for name in STRATEGIES if values.get(name) is False})
    where = f"Arguments of stage '{stage.name}'"
    for name, value in values.items():
        if name in _DECIDED_BY:
            raise ConfigError(f"{where}: `{name}` has no effect; {_DECIDED_BY[name]} decides. Leave it out.")
        _check_argument(name, value, where)
    values["output_dir"] = str(Path(recipe.output_dir) / stage.name)
    try:
        arguments = CCRTrainingArguments(**values)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{where}: {str(error).split('__init__() ')[-1]}") from error
    best = arguments.metric_for_best_model
    if arguments.eval_strategy != "no" and str(best).removeprefix("eval_") not in METRICS:
        raise ConfigError(f"{where}: `metric_for_best_model` is {best!r}; validation measures {' and '.join(METRICS)}.")
    if stage.patience and arguments.eval_strategy == "no":
        raise ConfigError(
            f"Stage '{stage.name}': `patience` counts evaluations; set `eval_strategy` to steps or epoch."
        )
    return arguments


def stage_terms(recipe: Recipe, stage: Stage) -> Terms:
    """Weights of a stage's terms: the method's published defaults by its name, and over them the recipe's."""
    method = method_of(recipe.method)
    if stage.name not in method.stages and not stage.terms:
        raise ConfigError(
            f"Stage '{stage.name}' has no published terms (those of {recipe.method} are {', '.join(method.stages)}); give it "
            "`terms`."
        )
    return method.terms_class.from_dict(stage.terms, method.stages.get(stage.name))


def language_stages(recipe: Recipe) -> list[Stage]:
    """The stages that train the language; `english` trains the base."""
    return [stage for stage in recipe.stages if stage.name != "english"]


def needs_of(recipe: Recipe) -> frozenset[str]:
    """What the batches of any stage must hold; see [`Method.needs`]."""
    method: type[Method] = method_of(recipe.method)
    return frozenset().union(*(method.needs(stage_terms(recipe, stage)) for stage in language_stages(recipe)))


def check_recipe(recipe: Recipe) -> None:
    """Build everything that can be wrong in a recipe, before any work.

    Raises:
        ConfigError: Naming what is wrong.
    """
    adapter, head = adapter_of(recipe), head_of(recipe)
    method = method_of(recipe.method)
    if head is None and method.head is not None:
        raise ConfigError(f"The method {recipe.method!r} needs a `head`.")
    if head is not None and not method.takes_head:
        raise ConfigError(
            f"The method {recipe.method!r} compares captions with the base's vectors; it takes no `head`."
        )
    if recipe.warm_start is not None and recipe.stages[0].name == "english":
        raise ConfigError(
            "`warm_start` takes an adapter on the same base, and the stage 'english' makes another base. Leave one of them out."
        )
    if recipe.warm_start is not None:
        find_start(recipe.warm_start, recipe.warm_start_language, adapter)
    dynamic = isinstance(adapter, DASDConfig) and adapter.disentangles
    for stage in recipe.stages:
        stage_arguments(recipe, stage)
    for stage in language_stages(recipe):
        if not method.computed(stage_terms(recipe, stage), dynamic=dynamic):
            raise ConfigError(f"Stage '{stage.name}': {NO_TERM}")


def check_rows(recipe: Recipe, corpus: Corpus) -> None:
    """Refuse a corpus that lacks what the recipe needs, or does not fill one batch; warn of one in another language.

    Raises:
        ConfigError: If the base is to be trained on video files.
        DataError: If there are no back-translations, or some are empty.
        TrainingError: If the pairs do not fill a batch.
    """
    if corpus.videos is not None and not is_features(corpus.videos[0]) and recipe.stages[0].name == "english":
        raise ConfigError(
            "The stage 'english' trains the image tower on pictures, and the data has video files. Leave the stage out, or "
            "train the base on pictures first and name its folder as `base`."
        )
    if "back" in needs_of(recipe):
        rows, column = corpus.rows, "back_translation"
        fix = "Make them with `ccr-adapters translate --back-model`, or train without the cycle: set its term `cycle` to 0."
        if column not in rows.column_names:
            raise DataError(f"The method {recipe.method!r} needs back-translations, and the data has none. {fix}")
        empty = [index for index, text in enumerate(rows[column]) if not isinstance(text, str) or not text.strip()]
        if empty:
            raise DataError(
                f"{len(empty)} of {len(rows)} rows have an empty '{column}', the first is row {empty[0]}. {fix}"
            )
    for stage in recipe.stages:
        arguments = stage_arguments(recipe, stage)
        rows = arguments.train_batch_size * arguments.world_size
        # a row of weight .1 comes every tenth time
        weighted = "weight" in corpus.rows.column_names and stage.name != "english"
        pairs = int(np.sum(corpus.rows["weight"])) if weighted else len(corpus.rows)
        smallest = rows if arguments.dataloader_drop_last else pairs % rows or rows
        if smallest == 1 and head_of(recipe) is not None and stage.name != "english":
            raise TrainingError(
                f"Stage '{stage.name}' has a batch of one row, and a `head` normalises over the rows of a batch. Change "
                "`per_device_train_batch_size`, or leave `dataloader_drop_last` on."
            )
        if pairs < rows and arguments.dataloader_drop_last:
            named = (
                f"{len(corpus.rows)} pairs, which count as {pairs} by their weights," if weighted else f"{pairs} pairs"
            )
            raise TrainingError(f"{named} do not fill one batch of {rows}. Lower per_device_train_batch_size.")
    note = mostly_other(corpus.rows["translation"], recipe.language)
    if note is not None:
        logger.warning(note)
