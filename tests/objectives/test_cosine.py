"""What the objectives over a global batch share."""

from __future__ import annotations

import pytest
import torch

from ccr_adapters.errors import TrainingError
from ccr_adapters.objectives.cosine import check_ids, global_units, log_softmax_both_ways, same_picture, unit


def test_unit_takes_the_highest_precision():
    halves = unit(torch.full((2, 4), 3.0).half(), torch.randn(3, 5).bfloat16())
    assert all(x.dtype == torch.float32 for x in halves)
    assert torch.equal(halves[0], torch.full((2, 4), 0.5))
    assert unit(torch.ones(1, 2), torch.ones(1, 2).double())[0].dtype == torch.float64
    assert torch.equal(unit(torch.zeros(1, 3))[0], torch.zeros(1, 3))


def test_a_single_process_has_its_own_rows():
    a = torch.randn(3, 4)
    assert all(torch.equal(x, unit(a)[0]) for gather in (False, True) for x in global_units(a, a, gather=gather))


def test_same_picture_by_hand():
    same = same_picture(torch.tensor([4, 7, 4]), gather=True)
    assert same.tolist() == [[False, False, True], [False, False, False], [True, False, False]]
    assert same_picture(None, gather=True) is None


def test_what_is_left_out_has_no_probability_and_a_finite_logarithm():
    logits = torch.randn(3, 3)
    left_out = same_picture(torch.tensor([4, 7, 4]), gather=False)
    rows, columns = log_softmax_both_ways(logits, left_out)
    assert torch.allclose(rows[0, :2], logits[0, :2].log_softmax(0))
    assert torch.allclose(columns[2, 1:], logits[1:, 2].log_softmax(0))
    for logs in (rows, columns):
        assert (logs[left_out].exp() == 0).all()
        assert logs.isfinite().all()
        assert torch.allclose(logs.exp().sum(1), torch.ones(3))


def test_ids_that_do_not_fit():
    check_ids(None, 3)
    check_ids(torch.zeros(3), 3)
    with pytest.raises(TrainingError, match=r"3 rows.*\(3, 1\)"):
        check_ids(torch.zeros(3, 1), 3)
