"""The configuration of full fine-tuning: which blocks of the text encoder an adapter holds copies of."""

from __future__ import annotations

from dataclasses import dataclass, field

from peft.config import PeftConfig

from ccr_adapters.full.register import full_peft_type


@dataclass
class FullConfig(PeftConfig):
    """Configuration of [`FullModel`], which fine-tunes chosen blocks of a text encoder whole.

    The adapter holds a trained copy of each chosen block and runs it in the block's place, so that the base stays as
    it is. This is the usual baseline, and the method of NRCCR (Wang et al., ACM MM 2022), which trains blocks 3 to 11
    of its encoder. A copy has the precision of the module it was made from: load a base that is to be trained in
    float32, and use autocast for speed.

    Args:
        layers_to_transform: Indices of the blocks to train, from 0. `None` trains all, an empty list none: the head
            alone.
        head: Train also the encoder's last LayerNorm and its projection into the shared space, where it has them.
        target_modules: What to train by name, or by a regular expression, instead of the two above: blocks and parts
            of the head. The tuner writes here what the two above chose.
        exclude_modules: Names or a regular expression of modules to leave alone.
        modules_to_save: Other modules to train and save with the adapter, as everywhere in peft.

    Raises:
        ValueError: If a choice cannot work.
    """

    layers_to_transform: list[int] | int | None = field(default=None, metadata={"help": "Block indices; None: all."})
    head: bool = field(default=True, metadata={"help": "Also the final LayerNorm and the projection."})
    target_modules: list[str] | str | None = field(default=None, metadata={"help": "Blocks and head by name."})
    exclude_modules: list[str] | str | None = field(default=None, metadata={"help": "Modules to leave alone."})
    modules_to_save: list[str] | None = field(default=None, metadata={"help": "Extra modules to train and save."})

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type = full_peft_type()
        if not isinstance(self.head, bool):
            raise ValueError(f"`head` is {self.head!r}; expected True or False.")
        layers = self.layers_to_transform
        if layers is not None:
            indices = layers if isinstance(layers, list) else [layers]
            if any(isinstance(index, bool) or not isinstance(index, int) or index < 0 for index in indices):
                raise ValueError(f"`layers_to_transform` is {layers!r}; expected indices of blocks, from 0.")
            if self.target_modules is not None:
                raise ValueError("Pass either `layers_to_transform` or `target_modules`, not both.")
        # peft matches a list by suffix and a string as a regular expression; a set gives the faster look-up
        if isinstance(self.target_modules, list):
            self.target_modules = set(self.target_modules)  # type: ignore[assignment]
        if isinstance(self.exclude_modules, list):
            self.exclude_modules = set(self.exclude_modules)  # type: ignore[assignment]
