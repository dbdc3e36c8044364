"""The language adversary of NRCCR: token states of two languages that a discriminator cannot tell apart.

As in `adversary.py`, both sides train in one backward pass, because each term reaches its own side only.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from ccr_adapters.errors import TrainingError
from ccr_adapters.objectives.precision import at_least_float32


class TokenDiscriminator(nn.Module):
    """MLP w-hidden-hidden/2-1 with tanh on each token, mean over real tokens: is this caption target-language?

    The discriminator of NRCCR (Wang et al., 2022, arXiv 2208.12526). It serves training alone and is never saved
    with an adapter. Its authors train it with rate 1e-3, and average before the MLP, over padding as well; here each
    word is judged, and padding is not.

    Args:
        width: Width w of the token states.
        hidden: Units of the first hidden layer; the second has half.
    """

    def __init__(self, width: int, hidden: int = 256) -> None:
        super().__init__()
        self.entry = nn.Linear(width, hidden)
        self.rest = nn.Sequential(nn.Tanh(), nn.Linear(hidden, hidden // 2), nn.Tanh(), nn.Linear(hidden // 2, 1))

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        """Judge captions.

        Args:
            states: Token states (B, L, w).
            mask: 1 or True at real tokens (B, L).

        Returns:
            Logits (B,), positive where a caption seems to be of the target language; 0 without real tokens.
        """
        logits = self.rest(self.entry(states.to(self.entry.weight.dtype))).squeeze(-1)  # (B, L)
        real = mask.bool()
        count = real.sum(dim=1).clamp(min=1)  # (B,)
        mean: Tensor = logits.masked_fill(~real, 0).sum(dim=1) / count  # (B,)
        return mean


def language_adversary(
    disc: TokenDiscriminator,
    source_states: Tensor,
    target_states: Tensor,
    source_mask: Tensor,
    target_mask: Tensor,
    weight: float = 0.001,
) -> dict[str, Tensor]:
    """Both sides of the language adversary, for one backward pass over their sum.

    The discriminator learns the binary cross-entropy of telling target captions (1) from source captions (0), the
    encoder that of each being taken for the other language. Of NRCCR (Wang et al., 2022, arXiv 2208.12526). The
    authors' code moves the target's states alone; here both languages meet, as the encoder is shared. Its sibling
    `adversary` hides meaning in place of language. Several processes average the means over their own captions.

    Args:
        disc: The discriminator.
        source_states: Token states (B, Ls, w) of source captions.
        target_states: Token states (B, Lt, w) of target captions; B and L need not be those of the source.
        source_mask: 1 or True at real tokens (B, Ls).
        target_mask: 1 or True at real tokens (B, Lt).
        weight: Weight of the encoder's side; 0.001 in NRCCR. The discriminator's side always has weight 1: its pace
            is its learning rate.

    Returns:
        `language_discriminator`, a scalar whose gradient reaches the discriminator alone, and
        `language_adversarial`, a scalar, already weighted, whose gradient reaches the states alone. Both are the
        mean of two halves: log 2, before the weight, for a discriminator that knows nothing.

    Raises:
        TrainingError: If the shapes do not fit.
    """
    _check("source", source_states, source_mask, disc)
    _check("target", target_states, target_mask, disc)
    told_source = at_least_float32(disc(source_states.detach(), source_mask))  # (B,)
    told_target = at_least_float32(disc(target_states.detach(), target_mask))  # (B,)
    frozen = {name: parameter.detach() for name, parameter in disc.named_parameters()}
    # strict: a tied or missing name would otherwise let a live weight, and so a gradient, through.
    seen_source = at_least_float32(functional_call(disc, frozen, (source_states, source_mask), strict=True))
    seen_target = at_least_float32(functional_call(disc, frozen, (target_states, target_mask), strict=True))
    return {
        "language_discriminator": _tell(target=told_target, source=told_source),
        "language_adversarial": weight * _tell(target=seen_source, source=seen_target),
    }


def discriminator_accuracy(logits_true: Tensor, logits_false: Tensor) -> Tensor:
    """Share of the answers of a discriminator that are right: near 1 it has won, near 0.5 the encoder has.

    Args:
        logits_true: Logits where 'yes' is right, of any shape: true pairs, target captions.
        logits_false: Logits where 'no' is right, of any shape.

    Returns:
        Scalar between 0 and 1 without gradient. An undecided 0 counts half; NaN without any answer.

    Example:
        >>> discriminator_accuracy(torch.tensor([2.0, -1.0]), torch.tensor([-3.0, 0.0])).item()
        0.625
    """
    signs = torch.cat([logits_true.detach().flatten().sign(), -logits_false.detach().flatten().sign()])
    return (signs.float().mean() + 1) / 2


def _tell(*, target: Tensor, source: Tensor) -> Tensor:
    """Binary cross-entropy of logits (B,) that should say target, and of those that should say source."""
    return (
        F.binary_cross_entropy_with_logits(target, torch.ones_like(target))
        + F.binary_cross_entropy_with_logits(source, torch.zeros_like(source))
    ) / 2


def _check(side: str, states: Tensor, mask: Tensor, disc: TokenDiscriminator) -> None:
    """Refuse states and masks that do not belong together or to the discriminator."""
    width = disc.entry.in_features
    if states.ndim != 3 or states.shape[:2] != mask.shape or states.shape[2] != width:
        raise TrainingError(
            f"language_adversary takes {side} states (B, L, {width}) and a mask (B, L); got {tuple(states.shape)} and "
            f"{tuple(mask.shape)}."
        )
