"""The stand-in translator: its dialect, its noise, its seed."""

from __future__ import annotations

import random

import pytest

from ccr_adapters.data.tiny_world.grammars import LANGUAGES, grammar_for
from ccr_adapters.data.tiny_world.translation import corrupt, translate, translator_lexicon
from ccr_adapters.errors import ConfigError, LanguageError

WORDS = [f"w{i}" for i in range(20)]
LEXICON = tuple(f"x{i}" for i in range(50))


@pytest.mark.parametrize("language", LANGUAGES)
def test_without_noise_it_speaks_its_one_plain_style_in_varied_words(story, language):
    usual = grammar_for(language).caption(story, "plain")
    found = [translate(story, language, seed=seed) for seed in range(60)]
    assert usual in found
    assert 1 < len(set(found)) < len(found)
    assert found == [translate(story, language, seed=seed) for seed in range(60)]


def test_the_same_seed_makes_the_same_mistakes(story):
    noisy = [translate(story, "de", noise=0.4, seed=seed) for seed in (0, 0, 1)]
    assert noisy[0] == noisy[1] != noisy[2]


@pytest.mark.parametrize("language", LANGUAGES)
def test_noise_stays_in_the_language(story, language):
    known = set(translator_lexicon(language)) | set(grammar_for(language).words(story, "plain", _silent()))
    words = corrupt(grammar_for(language).words(story, "plain", _silent()), translator_lexicon(language), 0.5, _rng())
    assert {word.strip(".,，。") for word in words} <= {word.strip(".,，。") for word in known}


def test_rate_zero_changes_nothing_and_rate_one_spares_no_word():
    assert corrupt(WORDS, LEXICON, 0.0, _rng()) == WORDS
    for seed in range(50):
        spoilt = corrupt(WORDS, LEXICON, 1.0, random.Random(seed))
        assert spoilt
        assert not any(a == b for a, b in zip(WORDS, spoilt, strict=False)) or len(spoilt) < len(WORDS)


def test_each_kind_of_mistake_happens():
    outcomes = set()
    for seed in range(100):
        spoilt = corrupt(["a", "b"], ("z",), 0.5, random.Random(seed))
        outcomes.add(" ".join(spoilt))
    assert {"a b", "b a", "a", "b", "a z", "z b"} <= outcomes


@pytest.mark.parametrize("rate", [0.1, 0.3])
def test_the_rate_is_the_share_of_words(rate):
    rng, dropped, wrong = random.Random(0), 0, 0
    for _ in range(1000):
        spoilt = corrupt(WORDS, LEXICON, rate, rng)
        dropped += len(WORDS) - len(spoilt)
        wrong += len(set(spoilt) - set(WORDS))
    # A third of the chosen words is dropped and a third mistranslated; a swap spares its second word the draw.
    for share in (dropped / (1000 * len(WORDS)), wrong / (1000 * len(WORDS))):
        assert 0.85 * rate / 3 < share < 1.05 * rate / 3


def test_punctuation_stays():
    for seed in range(200):
        spoilt = corrupt(["Ein", "Stern,", "ein", "Haus."], LEXICON, 0.5, random.Random(seed))
        assert spoilt[-1].endswith(".")
        assert sum(word.count(".") for word in spoilt) == 1


def test_one_word_is_never_dropped():
    assert all(len(corrupt(["Stern."], ("Haus",), 1.0, random.Random(seed))) == 1 for seed in range(30))


def test_the_lexicon_has_every_form_that_it_needs():
    assert {"roter", "Stern", "Dreieck", "gestreifter", "Fische", "Meer"} <= set(translator_lexicon("de"))
    assert len(translator_lexicon("de")) == len(set(translator_lexicon("de")))


def test_bad_arguments_are_refused(story):
    with pytest.raises(ConfigError, match=r"noise=1.5"):
        translate(story, "de", noise=1.5)
    with pytest.raises(LanguageError, match="'xx'"):
        translate(story, "xx")


def _rng():
    return random.Random(0)


def _silent():
    from ccr_adapters.data.tiny_world.grammars import Voice

    return Voice()
