"""A mapping head: captions and pictures of one language into a common space of their own, as NRCCR has it.

An adapter without a head lives in the base's space, where picture vectors stay as they are. A head leaves that space:
its pictures are the base's vectors, mapped. An index of base vectors stays valid, since the map is applied to them.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce

from ccr_adapters.configuration import HeadConfig
from ccr_adapters.dasd.disentangle import pool
from ccr_adapters.errors import ConfigError
from ccr_adapters.objectives.gather import world_size


class GlobalBatchNorm(nn.BatchNorm1d):
    """Batch normalisation over the rows of all processes, so that two processes train what one would.

    torch's `SyncBatchNorm` does this on GPUs only.
    """

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's name
        """Normalise. (B, d) -> (B, d)"""
        if not self.training or world_size() == 1:
            return super().forward(input)
        rows = input.float()
        sums = torch.stack([rows.sum(0), rows.square().sum(0), torch.full_like(rows[0], len(rows))])  # (3, d)
        total, squares, count = all_reduce(sums)
        mean = total / count
        variance = (squares / count - mean.square()).clamp_min(0)
        with torch.no_grad():
            momentum = self.momentum or 0.1
            unbiased = variance * count / (count - 1).clamp_min(1)
            self.running_mean.lerp_(mean.to(self.running_mean.dtype), momentum)  # type: ignore[union-attr]
            self.running_var.lerp_(unbiased.to(self.running_var.dtype), momentum)  # type: ignore[union-attr]
            self.num_batches_tracked.add_(1)  # type: ignore[union-attr]
        normal = (rows - mean) * torch.rsqrt(variance + self.eps)
        return (normal * self.weight + self.bias).to(input.dtype)


class AttentionLayer(nn.Module):
    """One self-attention layer over positions that are learned.

    Args:
        width: Width of its states.
        heads: Attention heads.
        positions: Most tokens or frames.
        post_norm: LayerNorm behind the positions and behind the attention, as in the authors' code.
    """

    def __init__(self, width: int, heads: int, positions: int, *, post_norm: bool = False) -> None:
        super().__init__()
        self.placed = nn.LayerNorm(width) if post_norm else nn.Identity()
        self.attended = nn.LayerNorm(width) if post_norm else nn.Identity()
        self.positions = nn.Parameter(0.02 * torch.randn(positions, width))
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)

    def place(self, states: Tensor) -> Tensor:
        """Add the positions. (B, L, h) -> (B, L, h)"""
        if states.shape[1] > len(self.positions):
            raise ConfigError(f"{states.shape[1]} tokens or frames; the head has positions for {len(self.positions)}.")
        found: Tensor = self.placed(states + self.positions[: states.shape[1]])
        return found

    def forward(self, states: Tensor, mask: Tensor, *, from_padding: bool = False) -> Tensor:
        """Attend, with the residual. (B, L, h), (B, L) -> (B, L, h)

        Args:
            states: States with their positions.
            mask: 1 at real tokens.
            from_padding: The states of padding will be read. In the authors' code they attend to everything, padding
                included, while real ones attend to real ones.
        """
        found: Tensor = self.attended(states + self._attend(states, states, mask, from_padding))
        return found

    def across(self, queries: Tensor, keys: Tensor, mask: Tensor) -> Tensor:
        """Attend from one sequence to another, without a residual. (B, Q, h), (B, K, h), (B, K) -> (B, Q, h)"""
        found: Tensor = self.attended(self._attend(queries, keys, mask))
        return found

    def _attend(self, queries: Tensor, keys: Tensor, mask: Tensor, from_padding: bool = False) -> Tensor:
        # asked for its weights, torch leaves its fused attention, whose backward pass is the slower one on a CPU
        plain = self.training and queries.device.type == "cpu"
        how: dict[str, Any] = {"key_padding_mask": mask == 0}
        if from_padding:
            hidden = (mask == 0).unsqueeze(1) & (mask != 0).unsqueeze(2)  # (B, L, L), of each query
            how = {"attn_mask": hidden.repeat_interleave(self.attention.num_heads, dim=0)}
        found: Tensor = self.attention(queries, keys, keys, need_weights=plain, **how)[0]
        return found


class TextHead(nn.Module):
    """Token states of the encoder to a vector of the common space (Wang et al. 2022, section 3.2).

    Args:
        config: Sizes.
        width: Width of the encoder's states, `w`.
    """

    def __init__(self, config: HeadConfig, width: int) -> None:
        super().__init__()
        self.read_padding = config.read_padding
        self.entry = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, config.width), nn.ReLU())
        self.layer = AttentionLayer(
            config.width, config.attention_heads, int(config.positions or 77), post_norm=config.post_norm
        )
        self.exit = nn.Linear(config.width, config.space)
        self.norm = GlobalBatchNorm(config.space)
        self.dropout = nn.Dropout(config.dropout)

    def enter(self, states: Tensor) -> Tensor:
        """States as they go into the attention layer, with their positions. (B, L, w) -> (B, L, h)"""
        return self.layer.place(self.entry(states))

    def attend(self, entered: Tensor, mask: Tensor) -> Tensor:
        """Token states of the head, of those that `enter` has made. (B, L, h), (B, L) -> (B, L, h)"""
        found: Tensor = self.layer(entered, mask, from_padding=self.read_padding)
        return found

    def project(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """The mean of a caption's states into the common space, L2-normalised. (B, L, h), (B, L) -> (B, d')"""
        pooled = pool(tokens, None, None if self.read_padding else mask)  # (B, h)
        return F.normalize(self.dropout(self.norm(self.exit(pooled))).float(), dim=-1)

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        """A caption's vector. (B, L, w), (B, L) -> (B, d')"""
        return self.project(self.attend(self.enter(states), mask), mask)

    def cross_view(self, source: Tensor, target: Tensor, source_mask: Tensor, target_mask: Tensor) -> Tensor:
        """The teacher's view `c` of a translation: what its source attends to in it, pooled with its own states.

        English states are the queries, the target's the keys and values; a wrong word of the translation is asked for by
        no English word. The result stands beside the target's states along the token axis. This takes the place of the
        self-attention, so the states are those that go into it (Wang et al. 2022, section 3.3).

        Args:
            source: States of the source captions, from `enter`. (B, Ls, h)
            target: States of the target captions, from `enter`. (B, Lt, h)
            source_mask: 1 at real tokens. (B, Ls)
            target_mask: 1 at real tokens. (B, Lt)

        Returns:
            L2-normalised vectors. (B, d')
        """
        asked = self.layer.across(source, target, target_mask)  # (B, Ls, h)
        both = torch.cat([asked, target], dim=1)  # (B, Ls + Lt, h)
        return self.project(both, torch.cat([source_mask, target_mask], dim=1))


class VisualHead(nn.Module):
    """Visual vectors of the base to the common space: pictures by a linear map, frames through attention first.

    Args:
        config: Sizes.
        visual_dim: Width of the vectors that come in.
    """

    def __init__(self, config: HeadConfig, visual_dim: int) -> None:
        super().__init__()
        self.frames = config.frames
        self.normalize = config.normalize_visual
        self.read_padding = config.read_padding
        width = config.visual_width or (config.width if self.frames else visual_dim)
        self.entry: nn.Module = nn.Identity()
        if self.frames:
            linear = nn.Linear(visual_dim, width)
            self.entry = nn.Sequential(nn.LayerNorm(visual_dim), linear, nn.ReLU()) if config.post_norm else linear
            self.layer = AttentionLayer(width, config.attention_heads, self.frames, post_norm=config.post_norm)
        elif config.visual_width:
            self.entry = nn.Sequential(nn.Linear(visual_dim, width), nn.ReLU())
        self.exit = nn.Linear(width, config.space)

    def forward(self, vectors: Tensor, mask: Tensor | None = None) -> Tensor:
        """Map pictures (M, d) or frames (M, T, d) with their mask (M, T) into the space, L2-normalised. -> (M, d')"""
        if self.normalize:
            vectors = F.normalize(vectors, dim=-1)  # bases and indexes hold them at any length
        if self.frames:
            if vectors.ndim == 2:  # one frame
                vectors = vectors.unsqueeze(1)
            if mask is None:
                mask = torch.ones(vectors.shape[:2], dtype=torch.long, device=vectors.device)
            placed = self.layer.place(self.entry(vectors))
            states = self.layer(placed, mask, from_padding=self.read_padding)  # (M, T, h)
            vectors = pool(states, None, None if self.read_padding else mask)  # (M, h)
        elif vectors.ndim != 2:
            raise ConfigError("This head maps pictures; for frames of videos build it with `frames`.")
        else:
            vectors = self.entry(vectors)
        return F.normalize(self.exit(vectors).float(), dim=-1)


class Head(nn.Module):
    """Both sides of a language's own space.

    Args:
        config: Sizes.
        width: Width of the encoder's states.
        visual_dim: Width of the base's visual vectors.
    """

    def __init__(self, config: HeadConfig, width: int, visual_dim: int) -> None:
        super().__init__()
        self.config = config
        self.text = TextHead(config, width)
        self.visual = VisualHead(config, visual_dim)
