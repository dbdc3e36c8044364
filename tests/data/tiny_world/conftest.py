"""Shared by the tiny world's tests: one phrase or one caption of a grammar, spoken with the usual words."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ccr_adapters.data.tiny_world.grammars import Voice, grammar_for
from ccr_adapters.data.tiny_world.grammars.base import Telling
from ccr_adapters.data.tiny_world.message import Clause, Mention, Message

Phrase = Callable[..., str]

STAR = Mention("star", "red", "small")
HOUSE = Mention("house", "blue", "large")
FISH = Mention("fish", "green", None, "striped", 2)


@pytest.fixture
def phrase() -> Phrase:
    """`phrase('de', 'circle', 'red', 'small', case='dat')` is the noun phrase in that case."""

    def speak(language, shape, colour, size=None, texture=None, count=1, **options):
        message = Message((Mention(shape, colour, size, texture, count),), (Clause(0),))
        return grammar_for(language).thing(Telling(message, Voice()), 0, **options)

    return speak


@pytest.fixture
def again() -> Phrase:
    """The phrase for a thing that was named before."""

    def speak(language, shape, colour, count=1, **options):
        telling = Telling(Message((Mention(shape, colour, None, None, count),), (Clause(0),)), Voice())
        grammar_for(language).thing(telling, 0)
        return grammar_for(language).thing(telling, 0, **options)

    return speak


@pytest.fixture
def place() -> Phrase:
    """`place('de', 'above', 'circle', 'red')` is 'above a red circle'."""

    def speak(language, kind, shape, colour, size=None, count=1):
        things = (STAR, Mention(shape, colour, size, None, count))
        clause = Clause(0, kind, 1)
        return grammar_for(language).place(Telling(Message(things, (clause,)), Voice()), clause)

    return speak


@pytest.fixture
def story() -> Message:
    """A small red star left of a large blue house, two striped green fish above the house, on the grass."""
    return Message((STAR, HOUSE, FISH), (Clause(0, "left_of", 1), Clause(2, "above", 1)), "grass")
