"""Gathers the rows of all processes, so that a contrastive loss sees the negatives of the global batch."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def world_size() -> int:
    """Count the processes that train together.

    Returns:
        Their number; 1 when nothing is initialised.
    """
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Tell this process from those that train with it.

    Returns:
        Its index; 0 when nothing is initialised.
    """
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def row_counts(tensor: Tensor) -> list[int]:
    """Rows that each process holds.

    Args:
        tensor: The local rows (B, ...).

    Returns:
        One number for each process, in the order of ranks; they are summed for the size of the global batch.
    """
    if world_size() == 1:
        return [len(tensor)]
    mine = torch.tensor([len(tensor)], device=tensor.device)
    counts = [torch.empty_like(mine) for _ in range(world_size())]
    dist.all_gather(counts, mine)
    return [int(count) for count in counts]


def local_offset(tensor: Tensor) -> int:
    """Index, in the gathered tensor, of the first row of this process.

    The processes may hold different numbers of rows: the last batch of an epoch does not always divide.

    Args:
        tensor: The local rows (B, ...), as they will be or were given to `all_gather_with_grad`.

    Returns:
        The rows held by all lower ranks together: 0 in a single process.
    """
    return sum(row_counts(tensor)[: rank()])


def all_gather_with_grad(tensor: Tensor) -> Tensor:
    """Concatenate the rows of all processes, in order of rank; the gradient flows to the local rows.

    The rows of other processes are constants here. For DDP, which averages gradients over W processes, the
    local gradient is multiplied by W: if every process computes the same function of the gathered rows, the
    averaged gradient then equals that of one process holding the whole batch, and so does the value of the
    loss. Nothing is sent during the backward pass, so a process whose graph differs cannot leave the others
    waiting.

    Args:
        tensor: Local rows (B, ...). B may differ between processes, all other sizes must not.

    Returns:
        Rows of all processes (sum of all B, ...). The tensor itself in a single process.
    """
    if world_size() == 1:
        return tensor
    gathered: Tensor = _GatherRows.apply(tensor, row_counts(tensor))
    return gathered


class _GatherRows(torch.autograd.Function):
    """The gathering itself, with the backward pass that `all_gather_with_grad` describes."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, counts: list[int]) -> Tensor:
        ctx.counts = counts
        # All processes must send the same shape, so each pads to the longest and the padding is cut off on
        # arrival.
        padded = tensor.new_zeros((max(counts), *tensor.shape[1:]))
        padded[: len(tensor)] = tensor
        received = [torch.empty_like(padded) for _ in counts]
        dist.all_gather(received, padded)
        return torch.cat([rows[:count] for rows, count in zip(received, counts, strict=True)])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        start = sum(ctx.counts[: rank()])
        return gradients[0][start : start + ctx.counts[rank()]] * len(ctx.counts), None
