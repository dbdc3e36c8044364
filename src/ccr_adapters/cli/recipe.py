"""A recipe: one YAML file that says what is trained on what, read strictly before any work begins."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml
from yaml.composer import ComposerError

from ccr_adapters.errors import ConfigError


@dataclass
class Stage:
    """One stage of training.

    Args:
        name: `english`, one that the method publishes (`cla` and `cma` of DASD), or a name of your own with `terms`.
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
        kind: `unigram`, `bpe`, or `word` for a small closed vocabulary.
        tokenizer: A ready tokenizer instead, by repository or folder (mBERT, XLM-R).
        source: Model whose embedding table it starts from, with `tokenizer`.
        start: `aligned`: each row starts as what the training pairs say it translates; `shared`: as the base's token of
            the same text; `random`.
        train: `all`, `touched` or `none`.
        projection: Put a linear map behind the table even where the widths agree.
        unknown: Unknown words to sprinkle over the training captions, as a share of their words.
        sampling: Share of the training captions whose words are cut into pieces at random, others in each epoch; needs a
            unigram tokenizer. Words that training never shows are then read better.
    """

    size: int = 8000
    kind: str = "unigram"
    tokenizer: str | None = None
    source: str | None = None
    start: str = "aligned"
    train: str = "all"
    projection: bool | None = None
    unknown: float = 0.0
    sampling: float = 0.0

    def __post_init__(self) -> None:
        _one_of("vocabulary.kind", self.kind, "unigram", "bpe", "word")
        for name, most in (("unknown", 0.99), ("sampling", 1.0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= most:
                raise ConfigError(f"`vocabulary.{name}` is {value!r}; expected a share, from 0 to {most:g}.")
        if self.size < 5:
            raise ConfigError(
                f"`vocabulary.size` is {self.size}; expected 5 or more: four special tokens, and one of the language."
            )
        if self.sampling and self.kind != "unigram" and self.tokenizer is None:
            raise ConfigError(f"`vocabulary.sampling` cuts unigram pieces; `vocabulary.kind` is {self.kind!r}.")
        if self.sampling and self.train == "touched":
            raise ConfigError(
                "`vocabulary.sampling` cuts words into pieces that `vocabulary.train: touched` does not train; take `train: all`."
            )
        _one_of("vocabulary.start", self.start, "aligned", "shared", "random")
        _one_of("vocabulary.train", self.train, "all", "touched", "none")
        if self.train == "none" and self.source is None:
            raise ConfigError("`vocabulary.train: none` needs a `source`, the model that the rows come from.")
        if self.source is not None and self.tokenizer is None:
            raise ConfigError("`vocabulary.source` is a table for one `tokenizer`; name that too.")


@dataclass
class Recipe:
    """What is trained on what.

    Args:
        base: Repository or folder of the base, or `tiny_clip`.
        language: Code of the target language.
        data: See `ccr_adapters.data.load_corpus`.
        output_dir: Where everything goes; a killed run goes on from there.
        stages: In order.
        method: `dasd`, `mla`, `nrccr`, `cl2cm` or `transfer`; see `ccr_adapters.methods`.
        adapter: A peft configuration with its `peft_type`; default the method's.
        head: A mapping into a space of its own (`HeadConfig`); default the method's.
        vocabulary: The language's own tokens; `None` shares the base's.
        arguments: `CCRTrainingArguments` of all stages.
        max_length: Longest target caption in tokens.
        seed: Seed of everything.
        pooling: For a text encoder alone: `mean` or `first`.
        warm_start: Repository or folder of an adapter to start from, on the same base: that of a near language, or an earlier
            one of the same.
        warm_start_language: Which of its languages, where it has several.
        save_dtype: Precision of the saved adapter, `float32`, `float16` or `bfloat16`.
        license: The adapter's, for its card, as the Hub writes it (`apache-2.0`, `cc-by-4.0`).
        cache_dir: Where encoded targets are kept, to be shared by several runs; default inside `output_dir`.
    """

    base: str
    language: str
    data: dict[str, Any]
    output_dir: str
    stages: list[Stage]
    method: str = "dasd"
    adapter: dict[str, Any] | None = None
    head: dict[str, Any] | None = None
    vocabulary: VocabularyRecipe | None = None
    arguments: dict[str, Any] = field(default_factory=dict)
    max_length: int | None = None
    seed: int = 0
    pooling: str | None = None
    warm_start: str | None = None
    warm_start_language: str | None = None
    save_dtype: str = "float32"
    license: str = "unknown"
    cache_dir: str | None = None


# What lies in an output folder beside the folders of the stages.
_TAKEN = ("adapter", "base", "targets", "vocabulary")
_TYPES: dict[str, tuple[type, ...]] = {"str": (str,), "int": (int,), "bool": (bool,), "dict": (dict,)}


def _one_of(name: str, value: str, *choices: str) -> None:
    if value not in choices:
        *others, last = [repr(choice) for choice in choices]
        raise ConfigError(f"`{name}` is {value!r}; expected {', '.join(others)} or {last}.")


def _check_type(name: str, annotation: str, value: Any, where: str) -> None:
    """Refuse a value of another type: YAML reads `no`, which is Norwegian, as False."""
    kind = annotation.partition("[")[0].partition(" ")[0]
    wanted = _TYPES.get(kind)
    wrong = wanted is not None and not isinstance(value, wanted)
    if wrong or (isinstance(value, bool) and kind != "bool"):
        named = {"str": "a text, in quotes", "int": "a whole number", "bool": "true or false"}.get(
            kind, "keys and values"
        )
        raise ConfigError(f"{where}: `{name}` is {value!r}, of type {type(value).__name__}; expected {named}.")


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
    # a key without a value is a key left out
    values = {name: value for name, value in values.items() if value is not None}
    for item in fields(cls):
        if item.name in values and item.name not in ("stages", "vocabulary"):
            _check_type(item.name, str(item.type), values[item.name], where)
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
    if values.get("vocabulary") is not None:
        values["vocabulary"] = _build(VocabularyRecipe, values["vocabulary"], f"{where}, vocabulary")
    recipe: Recipe = _build(Recipe, values, where)
    names = [stage.name for stage in recipe.stages]
    if len(set(names)) < len(names):
        raise ConfigError(f"{where}: two stages have the same name ({', '.join(names)}).")
    for stage in recipe.stages:
        _check_stage(stage, where)
    if "english" in names[1:]:
        raise ConfigError(f"{where}: the stage 'english' changes the base, so it comes first.")
    if names == ["english"]:
        raise ConfigError(f"{where}: the stage 'english' trains no language; it needs another stage after it.")
    if not 0 <= recipe.seed < 2**32:
        raise ConfigError(f"{where}: `seed` is {recipe.seed}; expected 0 to {2**32 - 1}.")
    _one_of("save_dtype", recipe.save_dtype, "float32", "float16", "bfloat16")
    if recipe.warm_start_language and not recipe.warm_start:
        raise ConfigError(f"{where}: `warm_start_language` is a language of the adapter `warm_start`; name that too.")
    if recipe.pooling is not None:
        _one_of("pooling", recipe.pooling, "mean", "first")
    return recipe


def _check_stage(stage: Stage, where: str) -> None:
    # a stage's name is the name of its folder
    if not re.fullmatch(r"[\w-]+", stage.name) or stage.name in _TAKEN:
        raise ConfigError(
            f"{where}: a stage cannot have the name {stage.name!r}. Use letters, digits, '-' and '_', and none of "
            f"{', '.join(_TAKEN)}, which are folders of their own."
        )
    if stage.name == "english" and stage.terms:
        raise ConfigError(f"{where}: the stage 'english' has one objective and takes no `terms`.")
    if stage.patience is not None and stage.patience < 1:
        raise ConfigError(f"{where}, stage '{stage.name}': `patience` is {stage.patience}; expected 1 or more.")


class _Loader(yaml.SafeLoader):
    """Reads `2e-4` as the number that it is; YAML 1.1 wants a dot in it and makes it a text.

    A key that comes twice is refused, where PyYAML would forget the first.
    """

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        first: dict[Any, Any] = {}
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and first.setdefault(key.value, key) is not key:
                before = first[key.value].start_mark
                raise ComposerError(f"the key {key.value!r} stands", before, "and a second time", key.start_mark)
        return node


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


def _read_yaml(text: str, what: str) -> Any:
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise ConfigError(f"{what} is no valid YAML: {error}") from error


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
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ConfigError(f"There is no recipe '{file}'. See examples/configs for some.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"The recipe '{file}' cannot be read: {error}") from error
    values = _read_yaml(text, f"'{file}'")
    if not isinstance(values, dict):
        raise ConfigError(f"'{file}' is empty or no mapping of keys to values.")
    for override in overrides or []:
        key, separator, value = override.partition("=")
        if not separator or not key:
            raise ConfigError(f"'{override}' is no override; write key=value, for example seed=1 or data.noise=0.2.")
        parts = key.split(".")
        place = values
        for part in parts[:-1]:
            place[part] = {} if place.get(part) is None else place[part]
            place = place[part]
            if not isinstance(place, dict):
                raise ConfigError(f"'{override}' reaches into `{part}`, which has no keys of its own.")
        place[parts[-1]] = _read_yaml(value, f"'{override}'")
    return recipe_from_dict(values, str(file))
