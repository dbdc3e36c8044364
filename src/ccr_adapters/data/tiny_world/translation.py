"""A stand-in for machine translation: one plain style, words that follow those of the original, and noise."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import cache

from ccr_adapters.errors import ConfigError

from .grammars import PLAIN, Voice, grammar_for
from .grammars.base import T
from .message import Clause, Mention, Message
from .scenes import BACKGROUNDS, COLOURS, CONVERSE, RELATIONS, SHAPES, TEXTURES

_PUNCTUATION = ".,;?!，。；？！"


class Translator(Voice):
    """Chooses words as a person does, and always the same sentence pattern."""

    def frame(self, options: Sequence[T]) -> T:
        """The first pattern."""
        return options[0]


def translate(message: Message, language: str, *, noise: float = 0.0, seed: int | str = 0) -> str:
    """Translate what an English caption says, as a machine translation system would.

    Whatever the style of the English caption, the translation has the same dialect: noun phrases in order, one sentence
    pattern. Its words vary as those of the original do: who says 'rhombus' for a diamond is not translated as who says
    'diamond'. Of its words a share of `noise` goes wrong; see `corrupt`.

    Args:
        message: the content of the English caption.
        language: a language of the tiny world; English gives a paraphrase, as a back-translation would.
        noise: share of words that go wrong, from 0 to 1.
        seed: which words go wrong and how.

    Returns:
        The translation as a line of text.

    Raises:
        LanguageError: if the tiny world does not speak the language.
        ConfigError: if `noise` is not a share.
    """
    if not 0 <= noise <= 1:
        raise ConfigError(f"noise={noise!r} is not a share of words. Give a number from 0 to 1.")
    grammar = grammar_for(language)
    words = grammar.words(message, PLAIN, Translator(random.Random(f"{seed}/words")))
    if noise > 0:
        words = corrupt(words, translator_lexicon(language), noise, random.Random(seed))
    return grammar.finish(words)


def corrupt(words: Sequence[str], lexicon: Sequence[str], rate: float, rng: random.Random) -> list[str]:
    """Spoil a share of words: each chosen word is dropped, swapped with the next, or replaced by a wrong one.

    Punctuation stays where it was: it is no word.

    Args:
        words: the words of a sentence, with punctuation attached.
        lexicon: the words that a wrong word is drawn from.
        rate: chance of each word to be chosen.
        rng: the source of all randomness.

    Returns:
        The spoilt words; at least one is left of a sentence that had any.
    """
    cores = [word.rstrip(_PUNCTUATION) for word in words]
    ends = [word[len(core) :] for word, core in zip(words, cores, strict=True)]
    left = len(cores)
    index = 0
    while index < len(cores):
        step = 1
        if rng.random() < rate:
            kind = rng.choice(("drop", "swap", "mistranslate"))
            if kind == "drop" and left > 1:
                cores[index] = ""
                left -= 1
            elif kind == "swap" and index + 1 < len(cores):
                cores[index], cores[index + 1] = cores[index + 1], cores[index]
                step = 2  # the word that moved here was chosen by its neighbour already
            else:
                cores[index] = _wrong_word(cores[index], lexicon, rng)
        index += step
    # A dropped word leaves its punctuation to the word before it.
    spoilt: list[str] = []
    for core, end in zip(cores, ends, strict=True):
        if core:
            spoilt.append(core + end)
        elif spoilt:
            spoilt[-1] = spoilt[-1].rstrip(_PUNCTUATION) + end if end else spoilt[-1]
    return spoilt


@cache
def translator_lexicon(language: str) -> tuple[str, ...]:
    """The words that the translator uses, sorted.

    Args:
        language: a language of the tiny world.

    Returns:
        Every word for every concept in at least one of its forms.
    """
    grammar = grammar_for(language)
    circle = Mention("circle", "red")
    messages = [Message((Mention(shape, colour),), (Clause(0),)) for shape in SHAPES for colour in COLOURS]
    messages += [Message((Mention(shape, "red", "small", None, 2),), (Clause(0),)) for shape in SHAPES]
    messages += [Message((Mention("circle", "red", None, texture),), (Clause(0),)) for texture in TEXTURES[1:]]
    messages += [Message((Mention("circle", "red", size),), (Clause(0),)) for size in ("small", "large")]
    messages += [Message((circle,), (Clause(0),), background) for background in BACKGROUNDS]
    kinds = {*RELATIONS, *CONVERSE}
    messages += [Message((circle, Mention("star", "blue")), (Clause(0, kind, 1),)) for kind in sorted(kinds)]
    words = {word.rstrip(_PUNCTUATION) for m in messages for word in grammar.words(m, PLAIN, Voice())}
    return tuple(sorted(words - {""}))


def _wrong_word(word: str, lexicon: Sequence[str], rng: random.Random) -> str:
    wrong = word
    while wrong == word and len(set(lexicon) - {word}) > 0:
        wrong = rng.choice(lexicon)
    return wrong
