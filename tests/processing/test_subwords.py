"""Random cuts: in the proportions of all cuts, by seed, and the tokenizer's own cut in the limit."""

from __future__ import annotations

import math
from collections import Counter

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from ccr_adapters.errors import ConfigError
from ccr_adapters.processing import subwords
from ccr_adapters.processing.subwords import SubwordSampler
from ccr_adapters.processing.vocabulary import train_tokenizer

CAPTIONS = [
    "ein roter Hund rennt durch den Schnee",
    "ein Hund und eine Katze",
    "der Schneemann steht im Garten",
    "eine Hundehütte im Schnee, rot und alt",
    "die Katzen rennen",
]


@pytest.fixture(scope="module")
def trained():
    """A unigram tokenizer with fewer pieces than words."""
    return train_tokenizer(CAPTIONS * 3, size=60)


def all_cuts(word, pieces):
    """Every way to cut a word into pieces."""
    if not word:
        return [[]]
    heads = [word[:end] for end in range(1, len(word) + 1) if word[:end] in pieces]
    return [[head, *rest] for head in heads for rest in all_cuts(word[len(head) :], pieces)]


def test_cuts_come_as_often_as_the_model_says():
    scores = {"<unk>": 0.0, "a": -1.0, "b": -1.5, "ab": -1.2, "ba": -2.0, "aba": -4.0}
    tokenizer = Tokenizer(models.Unigram(list(scores.items()), unk_id=0))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    sampler = SubwordSampler(PreTrainedTokenizerFast(tokenizer_object=tokenizer), smoothing=0.5)
    names = list(scores)
    drawn = Counter(tuple(names[i] for i in sampler("abab", (0, turn))) for turn in range(4000))
    weights = {tuple(cut): math.exp(0.5 * sum(scores[p] for p in cut)) for cut in all_cuts("abab", scores)}
    assert set(drawn) <= set(weights)
    for cut, weight in weights.items():
        share = weight / sum(weights.values())
        assert drawn[cut] / 4000 == pytest.approx(share, abs=4 * math.sqrt(share * (1 - share) / 4000)), cut


@pytest.mark.parametrize("caption", [*CAPTIONS, "Ein ROTER Schneehund", "ein Ωμέγα und 雪", "Schnee Ω"])
def test_without_smoothing_it_is_the_cut_of_the_tokenizer(trained, caption):
    assert SubwordSampler(trained, smoothing=1000.0)(caption, (0,)) == trained(caption)["input_ids"]


def test_a_cut_is_another_by_seed_and_says_the_same(trained):
    sampler = SubwordSampler(trained)
    cuts = [sampler(CAPTIONS[3], (0, turn)) for turn in range(20)]
    assert len({tuple(cut) for cut in cuts}) > 5
    assert {trained.decode(cut, skip_special_tokens=True) for cut in cuts} == {CAPTIONS[3].lower()}
    assert {(cut[0], cut[-1]) for cut in cuts} == {(trained.cls_token_id, trained.sep_token_id)}
    assert cuts == [SubwordSampler(trained)(CAPTIONS[3], (0, turn)) for turn in range(20)]


def test_what_is_kept_of_many_words_has_an_end(trained, monkeypatch):
    """Captions without spaces are words that never come again."""
    monkeypatch.setattr(subwords, "_MOST_KEPT", 200)
    sampler = SubwordSampler(trained)
    clauses = [" ".join("".join(CAPTIONS)[start : start + 40].split()) for start in range(100)]
    words = [clause.replace(" ", "") for clause in clauses]
    cuts = [sampler(text, (0,)) for text in (*words, *CAPTIONS, *CAPTIONS)]
    assert sum(map(len, sampler._lattices)) <= 200 + subwords._LONGEST_KEPT
    assert max(map(len, sampler._lattices)) <= subwords._LONGEST_KEPT
    assert cuts == [SubwordSampler(trained)(text, (0,)) for text in (*words, *CAPTIONS, *CAPTIONS)]


def test_other_vocabularies_are_refused():
    for tokenizer in (train_tokenizer(CAPTIONS, kind="word"), train_tokenizer(CAPTIONS, kind="bpe", size=80)):
        with pytest.raises(ConfigError, match="unigram"):
            SubwordSampler(tokenizer)
