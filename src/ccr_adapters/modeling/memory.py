"""Where memory runs out over a batch that needs no gradient: its halves, one after the other."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size

from ccr_adapters.errors import ConfigError, first_line

logger = logging.getLogger(__name__)


def ran_out(error: RuntimeError) -> bool:
    """Whether an error says that memory ran out, on an accelerator or on a CPU."""
    return isinstance(error, torch.OutOfMemoryError) or should_reduce_batch_size(error)


def in_halves(encode: Callable[[Any], np.ndarray], batch: Any) -> np.ndarray:
    """Encode a batch; where memory runs out, its halves, and theirs.

    Args:
        encode: Gives a row for each of a batch, which no other rows of the batch touch.
        batch: A list of rows, or tensors by name with a row each.

    Returns:
        The rows, in order. (B, d)

    Raises:
        ConfigError: If there is no memory for one row.
    """
    rows = _rows(batch)
    try:
        return encode(batch)
    except RuntimeError as error:
        if not ran_out(error):
            raise
        reason = first_line(error)
    # outside of the handler, which holds on to the tensors of the pass that failed
    clear_device_cache(garbage_collection=True)
    if rows == 1:
        raise ConfigError(f"There is not enough memory to encode one row ({reason}). Take a smaller model.")
    logger.warning("Out of memory with %d rows a pass (%s): its halves are tried.", rows, reason)
    middle = rows // 2
    return np.concatenate([in_halves(encode, _cut(batch, part)) for part in (slice(middle), slice(middle, None))])


def _rows(batch: Any) -> int:
    return len(next(iter(batch.values()))) if isinstance(batch, Mapping) else len(batch)


def _cut(batch: Any, part: slice) -> Any:
    if isinstance(batch, Mapping):
        return {name: value[part] for name, value in batch.items()}
    rows: Sequence[Any] = batch[part]
    return rows
