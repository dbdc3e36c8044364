"""Rows on disk to typed examples, and a rendered world with a tiny CLIP that need no download."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ccr_adapters.data.tiny_world import LANGUAGES, Scene, build_tiny_world

__all__ = ["LANGUAGES", "Scene", "build_tiny_world", "tiny_clip_path"]

_TINY_WORLD = ("LANGUAGES", "Scene", "build_tiny_world")


def tiny_clip_path() -> Path:
    """Where the package keeps its tiny English CLIP, trained on the tiny world by `examples/train_tiny_clip.py`.

    Returns:
        A folder for `CLIPModel.from_pretrained` and `AutoProcessor.from_pretrained`.
    """
    return Path(__file__).parent / "tiny_clip"


def __getattr__(name: str) -> object:
    """Import the tiny world on first use (PEP 562): it brings `datasets`, which costs a second."""
    if name not in _TINY_WORLD:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it exports {', '.join(__all__)}")
    value: object = getattr(import_module("ccr_adapters.data.tiny_world"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the lazy names too, for completion."""
    return sorted({*globals(), *__all__})
