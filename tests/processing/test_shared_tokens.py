"""Tokens of the same text are found in both tokenizers, whichever way each marks where a word begins."""

from __future__ import annotations

import pytest
from tokenizers import Tokenizer, decoders, models
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from ccr_adapters.data import tiny_clip_path
from ccr_adapters.processing.shared_tokens import shared_tokens
from ccr_adapters.processing.vocabulary import train_tokenizer

# how "snow", "snow" inside a word, and "ball" inside a word are written
WRITTEN = {
    "wordpiece": ("snow", "##snow", "##ball"),
    "sentencepiece": ("▁snow", "snow", "ball"),
    "byte-level": ("Ġsnow", "snow", "ball"),
    "clip": ("snow</w>", "snow", "ball"),
}
DECODERS = {
    "wordpiece": decoders.WordPiece(prefix="##", cleanup=True),
    "sentencepiece": decoders.Metaspace(),
    "byte-level": decoders.ByteLevel(),
    "clip": decoders.BPEDecoder(suffix="</w>"),
}


def tokenizer_of(style: str, *extra: str) -> PreTrainedTokenizerFast:
    tokens = ["[PAD]", "[UNK]", *extra, *WRITTEN[style]]
    inner = Tokenizer(models.WordLevel({token: index for index, token in enumerate(tokens)}, unk_token="[UNK]"))
    inner.decoder = DECODERS[style]
    return PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="[PAD]", unk_token="[UNK]")


@pytest.mark.parametrize("style", WRITTEN)
@pytest.mark.parametrize("other", WRITTEN)
def test_the_same_text_at_the_same_place(style, other):
    here, there = shared_tokens(tokenizer_of(style, "x", "y"), tokenizer_of(other))
    assert here.tolist() == [4, 5, 6]
    assert there.tolist() == [2, 3, 4]


def test_without_fragments_only_what_begins_a_word():
    here, there = shared_tokens(tokenizer_of("wordpiece", "x"), tokenizer_of("sentencepiece"), fragments=False)
    assert (here.tolist(), there.tolist()) == ([3], [2])


def test_special_tokens_are_no_text():
    here, _ = shared_tokens(tokenizer_of("wordpiece"), tokenizer_of("wordpiece"))
    assert not {0, 1} & set(here.tolist())


def test_a_tokenizer_shares_everything_with_itself(german):
    tokenizer = train_tokenizer(german, size=200)
    here, there = shared_tokens(tokenizer, tokenizer)
    assert here.tolist() == there.tolist()
    assert len(here) == len(tokenizer) - len(set(tokenizer.all_special_ids))


def test_a_trained_tokenizer_and_the_packaged_clip_share_words():
    base = AutoTokenizer.from_pretrained(tiny_clip_path())
    own = train_tokenizer(["a red star above the small square", "ein roter star"], size=300, kind="word")
    here, there = shared_tokens(own, base)
    names = dict(zip(own.convert_ids_to_tokens(here.tolist()), base.convert_ids_to_tokens(there.tolist()), strict=True))
    assert names["red"] == "Ġred"
    assert "roter" not in names
