"""Where a model runs if nobody says: the accelerator that torch finds (CUDA, MPS, XPU), else the CPU."""

from __future__ import annotations

import torch


def default_device() -> torch.device:
    """The accelerator if there is one."""
    # one that torch was built for may be absent
    found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return found or torch.device("cpu")
