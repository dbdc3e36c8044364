"""A transformer block with an adapter after it, as a tuner layer of peft."""

from __future__ import annotations

from typing import Any, NoReturn

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

from ccr_adapters.dasd.blocks import Bottleneck
from ccr_adapters.dasd.condition import ARGUMENT, Condition
from ccr_adapters.dasd.config import DASDConfig, Pooling
from ccr_adapters.dasd.disentangle import Disentangler
from ccr_adapters.dasd.generator import CoreGenerator

UNMERGEABLE = (
    "A DASD adapter cannot be merged into the base weights: its cores are generated anew for every caption, so there "
    "is no one weight to fold in. Keep the adapter beside the base, or call `unload()` to get the plain base back."
)


class _Settings:
    """What a layer must know of one adapter beside its weights."""

    def __init__(self, config: DASDConfig, index: int, pooling: Pooling, token_id: int | None) -> None:
        self.dynamic = config.mode == "dynamic"
        self.index = index
        self.prefix_blocks = config.prefix_blocks
        self.pooling = pooling
        self.token_id = token_id


class DASDLayer(nn.Module, BaseTunerLayer):
    """Wraps one block.

    The first block that an adapter wraps owns the parts that all its blocks share, the disentangler and the generator.
    They are ordinary adapter weights of that layer: so they are trained, saved, loaded, moved and deleted by whatever
    peft and transformers do with adapter weights. Later blocks meet their results in the `Condition`.

    Args:
        base_layer: The block.
        blocks: All base blocks of the encoder, to run the frozen prefix. Held in a list, not registered: their
            parameters belong to the encoder.
        position: Index of this block among them.
    """

    adapter_layer_names = ("dasd_bottleneck", "dasd_disentangler", "dasd_generator")
    other_param_names = ("dasd_settings",)

    def __init__(self, base_layer: nn.Module, blocks: list[nn.Module], position: int) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.position = position
        self._blocks = blocks
        self.dasd_bottleneck = nn.ModuleDict()
        self.dasd_disentangler = nn.ModuleDict()
        self.dasd_generator = nn.ModuleDict()
        self.dasd_settings: dict[str, _Settings] = {}
        self._disable_adapters = False
        self._active_adapter: list[str] = []
        self.merged_adapters: list[str] = []

    def update_layer(
        self,
        adapter_name: str,
        config: DASDConfig,
        *,
        width: int,
        embedding_dim: int,
        index: int,
        count: int,
        pooling: Pooling,
        token_id: int | None,
    ) -> None:
        """Add one adapter to this block.

        Args:
            adapter_name: Its name.
            config: Its configuration.
            width: Width of the hidden states.
            embedding_dim: Width of the shared space.
            index: This block is the adapter's `index`-th; the 0th owns the shared parts.
            count: Number of blocks that the adapter has.
            pooling: Where the semantic-related feature is read.
            token_id: End-of-sequence token of the captions.
        """
        rank = int(config.r or 0)
        self.dasd_settings[adapter_name] = _Settings(config, index, pooling, token_id)
        self.dasd_bottleneck[adapter_name] = Bottleneck(width, rank, identity=config.init_weights)
        if config.mode == "dynamic" and index == 0:
            if config.disentangles:
                self.dasd_disentangler[adapter_name] = Disentangler(
                    width, embedding_dim, all_positions=config.sa_all_positions
                )
            self.dasd_generator[adapter_name] = CoreGenerator(
                embedding_dim, config.condition_dim, count, rank, config.generator_rank, config.condition_on
            )
        self._move_adapter_to_device_of_base_layer(adapter_name)
        self.set_adapter(self.active_adapters)

    def _move_adapter_to_device_of_base_layer(self, adapter_name: str, device: torch.device | None = None) -> None:
        # peft's own version looks for `base_layer.weight`, and a whole block has none
        parameter = next(self.base_layer.parameters(), None)
        meta = torch.device("meta")
        if parameter is None or parameter.device == meta:
            return
        dtype = parameter.dtype if parameter.dtype.is_floating_point else None
        for name in self.adapter_layer_names:
            container = getattr(self, name)
            if adapter_name in container and all(p.device != meta for p in container[adapter_name].parameters()):
                container[adapter_name].to(device=device or parameter.device, dtype=dtype)

    def forward(self, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Any:
        """Run the block, then the adapter of each row."""
        condition: Condition | None = kwargs.pop(ARGUMENT, None)
        output = self.base_layer(hidden_states, *args, **kwargs)
        active = self.active_adapters[0] if self.active_adapters else None
        if self._disable_adapters or (condition is None and active is None):
            return output
        states = output[0] if isinstance(output, tuple) else output  # (B, L, w)
        condition = condition or Condition()
        groups = [
            (name, rows) for name, rows in condition.groups(active, states.device) if name in self.dasd_bottleneck
        ]
        if not groups:
            return output
        adapted = states
        for name, rows in groups:  # a loop over adapters, never over captions
            settings = self.dasd_settings[name]
            if settings.dynamic and settings.index == 0 and name not in self.dasd_disentangler:
                count = states.shape[0] if rows is None else len(rows)
                generator: Any = self.dasd_generator[name]
                condition.cores[name] = generator.shared(count)
            elif settings.dynamic and settings.index == 0:
                prefix = self._prefix_states(settings, condition, hidden_states, states, args, kwargs)
                self._make_cores(name, settings, condition, prefix, rows)
            core = condition.cores[name][:, settings.index] if settings.dynamic else None  # (B, r, r)
            bottleneck = self.dasd_bottleneck[name]
            if rows is None:
                adapted = bottleneck(states, core)
            else:
                adapted = adapted.index_copy(0, rows, bottleneck(states[rows], core))
        return (adapted, *output[1:]) if isinstance(output, tuple) else adapted

    def _prefix_states(
        self,
        settings: _Settings,
        condition: Condition,
        inputs: Tensor,
        outputs: Tensor,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Tensor:
        """States after the first `prefix_blocks` frozen blocks, without any adapter. (B, L, w)

        This block's own output is the same on both paths, so only the blocks behind it are run again: one, for the
        published prefix of two. All adapters of a mixed batch share the result.
        """
        last = settings.prefix_blocks
        if last not in condition.prefix_states:
            if self.position >= last:
                states = inputs  # the adapters start above the prefix: its states are what comes in
            else:
                states = outputs
                for block in self._blocks[self.position + 1 : last]:
                    output = block(states, *args, **kwargs)
                    states = output[0] if isinstance(output, tuple) else output
            condition.prefix_states[last] = states
        return condition.prefix_states[last]

    def _make_cores(
        self, name: str, settings: _Settings, condition: Condition, prefix: Tensor, rows: Tensor | None
    ) -> None:
        positions = condition.positions(settings.pooling, settings.token_id, rows)
        prefix = prefix if rows is None else prefix[rows]
        features = self.dasd_disentangler[name](prefix, positions, condition.token_mask(rows))
        condition.features[name] = features
        condition.cores[name] = self.dasd_generator[name](features)

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
        return "dasd." + super().__repr__()
