"""Optimal transport between the tokens of two sentences: which word of a translation stands for which."""

from __future__ import annotations

import torch
from torch import Tensor

from ccr_adapters.errors import ConfigError, TrainingError
from ccr_adapters.objectives.cosine import unit
from ccr_adapters.objectives.precision import at_least_float32, full_precision


def cosine_cost(a: Tensor, b: Tensor) -> Tensor:
    """1 - cosine between each token of one sentence and each of the other.

    Args:
        a: Token states (B, Ls, w), normalised here.
        b: Token states (B, Lt, w), normalised here.

    Returns:
        Costs (B, Ls, Lt) between 0 and 2, float32 (float64 if an input is).

    Raises:
        TrainingError: If the shapes do not fit.
    """
    if a.ndim != 3 or b.ndim != 3 or a.shape[0] != b.shape[0] or a.shape[2] != b.shape[2]:
        raise TrainingError(
            f"cosine_cost takes token states (B, Ls, w) and (B, Lt, w); got {tuple(a.shape)} and {tuple(b.shape)}."
        )
    with full_precision(a):
        a, b = unit(a, b)
        return 1 - a @ b.transpose(1, 2)


@torch.no_grad()
def transport_plan(
    cost: Tensor, source_mask: Tensor, target_mask: Tensor, *, epsilon: float = 0.1, iterations: int = 50
) -> Tensor:
    """Entropic optimal transport between the real tokens of each pair of sentences, without gradient.

    The plan P >= 0 with the least <P, cost> - epsilon * entropy(P) whose marginals are uniform over the real tokens
    of either side (Cuturi, 2013, arXiv 1306.0895), found by Sinkhorn's iteration on the logarithms of its scalings,
    which a small epsilon cannot make overflow. CL2CM (Wang et al., 2024, arXiv 2312.08984) takes it for the
    pseudo-label of `word_alignment`. All captions at once: 2 * iterations passes over B * Ls * Lt numbers.

    Args:
        cost: Cost of each pair of tokens (B, Ls, Lt), as from `cosine_cost`; padding may hold anything.
        source_mask: 1 or True at real tokens (B, Ls).
        target_mask: 1 or True at real tokens (B, Lt).
        epsilon: Weight of the entropy: large spreads the mass, small makes an assignment, which takes more
            iterations.
        iterations: Updates of each side. The columns' marginals are exact after any number, the rows' nearly so.

    Returns:
        Plans (B, Ls, Lt), float32 (float64 if the cost is). Each sums to 1, and padding gets nothing; all zeros
        where either sentence has no real token.

    Raises:
        TrainingError: If the shapes do not fit.
        ConfigError: If epsilon or iterations cannot work.
    """
    if cost.ndim != 3 or source_mask.shape != cost.shape[:2] or target_mask.shape != cost.shape[::2]:
        raise TrainingError(
            f"transport_plan takes a cost (B, Ls, Lt) and masks (B, Ls) and (B, Lt); got {tuple(cost.shape)}, "
            f"{tuple(source_mask.shape)} and {tuple(target_mask.shape)}."
        )
    if epsilon <= 0 or iterations < 1:
        raise ConfigError(f"epsilon must be above 0 and iterations at least 1; got {epsilon} and {iterations}.")
    rows, columns = source_mask.bool(), target_mask.bool()
    # A sentence without tokens cannot receive what the other sends: the pair counts as padding altogether.
    both = rows.any(dim=1, keepdim=True) & columns.any(dim=1, keepdim=True)  # (B, 1)
    rows, columns = rows & both, columns & both
    real = rows[:, :, None] & columns[:, None, :]  # (B, Ls, Lt)
    kernel = (at_least_float32(cost) / -epsilon).masked_fill(~real, 0)  # (B, Ls, Lt)
    row_mass, column_mass = (-side.sum(1, keepdim=True).to(kernel.dtype).log() for side in (rows, columns))  # (B, 1)
    # Logarithms of the scalings, -inf at padding: a difference of infinities never arises at a real token.
    f = torch.zeros_like(kernel[:, :, 0]).masked_fill(~rows, -torch.inf)  # (B, Ls)
    g = torch.zeros_like(kernel[:, 0, :]).masked_fill(~columns, -torch.inf)  # (B, Lt)
    for _ in range(iterations):
        f = (row_mass - torch.logsumexp(kernel + g[:, None, :], dim=2)).masked_fill(~rows, -torch.inf)
        g = (column_mass - torch.logsumexp(kernel + f[:, :, None], dim=1)).masked_fill(~columns, -torch.inf)
    return (kernel + f[:, :, None] + g[:, None, :]).exp()


def transport_cost(cost: Tensor, plan: Tensor) -> Tensor:
    """What a plan costs: the mean over sentences of the mass moved times the distance it moves.

    Pulls each token towards the tokens that the plan pairs it with, and leaves alone what the plan spreads; `words`
    asks the same of masked tokens, as a classification.

    Args:
        cost: Cost of each pair of tokens (B, Ls, Lt), as from `cosine_cost`; padding may hold anything finite.
        plan: Plans (B, Ls, Lt), as from `transport_plan`; no gradient reaches them.

    Returns:
        Scalar: 0 where every token lies on its partners.

    Raises:
        TrainingError: If the shapes differ.
    """
    if cost.shape != plan.shape or cost.ndim != 3:
        raise TrainingError(
            f"transport_cost takes a cost and a plan of one shape; got {tuple(cost.shape)} and {tuple(plan.shape)}."
        )
    return (at_least_float32(cost) * plan.detach()).sum(dim=(1, 2)).mean()
