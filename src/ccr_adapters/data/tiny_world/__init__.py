"""A world of its own: rendered pictures with captions from grammars, for demos and tests without any download."""

from __future__ import annotations

from .build import build_tiny_world, describe, sample_scenes
from .grammars import LANGUAGES, SOURCE_LANGUAGE
from .message import Message
from .renderer import render
from .scenes import Relation, Scene, Thing
from .translation import translate

__all__ = [
    "LANGUAGES",
    "SOURCE_LANGUAGE",
    "Message",
    "Relation",
    "Scene",
    "Thing",
    "build_tiny_world",
    "describe",
    "render",
    "sample_scenes",
    "translate",
]
