"""What a caption says and how it says it, read off the first frozen blocks (DASD, section 'Disentangling')."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ccr_adapters.dasd.condition import Features


def pool(states: Tensor, positions: Tensor | None, mask: Tensor | None) -> Tensor:
    """State at `positions`, or the mean over real tokens where there are none. (B, L, w) -> (B, w)"""
    if positions is not None:
        # `shape`, not `len`, which a traced graph would hold fast
        return states[torch.arange(states.shape[0], device=states.device), positions.to(states.device)]
    if mask is None:
        return states.mean(dim=1)
    weights = mask.to(states.dtype).unsqueeze(-1)  # (B, L, 1)
    return (states * weights).sum(dim=1) / weights.sum(dim=1).clamp_min(1.0)


class Disentangler(nn.Module):
    """The two heads over the states of the frozen prefix.

    `f_sr` (semantic-related) is read at the pooled token, `f_sa` (semantic-agnostic: style, wording) is a mean over the
    tokens. Each has its own LayerNorm and its own map into the shared space. The authors' code averages `f_sa` over
    all 77 positions; here padding is left out, so that a caption's result does not depend on how it was padded.

    Args:
        width: Width of the hidden states, `w`.
        embedding_dim: Width of the shared space, `d`.
        all_positions: Norm each position first and average over all of them, as the authors' code does.
    """

    def __init__(self, width: int, embedding_dim: int, *, all_positions: bool = False) -> None:
        super().__init__()
        self.all_positions = all_positions
        self.related_norm = nn.LayerNorm(width)
        self.related_head = nn.Linear(width, embedding_dim)
        self.agnostic_norm = nn.LayerNorm(width)
        self.agnostic_head = nn.Linear(width, embedding_dim)

    def forward(self, states: Tensor, positions: Tensor | None, mask: Tensor | None) -> Features:
        """Split a caption into two features.

        Args:
            states: States after the frozen prefix. (B, L, w)
            positions: Pooled token of each caption; `None` pools by mean. (B,)
            mask: 1 at real tokens. (B, L)
        """
        states = states.to(self.related_head.weight.dtype)
        # pooled before the norm, not after: the same numbers for one token, and B x w instead of B x L x w of work
        related = self.related_norm(pool(states, positions, mask))  # (B, w)
        if self.all_positions:
            agnostic = self.agnostic_norm(states).mean(dim=1)  # (B, w)
        else:
            agnostic = self.agnostic_norm(pool(states, None, mask))  # (B, w)
        return Features(self.related_head(related), self.agnostic_head(agnostic))  # (B, d) each
