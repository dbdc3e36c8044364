"""The bootstrap: sums of recalls over resampled images.

What varies is the sample of images, each with all its captions: captions of one image rise and fall together,
and resampling them one by one would make the intervals too narrow. The gallery stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from torch import Tensor

CUTOFFS = (1, 5, 10)
"""The k of R@k; the sum of recalls is over these, in both directions."""

# Resampled image indices held at once: 32 MiB of int64.
_MOST_DRAWS = 2**22


@dataclass(frozen=True, eq=False)
class RetrievalRanks:
    """What one evaluation found out, query by query; metrics and comparisons are computed from it.

    Attributes:
        t2i: Rank of the right image for each caption (N,).
        i2t: Rank of the best right caption for each image that has captions (M',), in the order of images.
        t2i_precision: Average precision of each caption (N,), in (0, 1].
        i2t_precision: Average precision of each such image (M',), in (0, 1].
        caption_to_image: Image of each caption (N,).
        images: Number of images in the gallery, those without captions included.
    """

    t2i: Tensor
    i2t: Tensor
    t2i_precision: Tensor
    i2t_precision: Tensor
    caption_to_image: Tensor
    images: int

    @property
    def unpaired(self) -> int:
        """Images without a caption: in the gallery, but not among the queries."""
        return self.images - len(self.i2t)


def resampled_sums(models: tuple[RetrievalRanks, ...], resamples: int, seed: int) -> Iterator[list[np.ndarray]]:
    """Draw resamples of images and score every model on them.

    Args:
        models: Ranks of the models, on the same captions and images.
        resamples: Number of resamples.
        seed: Seed of the drawing; what is drawn does not depend on the number of models.

    Yields:
        For each model its sums of recalls (chunk,), a chunk of resamples at a time.
    """
    hits = [_hits_per_image(ranks) for ranks in models]
    captions, images = hits[0][1], len(hits[0][1])
    for weights in resampled_weights(images, resamples, seed):
        drawn_captions = _total(weights, captions)
        yield [
            100.0 * (_total(weights, text) / drawn_captions + _total(weights, image) / images)
            for text, _, image in hits
        ]


def resampled_weights(images: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Draw resamples of images.

    Args:
        images: Number of images that have captions.
        resamples: Number of resamples.
        seed: Seed of the drawing.

    Yields:
        How often each resample draws each image, a chunk of resamples at a time. (chunk, M') float32
    """
    rng = np.random.default_rng(seed)
    chunk = max(1, _MOST_DRAWS // images)
    for start in range(0, resamples, chunk):
        rows = min(chunk, resamples - start)
        drawn = rng.integers(images, size=(rows, images)) + images * np.arange(rows)[:, None]
        # One bincount over shifted indices counts them all.
        yield np.bincount(drawn.ravel(), minlength=rows * images).reshape(rows, images).astype(np.float32)


def _total(weights: np.ndarray, per_image: np.ndarray) -> np.ndarray:
    """Sum over the images of each resample; exact, because float32 holds integers up to 2**24."""
    totals: np.ndarray = (weights @ per_image).astype(np.float64)
    return totals


def _hits_per_image(ranks: RetrievalRanks) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each image with captions: the hits of its captions, their number, its own hits; over cut-offs."""
    images = ranks.caption_to_image.numpy()
    counts = np.bincount(images, minlength=ranks.images)
    cutoffs = np.array(CUTOFFS)
    text = (ranks.t2i.numpy()[:, None] <= cutoffs).sum(axis=1)  # (N,), 0 to 3
    text = np.bincount(images, weights=text, minlength=ranks.images)  # (M,)
    image = (ranks.i2t.numpy()[:, None] <= cutoffs).sum(axis=1)  # (M',)
    paired = counts > 0
    return text[paired].astype(np.float32), counts[paired].astype(np.float32), image.astype(np.float32)
