"""The order of rows: complete, of like lengths, and the same however many processes share it."""

from __future__ import annotations

from itertools import chain, pairwise

import numpy as np
import pytest
from accelerate.data_loader import BatchSamplerShard
from torch.utils.data import BatchSampler

from ccr_adapters.data.samplers import LengthBucketSampler

LENGTHS = np.random.default_rng(0).integers(3, 40, size=101)


def shares(processes, rows, *, drop_last=True, epoch=0):
    """What each process gets, as Accelerate deals it out."""
    found = []
    for rank in range(processes):
        sampler = LengthBucketSampler(LENGTHS, rows * processes, seed=3, chunk=4)
        sampler.set_epoch(epoch)
        batches = BatchSampler(sampler, rows, drop_last)
        found.append(list(BatchSamplerShard(batches, processes, rank) if processes > 1 else batches))
    return found


@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 64, 101])
def test_every_row_comes_once(count):
    sampler = LengthBucketSampler(LENGTHS[:count], 8, chunk=3)
    assert len(sampler) == count
    assert sorted(sampler) == list(range(count))
    assert all(type(row) is int for row in sampler)


@pytest.mark.parametrize("epoch", [0, 3])
def test_processes_share_the_global_batches_of_one(epoch):
    (whole,) = shares(1, 12, epoch=epoch)
    for processes in (2, 3, 4):
        parts = shares(processes, 12 // processes, epoch=epoch)
        assert [len(part) for part in parts] == [len(whole)] * processes
        together = [list(chain.from_iterable(part[step] for part in parts)) for step in range(len(whole))]
        assert together == whole


def test_a_short_batch_comes_last_and_is_dropped():
    order = list(LengthBucketSampler(LENGTHS, 12, seed=3, chunk=4))
    (whole,) = shares(1, 12)
    assert len(whole) == 8
    assert list(chain.from_iterable(whole)) == order[:96]
    (kept,) = shares(1, 12, drop_last=False)
    assert [len(batch) for batch in kept] == [12] * 8 + [5]


@pytest.mark.parametrize("chunk", [2, 16])
def test_what_is_dropped_is_no_matter_of_length(chunk):
    """Of 101 rows in batches of 12 five are dropped in each epoch, whichever they are."""
    sampler = LengthBucketSampler(LENGTHS, 12, seed=3, chunk=chunk)
    dropped = np.zeros(len(LENGTHS))
    for epoch in range(600):
        sampler.set_epoch(epoch)
        dropped[list(sampler)[96:]] += 1
    assert dropped.sum() == 600 * 5
    assert 5 < dropped.min() <= dropped.max() < 65  # 29.7 each, sd 5.3
    longest = np.argsort(LENGTHS)[-20:]
    assert dropped[longest].mean() == pytest.approx(dropped.mean(), abs=5)


def test_the_order_depends_on_seed_and_epoch_alone():
    def order(seed, epoch):
        sampler = LengthBucketSampler(LENGTHS, 8, seed=seed)
        sampler.set_epoch(epoch)
        return list(sampler)

    np.random.default_rng(5)
    found = [order(seed, epoch) for seed in (0, 1) for epoch in (0, 1)]
    assert len({tuple(rows) for rows in found}) == 4
    assert found == [order(seed, epoch) for seed in (0, 1) for epoch in (0, 1)]
    sampler = LengthBucketSampler(LENGTHS, 8)
    assert list(sampler) == list(sampler)


def test_batches_have_like_lengths_and_their_order_does_not():
    sampler = LengthBucketSampler(list(map(int, LENGTHS)), 8, chunk=12)
    order = list(sampler)
    batches = [LENGTHS[order[start : start + 8]] for start in range(0, 96, 8)]
    plain = np.random.default_rng(1).permutation(LENGTHS)
    padding = sum(int((batch.max() - batch).sum()) for batch in batches)
    assert padding < 0.3 * sum(int((part.max() - part).sum()) for part in np.array_split(plain, 12))
    means = [batch.mean() for batch in batches]
    assert means != sorted(means)


def test_a_smaller_chunk_mixes_more():
    def mates(chunk, epoch):
        sampler = LengthBucketSampler(LENGTHS, 8, chunk=chunk)
        sampler.set_epoch(epoch)
        order = list(sampler)
        return {frozenset(pair) for i in range(0, 96, 8) for pair in pairwise(order[i : i + 8])}

    few = len(mates(1, 0) & mates(1, 1))
    assert few < len(mates(12, 0)) / 4


@pytest.mark.parametrize("count", [5, 23, 200])
def test_weighted_rows_come_as_often_as_they_are_trusted(count):
    weights = np.resize([0.0, 0.2, 0.5, 1.0, 1.0], count)
    sampler = LengthBucketSampler(np.ones(count), 8, seed=1, weights=weights)
    assert len(sampler) == int(weights.sum())
    seen = np.zeros(count)
    for epoch in range(400):
        sampler.set_epoch(epoch)
        rows = list(sampler)
        assert len(rows) == len(set(rows)) == len(sampler)
        seen[rows] += 1
    for value in (0.0, 0.2, 0.5, 1.0):
        share = seen[weights == value].mean() / 400
        assert share == pytest.approx(value * len(sampler) / weights.sum(), abs=0.06), value
    assert seen[weights == 0].max() == 0
    sampler.set_epoch(0)
    assert list(sampler) == list(sampler)
