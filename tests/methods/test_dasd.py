"""The terms of DASD against what the equations give by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from ccr_adapters.errors import ConfigError
from ccr_adapters.methods import DASD, DASDTerms


@pytest.fixture
def setting(build, batch):
    """A model, a batch, and what the model makes of it: target vectors and disentangled features."""
    model = build()
    rows = batch(model)
    with torch.no_grad():
        target, _, condition = model.target_features(
            rows["target_input_ids"], rows["target_attention_mask"], rows["target_pooled_at"], "de"
        )
    return model, rows, target, condition.features["de"]


def terms_of(setting, terms, bank=None):
    model, rows, _, _ = setting
    return {name: term.item() for name, term in DASD(model, "de", terms, bank)(**rows).items()}


def test_alignment_is_the_mean_squared_error_of_raw_vectors(setting):
    _, rows, target, _ = setting
    pairs = zip(target, rows["source_vectors"], strict=True)
    squares = [(float(t) - float(s)) ** 2 for a, b in pairs for t, s in zip(a, b, strict=True)]
    found = terms_of(setting, DASDTerms(alignment=3.0))
    assert found == {"alignment": pytest.approx(3 * sum(squares) / len(squares), rel=1e-5)}


def test_cosine_is_one_minus_the_cosine(setting):
    _, rows, target, _ = setting
    values = []
    for t, s in zip(target.tolist(), rows["source_vectors"].tolist(), strict=True):
        dot = sum(a * b for a, b in zip(t, s, strict=True))
        values.append(1 - dot / math.sqrt(sum(a * a for a in t)) / math.sqrt(sum(b * b for b in s)))
    found = terms_of(setting, DASDTerms(cosine=6.0))
    assert found == {"cosine": pytest.approx(6 * sum(values) / 6, rel=1e-5)}


def cosines(left, right):
    return (F.normalize(left, dim=-1) @ F.normalize(right, dim=-1).T).double().tolist()


def test_contrastive_leaves_other_captions_of_the_picture_out(setting):
    _, rows, target, _ = setting
    table, ids = cosines(target, rows["visual_vectors"]), rows["image_index"].tolist()
    losses = []
    for i in range(6):
        others = [j for j in range(6) if ids[j] != ids[i]] + [i]
        for score in (lambda j, i=i: 10 * table[i][j], lambda j, i=i: 10 * table[j][i]):
            losses.append(math.log(sum(math.exp(score(j)) for j in others)) - score(i))
    found = terms_of(setting, DASDTerms(contrastive=0.5, scale=10.0))
    assert found == {"contrastive": pytest.approx(0.5 * sum(losses) / 12, rel=1e-5)}


BANK = torch.randn(4, 32, generator=torch.Generator().manual_seed(9)) * 3


def test_bank_meets_every_picture(setting):
    _, rows, target, _ = setting
    table, losses = cosines(target, BANK), []
    for scores, own in zip(table, rows["image_index"].tolist(), strict=True):
        losses.append(math.log(sum(math.exp(10 * score) for score in scores)) - 10 * scores[own])
    found = terms_of(setting, DASDTerms(bank=2.0, scale=10.0), BANK)
    assert found == {"bank": pytest.approx(2 * sum(losses) / 6, rel=1e-5)}


def softmax(scores):
    total = sum(math.exp(score) for score in scores)
    return [math.exp(score) / total for score in scores]


def test_relational_is_the_divergence_from_source_to_target(setting):
    _, rows, target, _ = setting
    teacher, student = cosines(rows["source_vectors"], BANK), cosines(target, BANK)
    divergences = []
    for p, q in zip(teacher, student, strict=True):
        p, q = softmax([5 * x for x in p]), softmax([5 * x for x in q])
        divergences.append(sum(a * (math.log(a) - math.log(b)) for a, b in zip(p, q, strict=True)))
    found = terms_of(setting, DASDTerms(relational=2.0, relational_scale=5.0), BANK)
    assert found == {"relational": pytest.approx(2 * sum(divergences) / 6, rel=1e-4)}


def test_relational_is_zero_where_target_and_source_agree(setting):
    model, rows, target, _ = setting
    rows = {**rows, "source_vectors": 7 * target}
    found = DASD(model, "de", DASDTerms(relational=1.0), BANK)(**rows)
    assert found["relational"].item() == pytest.approx(0, abs=1e-6)


def test_consistency_with_the_source_is_plain_l1(setting):
    _, rows, _, features = setting
    differences = (features.related - rows["source_vectors"]).abs().flatten().tolist()
    found = terms_of(setting, DASDTerms(consistency=0.1))
    assert found == {"consistency": pytest.approx(0.1 * sum(differences) / len(differences), rel=1e-5)}


def test_consistency_with_pictures_is_smooth_l1(setting):
    _, rows, _, features = setting
    differences = (features.related - rows["visual_vectors"]).abs().flatten().tolist()
    assert min(differences) < 1 < max(differences)
    smooth = [d * d / 2 if d < 1 else d - 0.5 for d in differences]
    found = terms_of(setting, DASDTerms(consistency=0.1, guide="visual"))
    assert found == {"consistency": pytest.approx(0.1 * sum(smooth) / len(smooth), rel=1e-5)}


@pytest.mark.parametrize("guide", ["source", "visual"])
def test_the_adversary_wants_a_true_pair_taken_for_a_shuffled_one(guide, setting):
    model, rows, _, features = setting
    method = DASD(model, "de", DASDTerms(adversarial=0.01, guide=guide))
    with torch.no_grad():
        logits = method.discriminator(features.agnostic, rows[f"{guide}_vectors"]).tolist()
    found = method(**rows)
    assert set(found) == {"discriminator", "adversarial"}
    expected = 0.01 * sum(math.log1p(math.exp(logit)) for logit in logits) / 6
    assert found["adversarial"].item() == pytest.approx(expected, rel=1e-5)


def test_each_side_of_the_adversary_reaches_its_own(setting):
    model, rows, _, _ = setting
    method = DASD(model, "de", DASDTerms(adversarial=0.01))
    found = method(**rows)
    own = dict(method.discriminator.named_parameters())
    found["discriminator"].backward(retain_graph=True)
    assert all(parameter.grad is not None for parameter in own.values())
    assert all(p.grad is None for p in model.parameters())
    method.zero_grad()
    found["adversarial"].backward()
    assert all(parameter.grad is None for parameter in own.values())
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_nothing_is_computed_for_a_weight_of_zero(setting):
    assert set(terms_of(setting, DASD.stages["cla"])) == {"alignment", "consistency", "discriminator", "adversarial"}
    assert set(terms_of(setting, DASD.stages["cma"])) == {*terms_of(setting, DASD.stages["cla"]), "contrastive"}
    assert DASD(setting[0], "de", DASDTerms(cosine=1.0)).discriminator is None


def test_gradients_reach_the_language_alone(setting):
    model, rows, _, _ = setting
    method = DASD(model, "de", DASD.stages["cma"])
    vectors = {key: rows[key].requires_grad_() for key in ("source_vectors", "visual_vectors")}
    sum(method(**rows).values()).backward()
    with_gradient = {name for name, parameter in method.named_parameters() if parameter.grad is not None}
    assert with_gradient == {name for name, p in method.named_parameters() if p.requires_grad}
    assert all("dasd_" in name or name.startswith("discriminator.") for name in with_gradient)
    assert vectors["source_vectors"].grad is None


def test_a_static_adapter_leaves_the_terms_on_features_out(build, batch):
    model = build(mode="static")
    method = DASD(model, "de", DASD.stages["cma"])
    assert method.discriminator is None
    assert method.modules_of("auxiliary") == []
    assert set(method(**batch(model))) == {"alignment", "contrastive"}


def test_an_objective_without_any_term_is_refused(build):
    with pytest.raises(ConfigError, match="term"):
        DASD(build(), "de", DASDTerms())
    with pytest.raises(ConfigError, match="static|dynamic"):
        DASD(build(mode="static"), "de", DASDTerms(consistency=0.1, adversarial=0.001))


def test_terms_over_all_pictures_need_the_pictures(build):
    for terms in (DASDTerms(bank=1.0), DASDTerms(relational=1.0)):
        with pytest.raises(ConfigError, match="visual_bank"):
            DASD(build(), "de", terms)


def test_the_bank_is_no_part_of_a_checkpoint(build):
    method = DASD(build(), "de", DASDTerms(bank=1.0, adversarial=0.001), BANK)
    assert "bank" not in method.state_dict()
    assert "bank" not in method.trainable_state()
    assert torch.allclose(method.bank.norm(dim=-1), torch.ones(4))


@pytest.mark.parametrize("family", ["clip", "siglip", "bert", "xlmr"])
def test_training_sees_what_retrieval_sees(family, build, batch, captions):
    """The vectors under the loss are those that `encode_text` gives, on every family."""
    model = build(family)
    rows = batch(model)
    method = DASD(model, "de", DASDTerms(cosine=1.0))
    rows["source_vectors"] = model.encode_text(captions, "de")
    assert method(**rows)["cosine"].item() == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize(
    ("read", "terms", "unused"),
    [
        ("both", {}, False),
        ("nothing", {}, False),
        ("related", {}, True),
        ("related", {"adversarial": 0.1}, False),
        ("agnostic", {"adversarial": 0.1}, True),
        ("agnostic", {"consistency": 0.1}, False),
    ],
)
def test_a_half_that_nothing_uses_is_told(read, terms, unused, build, batch):
    """Several processes wait for the gradient of every parameter, unless they are told that some have none."""
    model = build(condition_on=read)
    method = DASD(model, "de", DASDTerms(alignment=1.0, **terms))
    assert method.leaves_unused is unused
    torch.stack(list(method(**batch(model)).values())).sum().backward()
    heads = {name: p for name, p in method.named_parameters() if p.requires_grad and "disentangler" in name}
    assert any(p.grad is None for p in heads.values()) is unused
