"""Rows to training batches: keys say whose they are, vectors follow their rows, and padding is what encoding uses."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from tokenizers import Tokenizer, models, processors
from transformers import PreTrainedTokenizerFast

from ccr_adapters.dasd import DASDConfig
from ccr_adapters.modeling import CCRModel
from ccr_adapters.processing import CCRProcessor
from ccr_adapters.processing.collator import SourceCollator, TargetCollator, sprinkled
from ccr_adapters.processing.subwords import SubwordSampler
from ccr_adapters.processing.vocabulary import train_tokenizer

INDEX = np.array([2, 0, 0, 1, 2, 1])
SOURCE = np.arange(12, dtype=np.float16).reshape(6, 2)
VISUAL = np.arange(9, dtype=np.float64).reshape(3, 3)


def examples(captions, key, rows):
    return [{"row": row, key: captions[row]} for row in rows]


@pytest.fixture
def collator(base_tokenizer, german_tokenizer):
    """Function that builds a collator for German with its own tokens."""
    processor = CCRProcessor(base_tokenizer, base_max_length=24)
    processor.add_language("de", german_tokenizer, 24)

    def make(visual=VISUAL, source=SOURCE, **values):
        return TargetCollator(processor, "de", visual, INDEX, source=source, **values)

    return make


def test_a_target_batch(german, german_tokenizer, collator):
    collator = collator()
    batch = collator(examples(german, "translation", [4, 1]))
    assert set(batch) == {
        "target_input_ids",
        "target_attention_mask",
        "target_pooled_at",
        "source_vectors",
        "visual_vectors",
        "image_index",
    }
    assert batch["source_vectors"].tolist() == [[8.0, 9.0], [2.0, 3.0]]
    assert batch["visual_vectors"].tolist() == [[6.0, 7.0, 8.0], [0.0, 1.0, 2.0]]
    assert batch["image_index"].tolist() == [2, 0]
    assert batch["source_vectors"].dtype == batch["visual_vectors"].dtype == torch.float32
    assert batch["target_input_ids"].shape == batch["target_attention_mask"].shape
    ends = batch["target_input_ids"][torch.arange(2), batch["target_pooled_at"]]
    assert ends.tolist() == [german_tokenizer.eos_token_id] * 2


def test_the_captions_of_other_roles(german, english, base_tokenizer, collator):
    rows = [
        {"row": row, "translation": german[row], "caption": english[row], "back_translation": english[row - 1]}
        for row in (3, 1)
    ]
    made = collator(source=None, roles={"back", "source"})
    assert made.columns == ["translation", "back_translation", "caption"]
    batch = made(rows)
    assert "source_vectors" not in batch
    for role, key in (("source", "caption"), ("back", "back_translation")):
        for row, example in enumerate(rows):
            length = int(batch[f"{role}_attention_mask"][row].sum())
            ids = batch[f"{role}_input_ids"][row, :length].tolist()
            assert ids == base_tokenizer(example[key])["input_ids"]
            assert batch[f"{role}_pooled_at"][row] == length - 1


def test_the_vectors_of_a_batch_are_its_own(german, collator):
    visual = VISUAL.copy()
    batch = collator(visual)(examples(german, "translation", [0]))
    batch["visual_vectors"].zero_()
    assert np.array_equal(visual, VISUAL)


@pytest.mark.parametrize("name", ["clip", "siglip", "bert"])
@pytest.mark.parametrize("own", [False, True], ids=["shared tokens", "own tokens"])
def test_training_meets_the_captions_as_encoding_does(name, own, bases, german, german_tokenizer):
    model = CCRModel.from_base(bases[name])
    model.add_language("de", DASDConfig(r=4, init_weights=False), tokenizer=german_tokenizer if own else None)
    batch = TargetCollator(model.processor, "de", VISUAL, INDEX)(examples(german, "translation", range(6)))
    with torch.no_grad():
        found, _, _ = model.target_features(
            batch["target_input_ids"], batch["target_attention_mask"], batch["target_pooled_at"], "de"
        )
    expected = model.encode_text(german, "de")
    torch.testing.assert_close(torch.nn.functional.normalize(found, dim=-1), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["clip", "siglip", "bert"])
def test_fine_tuning_meets_english_as_encoding_does(name, bases, english):
    model = CCRModel.from_base(bases[name])
    batch = SourceCollator(model.processor, INDEX, visual=VISUAL)(examples(english, "caption", range(6)))
    with torch.no_grad():
        found = model.get_text_features(batch["source_input_ids"], batch["source_attention_mask"], language=None)
    vectors = torch.nn.functional.normalize(found.pooler_output, dim=-1)
    torch.testing.assert_close(vectors, model.encode_text(english, None), rtol=0, atol=1e-5)


def test_a_source_batch(bases, english):
    processor = CCRModel.from_base(bases["clip"]).processor
    pictures = [Image.new("RGB", (16, 16), color) for color in ("red", "green", "blue")]
    batch = SourceCollator(processor, INDEX, pictures=pictures)(examples(english, "caption", [3, 0]))
    assert set(batch) == {"source_input_ids", "source_attention_mask", "image_index", "pixel_values"}
    assert torch.equal(batch["source_input_ids"], processor([english[3], english[0]])["input_ids"])
    assert torch.equal(batch["pixel_values"], processor(images=[pictures[1], pictures[2]])["pixel_values"])
    vectors = SourceCollator(processor, INDEX, visual=VISUAL)(examples(english, "caption", [3, 0]))
    assert vectors["visual_vectors"].tolist() == [[3.0, 4.0, 5.0], [6.0, 7.0, 8.0]]
    assert "pixel_values" not in vectors


IDS = [1, *range(10, 30), 3]


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("seed", range(5))
def test_unknown_words_stand_between_the_words(share, seed):
    found = sprinkled(IDS, share, 2, 100, (0, seed))
    assert [token for token in found if token != 2] == IDS  # nothing is lost, and the ends stay the ends
    assert (found[0], found[-1]) == (1, 3)
    assert found == sprinkled(IDS, share, 2, 100, (0, seed))
    assert (share > 0) or found == IDS


def test_the_share_of_unknown_words_is_what_was_asked_for():
    counts = [sprinkled(IDS, 0.2, 2, 1000, (7, row)).count(2) for row in range(600)]
    words = len(IDS) - 1
    assert np.mean(counts) / words == pytest.approx(0.2, abs=0.02)
    assert min(counts) == 0
    assert len({tuple(sprinkled(IDS, 0.2, 2, 1000, (seed, 0))) for seed in range(20)}) > 10


def test_a_sprinkled_caption_is_cut_with_its_end_kept():
    for row in range(20):
        found = sprinkled(IDS, 0.9, 2, len(IDS), (1, row))
        assert len(found) <= len(IDS)
        assert found[-1] == 3


def test_a_row_is_sprinkled_the_same_in_every_batch(german, german_tokenizer, collator):
    plain = collator()(examples(german, "translation", range(6)))
    collator = collator(unknown=0.5, seed=3)
    whole = collator(examples(german, "translation", range(6)))
    for row in range(6):
        alone = collator(examples(german, "translation", [row]))
        length = int(alone["target_attention_mask"].sum())
        assert torch.equal(alone["target_input_ids"][0, :length], whole["target_input_ids"][row, :length])
        assert alone["target_input_ids"][0, alone["target_pooled_at"][0]] == german_tokenizer.eos_token_id
    assert whole["target_input_ids"].eq(german_tokenizer.unk_token_id).any()
    assert not plain["target_input_ids"].eq(german_tokenizer.unk_token_id).any()


def test_captions_are_cut_anew_in_every_epoch_and_the_same_within_one(german, german_tokenizer):
    tokenizer = train_tokenizer(german * 2, size=60)
    processor = CCRProcessor(german_tokenizer, base_max_length=24)
    processor.add_language("de", tokenizer, 12)
    collator = TargetCollator(processor, "de", VISUAL, INDEX, sampler=SubwordSampler(tokenizer), sampling=0.5, seed=3)
    rows = [{"row": row, "translation": german[row % len(german)]} for row in range(6)] * 30

    def captions(epoch):
        collator.set_epoch(epoch)
        batch = collator(rows)
        ids, lengths = batch["target_input_ids"].tolist(), batch["target_attention_mask"].sum(dim=1).tolist()
        return [own[:length] for own, length in zip(ids, lengths, strict=True)]

    plain = processor.token_ids([row["translation"] for row in rows], "de")
    epochs = [captions(epoch) for epoch in range(40)]
    assert all(epoch[:6] * 30 == epoch for epoch in epochs)
    assert captions(7) == epochs[7]
    untouched = np.mean([own == expected for epoch in epochs for own, expected in zip(epoch, plain, strict=True)])
    assert 0.4 < untouched < 0.65
    assert {ids[-1] for epoch in epochs for ids in epoch} == {tokenizer.eos_token_id}
    assert max(len(ids) for epoch in epochs for ids in epoch) == 12


@pytest.mark.parametrize("sampling", [0.25, 0.5, 1.0])
def test_a_caption_that_is_cut_at_random_is_cut_by_the_shares_of_its_cuts(sampling, base_tokenizer):
    """`ab` is one piece or two, as likely; that a caption is cut at all must not tell how."""
    inner = Tokenizer(models.Unigram([("<unk>", 0.0), ("</s>", 0.0), ("a", -1.0), ("b", -1.0), ("ab", -2.0)], unk_id=0))
    inner.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="</s>", unk_token="<unk>", pad_token="</s>")
    processor = CCRProcessor(base_tokenizer, base_max_length=24)
    processor.add_language("de", tokenizer, 12)
    collator = TargetCollator(
        processor, "de", VISUAL, INDEX, sampler=SubwordSampler(tokenizer, smoothing=1.0), sampling=sampling, seed=3
    )
    lengths = []
    for epoch in range(500):
        collator.set_epoch(epoch)
        batch = collator([{"row": row, "translation": "ab"} for row in range(6)])
        lengths += [row.index(1) + 1 for row in batch["target_input_ids"].tolist()]
    best = processor.token_ids(["ab"], "de")[0]
    changed = np.mean([length != len(best) for length in lengths])
    assert set(lengths) == {2, 3}
    assert changed == pytest.approx(sampling / 2, abs=0.04)
