"""Questions of two parts: a picture, and words that say what should be different."""

from __future__ import annotations

import numpy as np

from ccr_adapters.errors import SearchIndexError
from ccr_adapters.search.checks import unit_rows
from ccr_adapters.search.interface import Vectors


def combine(text_vectors: Vectors, image_vectors: Vectors, weight: float = 0.5) -> Vectors:
    """Mix questions in words with pictures, one of each per question.

    Both are brought to length one first: towers give vectors of different lengths, which would be a weight too.

    Args:
        text_vectors: Float32 (Q, d).
        image_vectors: Float32 (Q, d).
        weight: Share of the picture: 0 is the words alone, 1 the picture alone.

    Returns:
        Float32 (Q, d) of length one.

    Raises:
        SearchIndexError: If the shapes differ, the weight is not in [0, 1], or the two cancel out.
    """
    if not 0 <= weight <= 1:
        raise SearchIndexError(f"The weight is {weight}; expected 0 (the words alone) to 1 (the picture alone).")
    if np.shape(text_vectors) != np.shape(image_vectors) or np.ndim(text_vectors) != 2:
        raise SearchIndexError(
            f"Got text vectors {np.shape(text_vectors)} and image vectors {np.shape(image_vectors)}; "
            "expected one of each per question."
        )
    dim = np.shape(text_vectors)[1]
    text, image = unit_rows(text_vectors, dim), unit_rows(image_vectors, dim)  # (Q, d)
    return unit_rows(np.float32(1 - weight) * text + np.float32(weight) * image, dim)
