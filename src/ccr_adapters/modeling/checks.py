"""Files of a language, checked without a model: that they are there and whole, and fit their configuration."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from ccr_adapters.configuration import LanguageConfig
from ccr_adapters.errors import AdapterError
from ccr_adapters.modeling.adapter_folder import (
    ADAPTER_WEIGHTS,
    HEAD_WEIGHTS,
    VOCABULARY_WEIGHTS,
    opened_tensors,
    read_adapter_config,
    read_tensors,
)


def check_whole(folder: Path, language: LanguageConfig) -> None:
    """Refuse a language of which a file is missing, truncated, or of another size than it says; no weights are read.

    Args:
        folder: Where its files lie.
        language: Its configuration.

    Raises:
        AdapterError: Naming the file.
    """
    read_adapter_config(folder)
    for name in _weights(language):
        with opened_tensors(folder / name) as file:
            shapes = {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118 - no mapping
        _check_rows(folder / name, language, shapes)


def check_language(folder: Path, language: LanguageConfig) -> None:
    """Refuse a language that nobody could load, as far as its files alone can tell.

    Args:
        folder: Where its files lie.
        language: Its configuration.

    Raises:
        AdapterError: If a file is missing or broken, or the vocabulary is another one than the configuration says.
    """
    read_adapter_config(folder)
    for name in _weights(language):
        shapes = {key: tuple(tensor.shape) for key, tensor in read_tensors(folder / name).items()}
        _check_rows(folder / name, language, shapes)


def _weights(language: LanguageConfig) -> list[str]:
    """Files of weights that a language has."""
    vocabulary = language.vocabulary is not None and language.vocabulary.train != "none"
    there = {ADAPTER_WEIGHTS: True, VOCABULARY_WEIGHTS: vocabulary, HEAD_WEIGHTS: language.head is not None}
    return [name for name, is_there in there.items() if is_there]


def _check_rows(path: Path, language: LanguageConfig, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Refuse a vocabulary of another size than the configuration says."""
    plan = language.vocabulary
    if plan is None or path.name != VOCABULARY_WEIGHTS:
        return
    name = "table" if plan.train == "all" else "rows"
    count = plan.size if name == "table" else math.prod(shapes.get("ids", (0,)))
    expected = (count, plan.width)
    if shapes.get(name) != expected:
        found = f"has the shape {shapes[name]}" if name in shapes else "is missing"
        raise AdapterError(f"'{path}': '{name}' {found}; the configuration says {expected}. Save the adapter again.")
