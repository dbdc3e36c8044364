"""The bottleneck after a block, with or without a core that was made for the caption."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Bottleneck(nn.Module):
    """`x + U relu((D x) W)`, and without a core `x + U relu(D x)` (DASD, section 'Dynamic adapter'; MLA, eq. 1).

    Args:
        width: Width of the hidden states, `w`.
        rank: Width of the bottleneck, `r`.
        identity: Start with `U = 0`, so that the block's output passes unchanged.
    """

    def __init__(self, width: int, rank: int, *, identity: bool = True) -> None:
        super().__init__()
        self.down = nn.Linear(width, rank)
        self.up = nn.Linear(rank, width)
        if identity:
            nn.init.zeros_(self.up.weight)
            nn.init.zeros_(self.up.bias)

    def forward(self, hidden: Tensor, core: Tensor | None = None) -> Tensor:
        """Adapt the states of a block.

        Args:
            hidden: States after the block. (B, L, w)
            core: One matrix a caption. (B, r, r)

        Returns:
            The adapted states, in the dtype that came in. (B, L, w)
        """
        inner = self.down(hidden.to(self.down.weight.dtype))  # (B, L, r)
        if core is not None:
            inner = torch.bmm(inner, core.to(inner.dtype))  # (B, L, r), a different core for every caption
        return hidden + self.up(torch.relu(inner)).to(hidden.dtype)
