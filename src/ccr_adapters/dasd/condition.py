"""What one forward pass carries from block to block: whose adapter each row meets, and the cores made for it.

A `Condition` belongs to one call of the encoder and travels in its keyword arguments, beside the hidden states. It is
not kept on a module: two threads may encode at once, and a block that gradient checkpointing recomputes after the
forward pass still holds the one it was called with.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ccr_adapters.dasd.config import Pooling

BASE = "__base__"
"""Adapter name that means: no adapter, as in peft."""

ARGUMENT = "dasd_condition"
"""Keyword under which the condition travels through the encoder."""


@dataclass
class Features:
    """The disentangled features of a group of captions."""

    related: Tensor
    """`f_sr`, what is said. (B, d)"""
    agnostic: Tensor
    """`f_sa`, how it is said. (B, d)"""


class Condition:
    """The state of one forward pass.

    Args:
        input_ids: Token ids, to find the end of each caption. (B, L)
        attention_mask: 1 at real tokens. `None` takes all as real. (B, L)
        adapter_names: One name a row; `None` lets every row meet the active adapter.
        pooled_at: Position of the end token, where the caller knows it better than `input_ids` tell. (B,)
    """

    def __init__(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        adapter_names: Sequence[str] | None = None,
        pooled_at: Tensor | None = None,
    ) -> None:
        self.input_ids = input_ids
        self.attention_mask = attention_mask
        self.adapter_names = None if adapter_names is None else list(adapter_names)
        self.pooled_at = pooled_at
        self.prefix_states: dict[int, Tensor] = {}
        self.cores: dict[str, Tensor] = {}
        self.features: dict[str, Features] = {}
        self.met = False
        """Whether it has reached a block: an encoder that drops unknown keywords would run without it."""
        self._rows: dict[str, Tensor] | None = None

    def groups(self, active: str | None, device: torch.device) -> list[tuple[str, Tensor | None]]:
        """Rows of the batch by adapter: `(name, row indices)`, the indices `None` when one adapter has all rows."""
        self.met = True
        if self.adapter_names is None:
            return [] if active is None or active == BASE else [(active, None)]
        first = self.adapter_names[0] if self.adapter_names else BASE
        if all(name == first for name in self.adapter_names):
            return [] if first == BASE else [(first, None)]
        if self._rows is None:
            rows: dict[str, list[int]] = {}
            for row, name in enumerate(self.adapter_names):
                if name != BASE:
                    rows.setdefault(name, []).append(row)
            self._rows = {name: torch.tensor(found, device=device) for name, found in rows.items()}
        return list(self._rows.items())

    def positions(self, pooling: Pooling, token_id: int | None, rows: Tensor | None) -> Tensor | None:
        """Position of the pooled token of each caption, (B,); `None` for `mean`, which has none.

        Raises:
            ValueError: If the ids are needed and are not there.
        """
        if pooling == "mean":
            return None
        if self.pooled_at is not None and pooling != "first":
            return self.pooled_at if rows is None else self.pooled_at[rows]
        ids = self.input_ids
        if ids is None:
            if pooling != "first" or self.attention_mask is None:
                raise ValueError(
                    "The encoder was called without `input_ids`, so the end of each caption is unknown. Pass "
                    f"`{ARGUMENT}=Condition(pooled_at=..., attention_mask=...)`."
                )
            ids = self.attention_mask
        ids = ids if rows is None else ids[rows]
        if pooling == "first":
            return ids.new_zeros(ids.shape[0])
        if pooling == "last":
            return ids.new_full((ids.shape[0],), ids.shape[1] - 1)
        if token_id is None:
            # CLIP configs from before transformers 4.31 do not know their own end token; it is the highest id there
            return ids.argmax(dim=-1)
        return end_positions(ids, token_id)

    def token_mask(self, rows: Tensor | None) -> Tensor | None:
        """The attention mask of the rows, (B, L), or `None` when all tokens are real."""
        mask = self.attention_mask
        return mask if mask is None or rows is None else mask[rows]


def end_positions(input_ids: Tensor, token_id: int) -> Tensor:
    """Position of the first `token_id` of each row. (B, L) -> (B,)

    Pooling by `argmax(input_ids)`, as old CLIP configs do, would take a random word in another vocabulary, so the
    end-of-sequence token is looked for by its id. A row without one is read at its first token, as in CLIP itself.
    """
    return (input_ids == token_id).int().argmax(dim=-1)


def attach_condition(
    module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Any, dict[str, Any]] | None:
    """Forward pre-hook of the text module: put a condition beside the inputs, unless the caller brought one.

    A plain function, so that a model which carries it can be copied, pickled and compiled.
    """
    if kwargs.get(ARGUMENT) is not None:
        return None
    kwargs = dict(kwargs)
    input_ids = kwargs.get("input_ids", args[0] if args else None)
    names = kwargs.pop("adapter_names", None)
    if names is not None:
        _check_names(module, names, input_ids if input_ids is not None else kwargs.get("inputs_embeds"))
    kwargs[ARGUMENT] = Condition(
        input_ids=input_ids,
        attention_mask=kwargs.get("attention_mask", args[1] if len(args) > 1 else None),
        adapter_names=names,
    )
    return args, kwargs


def _check_names(module: nn.Module, names: Sequence[str], rows: Tensor | None) -> None:
    there = {name for layer in module.modules() for name in getattr(layer, "dasd_settings", ())}
    unknown = sorted(set(names) - there - {BASE})
    if unknown:
        raise ValueError(f"No adapter is called {', '.join(unknown)}. There are: {', '.join(sorted(there))}.")
    if rows is not None and len(rows) != len(names):
        raise ValueError(f"{len(names)} adapter names for {len(rows)} captions; pass one a caption.")


# The way of a condition from a text module that drops unknown keywords (MPNet) to the list of its blocks: one call apart,
# in one thread, and from there on in the keywords again.
_under_way = threading.local()


def _hand_over(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    _under_way.condition = kwargs.get(ARGUMENT)


def _take_over(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]] | None:
    condition, _under_way.condition = getattr(_under_way, "condition", None), None
    return None if condition is None else (args, {**kwargs, ARGUMENT: condition})


_HOOKS = (attach_condition, _hand_over, _take_over)


def hook_text_module(module: nn.Module, carrier: nn.Module | None = None) -> None:
    """Register `attach_condition` on a text module, once.

    Args:
        module: The text module.
        carrier: The module that hands keywords on to the blocks, where the text module drops them.
    """
    if attach_condition in module._forward_pre_hooks.values():
        return
    module.register_forward_pre_hook(attach_condition, with_kwargs=True)
    if carrier is not None:
        module.register_forward_pre_hook(_hand_over, with_kwargs=True)
        carrier.register_forward_pre_hook(_take_over, with_kwargs=True)


def unhook_text_module(module: nn.Module, carrier: nn.Module | None = None) -> None:
    """Take the hooks away again; found by identity, because a copied module has no handle of its own."""
    for part in (module,) if carrier is None else (module, carrier):
        for key in [key for key, hook in part._forward_pre_hooks.items() if hook in _HOOKS]:
            del part._forward_pre_hooks[key]
            part._forward_pre_hooks_with_kwargs.pop(key, None)
