"""Relational distillation: a student keeps the similarities that a teacher sees, not its vectors."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ccr_adapters.errors import TrainingError
from ccr_adapters.objectives.cosine import (
    check_ids,
    global_units,
    log_softmax_both_ways,
    same_picture,
    unit,
)
from ccr_adapters.objectives.distillation import check_pair
from ccr_adapters.objectives.precision import full_precision


def relational(
    teacher_rows: Tensor,
    teacher_columns: Tensor,
    student_rows: Tensor,
    student_columns: Tensor,
    *,
    temperature: float = 0.07,
    gather: bool = True,
    ids: Tensor | None = None,
) -> Tensor:
    """KL from the softmax of the teacher's matrix of cosines to that of the student's, by rows and by columns.

    The transfer of CL2CM (Wang et al., 2024, arXiv 2312.08984): the teacher compares English captions `s'` with
    translations `t'`, the student pictures `v` with translations `t`. A translation that went wrong is unlike its
    source for the teacher, so the student need not force it on the picture.

    Siblings: `similarity_view` is the cross-entropy of the same two distributions when both matrices share one
    side; `relational_to_bank` compares with all pictures in place of the batch. O(B^2 d).

    Args:
        teacher_rows: Embeddings (B, d') of the teacher, normalised here; no gradient reaches either of its two.
        teacher_columns: Embeddings (B, d') of the teacher's other side.
        student_rows: Embeddings (B, d) of the student, normalised here. d and d' need not agree.
        student_columns: Embeddings (B, d) of the student's other side.
        temperature: Of both softmaxes.
        gather: Take the rows of all processes, when there are several. The value is then the loss of the global
            batch, the same in every process.
        ids: Group of each row (B,), integers. Rows of one group show the same picture and are left out of each
            other's sums. None: every row is its own group.

    Returns:
        Scalar, float32 (float64 if an input is): 0 when both matrices agree. The mean over rows and columns.

    Raises:
        TrainingError: If the shapes do not fit.
    """
    check_pair("relational (teacher)", teacher_rows, teacher_columns)
    check_pair("relational (student)", student_rows, student_columns)
    if len(teacher_rows) != len(student_rows):
        raise TrainingError(
            f"relational compares the same rows; got {len(teacher_rows)} of the teacher and "
            f"{len(student_rows)} of the student."
        )
    check_ids(ids, len(student_rows))
    with full_precision(student_rows):
        taught_rows, taught_columns, rows, columns = global_units(
            teacher_rows.detach(), teacher_columns.detach(), student_rows, student_columns, gather=gather
        )
        same = same_picture(ids, gather=gather)
        targets = log_softmax_both_ways(taught_rows @ taught_columns.T / temperature, same)  # (B, B) twice
        found = log_softmax_both_ways(rows @ columns.T / temperature, same)
        ways = [
            F.kl_div(logs, target, reduction="batchmean", log_target=True)
            for logs, target in zip(found, targets, strict=True)
        ]
        return (ways[0] + ways[1]) / 2


def relational_to_bank(
    target: Tensor,
    source: Tensor,
    bank: Tensor,
    *,
    scale: float | Tensor,
    visual: Tensor | None = None,
    share: float = 0.0,
) -> Tensor:
    """KL from the source captions' softmax over a bank of pictures to the target captions'.

    `relational` over all training pictures, encoded once, in place of the batch: a target caption must find the
    pictures that its English caption finds, the near ones as well as the right one. `info_nce_one_way` is its
    sibling that knows only the right one. Rows do not depend on each other: several processes need no gathering.

    Args:
        target: Target embeddings (B, d), normalised here.
        source: English embeddings (B, d), normalised here; no gradient reaches them.
        bank: Vectors (M, d) of pictures, normalised here; no gradient reaches them. The same in every process.
        scale: Inverse temperature of both softmaxes.
        visual: Vectors (B, d) of the pictures that the captions show, to be teachers too.
        share: How far the picture is the teacher in place of its English caption, from 0 to 1: the teacher's vector is
            the mixture of both at unit length.

    Returns:
        Scalar, float32 (float64 if a caption is): the mean over captions, 0 when `target` equals `source`.

    Raises:
        TrainingError: If the shapes do not fit.
    """
    check_pair("relational_to_bank", target, source)
    if bank.ndim != 2 or bank.shape[1] != target.shape[1]:
        raise TrainingError(
            f"relational_to_bank takes captions (B, d) and a bank (M, d); got {tuple(target.shape)} and "
            f"{tuple(bank.shape)}."
        )
    with full_precision(target):
        target, source = unit(target, source.detach())
        if visual is not None and share:
            (picture,) = unit(visual.detach().to(source.dtype))
            (source,) = unit((1 - share) * source + share * picture)
        bank = bank.detach().to(target.dtype)
        # Divided by afterwards: normalising the bank itself would copy M x d numbers in each step.
        lengths = bank.norm(dim=-1).clamp(min=1e-12)  # (M,)
        logits = scale * (target @ bank.T) / lengths  # (B, M)
        with torch.no_grad():
            teacher = F.softmax(scale * (source @ bank.T) / lengths, dim=-1)  # (B, M)
        return F.kl_div(F.log_softmax(logits, dim=-1), teacher, reduction="batchmean")
