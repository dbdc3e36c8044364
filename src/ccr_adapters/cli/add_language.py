"""`ccr-adapters add-language`: translate, look at the noise, train, evaluate and write the card, in one command.

Each step leaves its files in the output folder, and a command that was killed goes on from there:
`translations/` (the pseudo-parallel data), `noise/` (the report), `recipe.yaml` (what is trained), `training/` (checkpoints,
metrics, and the adapter with its card).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ccr_adapters.cli.command_train import tell_outcome
from ccr_adapters.cli.places import check_device
from ccr_adapters.cli.translate import BATCH_SIZE, NUM_BEAMS, load_translators, tell_summary

if TYPE_CHECKING:
    from datasets import Dataset

    from ccr_adapters.cli.recipe import Recipe
    from ccr_adapters.cli.translated_corpus import Splits

EXAMPLE = """\b
Example:
  ccr-adapters add-language cs --base openai/clip-vit-base-patch32 --dataset data/flickr30k \\
      --translator Helsinki-NLP/opus-mt-en-cs --output runs/cs
"""
# What measured best (docs/results.md).
METHOD = "transfer"
RECIPE = "recipe.yaml"
MANY = 10_000  # pairs from which two epochs do, and a larger vocabulary pays


def recipe_values(
    language: str,
    base: str,
    dataset: str,
    output: str,
    method: str,
    *,
    pairs: int,
    seed: int = 0,
    overrides: Sequence[str] = (),
) -> dict[str, Any]:
    """The recipe that `add-language` trains with, by the size of the corpus.

    Args:
        language: Code of the new language.
        base: The base.
        dataset: Where the English captions came from.
        output: Folder of the training.
        method: One of `ccr_adapters.methods.METHODS`.
        pairs: Training pairs.
        seed: Seed of everything.
        overrides: `arguments.key=value` that are read over it: for these no stage has a value of its own.

    Raises:
        ConfigError: If there is no such method.
    """
    from ccr_adapters.methods import method_of

    values: dict[str, Any] = {
        "base": base,
        "language": language,
        "method": method,
        "seed": seed,
        "output_dir": output,
        "data": {"path": dataset},
        "arguments": {
            "per_device_train_batch_size": max(2, min(128, pairs // 4)),
            "eval_strategy": "epoch",
            "save_strategy": "epoch",
            "load_best_model_at_end": True,
            "logging_steps": 50,
            "num_train_epochs": 2 if pairs >= MANY else 5,
        },
    }
    # rows that start aligned, and nothing pulls them to zero; small adapters bear ten times the published rate, whole blocks
    # do not (docs/results.md was measured so)
    values["arguments"] |= {"vocabulary_learning_rate": 2e-3, "weight_decay": 0.0}
    values["arguments"] |= {"learning_rate": 2e-4 if method in ("nrccr", "cl2cm") else 2e-3}
    if method == "nrccr":
        values["arguments"] |= {"auxiliary_learning_rate": 1e-3, "max_grad_norm": 2.0}
        # for a few epochs, where the published schedule has a hundred
        values["arguments"] |= {"lr_scheduler_type": "cosine", "warmup_steps": 0.1, "adam_beta2": 0.98}
    if base == "tiny_clip":
        values["vocabulary"] = {"kind": "word", "size": 2000, "unknown": 0.3}
        # its words start nearly right, and these rates would undo that
        values["arguments"]["learning_rate"] /= 4
        values["arguments"]["vocabulary_learning_rate"] /= 10
    else:
        # 12 MB for all that a language needs, and the recall of larger ones (docs/results.md)
        values["vocabulary"] = {"kind": "unigram", "size": 7000 if pairs >= MANY else 4000, "sampling": 0.5}
        values["save_dtype"] = "float16"
        if method in ("transfer", "dasd"):
            values["adapter"] = {"peft_type": "DASD", "generator_rank": 32}
    taken = {each.partition("=")[0].removeprefix("arguments.") for each in overrides}
    values["stages"] = _stages(list(method_of(method).stages), values["arguments"], taken)
    return values


def _stages(names: list[str], arguments: dict[str, Any], taken: set[str]) -> list[dict[str, Any]]:
    """The stages: of two, the second has four tenths of the epochs and a tenth of the rates (docs/results.md)."""
    if len(names) != 2:
        return [{"name": name} for name in names]
    epochs = arguments["num_train_epochs"]
    first = {"num_train_epochs": round(0.6 * epochs, 1)}
    rates = {name: arguments[name] / 10 for name in ("learning_rate", "vocabulary_learning_rate")}
    second = {"num_train_epochs": round(0.4 * epochs, 1), **rates}
    return [
        {"name": name, "arguments": {key: value for key, value in own.items() if key not in taken}}
        for name, own in zip(names, (first, second), strict=True)
    ]


def _tell(text: str) -> None:
    typer.echo(f"==> {text}")


def _mapping(columns: list[str]) -> dict[str, str]:
    """`["caption=sentence"]` as a mapping.

    Raises:
        ConfigError: If there is no '=' in it, or a name is unknown.
    """
    from ccr_adapters.errors import ConfigError

    own = ("caption", "image", "image_id", "translation", "back_translation", "target_caption", "weight")
    found = dict(column.split("=", 1) for column in columns if "=" in column)
    wrong = [column for column in columns if column.partition("=")[0] not in own or not column.partition("=")[2]]
    if wrong:
        raise ConfigError(f"`--column {wrong[0]}`: write one of {', '.join(own)}, then = and the name in the data.")
    return found


def _written(values: dict[str, Any], file: Path, overrides: list[str]) -> Recipe:
    """Write a recipe as a file that `train` could take, overrides left out, and read it with them."""
    import yaml

    from ccr_adapters.cli.recipe import load_recipe

    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(yaml.safe_dump(values, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return load_recipe(file, overrides)


def _translations(
    splits: Splits, language: str, source: str, folder: Path, limit: int | None, decoding: dict[str, Any], **models: Any
) -> tuple[Dataset, str | None]:
    """The translated rows of the training split, and who translated them, if that is known."""
    from datasets import load_from_disk

    from ccr_adapters.data.corpus import check_language
    from ccr_adapters.errors import DataError
    from ccr_adapters.translation import translate_dataset

    train = splits.train
    if models["model"] is None:
        if "translation" not in train.column_names:
            raise DataError("The split 'train' has no 'translation'. Give a --translator to make them.")
        _tell("Translations are in the data already.")
        check_language(train, language)
        names = ["caption", "translation", "back_translation", "image_id", "weight"]
        rows = train.select_columns([name for name in names if name in train.column_names])
        by = ", ".join(map(str, train.unique("translator"))) if "translator" in train.column_names else None
        return rows if limit is None else rows.select(range(min(limit, len(rows)))), by
    _tell(f"Translating {len(train):,} rows into {language}.")
    translator, back = load_translators(source=source, target=language, **models)
    rows = train.select_columns(["caption", "image_id"])
    summary = translate_dataset(rows, folder, translator, back, limit=limit, **decoding)
    tell_summary(summary, language, translator.name)
    return load_from_disk(summary.folder), translator.name


def _with_back_translations(texts: Dataset) -> Dataset:
    """The rows that have one: a translator back may say nothing, and the rest is worth training on."""
    import numpy as np

    column = "back_translation"
    if column not in texts.column_names:
        return texts
    said = np.flatnonzero([bool(text and text.strip()) for text in texts[column]])
    if len(said) < len(texts):
        _tell(f"{len(texts) - len(said):,} rows have an empty {column} and are left out.")
    return texts.select(said) if len(said) < len(texts) else texts


def add_language(
    language: Annotated[str, typer.Argument(metavar="CODE", help="The new language: cs, sw, zh, pt-BR, ...")],
    base: Annotated[str, typer.Option(help="Base: a repository, a folder, or tiny_clip.")],
    dataset: Annotated[Path, typer.Option(help="Folder with the split 'train': image, image_id, English caption.")],
    output: Annotated[Path, typer.Option(help="Folder for everything that is made.")],
    translator: Annotated[
        str | None, typer.Option(help="Translation model, NAME or NAME@REVISION; not needed if there are translations.")
    ] = None,
    back_model: Annotated[str | None, typer.Option(help="Also translate back, with this model.")] = None,
    source: Annotated[str, typer.Option(help="Language of the captions.")] = "en",
    method: Annotated[str, typer.Option(help="transfer, dasd, mla, nrccr or cl2cm.")] = METHOD,
    minimum: Annotated[float, typer.Option(min=0, max=1, help="Lowest score of a translation to train on.")] = 0.5,
    weights: Annotated[bool, typer.Option(help="Weight each training pair by its translation's score.")] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first N rows.")] = None,
    column: Annotated[
        list[str] | None, typer.Option(help="Names in the data: caption=sentence; may be repeated.")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Captions of one batch of the translator.")] = BATCH_SIZE,
    num_beams: Annotated[int, typer.Option(min=1, help="Beams of the translator.")] = NUM_BEAMS,
    device: Annotated[
        str | None, typer.Option(help="Of the translator; default: the accelerator if there is one.")
    ] = None,
    warm_start: Annotated[
        str | None, typer.Option(help="Adapter of a near language, on the same base, to start from.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of everything.")] = 0,
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Over the recipe: arguments.num_train_epochs=1")
    ] = None,
) -> None:
    """Teach a base a language from English captions: translate, filter, train, evaluate, card; resumable."""
    from ccr_adapters.cli.checks import needs_of
    from ccr_adapters.cli.train import check_recipe, run_recipe
    from ccr_adapters.cli.translated_corpus import make_corpus, read_splits
    from ccr_adapters.errors import ConfigError
    from ccr_adapters.translation import filter_rows, noise_report, with_weights

    check_device(device)
    splits = read_splits(dataset, _mapping(column or []))
    for note in splits.notes:
        _tell(note)

    def recipe_for(pairs: int) -> Recipe:
        places = str(dataset), str(output / "training")
        values = recipe_values(language, base, *places, method, pairs=pairs, seed=seed, overrides=overrides or [])
        values |= {} if warm_start is None else {"warm_start": warm_start}
        return _written(values, output / RECIPE, overrides or [])

    # what is wrong in the recipe is said before hours of translating
    planned = recipe_for(len(splits.train))
    check_recipe(planned)
    if translator is not None and back_model is None and "back" in needs_of(planned):
        raise ConfigError(f"The method {method!r} needs back-translations: give --back-model too.")
    models = {"model": translator, "back_model": back_model, "device": device, "dtype": None, "revision": None}
    decoding: dict[str, Any] = {"batch_size": batch_size, "num_beams": num_beams}
    texts, by = _translations(splits, language, source, output / "translations", limit, decoding, **models)
    if weights and "weight" in texts.column_names:
        _tell("The weights of the data give way to those of the noise report (--weights).")
        texts = texts.remove_columns("weight")
    report = noise_report(texts, language, source=source)
    report.write(output / "noise", plot=False)
    clean = filter_rows(with_weights(texts, report) if weights else texts, report, minimum)
    share = report.counts["any"] / max(len(texts), 1)
    noise = f"{share:.1%} of translations flagged, {len(texts) - len(clean):,} below {minimum:g} left out"
    _tell(f"Noise: {noise}; see {output / 'noise' / 'noise.md'}.")
    if "back" in needs_of(planned):
        clean = _with_back_translations(clean)
    facts = {"data": dataset.name, "noise": noise} | ({} if by is None else {"translator": by})
    corpus = make_corpus(clean, splits, language, seed=seed, facts=facts)
    names = [corpus.validation.name, *corpus.test]
    _tell(f"{len(corpus.rows):,} pairs to train on; chosen on '{names[0]}', scored on '{names[1]}'.")
    recipe = recipe_for(len(corpus.rows))
    _tell(f"Training {language} on {base} with {method}, as {output / RECIPE} says.")
    outcome = run_recipe(recipe, corpus)
    tell_outcome(outcome)
    _tell(f"Its card is {outcome.adapter / 'README.md'}.")


add_language.__doc__ = f"{add_language.__doc__}\n\n{EXAMPLE}"
