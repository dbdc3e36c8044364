"""The word aligner: equal to a slow one with loops, and good enough to recover a dictionary."""

from __future__ import annotations

import math
from collections import defaultdict

import numpy as np
import pytest
import torch

from ccr_adapters.errors import DataError
from ccr_adapters.processing import alignment
from ccr_adapters.processing.alignment import aligned_table


def slow(
    target_ids, source_ids, table, size, iterations=6, tension=4.0, null_weight=0.3, one_sided=0.02, threshold=0.02
):
    """IBM model 1 in both directions with agreement, pair by pair and token by token."""
    null = len(table)
    forward = defaultdict(lambda: 1.0)  # t(target | source)
    backward = defaultdict(lambda: 1.0)  # t(source | target)
    agreed, alone = {}, {}
    for _ in range(iterations):
        agreed, alone = defaultdict(float), defaultdict(float)
        for target, source in zip(target_ids, source_ids, strict=True):
            if not target or not source:
                continue
            rows, columns = len(target), len(source)
            near = [
                [math.exp(-tension * abs((i + 0.5) / rows - (j + 0.5) / columns)) for j in range(columns)]
                for i in range(rows)
            ]
            empty = null_weight * sum(map(sum, near)) / (rows * columns)
            words = [*source, null]
            prior = [[*line, empty] for line in near]
            p = [[forward[t, s] * prior[i][j] for j, s in enumerate(words)] for i, t in enumerate(target)]
            q = [[backward[t, s] * prior[i][j] for j, s in enumerate(words)] for i, t in enumerate(target)]
            for i, t in enumerate(target):
                for j, s in enumerate(words):
                    made_by = p[i][j] / sum(p[i])
                    makes = q[i][j] / sum(line[j] for line in q)
                    agreed[t, s] += made_by * makes
                    alone[t, s] += made_by
        by_source, by_target = defaultdict(float), defaultdict(float)
        for (t, s), count in agreed.items():
            by_source[s] += count
            by_target[t] += count
        forward = {(t, s): count / by_source[s] for (t, s), count in agreed.items()}
        backward = {(t, s): count / by_target[t] for (t, s), count in agreed.items()}
    expected = table.mean(0).repeat(size, 1)
    found = [False] * size
    for token in range(size):
        counts = {s: agreed[t, s] + one_sided * alone[t, s] for t, s in agreed if t == token and s != null}
        total = sum(counts.values())
        kept = {s: count / total for s, count in counts.items() if count / total >= threshold}
        if kept:
            found[token] = True
            expected[token] = sum(share * table[s] for s, share in kept.items()) / sum(kept.values())
    return expected, torch.tensor(found)


def corpus(seed, pairs=25, words=8):
    """Random parallel sentences of a random dictionary, with noise, repeated words and different lengths."""
    draw = np.random.default_rng(seed)
    source = [draw.integers(0, words, draw.integers(1, 7)).tolist() for _ in range(pairs)]
    target = [[(3 * s + 1) % words for s in row if draw.random() < 0.8] for row in source]
    target = [[*row, int(draw.integers(0, words))] for row in target]
    return target, source


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("iterations", [1, 2, 6])
def test_it_equals_the_loops(seed, iterations):
    target, source = corpus(seed)
    table = torch.randn(8, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    expected, found = slow(target, source, table, 10, iterations)
    rows, aligned = aligned_table(target, source, table, 10, iterations=iterations)
    torch.testing.assert_close(rows, expected, rtol=1e-4, atol=1e-5)
    assert torch.equal(aligned, found)


def test_a_dictionary_is_recovered():
    # 30 words; the translation turns word s into 29 - s, and the sentence around
    draw = np.random.default_rng(0)
    source = [draw.choice(30, size=6, replace=False).tolist() for _ in range(300)]
    target = [[29 - s for s in row] for row in source]
    table = torch.eye(30)
    for order, tension in (("same", 4.0), ("reversed", 0.0)):
        rows = target if order == "same" else [row[::-1] for row in target]
        found, aligned = aligned_table(rows, source, table, 32, tension=tension)
        assert aligned.tolist() == [True] * 30 + [False] * 2
        assert found[:30].argmax(dim=1).tolist() == list(range(29, -1, -1))
        assert found[:30].amax(dim=1).min() > 0.9


def test_a_function_word_does_not_draw_everything_to_itself():
    # source word 0 stands in every sentence, and has a counterpart only in the first half of the data
    draw = np.random.default_rng(1)
    source = [[0, *draw.choice(range(1, 12), size=3, replace=False).tolist()] for _ in range(200)]
    target = [[*([0] if i < 100 else []), *row[1:]] for i, row in enumerate(source)]
    found, _ = aligned_table(target, source, torch.eye(12), 12)
    assert found.argmax(dim=1).tolist() == list(range(12))


def test_tokens_without_a_partner_get_the_mean():
    table = torch.randn(4, 3)
    found, aligned = aligned_table([[0, 1], [], [2]], [[0, 1], [2], []], table, 5)
    assert aligned.tolist() == [True, True, False, False, False]
    torch.testing.assert_close(found[2:], table.mean(0).expand(3, 3))
    assert torch.isfinite(found).all()


def test_the_table_keeps_its_precision_and_the_input_its_values():
    table = torch.randn(4, 3)
    before = table.clone()
    found, _ = aligned_table([[0, 1]], [[0, 1]], table, 2)
    assert found.dtype == torch.float32
    assert torch.equal(table, before)


@pytest.mark.parametrize(("target", "source"), [([], []), ([[]], [[1]]), ([[1]], [[]])])
def test_nothing_to_align_is_said(target, source):
    with pytest.raises(DataError, match="no sentence pair to align"):
        aligned_table(target, source, torch.randn(4, 3), 5)


def test_more_pairs_than_memory_is_for_are_sampled(monkeypatch):
    target, source = corpus(0, pairs=200)
    table = torch.randn(8, 5, dtype=torch.float64)
    sizes = [len(t) * (len(s) + 1) for t, s in zip(target, source, strict=True)]
    monkeypatch.setattr(alignment, "MOST_PAIRS", sum(sizes) // 2)
    few, rows = alignment._sample(target, source)
    assert 0 < sum(len(t) * (len(s) + 1) for t, s in zip(few, rows, strict=True)) <= sum(sizes) // 2
    pairs = list(zip(target, source, strict=True))
    assert all(pair in pairs for pair in zip(few, rows, strict=True))
    found = aligned_table(target, source, table, 10)
    monkeypatch.undo()
    for ours, expected in zip(found, aligned_table(few, rows, table, 10), strict=True):
        assert torch.equal(ours, expected)


def test_sides_of_different_length_are_refused():
    with pytest.raises(ValueError, match="2 target and 1 source captions"):
        aligned_table([[1], [2]], [[1]], torch.randn(4, 3), 5)
