"""From the two features of a caption to the cores of all its adapters, in one matrix product."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ccr_adapters.dasd.condition import Features


class CoreGenerator(nn.Module):
    """`z = act(W [f_sr ; f_sa])`, then a linear map to the cores of every block (DASD, section 'Generation').

    The per-block maps of the paper stand in one matrix, so that a batch costs one product. Its bias is a core that all
    captions share, and starts as the identity; what the weight adds differs from caption to caption.

    Args:
        embedding_dim: Width of each feature, `d`.
        condition_dim: Width of `z`.
        blocks: Number of adapted blocks, `n`.
        rank: Width of the bottleneck, `r`.
        generator_rank: `None` for a full map from `z` to the cores. An integer `k` makes each core a mixture of `k`
            learned ones: k x (condition_dim + n r r) weights instead of condition_dim x n r r.
        condition_on: Which features count; with `"nothing"` the bias is all there is.
    """

    def __init__(
        self,
        embedding_dim: int,
        condition_dim: int,
        blocks: int,
        rank: int,
        generator_rank: int | None = None,
        condition_on: str = "both",
    ) -> None:
        super().__init__()
        self.blocks = blocks
        self.rank = rank
        self.condition_on = condition_on
        shared = torch.eye(rank).flatten().repeat(blocks)  # (n r r)
        if condition_on == "nothing":
            self.core = nn.Parameter(shared)
            return
        parts = 2 if condition_on == "both" else 1
        self.condition = nn.Linear(parts * embedding_dim, condition_dim)
        self.mixture = nn.Linear(condition_dim, generator_rank, bias=False) if generator_rank else None
        self.cores = nn.Linear(generator_rank or condition_dim, blocks * rank * rank)
        with torch.no_grad():
            self.cores.bias.copy_(shared)

    def shared(self, count: int) -> Tensor:
        """The one core of all captions, for an adapter that reads nothing off them. -> (B, n, r, r)"""
        return self.core.view(1, self.blocks, self.rank, self.rank).expand(count, -1, -1, -1)

    def forward(self, features: Features) -> Tensor:
        """Make the cores of a group of captions. -> (B, n, r, r)"""
        chosen = {"both": (features.related, features.agnostic), "related": (features.related,)}
        read = torch.cat(chosen.get(self.condition_on, (features.agnostic,)), dim=-1)  # (B, 2d) or (B, d)
        z = self.condition(read)
        z = z * torch.sigmoid(1.702 * z)  # QuickGELU, CLIP's own activation. (B, condition_dim)
        if self.mixture is not None:
            z = self.mixture(z)  # (B, k)
        return self.cores(z).unflatten(-1, (self.blocks, self.rank, self.rank))
