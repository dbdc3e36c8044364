"""Terms that pull a target caption's embedding to a fixed teacher: its English caption's embedding."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from ccr_adapters.errors import TrainingError
from ccr_adapters.objectives.precision import at_least_float32


def mse(t: Tensor, s: Tensor) -> Tensor:
    """MSE(t, sg(s)): the language transfer of MLA (Zhang et al., 2022), stage CLA of DASD (arXiv 2412.13510).

    Computed on the embeddings as they leave the encoder: length counts, unlike in `cosine_distance`.

    Args:
        t: Target embeddings (B, d).
        s: English embeddings (B, d); no gradient reaches them.

    Returns:
        Scalar: the mean over all B * d elements.

    Raises:
        TrainingError: If the shapes differ.
    """
    check_pair("mse", t, s)
    return F.mse_loss(at_least_float32(t), at_least_float32(s.detach()))


def cosine_distance(t: Tensor, s: Tensor) -> Tensor:
    """Mean of 1 - cos(t, sg(s)) over rows: what retrieval by cosine sees of `mse`, blind to length.

    Args:
        t: Target embeddings (B, d).
        s: English embeddings (B, d); no gradient reaches them.

    Returns:
        Scalar between 0 and 2.

    Raises:
        TrainingError: If the shapes differ.
    """
    check_pair("cosine_distance", t, s)
    return (1 - F.cosine_similarity(at_least_float32(t), at_least_float32(s.detach()), dim=-1)).mean()


def check_pair(name: str, left: Tensor, right: Tensor) -> None:
    """Refuse two tensors of different shapes, which torch would broadcast without a word.

    Args:
        name: The objective, for the message.
        left: One side.
        right: The other side.

    Raises:
        TrainingError: If the shapes differ or are not (B, d).
    """
    if left.ndim != 2 or left.shape != right.shape:
        raise TrainingError(
            f"{name} takes two tensors of one shape (B, d); got {tuple(left.shape)} and {tuple(right.shape)}."
        )
