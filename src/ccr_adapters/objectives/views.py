"""Multi-view self-distillation of NRCCR: what a caption sees with its source at hand teaches it alone."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ccr_adapters.objectives.cosine import (
    check_ids,
    global_units,
    log_softmax_both_ways,
    same_picture,
    unit,
)
from ccr_adapters.objectives.distillation import check_pair
from ccr_adapters.objectives.precision import full_precision


def similarity_view(
    teacher: Tensor,
    student: Tensor,
    visual: Tensor,
    *,
    temperature: float = 0.07,
    ids: Tensor | None = None,
    gather: bool = True,
) -> Tensor:
    """The student must rank the pictures as the teacher does, and the pictures rank both alike.

    The cross-entropy from softmax(cos(teacher, visual) / temperature), without gradient, to
    softmax(cos(student, visual) / temperature), for captions over pictures and pictures over captions; the mean of
    the two. Similarity view of NRCCR (Wang et al., 2022, arXiv 2208.12526), weight 0.4 there: the teacher is the
    cross-attention view `c`, the student the target caption `t`.

    Siblings: `feature_view` compares the same two captions without pictures, `relational` distils a matrix of two
    other views. O(B^2 d).

    Args:
        teacher: Embeddings (B, d) of the teacher's captions; no gradient reaches them. All are normalised here.
        student: Embeddings (B, d) of the student's captions.
        visual: Embeddings (B, d) of the pictures; they get the gradient of the student's side.
        temperature: Of both softmaxes.
        ids: Group of each row (B,), integers. Rows of one group show the same picture, which is counted once: they
            are left out of each other's sums. None: every row is its own group.
        gather: Take the rows of all processes, when there are several. The value is then the loss of the global
            batch, the same in every process.

    Returns:
        Scalar, float32 (float64 if an input is); at least the entropy of the teacher.

    Raises:
        TrainingError: If the shapes do not fit.
    """
    check_pair("similarity_view", teacher, student)
    check_pair("similarity_view", student, visual)
    check_ids(ids, len(student))
    with full_precision(student):
        student, visual, teacher = global_units(student, visual, teacher.detach(), gather=gather)
        same = same_picture(ids, gather=gather)
        found = log_softmax_both_ways(student @ visual.T / temperature, same)  # (B, B) twice
        with torch.no_grad():
            targets = log_softmax_both_ways(teacher @ visual.T / temperature, same)
        ways = [-(target.exp() * logs).sum(dim=1).mean() for target, logs in zip(targets, found, strict=True)]
        return (ways[0] + ways[1]) / 2


def feature_view(t: Tensor, c: Tensor, beta: float = 4.0) -> Tensor:
    """Smooth L1 from a caption's embedding to its cross-attention view, both of length 1.

    Feature view of NRCCR (Wang et al., 2022, arXiv 2208.12526), weight 0.1 there. No element of the difference of
    two vectors of length 1 exceeds 2, so with beta of at least 2 the value is (1 - cos(t, c)) / (beta d): small
    against its sibling `similarity_view`. The authors' code lets this gradient reach `c` as well; a teacher that
    moves to its student is not meant, and here only `t` moves.

    Args:
        t: Target embeddings (B, d), normalised here.
        c: The teacher's embeddings (B, d), normalised here; no gradient reaches them.
        beta: Where the square ends and the line begins.

    Returns:
        Scalar: the mean over all B * d elements.

    Raises:
        TrainingError: If the shapes differ.
    """
    check_pair("feature_view", t, c)
    with full_precision(t):
        t, c = unit(t, c.detach())
        return F.smooth_l1_loss(t, c, beta=beta)
