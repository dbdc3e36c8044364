"""Retrieval evaluation: embeddings and ground truth in, metrics of both directions out."""

from __future__ import annotations

import logging

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ccr_adapters.errors import EvaluationError
from ccr_adapters.evaluation.metrics import RetrievalMetrics
from ccr_adapters.evaluation.ranks import Positives, as_embeddings, rank_and_precision
from ccr_adapters.evaluation.resampling import RetrievalRanks

logger = logging.getLogger(__name__)


def evaluate_retrieval(
    text_embeddings: Tensor | np.ndarray,
    visual_embeddings: Tensor | np.ndarray,
    caption_to_image: Tensor | np.ndarray,
    *,
    block: int = 1024,
    bootstrap: int = 1000,
    seed: int = 0,
) -> RetrievalMetrics:
    """Score captions against images in both directions, by cosine.

    An image without captions stays in the gallery, as a distractor, and is no query; the metrics count such
    images.

    Args:
        text_embeddings: Captions (N, d), of any length: they are normalised here.
        visual_embeddings: Images or videos (M, d).
        caption_to_image: Row of the image that each caption describes (N,), integers.
        block: Queries scored at once.
        bootstrap: Resamples behind the interval of the sum of recalls; 0 for none.
        seed: Seed of the resampling.

    Returns:
        The metrics; their `ranks` serve `paired_bootstrap`. The metric to choose models by is
        `PRIMARY_METRIC`.

    Raises:
        EvaluationError: If shapes do not fit, an index is out of range, or a number is not finite.

    Example:
        >>> images = torch.eye(3)
        >>> metrics = evaluate_retrieval(images[[0, 0, 1, 2]], images, torch.tensor([0, 0, 1, 2]))
        >>> metrics.sum_r
        600.0
    """
    text = F.normalize(as_embeddings(text_embeddings, "text embeddings"), dim=-1)  # (N, d)
    visual = F.normalize(as_embeddings(visual_embeddings, "visual embeddings"), dim=-1)  # (M, d)
    image_of = _checked_pairs(caption_to_image, len(text), len(visual))
    captions_of = Positives.inverse(image_of, len(visual))
    paired = captions_of.counts > 0  # (M,)
    if not bool(paired.all()):
        logger.info("%d of %d images have no caption: distractors", int((~paired).sum()), len(visual))
    # Images without captions take no part of the flat list, so what remains is the list of those that have
    # some.
    offsets = torch.cat([captions_of.offsets[:1], captions_of.offsets[1:][paired]])
    t2i, t2i_precision = rank_and_precision(text, visual, Positives.one_each(image_of), block=block)
    i2t, i2t_precision = rank_and_precision(
        visual[paired.to(visual.device)], text, Positives(captions_of.flat, offsets), block=block
    )
    found = RetrievalRanks(t2i, i2t, t2i_precision, i2t_precision, image_of, len(visual))
    return RetrievalMetrics.from_ranks(found, bootstrap=bootstrap, seed=seed)


def protocol_line(images: int, captions: int, *, unpaired: int = 0) -> str:
    """Say how a number was measured, for the line under a table.

    Args:
        images: Images in the gallery.
        captions: Captions.
        unpaired: Images without captions.

    Returns:
        One line.

    Example:
        >>> protocol_line(1000, 2000).partition(";")[0]
        'T2I and I2T over 1,000 images x 2,000 captions'
    """
    distractors = f" ({unpaired:,} images without captions are distractors)" if unpaired else ""
    return (
        f"T2I and I2T over {images:,} images x {captions:,} captions{distractors}; "
        "a hit is any positive in the top k; ties count against the model"
    )


def _checked_pairs(caption_to_image: Tensor | np.ndarray, captions: int, images: int) -> Tensor:
    """Bring the ground truth to int64 on the CPU, or say what is wrong with it."""
    if isinstance(caption_to_image, np.ndarray):
        caption_to_image = torch.from_numpy(np.require(caption_to_image, requirements="W"))
    pairs = torch.as_tensor(caption_to_image)
    if pairs.ndim != 1 or pairs.is_floating_point() or pairs.dtype == torch.bool:
        raise EvaluationError(
            f"caption_to_image must hold one image row for each caption, integers (N,); got {pairs.dtype} "
            f"{tuple(pairs.shape)}."
        )
    pairs = pairs.detach().long().cpu()
    if len(pairs) != captions:
        raise EvaluationError(
            f"There are {captions:,} text embeddings and caption_to_image speaks of {len(pairs):,} captions."
        )
    outside = ((pairs < 0) | (pairs >= images)).nonzero()
    if len(outside):
        row = int(outside[0])
        raise EvaluationError(
            f"caption_to_image[{row}] is {int(pairs[row])}; the {images:,} images are rows 0 to {images - 1}."
        )
    return pairs
