"""The way of a target caption through the base's parts: equal to the base's own, and the vector found in any output."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from ccr_adapters.dasd import find_text_encoder
from ccr_adapters.modeling.towers import TextTower, pooler_output


def test_the_vector_is_found_in_what_any_version_returns():
    vector = torch.ones(2, 3)
    assert pooler_output(vector) is vector  # transformers 4
    assert pooler_output(SimpleNamespace(pooler_output=vector)) is vector  # transformers 5
    assert pooler_output((None, vector)) is vector
    with pytest.raises(TypeError, match="SimpleNamespace has no pooled output"):
        pooler_output(SimpleNamespace(pooler_output=None))


@pytest.mark.parametrize("name", ["tiny_clip", "tiny_siglip"])
def test_the_tower_is_the_base_written_out(name, request, random_batch):
    base = request.getfixturevalue(name)()
    encoder = find_text_encoder(base)
    batch = random_batch(B=5, L=9)
    tower = TextTower(base, encoder, None)
    states = encoder.token_embedding(batch["input_ids"])
    last_token = torch.full((5,), 8)
    ends = batch["attention_mask"].sum(1) - 1 if tower.family == "eos" else last_token
    with torch.no_grad():
        features, last = tower(states, batch["attention_mask"], ends, None)
        expected = base.get_text_features(**batch)
    torch.testing.assert_close(features, expected.pooler_output, rtol=0, atol=1e-6)
    real = batch["attention_mask"].bool()
    torch.testing.assert_close(last[real], expected.last_hidden_state[real], rtol=0, atol=1e-6)


@pytest.mark.parametrize("pooling", ["mean", "first"])
@pytest.mark.parametrize("name", ["tiny_bert", "tiny_xlmr"])
def test_a_text_encoder_pools_as_it_is_told(name, pooling, request, random_batch):
    base = request.getfixturevalue(name)()
    encoder = find_text_encoder(base)
    batch = random_batch(B=4, L=9)
    states = encoder.token_embedding(batch["input_ids"])
    with torch.no_grad():
        features, last = TextTower(base, encoder, pooling)(states, batch["attention_mask"], None, None)
        expected = base(**batch).last_hidden_state
    real = batch["attention_mask"].bool()  # XLM-R gives padding other positions from ids than from embeddings
    torch.testing.assert_close(last[real], expected[real], rtol=0, atol=1e-6)
    for row, mask in enumerate(batch["attention_mask"].bool()):
        pooled = expected[row, 0] if pooling == "first" else expected[row, mask].mean(0)
        torch.testing.assert_close(features[row], pooled, rtol=0, atol=1e-6)
