"""Where a new token embedding starts: each target token as a mixture of the source tokens that it translates.

Translations are parallel text, so a word aligner can say which source token a target token stands for before any
training. The table then starts inside the space that the frozen encoder already reads, and not at random. The aligner
is IBM model 1 (Brown et al. 1993) with a preference for the diagonal (Dyer et al. 2013), run in both directions at
once and trained for agreement: a pair counts as much as both directions believe in it (Liang et al. 2006).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ccr_adapters.errors import DataError

logger = logging.getLogger(__name__)

MOST_PAIRS = 20_000_000
"""Pairs of a target and a source token that are aligned at once: 2 GB, and about 100,000 captions of 13 words."""


def _pairs(
    target_ids: Sequence[Sequence[int]],
    source_ids: Sequence[Sequence[int]],
    null: int,
    tension: float,
    null_weight: float,
) -> tuple[NDArray[np.int64], ...]:
    """Every (target token, source token) pair of every sentence pair, flat, with its prior and its two positions."""
    targets, sources, priors, target_slots, source_slots = [], [], [], [], []
    target_count = source_count = 0
    for target, source in zip(target_ids, source_ids, strict=True):
        rows, columns = len(target), len(source)
        if not rows or not columns:
            continue
        distance = np.abs((np.arange(rows)[:, None] + 0.5) / rows - (np.arange(columns)[None] + 0.5) / columns)
        prior = np.exp(-tension * distance)  # (rows, columns)
        # a target token may translate nothing
        prior = np.concatenate([prior, np.full((rows, 1), null_weight * prior.mean())], axis=1)
        targets.append(np.repeat(np.asarray(target, dtype=np.int64), columns + 1))
        sources.append(np.tile(np.asarray([*source, null], dtype=np.int64), rows))
        priors.append(prior.ravel())
        target_slots.append(np.repeat(np.arange(rows) + target_count, columns + 1))
        source_slots.append(np.tile(np.arange(columns + 1) + source_count, rows))
        target_count += rows
        source_count += columns + 1
    if not targets:
        raise DataError("There is no sentence pair to align: all captions or all translations are empty.")
    return tuple(np.concatenate(part) for part in (targets, sources, priors, target_slots, source_slots))


def _sample(
    target_ids: Sequence[Sequence[int]], source_ids: Sequence[Sequence[int]]
) -> tuple[Sequence[Sequence[int]], Sequence[Sequence[int]]]:
    """As many captions as memory is for, chosen at random, the same each time; all of them where they fit."""
    if len(target_ids) != len(source_ids):
        raise ValueError(f"There are {len(target_ids)} target and {len(source_ids)} source captions; expected pairs.")
    sizes = np.fromiter(map(len, target_ids), np.int64) * (np.fromiter(map(len, source_ids), np.int64) + 1)
    if sizes.sum() <= MOST_PAIRS:
        return target_ids, source_ids
    order = np.random.default_rng(0).permutation(len(sizes))
    kept = np.sort(order[np.cumsum(sizes[order]) <= MOST_PAIRS])
    logger.info("Tokens are aligned by %d of %d captions, chosen at random.", len(kept), len(sizes))
    return [target_ids[row] for row in kept], [source_ids[row] for row in kept]


def aligned_table(
    target_ids: Sequence[Sequence[int]],
    source_ids: Sequence[Sequence[int]],
    source_table: Tensor,
    size: int,
    *,
    iterations: int = 6,
    tension: float = 4.0,
    null_weight: float = 0.3,
    one_sided: float = 0.02,
    threshold: float = 0.02,
) -> tuple[Tensor, Tensor]:
    """Rows of a target vocabulary, from parallel token ids.

    Args:
        target_ids: Target tokens of each caption, without special tokens. Of more than `MOST_PAIRS` a sample is taken.
        source_ids: Source tokens of the same captions, without special tokens.
        source_table: The base's token embedding. (V, w)
        size: Size `n` of the target vocabulary.
        iterations: Rounds of expectation maximisation.
        tension: How much the aligner prefers the diagonal.
        null_weight: Prior of translating nothing, against the mean prior of a token.
        one_sided: Weight of what only one direction believes, so that rare tokens are not left empty.
        threshold: Shares of a mixture below it are dropped.

    Returns:
        The table (n, w), and which rows were aligned (n,); the others are the mean of the source table.
    """
    null = len(source_table)
    width = null + 1
    target_ids, source_ids = _sample(target_ids, source_ids)
    target, source, prior, target_slot, source_slot = _pairs(target_ids, source_ids, null, tension, null_weight)
    keys, inverse = np.unique(target * width + source, return_inverse=True)
    key_target, key_source = keys // width, keys % width
    forward = np.ones(len(keys))  # t(target | source)
    backward = np.ones(len(keys))  # t(source | target)
    for _ in range(iterations):
        p = forward[inverse] * prior  # which source token made this target token
        p /= np.bincount(target_slot, p)[target_slot] + 1e-30
        q = backward[inverse] * prior  # which target token made this source token
        q /= np.bincount(source_slot, q)[source_slot] + 1e-30
        agreed = np.bincount(inverse, p * q, len(keys))
        alone = np.bincount(inverse, p, len(keys))
        forward = agreed / (np.bincount(key_source, agreed, width)[key_source] + 1e-9) + 1e-9
        backward = agreed / (np.bincount(key_target, agreed, size)[key_target] + 1e-9) + 1e-9
    counts = agreed + one_sided * alone
    counts[key_source == null] = 0.0
    shares = counts / (np.bincount(key_target, counts, size)[key_target] + 1e-9)
    shares[shares < threshold] = 0.0
    mass = np.bincount(key_target, shares, size)
    kept = shares > 0
    weights = torch.from_numpy(shares[kept] / mass[key_target[kept]]).to(source_table.dtype)
    table = torch.zeros(size, source_table.shape[1], dtype=source_table.dtype)
    rows = source_table[torch.from_numpy(key_source[kept])] * weights.unsqueeze(1)  # (pairs, w)
    table.index_add_(0, torch.from_numpy(key_target[kept]), rows)
    aligned = torch.from_numpy(mass > 0)
    table[~aligned] = source_table.mean(dim=0)
    return table, aligned
