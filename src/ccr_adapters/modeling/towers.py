"""The way of a target caption through a frozen text encoder, from token states to one vector in the shared space.

The source language takes the base's own `forward`, untouched. The target language needs another way in (its own token
embedding) and another way out (its own end token), so its path through the base's parts is written out here, from what
the table of families says about them.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers.masking_utils import create_bidirectional_mask, create_causal_mask

from ccr_adapters.dasd import Condition, TextEncoder
from ccr_adapters.dasd.condition import ARGUMENT
from ccr_adapters.dasd.disentangle import pool
from ccr_adapters.errors import ConfigError


def pooler_output(output: Any) -> Tensor:
    """The vector in what a `get_*_features` returned: a tensor in transformers 4, an output object in 5."""
    if isinstance(output, Tensor):
        return output
    pooled = output.pooler_output if hasattr(output, "pooler_output") else output[1]
    if not isinstance(pooled, Tensor):
        raise TypeError(f"{type(output).__name__} has no pooled output.")
    return pooled


class TextTower:
    """Runs captions through the text encoder of a base.

    Args:
        base: The base, a dual encoder or a text encoder.
        encoder: Where its parts are.
        pooling: How a text encoder without a way of its own to one vector pools: `"mean"` or `"first"`.

    Raises:
        ConfigError: If the base lacks a map that its family has.
    """

    def __init__(self, base: nn.Module, encoder: TextEncoder, pooling: str | None) -> None:
        self.base = base
        self.encoder = encoder
        anatomy = encoder.anatomy
        self.is_dual = hasattr(base, "get_text_features")
        self.makes_vectors = self.is_dual or anatomy.norm is not None or bool(anatomy.projection)
        self.pooling = anatomy.pooling if self.makes_vectors else pooling
        try:
            self.maps = [base.get_submodule(path) for path in anatomy.projection]
        except AttributeError as error:
            name = type(base).__name__
            raise ConfigError(
                f"A {name} has no '{anatomy.projection[-1]}', so its vectors lie in no shared space. Take the whole dual "
                f"encoder, or its text encoder with the projection (`{name}WithProjection`)."
            ) from error
        if anatomy.head is not None:
            self.maps.insert(0, encoder.module.get_submodule(anatomy.head))

    @property
    def family(self) -> str:
        """How the encoder reads a caption: `"eos"` (CLIP), `"last"` (SigLIP), `"first"` (BERT) or `"mean"`."""
        return self.encoder.anatomy.pooling

    def source(self, **inputs: Any) -> Tensor:
        """Vectors of captions by the base's own `forward`. (B, d)"""
        if self.is_dual:
            return pooler_output(self.base.get_text_features(**inputs))  # type: ignore[operator]
        output = self.base(**inputs)
        if self.makes_vectors:
            vectors: Tensor = output.text_embeds if hasattr(output, "text_embeds") else pooler_output(output)
            return vectors
        return self._pool(output.last_hidden_state, None, inputs.get("attention_mask"))

    def __call__(
        self,
        states: Tensor,
        attention_mask: Tensor | None,
        pooled_at: Tensor | None,
        condition: Condition | None,
    ) -> tuple[Tensor, Tensor]:
        """Encode token states.

        Args:
            states: Token embeddings, before positions are added. (B, L, w)
            attention_mask: 1 at real tokens. (B, L)
            pooled_at: Position of each caption's end token. (B,)
            condition: The pass's condition, for dynamic adapters.

        Returns:
            The features (B, d) and the last token states (B, L, w).
        """
        extra: dict[str, Any] = {} if condition is None else {ARGUMENT: condition}
        if self.encoder.anatomy.norm is None:
            output = self.encoder.module(inputs_embeds=states, attention_mask=attention_mask, **extra)
            last: Tensor = output.last_hidden_state  # (B, L, w)
            pooled = output.pooler_output if self.encoder.anatomy.pooler else None
        else:
            last, pooled = self._written_out(states, attention_mask, extra), None
        if pooled is None:
            pooled = self._pool(last, pooled_at, attention_mask)  # (B, w)
        for part in self.maps:
            pooled = part(pooled)
        return pooled, last

    def _written_out(self, states: Tensor, attention_mask: Tensor | None, extra: dict[str, Any]) -> Tensor:
        """Embeddings, blocks and norm of a text module that takes ids alone. (B, L, w)"""
        text: Any = self.encoder.module
        hidden = text.embeddings(inputs_embeds=states)
        shape: dict[str, Any] = {
            "config": self.encoder.config,
            "inputs_embeds": hidden,
            "attention_mask": attention_mask,
        }
        if self.family == "eos":
            mask = create_causal_mask(**shape, past_key_values=None)
            extra["is_causal"] = True
        else:
            mask = create_bidirectional_mask(**shape)
        hidden = text.encoder(inputs_embeds=hidden, attention_mask=mask, **extra).last_hidden_state
        norm: Tensor = text.get_submodule(self.encoder.anatomy.norm)(hidden)
        return norm

    def _pool(self, last: Tensor, pooled_at: Tensor | None, attention_mask: Tensor | None) -> Tensor:
        if self.pooling in ("eos", "last"):
            return pool(last, pooled_at, attention_mask)
        first = torch.zeros(last.shape[0], dtype=torch.long, device=last.device)
        return pool(last, first if self.pooling == "first" else None, attention_mask)
