"""What a training step does when memory runs out: the same step again, with fewer rows at a time."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Iterable
from typing import TypeVar

import torch
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size
from torch import nn

from ccr_adapters.errors import TrainingError

logger = logging.getLogger(__name__)

Result = TypeVar("Result")


def step_that_fits(
    step: Callable[[int | None], Result],
    rows: int,
    chunk: int | None,
    parameters: Iterable[nn.Parameter],
    *,
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
        alone: No other process shares the step: it would wait for this one in the middle of its own.
        keep_gradients: The parameters hold gradients of earlier passes, which are kept.

    Returns:
        What the step returned, and the rows at a time that fit.

    Raises:
        TrainingError: If one row at a time is too many, or the process is not alone.
    """
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    before = [p.grad.clone() if keep_gradients and p.grad is not None else None for p in trained]
    draws, on_devices = torch.get_rng_state(), torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    while True:
        try:
            return step(chunk), chunk
        except RuntimeError as error:
            if not should_reduce_batch_size(error):
                raise
            reason = str(error).partition("\n")[0]
        # only here, past the error, is nothing left that holds on to the pass that broke off
        for parameter, gradient in zip(trained, before, strict=True):
            parameter.grad = None if gradient is None else gradient.clone()
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
