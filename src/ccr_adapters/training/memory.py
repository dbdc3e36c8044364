"""What a training step does when memory runs out: the same step again, with fewer rows at a time."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Iterable
from typing import TypeVar

import torch
from accelerate.utils.memory import clear_device_cache
from torch import Tensor, nn

from ccr_adapters.errors import TrainingError, first_line
from ccr_adapters.modeling.memory import ran_out

logger = logging.getLogger(__name__)

Result = TypeVar("Result")


def step_that_fits(
    step: Callable[[int | None], Result],
    rows: int,
    chunk: int | None,
    parameters: Iterable[nn.Parameter],
    *,
    buffers: Iterable[Tensor] = (),
    alone: bool = True,
    keep_gradients: bool = False,
) -> tuple[Result, int | None]:
    """Take a step, with half as many rows at a time as long as memory runs out.

    The batch stays whole, and so do its negatives and its gradients (GradCache); only the time grows.

    Args:
        step: Forward and backward pass, given the rows at a time (`None`: all at once).
        rows: Rows of the batch.
        chunk: Rows at a time to begin with.
        parameters: What the step puts gradients on; those of a pass that broke off are dropped.
        buffers: What a forward pass moves on; put back before another one.
        alone: No other process shares the step: it would wait for this one in the middle of its own.
        keep_gradients: The parameters hold gradients of earlier passes, which are kept.

    Returns:
        What the step returned, and the rows at a time that fit.

    Raises:
        TrainingError: If one row at a time is too many, or the process is not alone.
    """
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    # who is not alone gets no second try
    kept = keep_gradients and alone
    before = [p.grad.clone() if kept and p.grad is not None else None for p in trained]
    moved = [(buffer, buffer.clone()) for buffer in buffers] if alone else []
    draws, on_devices = torch.get_rng_state(), torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    while True:
        try:
            return step(chunk), chunk
        except RuntimeError as error:
            if not ran_out(error):
                raise
            reason = first_line(error)
        # only here, past the error, is nothing left that holds on to the pass that broke off
        for parameter, gradient in zip(trained, before, strict=True):
            parameter.grad = None if gradient is None else gradient.clone()
        for buffer, value in moved:
            buffer.copy_(value)
        torch.set_rng_state(draws)
        torch.cuda.set_rng_state_all(on_devices)
        gc.collect()
        clear_device_cache()
        too_many = min(rows, chunk or rows)
        if too_many == 1:
            raise TrainingError(
                f"Out of memory with a single row at a time, in a batch of {rows} ({reason}). Lower "
                "`per_device_train_batch_size` or `max_length`, or set `bf16` or `activation_checkpointing`."
            )
        chunk = too_many // 2
        if not alone:
            raise TrainingError(
                f"Out of memory with {too_many} rows at a time ({reason}). Set `mini_batch_size: {chunk}`, which trains the same."
            )
        logger.warning("Out of memory with %d rows at a time (%s): trying %d.", too_many, reason, chunk)
