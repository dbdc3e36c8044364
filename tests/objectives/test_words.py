"""Word alignment by hand and against a loop, and what is masked."""

from __future__ import annotations

import doctest
import importlib
import math

import pytest
import torch
from torch.nn import functional as F

from ccr_adapters.errors import ConfigError, TrainingError
from ccr_adapters.objectives import cosine_cost, mask_tokens, transport_plan, word_alignment

SPECIAL = [0, 1, 3]


def slow_way(queries, keys, masked, plan, query_mask, key_mask, temperature):
    """One direction of the equation, one masked token at a time."""
    losses = []
    for b in range(len(plan)):
        for i in range(plan.shape[1]):
            mass = sum(float(plan[b, i, j]) for j in range(plan.shape[2]) if key_mask[b, j])
            if not (masked[b, i] and query_mask[b, i] and mass > 0):
                continue
            kept = [j for j in range(plan.shape[2]) if key_mask[b, j]]
            scores = [float(F.cosine_similarity(queries[b, i], keys[b, j], dim=0)) / temperature for j in kept]
            logs = [score - math.log(sum(map(math.exp, scores))) for score in scores]
            losses.append(-sum(float(plan[b, i, j]) / mass * log for j, log in zip(kept, logs, strict=True)))
    return sum(losses) / len(losses) if losses else 0.0


@pytest.fixture
def batch():
    """Three captions; the last has no masked target token. In float64, with plan, masks and what is masked."""
    torch.manual_seed(3)
    source, target = torch.randn(3, 5, 6).double(), torch.randn(3, 4, 6).double()
    source_mask = torch.arange(5) < torch.tensor([[5], [3], [2]])
    target_mask = torch.arange(4) < torch.tensor([[2], [4], [3]])
    masked_source = torch.tensor([[0, 1, 0, 1, 0], [1, 0, 0, 1, 0], [0, 1, 0, 0, 0]]).bool()  # one on padding
    masked_target = torch.tensor([[1, 0, 0, 1], [0, 0, 1, 0], [0, 0, 0, 0]]).bool()  # one on padding
    plan = transport_plan(cosine_cost(torch.randn(3, 5, 6), torch.randn(3, 4, 6)), source_mask, target_mask)
    return source, target, masked_source, masked_target, plan.double(), source_mask, target_mask


def test_one_token_by_hand():
    # The masked token sees three others, at cosines 1, 0, 0; the plan gives it the first and the third, 3 to 1.
    source, target = torch.tensor([[[2.0, 0.0]]]), torch.tensor([[[1.0, 0.0], [0.0, 1.0], [0.0, 5.0]]])
    plan = torch.tensor([[[0.3, 0.0, 0.1]]])
    here, nowhere = torch.ones(1, 1), torch.zeros(1, 3)
    loss = word_alignment(source, target, here, nowhere, plan, here, torch.ones(1, 3), temperature=0.5)
    log_sum = math.log(math.exp(2) + 2)
    assert loss.item() == pytest.approx((-(0.75 * (2 - log_sum) + 0.25 * (0 - log_sum))) / 2)


def test_states_that_tell_nothing_give_log_of_the_tokens():
    mask = torch.ones(2, 4)
    plan = transport_plan(torch.rand(2, 4, 4), mask, mask)
    loss = word_alignment(torch.ones(2, 4, 3), torch.ones(2, 4, 3), mask, mask, plan, mask, mask)
    assert loss.item() == pytest.approx(math.log(4))


@pytest.mark.parametrize("clean", [True, False])
def test_equals_a_loop_both_ways(batch, clean):
    source, target, masked_source, masked_target, plan, source_mask, target_mask = batch
    if not clean:
        plan.add_(0.01)  # mass on padding, as another way to align might leave it, does not count
    slow = (
        slow_way(source, target, masked_source, plan, source_mask, target_mask, 0.2)
        + slow_way(target, source, masked_target, plan.mT, target_mask, source_mask, 0.2)
    ) / 2
    assert word_alignment(*batch, temperature=0.2).item() == pytest.approx(slow, rel=1e-6)


def test_other_keys_are_searched(batch):
    source, target, masked_source, masked_target, plan, source_mask, target_mask = batch
    source_keys, target_keys = torch.randn_like(source), torch.randn_like(target)
    slow = (
        slow_way(source, target_keys, masked_source, plan, source_mask, target_mask, 0.1)
        + slow_way(target, source_keys, masked_target, plan.mT, target_mask, source_mask, 0.1)
    ) / 2
    loss = word_alignment(*batch, source_keys=source_keys, target_keys=target_keys)
    assert loss.item() == pytest.approx(slow, rel=1e-6)


def test_gradients_are_those_of_the_function(batch):
    source, target, *rest = batch
    assert torch.autograd.gradcheck(
        lambda x, y: word_alignment(x, y, *rest), (source.requires_grad_(), target.requires_grad_())
    )


def test_the_plan_gets_no_gradient_and_padding_none_either(batch):
    source, target, masked_source, masked_target, plan, source_mask, target_mask = batch
    for tensor in (source, target, plan):
        tensor.requires_grad_()
    word_alignment(source, target, masked_source, masked_target, plan, source_mask, target_mask).backward()
    assert plan.grad is None
    assert (source.grad[~source_mask] == 0).all()
    assert (target.grad[~target_mask] == 0).all()
    assert source.grad[masked_source & source_mask].abs().sum() > 0


@pytest.mark.parametrize("which", ["nothing masked", "no tokens in the target", "no tokens at all"])
def test_nothing_to_ask_is_a_zero_that_keeps_the_graph(batch, which):
    source, target, masked_source, masked_target, _, source_mask, target_mask = (x.clone() for x in batch)
    source.requires_grad_()
    if which == "nothing masked":
        masked_source[:], masked_target[:] = False, False
    else:
        target_mask[:] = False
        source_mask[:] = source_mask & (which == "no tokens in the target")
    plan = transport_plan(cosine_cost(source, target), source_mask, target_mask)
    loss = word_alignment(source, target, masked_source, masked_target, plan, source_mask, target_mask)
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(source.grad, torch.zeros_like(source))


def test_an_empty_caption_among_others_changes_nothing(batch):
    *_, target_mask = batch
    without = word_alignment(*(x[[0, 2]] for x in batch))
    target_mask[1] = False
    batch[4][1] = 0
    assert word_alignment(*batch).item() == pytest.approx(without.item())


def test_the_right_states_cost_less_than_the_wrong_ones():
    target = torch.eye(4)[None]
    mask = torch.ones(1, 4)
    source = target[:, [2, 0, 3, 1]]
    plan = transport_plan(cosine_cost(source, target), mask, mask)
    right = word_alignment(source, target, mask, mask, plan, mask, mask)
    assert right < 0.1 < word_alignment(source.roll(1, 1), target, mask, mask, plan, mask, mask)


def test_autocast_and_half_precision_do_not_reach_the_cosines(batch):
    source, target, *rest = batch
    source, target = source.float(), target.float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = word_alignment(source, target, *rest)
    assert torch.equal(inside, word_alignment(source, target, *rest))
    assert word_alignment(source.bfloat16(), target.bfloat16(), *rest).dtype == torch.float32


@pytest.mark.parametrize("wrong", range(7))
def test_shapes_that_do_not_fit(batch, wrong):
    arguments = list(batch)
    arguments[wrong] = arguments[wrong][:, 1:]
    with pytest.raises(TrainingError, match=r"word_alignment.*got"):
        word_alignment(*arguments)


def captions(rows: int = 40, longest: int = 12) -> tuple[torch.Tensor, torch.Tensor]:
    """Random captions: start, ordinary ids from 10, end, padding; lengths from 3."""
    lengths = torch.randint(3, longest + 1, (rows, 1))
    at = torch.arange(longest)
    ids = torch.randint(10, 99, (rows, longest)).masked_fill(at >= lengths, 0)
    ids[:, 0] = 1
    return ids.scatter(1, lengths - 1, 3), (at < lengths).long()


def test_ordinary_tokens_alone_are_masked_and_each_caption_has_one():
    ids, mask = captions()
    before = ids.clone()
    masked, which = mask_tokens(ids, mask, 7, 0.15, SPECIAL)
    assert torch.equal(ids, before)
    assert (ids[which] >= 10).all()
    assert (mask[which] == 1).all()
    assert which.any(dim=1).all()
    assert (masked[which] == 7).all()
    assert torch.equal(masked[~which], ids[~which])


def test_the_share_is_kept():
    ids, mask = torch.full((50, 400), 20), torch.ones(50, 400)
    _, which = mask_tokens(ids, mask, 7, 0.3, SPECIAL, torch.Generator().manual_seed(0))
    assert which.float().mean().item() == pytest.approx(0.3, abs=0.015)


@pytest.mark.parametrize(("share", "expected"), [(0.0, 1), (1.0, 4)])
def test_the_ends_of_the_share(share, expected):
    ids = torch.tensor([[1, 20, 21, 22, 23, 3, 0, 0]])
    _, which = mask_tokens(ids, ids > 0, 7, share, SPECIAL)
    assert which.sum().item() == expected


def test_the_one_of_a_share_of_zero_is_any_of_them():
    ids = torch.tensor([[1, 20, 21, 22, 3]]).repeat(200, 1)
    _, which = mask_tokens(ids, ids > 0, 7, 0.0, SPECIAL, torch.Generator().manual_seed(0))
    assert (which.sum(0)[1:4] > 40).all()


def test_a_caption_of_special_tokens_keeps_them_all():
    ids = torch.tensor([[1, 3, 0, 0], [1, 20, 3, 0]])
    masked, which = mask_tokens(ids, ids > 0, 7, 0.9, SPECIAL)
    assert which.sum(1).tolist() == [0, 1]
    assert masked[0].tolist() == [1, 3, 0, 0]


def test_a_generator_repeats_the_draw():
    ids, mask = captions()
    draws = [mask_tokens(ids, mask, 7, 0.5, SPECIAL, torch.Generator().manual_seed(s))[1] for s in (1, 1, 2)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_what_cannot_be_masked():
    with pytest.raises(TrainingError, match=r"\(2, 3\) and \(2, 4\)"):
        mask_tokens(torch.ones(2, 3).long(), torch.ones(2, 4), 7, 0.1, SPECIAL)
    with pytest.raises(ConfigError, match=r"between 0 and 1; got 15"):
        mask_tokens(torch.ones(2, 3).long(), torch.ones(2, 3), 7, 15, SPECIAL)


def test_the_example_runs():
    assert doctest.testmod(importlib.import_module("ccr_adapters.objectives.words")) == (0, 3)


def test_without_a_mask_token_words_hide_behind_words():
    ids = torch.tensor([[1, 11, 12, 13, 3, 0], [1, 14, 15, 3, 0, 0]])
    mask = ids > 0
    masked, which = mask_tokens(ids, mask, None, 1.0, SPECIAL, torch.Generator().manual_seed(0))
    assert which.sum() == 5
    assert set(masked[which].tolist()) <= {11, 12, 13, 14, 15}
    assert torch.equal(masked[~which], ids[~which])
    assert not torch.equal(masked, ids)
    alone = torch.tensor([[1, 3, 0]])
    assert torch.equal(mask_tokens(alone, alone > 0, None, 1.0, SPECIAL)[0], alone)
