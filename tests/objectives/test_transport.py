"""Transport plans against POT, one caption at a time, and against their marginals."""

from __future__ import annotations

import numpy as np
import ot
import pytest
import torch

from ccr_adapters.errors import ConfigError, TrainingError
from ccr_adapters.objectives import cosine_cost, transport_cost, transport_plan


def lengths_to_mask(lengths: list[int], longest: int) -> torch.Tensor:
    return torch.arange(longest)[None, :] < torch.tensor(lengths)[:, None]


SOURCE, TARGET = [6, 3, 1, 5, 1], [4, 7, 5, 1, 1]


@pytest.fixture
def batch():
    """Costs of five captions of different lengths, one of them of a single token on both sides."""
    cost = cosine_cost(torch.randn(5, 6, 8).double(), torch.randn(5, 7, 8).double())
    return cost, lengths_to_mask(SOURCE, 6), lengths_to_mask(TARGET, 7)


@pytest.mark.parametrize("epsilon", [0.05, 0.1, 1.0])
def test_equals_pot_caption_by_caption(batch, epsilon):
    plan = transport_plan(*batch, epsilon=epsilon, iterations=2000)
    for mine, cost, rows, columns in zip(plan, batch[0], SOURCE, TARGET, strict=True):
        expected = ot.sinkhorn(
            np.full(rows, 1 / rows),
            np.full(columns, 1 / columns),
            cost[:rows, :columns].numpy(),
            epsilon,
            method="sinkhorn_log",
            numItermax=20_000,
            stopThr=1e-13,
        )
        assert np.allclose(mine[:rows, :columns].numpy(), expected, atol=1e-9)


def test_the_default_iterations_come_near_to_pot(batch):
    plan, longer = transport_plan(*batch), transport_plan(*batch, iterations=5000)
    assert (plan - longer).abs().max() < 1e-2
    assert (plan - longer).abs().sum(dim=(1, 2)).max() < 3e-2


def test_the_marginals_are_uniform_over_real_tokens(batch):
    plan = transport_plan(*batch, iterations=500)
    _, rows, columns = batch
    assert torch.allclose(plan.sum(2), rows.double() / rows.sum(1, keepdim=True), atol=1e-6)
    assert torch.allclose(plan.sum(1), columns.double() / columns.sum(1, keepdim=True), atol=1e-12)


def test_padding_gets_nothing_and_changes_nothing(batch):
    cost, rows, columns = batch
    real = rows[:, :, None] & columns[:, None, :]
    plan = transport_plan(cost, rows, columns)
    assert (plan[~real] == 0).all()
    for rubbish in (torch.nan, torch.inf, -5.0):
        assert torch.equal(transport_plan(cost.masked_fill(~real, rubbish), rows, columns), plan)
    alone = transport_plan(cost[1:2, :3, :7], rows[1:2, :3], columns[1:2, :7])
    assert torch.allclose(alone[0], plan[1, :3, :7])


def test_masks_need_not_be_at_the_end_nor_boolean(batch):
    cost, rows, columns = batch
    plan = transport_plan(cost, rows, columns)
    order = torch.randperm(6)
    assert torch.allclose(transport_plan(cost[:, order], rows[:, order].long(), columns.float()), plan[:, order])


def test_one_token_a_side_is_certain(batch):
    plan = transport_plan(*batch)
    assert torch.allclose(plan[2, 0, :5], torch.full((5,), 1 / 5, dtype=torch.float64))
    assert plan[4, 0, 0].item() == pytest.approx(1)


@pytest.mark.parametrize("side", ["source", "target", "both"])
def test_a_caption_without_tokens_gets_an_empty_plan_and_never_nan(batch, side):
    cost, rows, columns = (x.clone() for x in batch)
    whole = transport_plan(cost, rows, columns)
    if side in ("source", "both"):
        rows[1] = False
    if side in ("target", "both"):
        columns[1] = False
    plan = transport_plan(cost, rows, columns)
    assert (plan[1] == 0).all()
    others = torch.tensor([0, 2, 3, 4])
    assert torch.equal(plan[others], whole[others])


def test_a_small_epsilon_assigns_and_a_large_one_spreads():
    cost = 1 - torch.eye(4)[[2, 0, 3, 1]][None]
    mask = torch.ones(1, 4)
    assert torch.allclose(transport_plan(cost, mask, mask, epsilon=1e-3)[0], (1 - cost[0]) / 4, atol=1e-6)
    assert torch.allclose(transport_plan(cost, mask, mask, epsilon=1e3)[0], torch.full((4, 4), 1 / 16), atol=1e-3)


def test_no_gradient_and_at_least_float32():
    states = torch.randn(2, 3, 4, requires_grad=True)
    mask = torch.ones(2, 3)
    plan = transport_plan(cosine_cost(states, states), mask, mask)
    assert not plan.requires_grad
    half = cosine_cost(states.bfloat16(), states.bfloat16())
    assert half.dtype == plan.dtype == transport_plan(half.bfloat16(), mask, mask).dtype == torch.float32


def test_cosine_cost_by_hand():
    a = torch.tensor([[[2.0, 0.0], [3.0, 4.0]]])
    b = torch.tensor([[[5.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]])
    assert torch.allclose(cosine_cost(a, b), torch.tensor([[[0.0, 1.0, 2.0], [0.4, 0.2, 1.6]]]))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert cosine_cost(a, b).dtype == torch.float32


@pytest.mark.parametrize("shapes", [((2, 3, 4), (1, 3, 4)), ((2, 3, 4), (2, 3, 5)), ((3, 4), (3, 4))])
def test_states_that_do_not_fit(shapes):
    with pytest.raises(TrainingError, match="cosine_cost"):
        cosine_cost(*map(torch.ones, shapes))


@pytest.mark.parametrize("shapes", [((2, 3, 4), (2, 4), (2, 3)), ((2, 3, 4), (2, 3), (1, 4)), ((3, 4), (3,), (3,))])
def test_masks_that_do_not_fit(shapes):
    with pytest.raises(TrainingError, match="transport_plan"):
        transport_plan(*map(torch.ones, shapes))


@pytest.mark.parametrize("options", [{"epsilon": 0.0}, {"epsilon": -1.0}, {"iterations": 0}])
def test_values_that_cannot_work(batch, options):
    with pytest.raises(ConfigError, match="epsilon must be above 0"):
        transport_plan(*batch, **options)


def test_what_a_plan_costs_by_hand():
    cost = torch.tensor([[[0.0, 2.0], [1.0, 0.5]], [[1.0, 1.0], [1.0, 1.0]]], requires_grad=True)
    plan = torch.tensor([[[0.5, 0.0], [0.25, 0.25]], [[0.0, 0.0], [0.0, 1.0]]])
    found = transport_cost(cost, plan)
    assert found.item() == pytest.approx((0.25 + 0.125 + 1.0) / 2)
    found.backward()
    assert torch.equal(cost.grad, plan / 2)
    with pytest.raises(TrainingError, match="one shape"):
        transport_cost(cost, plan[:1])
