"""NRCCR's terms are the objectives over the vectors that retrieval sees, and reach what they should train."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from ccr_adapters.configuration import HeadConfig
from ccr_adapters.dasd import DASDConfig
from ccr_adapters.errors import ConfigError
from ccr_adapters.full import FullConfig
from ccr_adapters.methods import NRCCR, NRCCRTerms
from ccr_adapters.modeling import CCRModel
from ccr_adapters.objectives import feature_view, similarity_view, triplet

PUBLISHED = NRCCR.stages["joint"]
ROLES = ("source", "back")


@pytest.fixture
def build(bases, german_tokenizer):
    """Function that builds a model whose German has a head and its own copies of the blocks, not the base's."""

    def make(family="bert", own=False, head=True, adapter=None):
        torch.manual_seed(5)
        model = CCRModel.from_base(bases[family])
        small = HeadConfig(space=20, width=16, attention_heads=2) if head else None
        adapter = adapter or FullConfig(head=False)
        model.add_language("de", adapter, tokenizer=german_tokenizer if own else None, head=small)
        with torch.no_grad():
            for parameter in model.trainable("de"):
                parameter.add_(0.05 * torch.randn_like(parameter))
        return model.eval()

    return make


def test_the_published_weights():
    assert dataclasses.asdict(PUBLISHED) == {
        "source": 1.0,
        "target": 0.6,
        "similarity": 0.4,
        "feature": 0.1,
        "cycle": 0.5,
        "adversarial": 0.001,
        "margin": 0.2,
        "temperature": 0.07,
        "beta": 4.0,
    }


@pytest.mark.parametrize("read", ["both", "related", "agnostic"])
def test_several_processes_are_told_of_features_that_nothing_reads(read, build, batch):
    """Parameters without a gradient: DDP stops at the second step unless it is told that there are some."""
    model = build(adapter=DASDConfig(r=4, condition_dim=16, generator_rank=4, condition_on=read))
    method = NRCCR(model, "de", PUBLISHED)
    sum(method(**batch(model, *ROLES)).values()).backward()
    idle = [name for name, p in method.named_parameters() if p.requires_grad and p.grad is None]
    assert bool(idle) == method.leaves_unused, idle


def test_with_padding_read_training_sees_what_retrieval_sees(bases, batch, captions):
    model = CCRModel.from_base(bases["bert"])
    model.add_language(
        "de", FullConfig(head=False), head=HeadConfig(space=20, width=16, attention_heads=2, read_padding=True)
    )
    model.eval()
    rows = batch(model, *ROLES)
    found = NRCCR(model, "de", NRCCRTerms(target=1.0)).eval()(**rows)["target"]
    states = model.token_states(*(rows[f"target_{key}"] for key in ("input_ids", "attention_mask", "pooled_at")), "de")
    target = model.heads["de"].text(states, rows["target_attention_mask"])
    visual = model.map_visual(rows["visual_vectors"], "de")
    assert found.item() == pytest.approx(triplet(target, visual, ids=rows["image_index"]).item(), abs=1e-6)


@pytest.mark.parametrize("family", ["clip", "siglip", "bert", "xlmr"])
@pytest.mark.parametrize("own", [False, True], ids=["shared tokens", "own tokens"])
def test_the_terms_are_those_of_what_retrieval_encodes(family, own, build, batch, captions, english):
    model = build(family, own)
    rows = batch(model, *ROLES)
    method = NRCCR(model, "de", PUBLISHED).eval()
    with torch.no_grad():
        found = method(**rows)
    back = [english[row - 1] for row in range(6)]
    target = model.encode_text(captions, "de")
    source, back = model.encode_source(english, "de"), model.encode_source(back, "de")
    visual = model.map_visual(rows["visual_vectors"], "de")
    ids, near = rows["image_index"], {"abs": 2e-4}
    assert found["source"].item() == pytest.approx(triplet(source, visual, ids=ids).item(), **near)
    assert found["target"].item() == pytest.approx(0.6 * triplet(target, visual, ids=ids).item(), **near)
    assert found["cycle"].item() == pytest.approx(0.5 * triplet(source, back, ids=ids).item(), **near)
    head = model.heads["de"].text
    states = [
        model.token_states(
            *(rows[f"{role}_{key}"] for key in ("input_ids", "attention_mask", "pooled_at")), "de", source=en
        )
        for role, en in (("source", True), ("target", False))
    ]
    masks = rows["source_attention_mask"], rows["target_attention_mask"]
    # the authors': encoder_layer(feat, feat_trans, cross=True), of states before any attention
    view = head.cross_view(*map(head.enter, states), *masks)
    assert found["similarity"].item() == pytest.approx(
        0.4 * similarity_view(view, target, visual, ids=ids).item(), **near
    )
    assert found["feature"].item() == pytest.approx(0.1 * feature_view(target, view).item(), **near)
    assert set(found) == {
        "source", "target", "similarity", "feature", "cycle", "language_discriminator", "language_adversarial"
    }  # fmt: skip


def test_only_what_has_a_weight_is_computed(build, batch):
    model = build()
    method = NRCCR(model, "de", NRCCRTerms(target=1.0))
    assert set(method(**batch(model, "source"))) == {"target"}
    assert method.modules_of("auxiliary") == []
    assert NRCCR.needs(NRCCRTerms(target=1.0)) == {"source"}
    with pytest.raises(ConfigError, match="back-translations"):
        NRCCR(model, "de", PUBLISHED)(**batch(model, "source"))


def test_gradients_reach_the_language_and_its_discriminator(build, batch):
    model = build()
    method = NRCCR(model, "de", PUBLISHED).train()
    assert model.trainable("de")
    sum(method(**batch(model, *ROLES)).values()).backward()
    with_gradient = {name for name, p in method.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    # softmax does not see a shift of all keys, and a map before a batch norm has no use for its bias
    blind = ("key.bias", "text.exit.bias")
    expected = {name for name, p in method.named_parameters() if p.requires_grad and not name.endswith(blind)}
    assert expected <= with_gradient
    assert all("full_" in name or name.startswith(("model.heads.", "discriminator.")) for name in with_gradient)


def test_what_a_step_shows(build, batch):
    model = build()
    method = NRCCR(model, "de", PUBLISHED)
    method(**batch(model, *ROLES))
    found = method.observed()
    assert set(found) == {"mean_cosine", "alignment", "uniformity", "discriminator_accuracy"}
    assert 0 <= found["discriminator_accuracy"] <= 1


def test_running_statistics_are_part_of_a_checkpoint(build, batch):
    model = build()
    method = NRCCR(model, "de", PUBLISHED).train()
    state = {name: value.clone() for name, value in method.trainable_state().items()}
    method(**batch(model, *ROLES))
    name = "model.heads.de.text.norm.running_mean"
    assert not torch.equal(method.trainable_state()[name], state[name])
    method.load_trainable_state(state)
    assert torch.equal(method.trainable_state()[name], state[name])


def test_videos_bring_frames(bases, batch):
    model = CCRModel.from_base(bases["bert"])
    head = HeadConfig(space=20, width=16, attention_heads=2, frames=5)
    model.add_language("de", DASDConfig(r=4), head=head)
    rows = batch(model, *ROLES)
    frames = torch.randn(6, 5, model.embedding_dim)
    mask = (torch.arange(5) < torch.tensor([5, 3, 2, 5, 1, 4])[:, None]).long()
    method = NRCCR(model, "de", NRCCRTerms(target=1.0)).eval()
    found = method(**rows, visual_frames=frames, visual_mask=mask)["target"].item()
    spoiled = torch.where(mask[..., None] == 1, frames, torch.full_like(frames, 9.0))
    assert method(**rows, visual_frames=spoiled, visual_mask=mask)["target"].item() == pytest.approx(found, abs=1e-5)
    assert method(**rows)["target"].item() != pytest.approx(found, abs=1e-3)


def test_a_language_without_a_head_and_an_objective_without_terms_are_refused(build):
    with pytest.raises(ConfigError, match="head"):
        NRCCR(build(head=False), "de", PUBLISHED)
    with pytest.raises(ConfigError, match="term"):
        NRCCR(build(), "de", NRCCRTerms())
