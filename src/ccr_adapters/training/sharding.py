"""The frozen base shared out over the processes (FSDP2), while the small trained parts stay whole in each of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ccr_adapters.errors import ConfigError
from ccr_adapters.modeling import CCRModel


def frozen_blocks(base: nn.Module) -> list[nn.Module]:
    """The blocks of all towers, without the adapters around them.

    A dynamic adapter calls the blocks of its prefix itself, past the adapters around those, so the block is what must
    know how to gather itself.
    """
    found: dict[str, nn.Module] = {}
    for name, module in base.named_modules():
        if not isinstance(module, nn.ModuleList) or any(name.startswith(f"{outer}.") for outer in found):
            continue
        for index, block in enumerate(module):
            while isinstance(block, BaseTunerLayer):
                block = block.get_base_layer()
            if any(not parameter.requires_grad for parameter in block.parameters()):
                found[f"{name}.{index}"] = block
    return list(found.values())


@contextmanager
def sharded_base(model: CCRModel, root: nn.Module) -> Iterator[None]:
    """Keep one part of each frozen block in each process; a block is gathered while it computes, and let go again.

    What is trained is left alone: it stays the same in every process, DDP averages its gradients, and checkpoints,
    optimiser states and resuming are those of training without this. Afterwards every process has the whole base.

    Args:
        model: The model; its trainable parameters are chosen already.
        root: The module that DDP will wrap, which is told to leave the shards alone.

    Raises:
        ConfigError: If torch is older than 2.7.
    """
    if not dist.is_initialized() or dist.get_world_size() == 1:
        yield
        return
    blocks: list[Any] = frozen_blocks(model.base)
    for block in blocks:
        _shard(block)
    from torch.distributed.tensor import DTensor

    shards = [name for name, parameter in root.named_parameters() if isinstance(parameter, DTensor)]
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(root, shards)
    yield
    # not where training failed: the other processes may be gone, and would be waited for
    for block in blocks:
        block.set_reshard_after_forward(False)
        block.unshard()
        for module in block.modules():
            # a state dict would take the shards again, in the one process that saves, and the next pass wait for the others
            module._state_dict_pre_hooks.clear()


def _shard(block: Any) -> None:
    if torch.__version__ < "2.7":  # torch compares it as a version
        raise ConfigError(
            f"`shard_base` needs torch 2.7 or later, this is {torch.__version__}. Update it, or leave that out."
        )
    from torch.distributed.fsdp import FSDPModule, fully_shard

    if isinstance(block, FSDPModule):  # by the stage before
        block.set_reshard_after_forward(True)
        block.reshard()
        return
    fully_shard(block, reshard_after_forward=True, ignored_params={p for p in block.parameters() if p.requires_grad})
    # its buffers are made when it is first gathered: under inference mode, training could not write into them
    block.unshard()
    block.reshard()


__all__ = ["frozen_blocks", "sharded_base"]
