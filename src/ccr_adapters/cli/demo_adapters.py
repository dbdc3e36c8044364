"""Adapters of the tiny world for `demo`: each is trained once, kept in a cache, and whole if it is there."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import shutil
from pathlib import Path
from typing import Any

import typer

from ccr_adapters import __version__
from ccr_adapters.data import tiny_clip_path
from ccr_adapters.errors import ConfigError, LanguageError
from ccr_adapters.processing.bases import cache_folder

# minutes that another process may need to train the same language
_WAIT = 1800.0


def demo_folder() -> Path:
    """Where the demo keeps what it makes."""
    return cache_folder() / "demo"


def tiny_recipe(language: str, output: Path) -> dict[str, Any]:
    """The recipe of `examples/configs/tiny_dasd_de.yaml`, for any language of the tiny world.

    Args:
        language: Its code.
        output: Where it is trained.

    Returns:
        What a recipe file would say; nothing is scored on the way, since its seed is known to get there.
    """
    return {
        "base": "tiny_clip",
        "language": language,
        "output_dir": str(output),
        # pictures and English captions are encoded once for all languages
        "cache_dir": str(output.parent / "targets"),
        "data": {"name": "tiny_world", "train": 8000, "validation": 500, "test": 1000, "noise": 0.1},
        "adapter": {"peft_type": "DASD"},
        "vocabulary": {"kind": "word", "size": 2000, "unknown": 0.3},
        "arguments": {
            "per_device_train_batch_size": 128,
            "learning_rate": 5e-4,
            "vocabulary_learning_rate": 2e-4,
            "weight_decay": 0.0,
            "logging_strategy": "no",
            "save_strategy": "steps",
            "save_steps": 31,
        },
        "stages": [
            {"name": "cla", "terms": {"alignment": 0.0, "cosine": 6.0}, "arguments": {"num_train_epochs": 1}},
            {
                "name": "cma",
                "terms": {"alignment": 0.0, "cosine": 6.0, "contrastive": 0.0, "relational": 1.0, "guide": "source"},
                "arguments": {"num_train_epochs": 2, "learning_rate": 5e-5, "vocabulary_learning_rate": 2e-5},
            },
        ],
    }


def cached_adapter(language: str, cache: Path, **changes: Any) -> Path:
    """The adapter of a language, trained unless it is in the cache.

    Killed at any moment, it goes on from its last checkpoint at the next start; the folder appears by a rename.

    Args:
        language: A language of the tiny world.
        cache: Folder that everything is kept in.
        changes: Over the recipe.

    Returns:
        Its folder.

    Raises:
        LanguageError: If the tiny world does not speak it.
        ConfigError: If the cache cannot be written.
    """
    from ccr_adapters.data.tiny_world import LANGUAGES

    if language not in LANGUAGES:
        raise LanguageError(
            f"The tiny world has no target language {language!r}. It has: {', '.join(LANGUAGES)}. For another, give its "
            "adapter with --model."
        )
    name = f"{language}-{_fingerprint({**tiny_recipe(language, cache), **changes})}"
    adapter, work = cache / "adapters" / name, cache / "training" / name
    values = {**tiny_recipe(language, work), **changes}
    if adapter.is_dir():
        return adapter
    from ccr_adapters.search.lock import WriteLock

    try:
        for folder in (adapter.parent, work.parent):
            folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"The cache '{cache}' cannot be written to ({error.strerror}). Name another folder in CCR_ADAPTERS_CACHE."
        ) from error
    lock = WriteLock(work.parent / f".{name}.lock", wait=_WAIT)
    try:
        if not adapter.is_dir():  # else another process has trained it while this one waited
            _train(values, adapter)
            shutil.rmtree(work, ignore_errors=True)
    finally:
        lock.release()
    return adapter


def _train(values: dict[str, Any], adapter: Path) -> None:
    """Train, and put the finished adapter where it belongs."""
    from transformers.utils import logging

    from ccr_adapters.cli.recipe import recipe_from_dict
    from ccr_adapters.cli.train import run_recipe
    from ccr_adapters.demo.names import name_of

    name = name_of(values["language"])
    typer.echo(
        f"Teaching the tiny CLIP {name}: a minute or two, once. It encodes, then trains in two stages.", err=True
    )
    # bars go to stderr; what the trainer prints at the end of each stage is no news here
    logging.disable_progress_bar()
    with contextlib.redirect_stdout(io.StringIO()):
        outcome = run_recipe(recipe_from_dict(values, "demo"), evaluate=False)
    outcome.adapter.rename(adapter)


def _fingerprint(values: dict[str, Any]) -> str:
    """What an adapter depends on: recipe, base and version; a new one is another adapter."""
    places = {"output_dir": None, "cache_dir": None}
    told = json.dumps({**values, **places, "version": __version__}, sort_keys=True).encode()
    weights = (tiny_clip_path() / "model.safetensors").read_bytes()
    return hashlib.sha256(told + hashlib.sha256(weights).digest()).hexdigest()[:12]
