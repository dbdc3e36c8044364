"""Ranks made by hand or at random, and the sum of recalls as plain loops compute it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from ccr_adapters.evaluation import RetrievalRanks


def _ranks_of(t2i: list[int], i2t: list[int], image_of: list[int], images: int | None = None) -> RetrievalRanks:
    precision = [1 / torch.tensor(places, dtype=torch.float64) for places in (t2i, i2t)]
    return RetrievalRanks(torch.tensor(t2i), torch.tensor(i2t), *precision, torch.tensor(image_of), images or len(i2t))


def _random_ranks(images: int, seed: int) -> RetrievalRanks:
    rng = np.random.default_rng(seed)
    image_of = np.repeat(np.arange(images), 2)
    t2i = rng.integers(1, 16, size=len(image_of)).tolist()
    return _ranks_of(t2i, rng.integers(1, 12, size=images).tolist(), image_of.tolist())


def _slow_sum(ranks: RetrievalRanks, drawn: list[int]) -> float:
    t2i = [
        rank
        for image in drawn
        for rank, of in zip(ranks.t2i.tolist(), ranks.caption_to_image.tolist(), strict=True)
        if of == image
    ]
    i2t = [ranks.i2t.tolist()[image] for image in drawn]
    return sum(100 * sum(r <= k for r in places) / len(places) for places in (t2i, i2t) for k in (1, 5, 10))


@pytest.fixture
def ranks_of() -> Callable[..., RetrievalRanks]:
    """Function that takes the ranks of captions, those of images, and the image of each caption."""
    return _ranks_of


@pytest.fixture
def random_ranks() -> Callable[..., RetrievalRanks]:
    """Function that draws ranks for a number of images with two captions each, from a seed."""
    return _random_ranks


@pytest.fixture
def slow_sum() -> Callable[..., float]:
    """Function that sums the recalls over drawn images; an image drawn twice counts twice."""
    return _slow_sum
