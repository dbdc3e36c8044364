"""A recipe: one YAML file that says what is trained on what, read strictly before any work begins."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from ccr_adapters.errors import ConfigError


@dataclass
class Stage:
    """One stage of training.

    Args:
        name: `english`, `cla`, `cma`, or a name of your own for a stage with `terms`.
        terms: Weights of the objective's terms, over the defaults of the stage of that name.
        arguments: `CCRTrainingArguments`, over those of the recipe.
        patience: Evaluations without a better validation mAR before the stage ends early.
    """

    name: str
    terms: dict[str, Any] = field(default_factory=dict)
    arguments: dict[str, Any] = field(default_factory=dict)
    patience: int | None = None


@dataclass
class VocabularyRecipe:
    """The target language's own tokens.

    Args:
        size: Most tokens of a tokenizer that is trained on the translations.
        kind: `unigram` or `bpe`.
        tokenizer: A ready tokenizer instead, by repository or folder (mBERT, XLM-R).
        source: Model whose embedding table it starts from, with `tokenizer`.
        start: `aligned`: each row starts as what the training pairs say it translates; `random`.
        train: `all`, `touched` or `none`.
        projection: Put a linear map behind the table even where the widths agree.
    """

    size: int = 8000
    kind: str = "unigram"
    tokenizer: str | None = None
    source: str | None = None
    start: str = "aligned"
    train: str = "all"
    projection: bool | None = None


@dataclass
class Recipe:
    """What is trained on what.

    Args:
        base: Repository or folder of the base, or `tiny_clip`.
        language: Code of the target language.
        data: See `ccr_adapters.data.load_corpus`.
        output_dir: Where everything goes; a killed run goes on from there.
        stages: In order.
        adapter: A peft configuration with its `peft_type`.
        vocabulary: The language's own tokens; `None` shares the base's.
        arguments: `CCRTrainingArguments` of all stages.
        max_length: Longest target caption in tokens.
        seed: Seed of everything.
        pooling: For a text encoder alone: `mean` or `first`.
        save_dtype: Precision of the saved adapter, `float32` or `float16`.
        cache_dir: Where encoded targets are kept, to be shared by several runs; default inside `output_dir`.
    """

    base: str
    language: str
    data: dict[str, Any]
    output_dir: str
    stages: list[Stage]
    adapter: dict[str, Any] = field(default_factory=lambda: {"peft_type": "DASD"})
    vocabulary: VocabularyRecipe | None = None
    arguments: dict[str, Any] = field(default_factory=dict)
    max_length: int | None = None
    seed: int = 0
    pooling: str | None = None
    save_dtype: str = "float32"
    cache_dir: str | None = None


def _build(cls: Any, values: Any, where: str) -> Any:
    if not isinstance(values, dict):
        raise ConfigError(f"{where}: expected keys and values, got {type(values).__name__}.")
    known = {item.name for item in fields(cls)}
    unknown = sorted(set(values) - known)
    if unknown:
        raise ConfigError(
            f"{where}: unknown key{'s' if len(unknown) > 1 else ''} {', '.join(unknown)}. "
            f"Known: {', '.join(sorted(known))}."
        )
    try:
        return cls(**values)
    except TypeError as error:
        raise ConfigError(f"{where}: {str(error).split('__init__() ')[-1]}.") from error


def recipe_from_dict(values: dict[str, Any], where: str = "recipe") -> Recipe:
    """Build a recipe, refusing unknown keys at every level.

    Raises:
        ConfigError: Naming the key and those that exist.
    """
    values = dict(values)
    stages = values.get("stages")
    if not isinstance(stages, list) or not stages:
        raise ConfigError(f"{where}: `stages` is a list with at least one stage.")
    values["stages"] = [_build(Stage, stage, f"{where}, stage {index + 1}") for index, stage in enumerate(stages)]
    if isinstance(values.get("vocabulary"), dict):
        values["vocabulary"] = _build(VocabularyRecipe, values["vocabulary"], f"{where}, vocabulary")
    recipe: Recipe = _build(Recipe, values, where)
    names = [stage.name for stage in recipe.stages]
    if len(set(names)) < len(names):
        raise ConfigError(f"{where}: two stages have the same name ({', '.join(names)}).")
    if "english" in names[1:]:
        raise ConfigError(f"{where}: the stage 'english' changes the base, so it comes first.")
    if recipe.save_dtype not in ("float32", "float16", "bfloat16"):
        raise ConfigError(f"{where}: `save_dtype` is {recipe.save_dtype!r}; expected float32, float16 or bfloat16.")
    return recipe


def load_recipe(path: str | Path, overrides: list[str] | None = None) -> Recipe:
    """Read a YAML file.

    Args:
        path: The file.
        overrides: `key=value` or `key.inner=value`, over what the file says.

    Raises:
        ConfigError: If the file is missing, no YAML, or has an unknown key.
    """
    file = Path(path)
    try:
        values = yaml.safe_load(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"There is no recipe '{file}'. See examples/configs for some.") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"'{file}' is no valid YAML: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"'{file}' is empty or no mapping of keys to values.")
    for override in overrides or []:
        key, separator, text = override.partition("=")
        if not separator:
            raise ConfigError(f"'{override}' is no override; write key=value, for example seed=1 or data.noise=0.2.")
        parts = key.split(".")
        place = values
        for part in parts[:-1]:
            place = place.setdefault(part, {})
        place[parts[-1]] = yaml.safe_load(text)
    return recipe_from_dict(values, str(file))
