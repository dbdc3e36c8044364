"""The way of a target caption through a frozen text encoder, from token states to one vector in the shared space.

The source language takes the base's own `forward`, untouched. The target language needs another way in (its own token
embedding) and another way out (its own end token), so its path through the base's parts is written out here, once per
family of encoders.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers.masking_utils import create_bidirectional_mask, create_causal_mask

from ccr_adapters.dasd import Condition, TextEncoder
from ccr_adapters.dasd.condition import ARGUMENT
from ccr_adapters.dasd.disentangle import pool


def pooler_output(output: Any) -> Tensor:
    """The vector in what a `get_*_features` returned: a tensor in transformers 4, an output object in 5."""
    if isinstance(output, Tensor):
        return output
    pooled = output.pooler_output if hasattr(output, "pooler_output") else output[1]
    if not isinstance(pooled, Tensor):
        raise TypeError(f"{type(output).__name__} has no pooled output.")
    return pooled


class TextTower:
    """Runs target captions through the text encoder of a base.

    Args:
        base: The base, a dual encoder or a text encoder.
        encoder: Where its parts are.
        pooling: How an encoder without a projection pools: `"mean"` or `"first"`.
    """

    def __init__(self, base: nn.Module, encoder: TextEncoder, pooling: str | None) -> None:
        self.base = base
        self.encoder = encoder
        self.pooling = pooling
        self.is_dual = hasattr(base, "get_image_features")

    @property
    def family(self) -> str:
        """`"eos"` (CLIP), `"last"` (SigLIP) or `"first"` (BERT): how the encoder reads a caption."""
        return self.encoder.anatomy.pooling

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
        text = self.encoder.module
        if self.family == "first":
            output = text(inputs_embeds=states, attention_mask=attention_mask, **extra)
            last = output.last_hidden_state  # (B, L, w)
            first = torch.zeros(len(last), dtype=torch.long, device=last.device)
            return pool(last, first if self.pooling == "first" else None, attention_mask), last
        hidden = text.embeddings(inputs_embeds=states)  # type: ignore[operator]
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
        hidden = text.encoder(inputs_embeds=hidden, attention_mask=mask, **extra).last_hidden_state  # type: ignore[operator]
        last = text.final_layer_norm(hidden)  # type: ignore[operator]
        pooled = pool(last, pooled_at, attention_mask)  # (B, w)
        head = text.head if self.family == "last" else self.base.text_projection
        return head(pooled), last  # type: ignore[operator]
