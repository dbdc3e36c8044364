"""The adversary: a discriminator that looks for meaning in `f_sa`, and an encoder that hides it there.

Both sides train in one backward pass with one optimiser, because each of the two terms reaches its own side
only.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from ccr_adapters.objectives.distillation import check_pair
from ccr_adapters.objectives.gather import all_gather_with_grad, local_offset, row_counts, world_size
from ccr_adapters.objectives.precision import at_least_float32


class PairDiscriminator(nn.Module):
    """MLP 2d-256-128-1 with tanh: does this semantic-agnostic feature belong to this embedding?

    The discriminator of DASD (Cai et al., 2025, arXiv 2412.13510). It serves training alone and is never
    saved with an adapter. Its authors train it with rate 1e-4 and betas .9/.999.

    Args:
        d: Width of `f_sa` and of the embedding `g`.
    """

    def __init__(self, d: int) -> None:
        super().__init__()
        self.entry = nn.Linear(2 * d, 256)
        self.rest = nn.Sequential(nn.Tanh(), nn.Linear(256, 128), nn.Tanh(), nn.Linear(128, 1))

    def forward(self, f_sa: Tensor, g: Tensor) -> Tensor:
        """Score pairs.

        Args:
            f_sa: Semantic-agnostic features (B, d).
            g: Embeddings (B, d).

        Returns:
            Logits (B,), positive where the pair seems to belong together.
        """
        pairs = torch.cat([f_sa, g], dim=-1).to(self.entry.weight.dtype)  # (B, 2d)
        logits: Tensor = self.rest(self.entry(pairs))  # (B, 1)
        return logits.squeeze(-1)


def discriminator_loss(
    disc: PairDiscriminator,
    f_sa: Tensor,
    g: Tensor,
    generator: torch.Generator | None = None,
    ids: Tensor | None = None,
) -> Tensor:
    """Binary cross-entropy of telling true pairs [f_sa; g] (1) from shuffled ones (0).

    The shuffle is over the global batch, so that several processes train the discriminator that one would. A row that is
    shuffled to another of its own picture is a true pair, and counts as neither.

    Args:
        disc: The discriminator; the gradient reaches nothing else.
        f_sa: Semantic-agnostic features (B, d).
        g: Embeddings (B, d): English in stage CLA, of pictures in stage CMA.
        generator: Source of the shuffle, for repeatable runs.
        ids: Which picture each row shows (B,); without them every row has one of its own.

    Returns:
        Scalar, the mean of both halves: log 2 for a discriminator that knows nothing. A global batch of one
        leaves nothing to shuffle: a plain zero without a graph.

    Raises:
        TrainingError: If the shapes differ.
    """
    check_pair("discriminator_loss", f_sa, g)
    if sum(row_counts(f_sa)) < 2:
        return _zero(f_sa)
    f_sa, g = f_sa.detach(), g.detach()
    true = at_least_float32(disc(f_sa, g))  # (B,)
    other, other_ids = _deranged(g, generator, ids)
    shuffled = at_least_float32(disc(f_sa, other))  # (B,)
    losses = F.binary_cross_entropy_with_logits(shuffled, torch.zeros_like(shuffled), reduction="none")
    same = None if ids is None or other_ids is None else ids.eq(other_ids)
    wrong = torch.ones_like(losses) if same is None else (~same).to(losses.dtype)
    return (
        F.binary_cross_entropy_with_logits(true, torch.ones_like(true))
        + (losses * wrong).sum() / (all_gather_with_grad(wrong).sum() / world_size()).clamp_min(1.0 / world_size())
    ) / 2


def adversarial_loss(disc: PairDiscriminator, f_sa: Tensor, g: Tensor) -> Tensor:
    """Binary cross-entropy of taking true pairs for shuffled ones: low when `f_sa` tells nothing of meaning.

    Args:
        disc: The discriminator; its weights get no gradient.
        f_sa: Semantic-agnostic features (B, d); the gradient reaches nothing else.
        g: Embeddings (B, d).

    Returns:
        Scalar. For a global batch of one a plain zero without a graph, as in `discriminator_loss`.

    Raises:
        TrainingError: If the shapes differ.
    """
    check_pair("adversarial_loss", f_sa, g)
    if sum(row_counts(f_sa)) < 2:
        return _zero(f_sa)
    frozen = {name: parameter.detach() for name, parameter in disc.named_parameters()}
    # strict: a tied or missing name would otherwise let a live weight, and so a gradient, through.
    logits = at_least_float32(functional_call(disc, frozen, (f_sa, g.detach()), strict=True))  # (B,)
    return F.binary_cross_entropy_with_logits(logits, torch.zeros_like(logits))


def adversary(
    disc: PairDiscriminator,
    f_sa: Tensor,
    g: Tensor,
    weight: float = 0.001,
    generator: torch.Generator | None = None,
    ids: Tensor | None = None,
) -> dict[str, Tensor]:
    """Both sides of the adversary, for one backward pass over their sum.

    Its counterpart is `semantic_consistency`, which puts meaning into the other half, `f_sr`.

    Args:
        disc: The discriminator.
        f_sa: Semantic-agnostic features (B, d).
        g: Embeddings (B, d).
        weight: Weight of the encoder's side; 0.001 in DASD. The discriminator's side always has weight 1: its
            pace is its learning rate.
        generator: Source of the shuffle, for repeatable runs.
        ids: Which picture each row shows (B,).

    Returns:
        `discriminator`, a scalar whose gradient reaches the discriminator alone, and `adversarial`, a scalar,
        already weighted, whose gradient reaches `f_sa` alone.

    Raises:
        TrainingError: If the shapes differ.
    """
    return {
        "discriminator": discriminator_loss(disc, f_sa, g, generator, ids),
        "adversarial": weight * adversarial_loss(disc, f_sa, g),
    }


def _deranged(rows: Tensor, generator: torch.Generator | None, ids: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """For each local row another row of the global batch, and its id: all rows rolled by 1 to (global B) - 1."""
    everyone = all_gather_with_grad(rows)
    offset = torch.randint(
        1, len(everyone), (1,), generator=generator, device="cpu" if generator is None else generator.device
    ).to(rows.device)
    if world_size() > 1:
        # Each process has drawn, so that their generators stay in step, but only one draw counts.
        dist.broadcast(offset, src=0)
    start = local_offset(rows)
    own = slice(start, start + len(rows))
    found = everyone.roll(int(offset), dims=0)[own]
    return found, None if ids is None else all_gather_with_grad(ids).roll(int(offset), dims=0)[own]


def _zero(like: Tensor) -> Tensor:
    return at_least_float32(like.new_zeros(()))
