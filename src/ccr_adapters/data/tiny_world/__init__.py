"""A world of its own: rendered pictures with captions from grammars, for demos and tests without any download."""

from __future__ import annotations

from .build import build_tiny_world, describe, sample_scenes
from .clips import build_moving_world, write_video
from .grammars import LANGUAGES, SOURCE_LANGUAGE
from .message import Message
from .motion import MovingScene, render_clip
from .renderer import render
from .scenes import Relation, Scene, Thing
from .translation import translate

__all__ = [
    "LANGUAGES",
    "SOURCE_LANGUAGE",
    "Message",
    "MovingScene",
    "Relation",
    "Scene",
    "Thing",
    "build_moving_world",
    "build_tiny_world",
    "describe",
    "render",
    "render_clip",
    "sample_scenes",
    "translate",
    "write_video",
]
