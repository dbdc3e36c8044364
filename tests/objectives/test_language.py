"""The language adversary: whom its gradients reach, what padding does, and its values by hand."""

from __future__ import annotations

import doctest
import importlib
import math

import pytest
import torch
from torch.nn import functional as F

from ccr_adapters.errors import TrainingError
from ccr_adapters.objectives import TokenDiscriminator, discriminator_accuracy, language_adversary


def sides(width: int = 6):
    """States of four source captions and three translations, and their masks."""
    source, target = torch.randn(4, 5, width, requires_grad=True), torch.randn(3, 7, width, requires_grad=True)
    source_mask = torch.arange(5) < torch.tensor([[5], [2], [1], [4]])
    target_mask = torch.arange(7) < torch.tensor([[3], [7], [6]])
    return source, target, source_mask, target_mask


def test_the_sizes():
    shapes = [tuple(p.shape) for p in TokenDiscriminator(768).parameters() if p.ndim == 2]
    assert shapes == [(256, 768), (128, 256), (1, 128)]


def test_each_real_token_is_judged_and_the_mean_taken():
    disc, (source, _, mask, _) = TokenDiscriminator(6, 8), sides()
    logits = disc(source, mask)
    for caption, real, logit in zip(source, mask, logits, strict=True):
        alone = [disc(token[None, None], torch.ones(1, 1)).item() for token in caption[real]]
        assert logit.item() == pytest.approx(sum(alone) / len(alone), abs=1e-6)


def test_padding_is_not_judged():
    disc, (source, target, source_mask, target_mask) = TokenDiscriminator(6), sides()
    terms = language_adversary(disc, source, target, source_mask, target_mask)
    other = torch.where(source_mask[:, :, None], source, 100.0)
    moved = language_adversary(disc, other, target, source_mask, target_mask)
    assert all(torch.equal(terms[name], moved[name]) for name in terms)
    terms["language_adversarial"].backward()
    assert (source.grad[~source_mask] == 0).all()
    assert (source.grad[source_mask] != 0).any(dim=1).all()


def test_a_caption_without_tokens_is_undecided():
    disc, (source, _, mask, _) = TokenDiscriminator(6), sides()
    mask[1] = False
    logits = disc(source, mask.long())
    assert logits[1].item() == 0
    assert logits.isfinite().all()


def test_a_discriminator_that_knows_nothing_gives_log_2():
    disc = TokenDiscriminator(6)
    for parameter in disc.parameters():
        torch.nn.init.zeros_(parameter)
    terms = language_adversary(disc, *sides(), weight=1.0)
    assert {name: term.item() for name, term in terms.items()} == pytest.approx(
        {"language_discriminator": math.log(2), "language_adversarial": math.log(2)}
    )


def test_the_losses_by_hand():
    disc, (source, target, source_mask, target_mask) = TokenDiscriminator(6), sides()
    english, german = disc(source, source_mask), disc(target, target_mask)
    terms = language_adversary(disc, source, target, source_mask, target_mask)
    told = (-F.logsigmoid(german).mean() - F.logsigmoid(-english).mean()) / 2
    fooled = (-F.logsigmoid(-german).mean() - F.logsigmoid(english).mean()) / 2
    assert torch.allclose(terms["language_discriminator"], told)
    assert torch.allclose(terms["language_adversarial"], 0.001 * fooled)


def test_each_term_reaches_its_own_side_alone():
    disc, (source, target, *masks) = TokenDiscriminator(6), sides()
    terms = language_adversary(disc, source, target, *masks)
    terms["language_discriminator"].backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in disc.parameters())
    assert source.grad is None
    assert target.grad is None
    disc.zero_grad()
    terms["language_adversarial"].backward()
    assert source.grad.abs().sum() > 0
    assert target.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in disc.parameters())


def test_one_backward_pass_gives_both_gradients_unmixed():
    disc, (source, target, *masks) = TokenDiscriminator(6), sides()
    terms = language_adversary(disc, source, target, *masks, weight=0.5)
    weights = list(disc.parameters())
    expected = torch.autograd.grad(terms["language_discriminator"], weights, retain_graph=True)
    expected += torch.autograd.grad(terms["language_adversarial"], [source, target], retain_graph=True)
    sum(terms.values()).backward()
    for leaf, gradient in zip([*weights, source, target], expected, strict=True):
        assert torch.allclose(leaf.grad, gradient)


def test_gradients_are_those_of_the_function():
    disc, (source, target, *masks) = TokenDiscriminator(6, 8).double(), sides()
    states = tuple(x.detach().double().requires_grad_() for x in (source, target))
    assert torch.autograd.gradcheck(
        lambda s, t: language_adversary(disc, s, t, *masks, weight=1.0)["language_adversarial"], states
    )


def test_a_step_on_the_states_fools_and_a_step_on_the_discriminator_tells():
    disc, (source, target, *masks) = TokenDiscriminator(6), sides()
    before = language_adversary(disc, source, target, *masks, weight=1.0)
    sum(before.values()).backward()
    with torch.no_grad():
        fooling = language_adversary(disc, source - source.grad, target - target.grad, *masks, weight=1.0)
        for parameter in disc.parameters():
            parameter -= 0.1 * parameter.grad
        telling = language_adversary(disc, source, target, *masks, weight=1.0)
    assert fooling["language_adversarial"] < before["language_adversarial"]
    assert fooling["language_discriminator"] > before["language_discriminator"]
    assert telling["language_discriminator"] < before["language_discriminator"]


def test_half_precision_states_meet_a_float32_discriminator():
    source, target, *masks = sides()
    terms = language_adversary(TokenDiscriminator(6), source.bfloat16(), target.bfloat16(), *masks)
    assert all(term.dtype == torch.float32 and term.isfinite() for term in terms.values())


def test_accuracy_by_hand():
    true, false = torch.tensor([1.0, -1.0, 2.0], requires_grad=True), torch.tensor([-0.5])
    accuracy = discriminator_accuracy(true, false)
    assert accuracy.item() == pytest.approx(3 / 4)
    assert not accuracy.requires_grad
    assert discriminator_accuracy(torch.zeros(3), torch.zeros(5)).item() == 0.5
    assert discriminator_accuracy(torch.ones(2), -torch.ones(2)).item() == 1
    assert discriminator_accuracy(-torch.ones(2), torch.ones(2, 2)).item() == 0


@pytest.mark.parametrize(
    ("source", "mask"), [((2, 3, 5), (2, 3)), ((2, 3, 6), (2, 4)), ((2, 3, 6), (3, 3)), ((3, 6), (3,))]
)
def test_shapes_that_do_not_fit(source, mask):
    good = torch.ones(2, 3, 6), torch.ones(2, 3)
    bad = torch.ones(source), torch.ones(mask)
    with pytest.raises(TrainingError, match=r"source states \(B, L, 6\)"):
        language_adversary(TokenDiscriminator(6), bad[0], good[0], bad[1], good[1])
    with pytest.raises(TrainingError, match=r"target states \(B, L, 6\)"):
        language_adversary(TokenDiscriminator(6), good[0], bad[0], good[1], bad[1])


def test_the_example_runs():
    assert doctest.testmod(importlib.import_module("ccr_adapters.objectives.language")) == (0, 1)
