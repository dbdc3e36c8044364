"""The shared fixtures keep their promises: fresh copies, special tokens where a backbone looks for them."""

from __future__ import annotations

import os

import pytest
import torch

BACKBONES = ["tiny_clip_text", "tiny_siglip_text", "tiny_bert", "tiny_xlmr"]


@pytest.mark.parametrize("name", BACKBONES)
def test_a_factory_returns_equal_and_independent_copies(name, request, random_batch):
    factory = request.getfixturevalue(name)
    first, second = factory(), factory()
    batch = random_batch(B=3, L=8)
    with torch.no_grad():
        before = second(**batch).last_hidden_state
        assert torch.equal(first(**batch).last_hidden_state, before)
        for parameter in first.parameters():
            parameter.fill_(0.5)
        assert torch.equal(second(**batch).last_hidden_state, before)
    assert not second.training


@pytest.mark.parametrize("name", ["tiny_clip", "tiny_siglip"])
def test_both_towers_end_in_one_space(name, request, random_batch):
    model = request.getfixturevalue(name)()
    with torch.no_grad():
        output = model(**random_batch(B=2, L=8), pixel_values=torch.randn(3, 3, 16, 16))
    assert output.text_embeds.shape == (2, 24)
    assert output.image_embeds.shape == (3, 24)


def test_clip_pools_at_the_end_of_the_caption(tiny_clip_text, random_batch):
    batch = random_batch(B=4, L=10)
    model = tiny_clip_text()
    with torch.no_grad():
        output = model(**batch)
        end = batch["attention_mask"].sum(1) - 1  # (B,)
        expected = model.text_projection(output.last_hidden_state[torch.arange(4), end])
    torch.testing.assert_close(output.text_embeds, expected)


def test_random_batch_mixes_lengths(random_batch):
    batch = random_batch(50, 6, 9, seed=3)
    ids, mask = batch["input_ids"], batch["attention_mask"]
    lengths = mask.sum(1)  # (B,)
    assert ids.shape == mask.shape == (6, 9)
    assert lengths[0] == 9
    assert lengths[1] == 3
    assert (ids[:, 0] == 1).all()
    assert (ids[torch.arange(6), lengths - 1] == 3).all()
    assert ((ids == 0) == (mask == 0)).all()
    assert ids.max() < 50
    assert not torch.equal(ids, random_batch(50, 6, 9, seed=4)["input_ids"])


def test_nothing_reaches_for_a_hub():
    assert os.environ["HF_HUB_OFFLINE"] == "1"
