"""From the two features of a caption to the cores of all its adapters, in one matrix product."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ccr_adapters.dasd.condition import Features


class CoreGenerator(nn.Module):
    """`z = act(W [f_sr ; f_sa])`, then a linear map to the cores of every block (DASD, section 'Generation').

    The per-block maps of the paper stand in one matrix, so that a batch costs one product. Its bias is a core that all
    captions share. It starts as the identity: the untrained bottleneck then is a static one, and what training adds
    through the weight is the part that differs from caption to caption.

    Args:
        embedding_dim: Width of each feature, `d`.
        condition_dim: Width of `z`.
        blocks: Number of adapted blocks, `n`.
        rank: Width of the bottleneck, `r`.
        generator_rank: `None` for a full map from `z` to the cores. An integer `k` makes each core a mixture of `k`
            learned ones: k x (condition_dim + n r r) weights instead of condition_dim x n r r.
    """

    def __init__(
        self,
        embedding_dim: int,
        condition_dim: int,
        blocks: int,
        rank: int,
        generator_rank: int | None = None,
    ) -> None:
        super().__init__()
        self.blocks = blocks
        self.rank = rank
        self.condition = nn.Linear(2 * embedding_dim, condition_dim)
        self.mixture = nn.Linear(condition_dim, generator_rank, bias=False) if generator_rank else None
        self.cores = nn.Linear(generator_rank or condition_dim, blocks * rank * rank)
        with torch.no_grad():
            self.cores.bias.copy_(torch.eye(rank).flatten().repeat(blocks))

    def forward(self, features: Features) -> Tensor:
        """Make the cores of a group of captions. -> (B, n, r, r)"""
        both = torch.cat([features.related, features.agnostic], dim=-1)  # (B, 2d)
        z = self.condition(both)
        z = z * torch.sigmoid(1.702 * z)  # QuickGELU, CLIP's own activation. (B, condition_dim)
        if self.mixture is not None:
            z = self.mixture(z)  # (B, k)
        return self.cores(z).unflatten(-1, (self.blocks, self.rank, self.rank))
