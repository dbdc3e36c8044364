"""Transfer: DASD's terms, an anchor in the pictures, and words that are pulled to those they translate."""

from __future__ import annotations

import dataclasses

import pytest
import torch
import torch.nn.functional as F

from ccr_adapters.errors import ConfigError
from ccr_adapters.methods import DASD, DASDTerms, Transfer, TransferTerms
from ccr_adapters.objectives import cosine_cost, transport_plan

BANK = torch.randn(4, 32, generator=torch.Generator().manual_seed(9))


def test_without_words_it_is_dasd(build, batch):
    model = build()
    rows = batch(model)
    terms = {"cosine": 6.0, "relational": 1.0, "consistency": 0.1, "adversarial": 0.001, "anchor": 0.3}
    torch.manual_seed(0)
    one = DASD(model, "de", DASDTerms(**terms), BANK)(**rows)
    torch.manual_seed(0)
    other = Transfer(model, "de", TransferTerms(**terms), BANK)(**rows)
    assert one.keys() == other.keys()
    # the shuffle of the discriminator is drawn anew
    assert all(torch.equal(one[name], other[name]) for name in one if name != "discriminator")


@pytest.mark.parametrize("family", ["clip", "siglip", "bert", "xlmr"])
def test_words_are_the_transport_between_the_token_states(family, build, batch):
    model = build(family)
    rows = {**batch(model, "source"), "source_vectors": torch.randn(6, model.embedding_dim)}
    found = Transfer(model, "de", TransferTerms(words=2.0))(**rows)
    keys = ("input_ids", "attention_mask", "pooled_at")
    with torch.no_grad():
        target = model.token_states(*(rows[f"target_{key}"] for key in keys), "de")
        source = model.token_states(*(rows[f"source_{key}"] for key in keys), "__base__", source=True)
        cost = cosine_cost(source, target)
        # padding is no word, also where the base reads it
        real = [rows.get(f"{role}_words", rows[f"{role}_attention_mask"]) for role in ("source", "target")]
        plan = transport_plan(cost, *real)
    values = [(plan[row] * cost[row]).sum().item() for row in range(6)]
    assert found["words"].item() == pytest.approx(2 * sum(values) / 6, rel=1e-4)
    found["words"].backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_the_anchor_moves_the_teacher_to_the_picture(build, batch):
    model = build()
    rows = batch(model)
    target, _, _ = model.target_features(
        *(rows[f"target_{k}"] for k in ("input_ids", "attention_mask", "pooled_at")), "de"
    )
    for share in (0.0, 0.4, 1.0):
        found = Transfer(model, "de", TransferTerms(relational=1.0, relational_scale=5.0, anchor=share), BANK)(**rows)
        unit = [F.normalize(rows[f"{role}_vectors"], dim=-1) for role in ("source", "visual")]
        teacher = F.normalize((1 - share) * unit[0] + share * unit[1], dim=-1)
        bank = F.normalize(BANK, dim=-1)
        p, q = (torch.softmax(5 * F.normalize(part, dim=-1) @ bank.T, dim=-1) for part in (teacher, target))
        expected = (p * (p.log() - q.log())).sum(-1).mean()
        assert found["relational"].item() == pytest.approx(expected.item(), rel=1e-4)


def test_what_it_needs():
    joint = Transfer.stages["joint"]
    assert Transfer.needs(joint) == {"source_vectors", "bank"}
    assert Transfer.needs(dataclasses.replace(joint, words=1.0)) == {"source_vectors", "bank", "source"}
    assert Transfer.computed(TransferTerms(words=1.0), dynamic=False) == ["words"]


def test_an_objective_without_any_term_is_refused(build):
    with pytest.raises(ConfigError, match="term"):
        Transfer(build(), "de", TransferTerms())
