"""Which language a question is in, by the effort of writing it."""

from __future__ import annotations

import pytest
from transformers import CanineTokenizer

from ccr_adapters.demo.detect import detect_by_tokenizer, effort


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("ein roter stern", "de"),
        ("roter Stern vor einem Haus", "de"),
        ("a red star left of a house", "en"),
        ("where is the blue fish?", "en"),
        ("modrá ryba", "cs"),
        ("blauer fisch, sand", "de"),
    ],
)
def test_the_language_whose_tokenizer_knows_the_words(model, text, code):
    found, sure = detect_by_tokenizer(model.processor, ["de", "cs"])(text)
    assert found == code
    assert 0 < sure <= 1


def test_a_word_of_two_languages_is_a_tie_that_the_first_wins(model):
    # 'ring' and 'sand' are German and English
    assert detect_by_tokenizer(model.processor, ["cs", "de"])("ring") == ("de", 0.0)
    assert detect_by_tokenizer(model.processor, ["fr", "cs"])("rudá hvězda") == ("fr", 0.0)
    assert detect_by_tokenizer(model.processor, ["cs", "fr"])("rudá hvězda") == ("cs", 0.0)


def test_without_adapters_it_is_the_base(model):
    assert detect_by_tokenizer(model.processor, [])("whatever") == ("en", 1.0)


def test_what_is_not_known_costs_its_letters(model):
    german = model.processor.tokenizer_for("de")
    assert effort(german, "roter stern") == 2
    assert effort(german, "roter qqqqq stern") == 2 + 1 + 5
    assert effort(german, "   ") == 6


def test_a_slow_tokenizer_is_asked_without_offsets():
    tokenizer = CanineTokenizer()  # one piece a letter
    assert not tokenizer.is_fast
    assert effort(tokenizer, "roter") == 5
