"""Keeps the arithmetic of a loss in float32, whatever the precision of the encoder that feeds it."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch
from torch import Tensor


def at_least_float32(tensor: Tensor) -> Tensor:
    """Raise half precision to float32 and leave float32 and float64 as they are.

    Args:
        tensor: Any floating tensor.

    Returns:
        The same values, in float32 or float64.
    """
    return tensor if tensor.dtype in (torch.float32, torch.float64) else tensor.float()


def full_precision(tensor: Tensor) -> AbstractContextManager[None]:
    """Switch autocast off for the device of a tensor.

    Under autocast a matrix product of two float32 tensors is computed in half precision; a cosine times 100
    would then be known to within 0.25 only, which is as much as separates a hit from a miss.

    Args:
        tensor: A tensor on the device in question.

    Returns:
        A context manager.
    """
    return torch.autocast(device_type=tensor.device.type, enabled=False)
