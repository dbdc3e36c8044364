"""A module of the base with trained copies of itself beside it, as a tuner layer of peft."""

from __future__ import annotations

import copy
from typing import Any, NoReturn

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn

UNMERGEABLE = (
    "A fully fine-tuned copy is not merged into the base in place: the base's own captions and its other languages run "
    "through the same module. `merge_and_unload()` gives a plain model with the copies in it."
)


def copy_of(module: nn.Module) -> nn.Module:
    """Copy a module, its weights on the device `"meta"` where new modules are made there.

    Configurations are shared, not copied: an attention implementation that is chosen later must reach the copy, which
    gets the base's masks.
    """
    memo: dict[int, Any] = {}
    for part in module.modules():
        config = getattr(part, "config", None)
        if config is not None:
            memo[id(config)] = config
    # `deepcopy` knows neither `torch.device("meta")` nor peft's empty weights; a new module shows whether one is on
    if next(nn.LayerNorm(1).parameters()).device.type == "meta":
        for parameter in module.parameters():
            empty = torch.empty_like(parameter, device="meta")
            memo[id(parameter)] = nn.Parameter(empty, requires_grad=parameter.requires_grad)
    return copy.deepcopy(module, memo)


class FullLayer(nn.Module, BaseTunerLayer):
    """Wraps a block or a part of the head; runs the copy of the active adapter, or else the base's module.

    Args:
        base_layer: The module.
    """

    adapter_layer_names = ("full_copy",)

    def __init__(self, base_layer: nn.Module) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.full_copy = nn.ModuleDict()
        self._disable_adapters = False
        self._active_adapter: list[str] = []
        self.merged_adapters: list[str] = []

    def update_layer(self, adapter_name: str) -> None:
        """Add the copy of one adapter, which starts as the base's module."""
        self.full_copy[adapter_name] = copy_of(self.base_layer)
        self.set_adapter(self.active_adapters)

    def running(self) -> nn.Module:
        """The module that runs now: the active adapter's copy, or the base's own.

        Raises:
            ValueError: If several adapters are active.
        """
        active = [] if self._disable_adapters else [name for name in self.active_adapters if name in self.full_copy]
        if len(active) > 1:
            raise ValueError(f"One fully fine-tuned adapter can be active at a time, not {active}.")
        module: nn.Module = self.full_copy[active[0]] if active else self.base_layer
        return module

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run one of them, as the base's module is run."""
        return self.running()(*args, **kwargs)

    def _move_adapter_to_device_of_base_layer(self, adapter_name: str, device: torch.device | None = None) -> None:
        # weight by weight, as a base may hold its norms in another precision; peft calls this after it put the tensors of
        # a file in the place of empty ones
        if adapter_name not in self.full_copy:
            return
        pairs = zip(self.full_copy[adapter_name].parameters(), self.base_layer.parameters(), strict=True)
        for own, base in pairs:
            if "meta" not in (own.device.type, base.device.type):
                own.data = own.data.to(device=device or base.device, dtype=base.dtype)

    def unload_and_optionally_merge_module(
        self, merge: bool, safe_merge: bool = False, adapter_names: list[str] | None = None
    ) -> nn.Module:
        """What takes this layer's place in a plain model; peft asks layers of this kind for it.

        Args:
            merge: Take the copy, not the base's module.
            safe_merge: Unused: `FullModel` looks at all copies before it takes the first.
            adapter_names: The adapter whose copy to take, where there is one; `None` means the active one.
        """
        names = self.active_adapters if adapter_names is None else adapter_names
        for name in names if merge else []:
            if name in self.full_copy:
                chosen: nn.Module = self.full_copy[name]
                return chosen.requires_grad_(False)
        return self.base_layer

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> NoReturn:
        """Refuse: see the message."""
        raise ValueError(UNMERGEABLE)

    def unmerge(self) -> NoReturn:
        """Refuse: nothing can have been merged."""
        raise ValueError(UNMERGEABLE)

    def __getattr__(self, name: str) -> Any:
        # encoders read attributes off the block they iterate over (`attention_type`, ...)
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "base_layer":
                raise
            return getattr(super().__getattr__("base_layer"), name)

    def __repr__(self) -> str:
        return "full." + super().__repr__()
