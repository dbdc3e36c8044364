"""The names a user imports, loaded on first use: importing peft costs seconds, and `--help` must not."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ccr_adapters.cli.recipe import Recipe, load_recipe, recipe_from_dict
    from ccr_adapters.cli.train import run_recipe
    from ccr_adapters.configuration import HeadConfig, VocabularyConfig
    from ccr_adapters.dasd import DASDConfig, DASDModel
    from ccr_adapters.data import build_tiny_world
    from ccr_adapters.evaluation import evaluate_retrieval
    from ccr_adapters.export import to_sentence_transformer
    from ccr_adapters.full import FullConfig
    from ccr_adapters.modeling import CCRConfig, CCRModel
    from ccr_adapters.processing import CCRProcessor

__version__ = "0.1.0"

_EXPORTS: dict[str, str] = {
    "build_tiny_world": "ccr_adapters.data",
    "DASDConfig": "ccr_adapters.dasd",
    "DASDModel": "ccr_adapters.dasd",
    "FullConfig": "ccr_adapters.full",
    "CCRProcessor": "ccr_adapters.processing",
    "CCRConfig": "ccr_adapters.modeling",
    "CCRModel": "ccr_adapters.modeling",
    "HeadConfig": "ccr_adapters.configuration",
    "VocabularyConfig": "ccr_adapters.configuration",
    "Recipe": "ccr_adapters.cli.recipe",
    "load_recipe": "ccr_adapters.cli.recipe",
    "recipe_from_dict": "ccr_adapters.cli.recipe",
    "run_recipe": "ccr_adapters.cli.train",
    "evaluate_retrieval": "ccr_adapters.evaluation",
    "to_sentence_transformer": "ccr_adapters.export",
}

__all__ = [
    "build_tiny_world",
    "DASDConfig",
    "DASDModel",
    "FullConfig",
    "CCRProcessor",
    "CCRConfig",
    "CCRModel",
    "HeadConfig",
    "VocabularyConfig",
    "Recipe",
    "load_recipe",
    "recipe_from_dict",
    "run_recipe",
    "evaluate_retrieval",
    "to_sentence_transformer",
]


def __getattr__(name: str) -> object:
    """Import an exported name on first use (PEP 562).

    Args:
        name: The attribute that was asked for.

    Returns:
        The exported class or function.

    Raises:
        AttributeError: If the package exports no such name.
    """
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it exports {', '.join(_EXPORTS)}")
    value: object = getattr(import_module(_EXPORTS[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the lazy names too, for completion."""
    return sorted({*globals(), *_EXPORTS})
