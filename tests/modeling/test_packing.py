"""Captions to passes: every one once, of like length, no more than fit; and tokenised ahead of the encoder."""

from __future__ import annotations

import random
import threading
from types import SimpleNamespace

import pytest
import torch

from ccr_adapters.errors import CaptionError
from ccr_adapters.modeling import CCRModel, encoding, packing
from ccr_adapters.modeling.packing import gradient_chunks, passes, rows_a_pass, training_parts

TOLERANCE = {"rtol": 0.0, "atol": 1e-5}


def stand_in(device="cpu", own=("de",), together=True):
    """What `passes` asks of a model."""
    return SimpleNamespace(
        mixes_languages=lambda: together,
        vocabularies=dict.fromkeys(own),
        device=torch.device(device),
        processor=None,
        language_config=lambda code: SimpleNamespace(pad_to=None),
    )


def rows_of(count, longest=40, seed=0):
    generator = random.Random(seed)
    return [[1] * generator.randint(2, longest) for _ in range(count)]


@pytest.mark.parametrize("batch_size", [None, 1, 7, 64])
@pytest.mark.parametrize("together", [True, False])
def test_every_row_is_in_one_pass(batch_size, together):
    rows, generator = rows_of(500), random.Random(1)
    codes = [generator.choice([None, "de", "cs", "fr"]) for _ in rows]
    found = list(passes(stand_in(together=together, own=("de", "cs")), rows, codes, batch_size))
    assert sorted(index for batch in found for index in batch) == list(range(500))
    for batch in found:
        kinds = {(codes[i] is None, codes[i] in ("de", "cs"), "" if together else codes[i]) for i in batch}
        assert len(kinds) == 1  # the base's path, the base's tokenizer, or tables of their own
        if batch_size is not None:
            assert len(batch) <= batch_size


def test_a_pass_is_full_of_tokens_and_has_little_padding():
    rows = rows_of(4000)
    found = list(passes(stand_in(), rows, ["de"] * len(rows), None))
    places = [len(batch) * max(len(rows[i]) for i in batch) for batch in found]
    assert max(places) <= 1024
    assert sorted(places)[len(places) // 2] > 0.95 * 1024
    assert sum(len(row) for row in rows) > 0.97 * sum(places)


def lengths_of(count, longest=40, seed=0):
    return [len(row) for row in rows_of(count, longest, seed)]


def places_of(parts, lengths):
    """Tokens of each part, padding included."""
    return [len(part) * max(lengths[i] for i in part) for part in parts]


@pytest.mark.parametrize("count", [1, 7, 8, 129])
def test_parts_of_a_training_batch_hold_every_row_once(count):
    lengths = lengths_of(count)
    parts = training_parts(lengths, torch.device("cpu"))
    assert sorted(index for part in parts for index in part) == list(range(count))
    assert all(len(part) >= min(8, count) for part in parts)  # the last few join those before them


def test_parts_of_a_training_batch_have_little_padding():
    lengths = lengths_of(128)
    parts = training_parts(lengths, torch.device("cpu"))
    assert sum(lengths) > 0.85 * sum(places_of(parts, lengths))
    assert sum(lengths) < 0.6 * len(lengths) * max(lengths)


def test_an_accelerator_gets_parts_that_are_worth_a_pass():
    gpu = torch.device("cuda")
    assert len(training_parts(lengths_of(128), gpu)) == 1
    lengths = lengths_of(4096)
    parts = training_parts(lengths, gpu)
    assert len(parts) > 1
    assert min(places_of(parts[:-1], lengths)) >= 8192 * 0.8


def test_chunks_of_a_large_batch_hold_as_many_tokens_as_rows():
    lengths = lengths_of(1000)
    assert [len(chunk) for chunk in gradient_chunks(64, lengths, by_tokens=False)] == [64] * 15 + [40]
    chunks = gradient_chunks(64, lengths, by_tokens=True)
    assert sorted(index for chunk in chunks for index in chunk) == list(range(1000))
    assert max(map(len, chunks)) <= 64
    assert max(places_of(chunks, lengths)) <= 64 * sum(lengths) / 1000
    # by rows alone the longest captions share a chunk, with twice the tokens
    assert max(places_of(gradient_chunks(64, lengths, by_tokens=False), lengths)) > 1.5 * max(
        places_of(chunks, lengths)
    )
    assert gradient_chunks(1, [30, 2], by_tokens=True) == [[0], [1]]


def test_an_accelerator_takes_more_at_once():
    assert rows_a_pass(16, None, torch.device("cpu")) == 64
    assert rows_a_pass(16, None, torch.device("cuda")) == 2048
    assert rows_a_pass(100_000, None, torch.device("cpu")) == 1
    assert rows_a_pass(16, 5, torch.device("cuda")) == 5


def test_an_encoder_of_one_length_fills_its_budget_with_the_padding(bases):
    """SigLIP reads every caption at its full length."""
    model = CCRModel.from_base(bases["siglip"])
    length = model.processor.base_max_length
    rows = [[1, 2, 3]] * (2048 // length * 3)
    found = [len(own) for own in passes(model, rows, [None] * len(rows), None)]
    assert max(found) == 1024 // length
    assert sum(found) == len(rows)


def test_a_few_captions_of_the_base_stay_as_they_came():
    rows = rows_of(64)
    assert list(passes(stand_in(), rows, [None] * 64, None)) == [list(range(64))]
    assert len(list(passes(stand_in(), rows * 2, [None] * 128, None))) > 1


def test_windows_give_what_one_pass_gives(build, german_tokenizer, stir, german, monkeypatch):
    model = build("clip", "de")
    model.add_language("zh", tokenizer=german_tokenizer)
    stir(model)
    captions = (german * 5)[:23]
    codes = ["de", "zh", None, "en"] * 5 + ["zh"] * 3
    expected = model.encode_text(captions, codes)
    threads, whole = set(), model.processor.token_ids

    def watched(*args):
        threads.add(threading.current_thread().name.partition("_")[0])
        return whole(*args)

    monkeypatch.setattr(model.processor, "token_ids", watched)
    torch.testing.assert_close(model.encode_text(captions, codes), expected, **TOLERANCE)
    assert threads == {"MainThread"}  # a search starts none
    threads.clear()
    monkeypatch.setattr(encoding, "_WINDOW", 4)
    torch.testing.assert_close(model.encode_text(captions, codes), expected, **TOLERANCE)
    assert threads == {"ahead"}
    monkeypatch.setattr(packing, "_TOKENS", {"cpu": 12})
    torch.testing.assert_close(model.encode_text(captions, codes), expected, **TOLERANCE)


def test_ids_made_ahead_give_the_same(build, english):
    model = build("clip", "de")
    ids = model.processor.token_ids(english, "de")
    assert torch.equal(model.encode_ids(ids, "de"), model.encode_text(english, "de"))
    assert torch.equal(model.encode_ids(ids, None), model.encode_text(english, None))
    with pytest.raises(CaptionError, match="no captions"):
        model.encode_ids([], "de")
