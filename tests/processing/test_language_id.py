"""Recognised languages: captions of the tiny world in five, codes by any of their names, and strangers that are not taken."""

from __future__ import annotations

import sys

import pytest

from ccr_adapters.data import build_tiny_world
from ccr_adapters.errors import LanguageError
from ccr_adapters.processing import language_id
from ccr_adapters.processing.language_id import MIN_CONFIDENCE, identify, mostly_other, recognised

CODES = ["de", "cs", "zh", "sw", "fr"]
ITALIAN = ["Un cane corre nella neve", "Due uomini siedono su una panchina rossa", "Un gatto dorme sul divano"]


@pytest.mark.parametrize("code", CODES)
def test_captions_of_the_tiny_world(code):
    rows = build_tiny_world(code, train=0, validation=0, test=20)["test"]["target_caption"]
    captions = [caption for row in rows for caption in row]
    found = [identify(caption, [*CODES, "en"]) for caption in captions]
    assert {each for each, _ in found} == {code}
    assert sum(confidence >= MIN_CONFIDENCE for _, confidence in found) >= 0.95 * len(found)


def test_a_language_that_is_no_candidate_is_not_taken():
    for caption in ITALIAN:
        assert identify(caption, ["de", "fr", "en"])[1] < MIN_CONFIDENCE
        assert identify(caption, ["de", "it"])[0] == "it"


def test_codes_by_any_of_their_names():
    assert identify("一只狗在雪地里奔跑", ["de", "zh-Hant"])[0] == "zh-Hant"
    assert identify("一只狗在雪地里奔跑", ["zh", "zh-Hant"])[0] == "zh"
    assert identify("En hund løper gjennom snøen i skogen", ["de", "nb", "fr"])[0] == "nb"
    assert recognised(["de", "tlh", "zh-TW"]) == ["de", "zh-TW"]


@pytest.mark.parametrize("languages", [[], ["tlh", "xx"]])
def test_nothing_to_recognise(languages):
    with pytest.raises(
        LanguageError, match="None of the languages can be recognised: (there is none|tlh, xx). Say which"
    ):
        identify("a dog", languages)


@pytest.mark.parametrize("code", CODES)
def test_a_corpus_in_another_language_is_told(code):
    rows = build_tiny_world(code, train=80, validation=0, test=0, image_size=8, noise=0.4)["train"]["translation"]
    assert mostly_other(rows, code) is None
    other = "cs" if code == "de" else "de"
    assert "Of 50 translations" in mostly_other(rows, other, most=50)


def test_nothing_is_told_of_what_is_not_known(monkeypatch):
    assert mostly_other([], "de") is None
    assert mostly_other([None, "", "Ein Hund rennt durch den Schnee"], "de") is None
    croatian = ["Pas trči kroz snijeg s velikim štapom", "Dvije žene sjede na crvenoj klupi u parku"]
    assert mostly_other(croatian, "bs") is None  # no count of captions tells the two apart
    assert mostly_other(ITALIAN, "tlh") is None
    assert mostly_other([*ITALIAN[:1], "Ein Hund rennt durch den Schnee"], "de") is None  # no majority
    monkeypatch.setitem(sys.modules, "py3langid.langid", None)
    language_id._recogniser.cache_clear()
    language_id._known.cache_clear()
    assert mostly_other(ITALIAN, "de") is None


@pytest.mark.parametrize("text", ["", " ", "12345", "🙂", "???"])
def test_a_text_without_words_is_of_no_language(text):
    assert identify(text, ["de", "en"])[1] < MIN_CONFIDENCE
