"""Captions of clips, and their machine translations, in all languages of the tiny world."""

from __future__ import annotations

import random

from ccr_adapters.errors import ConfigError

from .grammars import Voice, grammar_for
from .message import Message
from .motion import MovingScene, motion_message
from .motion_grammars import MOTION_GRAMMARS, MOTION_STYLES
from .translation import Translator, corrupt, translator_lexicon


def motion_caption(message: Message, direction: str, language: str, style: str, voice: Voice | None = None) -> str:
    """Write a caption of motion.

    Args:
        message: what to say of the things; see `motion.motion_message`.
        direction: one of `motion.DIRECTIONS`.
        language: 'en' or one of `LANGUAGES`.
        style: one of `MOTION_STYLES`.
        voice: who says it; without one, the usual words.

    Returns:
        A line of text.

    Raises:
        LanguageError: if the tiny world does not speak the language.
        ConfigError: if there is no such style.
    """
    grammar_for(language)  # names the languages that there are
    if style not in MOTION_STYLES:
        raise ConfigError(f"No style {style!r} for captions of motion. There are: {', '.join(MOTION_STYLES)}.")
    return MOTION_GRAMMARS[language](message, direction, voice or Voice()).caption(style)


def describe_motion(
    scene: MovingScene, language: str, rng: random.Random, *, number: int = 1
) -> list[tuple[Message, str]]:
    """Write captions of a clip as different people would, in as many different styles.

    Args:
        scene: what to describe.
        language: 'en' or one of `LANGUAGES`.
        rng: the source of all randomness.
        number: how many captions, three at most.

    Returns:
        For each caption its content and its text.
    """
    found = []
    for style in rng.sample(MOTION_STYLES, number):
        message = motion_message(scene, rng)
        found.append((message, motion_caption(message, scene.direction, language, style, Voice(rng))))
    return found


def translate_motion(
    message: Message, direction: str, language: str, *, noise: float = 0.0, seed: int | str = 0
) -> str:
    """Translate what an English caption of motion says, as `translation.translate` does for pictures.

    Args:
        message: the content of the English caption.
        direction: one of `motion.DIRECTIONS`.
        language: a language of the tiny world; English gives a back-translation.
        noise: share of words that go wrong, from 0 to 1; 'left' may become 'right', too.
        seed: which words go wrong and how.

    Returns:
        The translation as a line of text.
    """
    grammar = grammar_for(language)
    kind = MOTION_GRAMMARS[language]
    words = kind(message, direction, Translator(random.Random(f"{seed}/words"))).declarative().split()
    if noise > 0:
        ways = {word for phrases in kind.ways.values() for word in phrases[0].split()}
        lexicon = sorted({*translator_lexicon(language), *ways})
        words = corrupt(words, lexicon, noise, random.Random(seed))
    return grammar.finish(words)


__all__ = [
    "MOTION_STYLES",
    "describe_motion",
    "motion_caption",
    "translate_motion",
]
