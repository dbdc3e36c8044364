"""Ranks and average precision against an oracle with the whole score matrix and plain loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ccr_adapters.errors import EvaluationError
from ccr_adapters.evaluation import Positives, average_precision, rank_and_precision
from ccr_adapters.evaluation.ranks import _Counter, ranks


def oracle(queries, gallery, relevant: list[list[int]]) -> tuple[list[int], list[float]]:
    """Sort each list by score, wrong answers before right ones of the same score, and read it from the top."""
    best, precisions = [], []
    for query, right in zip(queries.tolist(), relevant, strict=True):
        # Exact on the small whole numbers that these tests use, so that a tie is a tie.
        scores = [sum(q * g for q, g in zip(query, row, strict=True)) for row in gallery.tolist()]
        order = sorted(range(len(scores)), key=lambda j: (-scores[j], j in right))
        # Wrong answers above the best right one, plus one.
        best.append(next(place for place, j in enumerate(order, 1) if j in right))
        seen, shares = 0, []
        for place, j in enumerate(order, 1):
            if j in right:
                seen += 1
                shares.append(seen / place)
        precisions.append(sum(shares) / len(shares))
    return best, precisions


def whole_numbers(rows: int, width: int, spread: int, seed: int) -> torch.Tensor:
    """Embeddings of small whole numbers: sums of products are exact and ties are many."""
    return torch.randint(-spread, spread + 1, (rows, width), generator=torch.Generator().manual_seed(seed)).float()


@pytest.mark.parametrize("seed", range(25))
def test_equals_the_oracle(seed):
    rng = np.random.default_rng(seed)
    queries, gallery = int(rng.integers(1, 40)), int(rng.integers(1, 50))
    width, spread = int(rng.integers(1, 6)), int(rng.choice([1, 3, 50]))
    q, g = whole_numbers(queries, width, spread, seed), whole_numbers(gallery, width, spread, 1000 + seed)
    right = [
        sorted(rng.choice(gallery, size=int(rng.integers(1, min(7, gallery + 1))), replace=False).tolist())
        for _ in range(queries)
    ]
    found, precision = rank_and_precision(q, g, right, block=int(rng.integers(1, 20)))
    expected, expected_precision = oracle(q, g, right)
    assert found.tolist() == expected
    assert precision.tolist() == pytest.approx(expected_precision)


def test_one_positive_each_as_a_tensor_an_array_or_lists():
    q, g = whole_numbers(9, 3, 4, 0), whole_numbers(6, 3, 4, 1)
    right = torch.tensor([0, 5, 2, 2, 1, 3, 4, 0, 5])
    expected, precision = oracle(q, g, [[r] for r in right.tolist()])
    for form in (right, right.numpy(), right.int(), [[r] for r in right.tolist()], Positives.one_each(right)):
        assert ranks(q, g, form).tolist() == expected
    assert average_precision(q, g, right).tolist() == pytest.approx(precision)
    assert precision == pytest.approx([1 / rank for rank in expected])


def test_ties_count_against_the_model():
    q, g = torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 5.0], [1.0, 0.0], [1.0, -3.0], [0.0, 1.0]])
    assert ranks(q, g, [[1]]).tolist() == [3]
    # Two right answers of one score are not in each other's way.
    assert ranks(q, g, [[1, 2]]).tolist() == [2]
    assert average_precision(q, g, [[1, 2]]).item() == pytest.approx((1 / 2 + 2 / 3) / 2)


@pytest.mark.parametrize("d", [7, 64, 384])
@pytest.mark.parametrize("rows", [5, 37, 1003])
def test_equal_rows_tie_wherever_they_stand(d, rows):
    # A matrix product rounds otherwise at its edge than in its body; equal rows must tie all the same.
    gallery = torch.randn(1, d).expand(rows, d)
    queries = torch.randn(11, d)
    assert ranks(queries, gallery, torch.arange(11) % rows).tolist() == [rows] * 11
    mixed = torch.cat([gallery, torch.randn(3, d)])
    alone = ranks(queries, torch.cat([gallery[:1], mixed[rows:]]), torch.zeros(11, dtype=torch.long))
    assert ranks(queries, mixed, torch.full((11,), rows - 1)).tolist() == (alone + rows - 1).tolist()


def test_the_size_of_a_block_changes_nothing():
    q, g = torch.randn(50, 16), torch.randn(70, 16)
    right = torch.arange(50)
    expected = rank_and_precision(q, g, right, block=50)
    for block in (1, 7, 49, 1024):
        found = rank_and_precision(q, g, right, block=block)
        assert torch.equal(found[0], expected[0])
        assert torch.equal(found[1], expected[1])


class LargestTensor(TorchDispatchMode):
    """Notes the largest tensor that any operation returns."""

    largest = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, (tuple, list)) else [out]:
            if isinstance(tensor, torch.Tensor):
                self.largest = max(self.largest, tensor.numel())
        return out


@pytest.mark.parametrize("repeated", [False, True])
def test_no_more_than_a_block_of_scores_is_ever_held(repeated):
    q, g = torch.randn(300, 4), torch.randn(400, 4)
    if repeated:
        g[200:] = g[:200]
    with LargestTensor() as seen:
        rank_and_precision(q, g, [[i, i + 1, i + 2] for i in range(300)], block=16)
    assert 16 * 200 <= seen.largest <= 16 * 400


def test_a_large_gallery_makes_blocks_smaller(monkeypatch):
    monkeypatch.setattr("ccr_adapters.evaluation.ranks._MOST_SCORES", 1000)
    q, g = torch.randn(60, 3), torch.randn(400, 3)
    with LargestTensor() as seen:
        found = ranks(q, g, torch.arange(60))
    assert seen.largest <= 400 * 3
    monkeypatch.undo()
    assert torch.equal(found, ranks(q, g, torch.arange(60)))


def test_arrays_half_precision_and_integers_are_taken():
    q, g = whole_numbers(5, 4, 3, 0), whole_numbers(8, 4, 3, 1)
    expected = ranks(q, g, torch.arange(5)).tolist()
    read_only = q.numpy().copy()
    read_only.flags.writeable = False
    for left, right in (
        (read_only, g.numpy()),
        (q.half(), g.half()),
        (q.bfloat16(), g.double()),
        (q.char(), g.char()),
        (q.clone().requires_grad_(), g),
    ):
        assert ranks(left, right, torch.arange(5)).tolist() == expected


def test_autocast_makes_no_ties():
    q, g = torch.randn(40, 64), torch.randn(200, 64)
    expected = ranks(q, g, torch.arange(40))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(ranks(q, g, torch.arange(40)), expected)


def test_inverse_lists_the_captions_of_each_image():
    positives = Positives.inverse(torch.tensor([2, 0, 2, 3, 2]), 5)
    assert positives.counts.tolist() == [1, 0, 3, 1, 0]
    assert positives.padded(0, 5).tolist() == [[1, -1, -1], [-1, -1, -1], [0, 2, 4], [3, -1, -1], [-1, -1, -1]]


def test_a_row_named_twice_counts_once():
    q, g = torch.randn(1, 3), torch.randn(6, 3)
    assert average_precision(q, g, [[2, 2, 4]]) == average_precision(q, g, [[4, 2]])


@pytest.mark.parametrize(
    ("queries", "gallery", "relevant", "message"),
    [
        (torch.ones(2, 3), torch.ones(4, 5), [[0], [1]], "queries are 3 wide and the gallery is 5 wide"),
        (torch.ones(2, 3), torch.ones(4, 3), [[0]], "speaks of 1 queries; there are 2"),
        (torch.ones(2, 3), torch.ones(4, 3), [[0], []], "Query 1 has no right answer"),
        (torch.ones(2, 3), torch.ones(4, 3), [[0], [4]], "row 4 of a gallery of 4"),
        (torch.ones(2, 3), torch.ones(4, 3), [[0], [-1]], "row -1 of a gallery of 4"),
        (torch.ones(2, 3), torch.ones(4, 3), torch.ones(2), r"integers \(N,\); got torch.float32"),
        (torch.ones(3), torch.ones(4, 3), [[0]], r"queries must be embeddings of shape \(N, d\).*\(3,\)"),
        (torch.ones(2, 3), torch.ones(0, 3), [[0], [0]], r"gallery must be .* got \(0, 3\)"),
    ],
)
def test_what_does_not_fit_is_named(queries, gallery, relevant, message):
    with pytest.raises(EvaluationError, match=message):
        ranks(queries, gallery, relevant)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_numbers_that_are_not_finite_are_counted_and_named(bad):
    rows = torch.ones(5, 3)
    rows[3, 1] = rows[4, 0] = bad
    with pytest.raises(EvaluationError, match=r"2 of 5 gallery hold numbers that are not finite.*row 3"):
        ranks(torch.ones(1, 3), rows, [[0]])
    with pytest.raises(EvaluationError, match=r"2 of 5 queries"):
        ranks(rows.numpy(), torch.ones(1, 3), [[0]] * 5)


def test_a_block_of_nothing_is_refused():
    with pytest.raises(EvaluationError, match=r"block is 0"):
        ranks(torch.ones(1, 3), torch.ones(1, 3), [[0]], block=0)


@pytest.mark.parametrize("columns", [1, 7, 8, 9, 1023, 1024, 1025, 2047, 2049, 5000])
def test_counts_are_those_of_a_plain_sum(columns):
    scores = torch.randint(-3, 4, (5, columns)).float()
    count = _Counter(5, columns, scores.device)
    for limit in (-4.0, 0.0, 3.0, 4.0):  # all, some, few, none; the counter is used again
        limits = torch.full((5, 1), limit)
        assert torch.equal(count.at_least(scores, limits), (scores >= limits).sum(dim=1))
