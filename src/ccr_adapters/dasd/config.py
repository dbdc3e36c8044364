"""The configuration of the DASD adapter: sizes, where it sits, and what its cores are generated from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

from peft.config import PeftConfig

from ccr_adapters.dasd.register import dasd_peft_type

Mode = Literal["dynamic", "static"]
Pooling = Literal["eos", "first", "last", "mean"]
ConditionOn = Literal["both", "related", "agnostic", "nothing"]

DEFAULT_RANK: dict[str, int] = {"dynamic": 32, "static": 256}


@dataclass
class DASDConfig(PeftConfig):
    """Configuration of [`DASDModel`], dynamic adapters with semantics disentangling (Cai et al., AAAI 2025).

    After every block of a frozen text encoder sits a bottleneck `x + U relu((D x) W(z))`. Its core `W(z)` is
    generated for each caption from `z`, which is read off the caption's own states after the first frozen blocks.
    `mode="static"` leaves the core out: `x + U relu(D x)`, the acquirer of MLA (Zhang et al., NeurIPS 2022).

    Args:
        mode: `"dynamic"` for DASD, `"static"` for the MLA acquirer.
        r: Width of the bottleneck. `None` takes the published one: 32 for dynamic, 256 for static.
        condition_dim: Width of the condition `z` (512 in the paper).
        embedding_dim: Width `d` of the two disentangled features, which is that of the shared space, so that they
            can be compared with its vectors. `None` takes the encoder's `projection_dim`, or else its width.
        prefix_blocks: How many frozen blocks the condition looks through (2 in the paper).
        generator_rank: `None` for one full linear map from `z` to all cores. An integer factorises that map: each
            core is then a mixture of so many learned cores, with weights that depend on the caption.
        condition_on: Which features the cores are generated from: `"both"`, or for ablations the semantic-`"related"` or
            the semantic-`"agnostic"` one alone, or `"nothing"`: one learned core a block, the same for all captions.
        sr_pooling: Where the semantic-related feature is read: at the end-of-sequence token, the `first` or `last`
            position, or the `mean` over tokens. `None` takes the position at which the encoder itself pools.
        sa_all_positions: Read the semantic-agnostic feature as the authors' code does: each position is normed, and the
            mean is over all of them, padding included. Captions must then be padded as in training (`pad_to`).
        pooling_token_id: The end-of-sequence token of the captions that this adapter sees, which need not be that of
            the encoder. `None` takes the encoder's.
        target_modules: The blocks to adapt: names or a regular expression. `None` finds all blocks of the text
            encoder.
        exclude_modules: Names or a regular expression of modules to leave alone.
        layers_to_transform: Indices of the blocks to adapt. `None` adapts all from `adapt_from` on.
        adapt_from: First block to adapt. From `prefix_blocks - 1` on the main pass goes through the frozen prefix anyway, and
            the condition costs no block of its own.
        init_weights: Start as the identity (up-projections at zero). `False` is for tests.
        modules_to_save: Other modules to train and save with the adapter, as everywhere in peft.

    Raises:
        ValueError: If a size is not positive or a choice is unknown.
    """

    mode: Mode = field(default="dynamic", metadata={"help": "'dynamic' (DASD) or 'static' (MLA acquirer)."})
    r: int | None = field(default=None, metadata={"help": "Bottleneck width; None: 32 dynamic, 256 static."})
    condition_dim: int = field(default=512, metadata={"help": "Width of the condition z."})
    embedding_dim: int | None = field(default=None, metadata={"help": "Width d of f_sr and f_sa."})
    prefix_blocks: int = field(default=2, metadata={"help": "Frozen blocks in front of the condition."})
    generator_rank: int | None = field(default=128, metadata={"help": "Rank of the core generator; None: full."})
    condition_on: ConditionOn = field(
        default="both", metadata={"help": "Features behind the cores: both, related, agnostic or nothing."}
    )
    sr_pooling: Pooling | None = field(default=None, metadata={"help": "Where f_sr is read; None: as the encoder."})
    sa_all_positions: bool = field(default=False, metadata={"help": "f_sa over padding too, as the authors' code."})
    pooling_token_id: int | None = field(default=None, metadata={"help": "End-of-sequence token of the captions."})
    target_modules: list[str] | str | None = field(default=None, metadata={"help": "Blocks; None: all."})
    exclude_modules: list[str] | str | None = field(default=None, metadata={"help": "Modules to leave alone."})
    layers_to_transform: list[int] | int | None = field(default=None, metadata={"help": "Block indices."})
    adapt_from: int = field(
        default=0, metadata={"help": "First block to adapt; from prefix_blocks - 1 on no block runs twice."}
    )
    init_weights: bool = field(default=True, metadata={"help": "Start as the identity."})
    modules_to_save: list[str] | None = field(default=None, metadata={"help": "Extra modules to train and save."})

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type = dasd_peft_type()
        for name, choices in (("mode", Mode), ("condition_on", ConditionOn), ("sr_pooling", Pooling)):
            value = getattr(self, name)
            if value not in get_args(choices) and not (name == "sr_pooling" and value is None):
                raise ValueError(f"`{name}` is {value!r}; expected one of {', '.join(get_args(choices))}.")
        if not isinstance(self.sa_all_positions, bool):
            raise ValueError(f"`sa_all_positions` is {self.sa_all_positions!r}; expected True or False.")
        if self.r is None:
            self.r = DEFAULT_RANK[self.mode]
        sizes = dict.fromkeys(
            ("r", "condition_dim", "embedding_dim", "prefix_blocks", "generator_rank"), "a positive integer"
        )
        places = {"adapt_from": "the index of a block, 0 or more", "pooling_token_id": "the id of a token"}
        for name, expected in {**sizes, **places}.items():
            value = getattr(self, name)
            whole = isinstance(value, int) and not isinstance(value, bool)
            if value is not None and not (whole and value >= (name in sizes)):
                raise ValueError(f"`{name}` is {value!r}; expected {expected}.")
        # peft matches a list by suffix and a string as a regular expression; a set gives the faster look-up
        if isinstance(self.target_modules, list):
            self.target_modules = set(self.target_modules)  # type: ignore[assignment]
        if isinstance(self.exclude_modules, list):
            self.exclude_modules = set(self.exclude_modules)  # type: ignore[assignment]

    @property
    def disentangles(self) -> bool:
        """Whether the adapter reads features off each caption."""
        return self.mode == "dynamic" and self.condition_on != "nothing"
