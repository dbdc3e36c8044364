"""Captions to ids: checked, cut with their end kept, padded no further than needed."""

from __future__ import annotations

import copy
import logging
import random

import pytest
import torch

from ccr_adapters.errors import CaptionError, ConfigError
from ccr_adapters.processing.captions import check_captions, end_token_id, pad_ids, pad_token_id, token_ids


@pytest.fixture
def tokenizer(base_tokenizer):
    """A copy, which has not warned yet."""
    return copy.deepcopy(base_tokenizer)


def test_captions_are_passed_on(english):
    assert check_captions(english) == english
    assert check_captions("a dog") == ["a dog"]
    assert check_captions(text for text in english) == english
    assert check_captions([]) == []


@pytest.mark.parametrize(
    ("captions", "message"),
    [
        ([""], "Caption 0 is empty. Remove the row"),
        (["a", "b", "\t \n"], "Caption 2 is empty"),
        (["a", None], "Caption 1 is a NoneType, not a text: None"),
        ([b"a"], "Caption 0 is a bytes"),
        (["a", ["b"]], "Caption 1 is a list"),
        ([1.5], r"Caption 0 is a float, not a text: 1\.5"),
        (["für", "f\udcfcr"], "Caption 1 holds bytes that are no UTF-8: .*Write it in UTF-8"),
    ],
)
def test_the_first_bad_caption_is_named(captions, message):
    with pytest.raises(CaptionError, match=message):
        check_captions(captions)


def test_ids_end_with_the_end_token(tokenizer, english):
    rows = token_ids(english, tokenizer, 24)
    assert [row[0] for row in rows] == [tokenizer.bos_token_id] * 6
    assert [row[-1] for row in rows] == [tokenizer.eos_token_id] * 6
    assert rows == [tokenizer(text)["input_ids"] for text in english]
    # a tokenizer that writes no end token gets one
    bare = copy.deepcopy(tokenizer)
    bare.backend_tokenizer.post_processor = None
    assert [row[1:] for row in rows] == token_ids(english, bare, 24)


def test_a_long_caption_is_cut_with_its_end_kept(tokenizer, english):
    long = " ".join(english)
    whole = token_ids([long], tokenizer, 1000)[0]
    for length in (2, 5, len(whole) - 1):
        cut = token_ids([long], tokenizer, length)[0]
        assert cut == [*whole[: length - 1], tokenizer.eos_token_id]
    assert token_ids([long], tokenizer, len(whole))[0] == whole


def test_the_cut_is_warned_of_once(tokenizer, english, caplog):
    with caplog.at_level(logging.WARNING, logger="ccr_adapters"):
        token_ids(english, tokenizer, 24)
        assert not caplog.records
        token_ids(english, tokenizer, 6)
        token_ids(english, tokenizer, 6)
    assert [record.getMessage() for record in caplog.records] == [
        "5 of 6 captions are longer than the 6 tokens that the encoder takes; the rest is cut off. This is said once."
    ]


def test_every_tokenizer_warns_for_itself(base_tokenizer, english, caplog):
    with caplog.at_level(logging.WARNING, logger="ccr_adapters"):
        for _ in range(10):  # a new object often gets the address of one that is gone
            token_ids(english, copy.deepcopy(base_tokenizer), 6)
    assert len(caplog.records) == 10


def test_the_end_is_the_end_token_or_the_separator(tokenizer):
    assert end_token_id(tokenizer) == tokenizer.eos_token_id
    tokenizer.sep_token = "[UNK]"
    assert end_token_id(tokenizer) == tokenizer.eos_token_id
    tokenizer.eos_token = None
    assert end_token_id(tokenizer) == tokenizer.unk_token_id
    tokenizer.sep_token = None
    with pytest.raises(ConfigError, match="neither an end-of-sequence nor a separator"):
        token_ids(["a dog"], tokenizer, 24)


def test_padding():
    batch = pad_ids([[1, 5, 3], [1, 3], [1, 5, 6, 3]], 9)
    assert batch.input_ids.tolist() == [[1, 5, 3, 9], [1, 3, 9, 9], [1, 5, 6, 3]]
    assert batch.attention_mask.tolist() == [[1, 1, 1, 0], [1, 1, 0, 0], [1, 1, 1, 1]]
    assert batch.pooled_at.tolist() == [2, 1, 3]
    assert pad_ids([[1, 3]], 9, 5).input_ids.tolist() == [[1, 3, 9, 9, 9]]
    assert pad_ids([[1, 5, 3]], 9, 2).input_ids.tolist() == [[1, 5, 3]]  # nothing is cut here
    assert pad_ids([], 9).input_ids.shape == (0, 0)
    assert batch.input_ids.dtype == batch.attention_mask.dtype == torch.long


def test_padding_equals_a_loop():
    generator = random.Random(0)
    rows = [[generator.randrange(1, 100) for _ in range(generator.randint(1, 12))] for _ in range(50)]
    batch = pad_ids(rows, 7)
    for row, ids, mask, end in zip(
        rows, batch.input_ids.tolist(), batch.attention_mask.tolist(), batch.pooled_at, strict=True
    ):
        assert ids == row + [7] * (len(ids) - len(row))
        assert mask == [1] * len(row) + [0] * (len(ids) - len(row))
        assert int(end) == len(row) - 1


def test_a_tokenizer_without_padding_pads_with_anything(tokenizer):
    assert pad_token_id(tokenizer) == tokenizer.pad_token_id
    tokenizer.pad_token = None
    assert pad_token_id(tokenizer) == 0
