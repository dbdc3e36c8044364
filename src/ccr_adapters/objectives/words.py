"""Word alignment of CL2CM: a masked word must find, in the other language, the words that stand for it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from ccr_adapters.errors import ConfigError, TrainingError
from ccr_adapters.objectives.cosine import unit
from ccr_adapters.objectives.precision import full_precision


def word_alignment(
    source_states: Tensor,
    target_states: Tensor,
    masked_source: Tensor,
    masked_target: Tensor,
    plan: Tensor,
    source_mask: Tensor,
    target_mask: Tensor,
    *,
    temperature: float = 0.1,
    source_keys: Tensor | None = None,
    target_keys: Tensor | None = None,
) -> Tensor:
    """Each masked token must predict, over the other sentence's tokens, what the transport plan says of it.

    For a masked token of one sentence, the cross-entropy from its row of the plan, normalised, to
    softmax(cosine / temperature) over the other sentence's real tokens; the mean over the masked tokens of the
    batch; the same for the other sentence with the columns of the plan; the mean of the two. Word level of CL2CM
    (Wang et al., 2024, arXiv 2312.08984): where a translation is wrong, the plan spreads its mass, and the word is
    forced on nothing. The sentence level is `info_nce` between the two captions. Several processes average the
    means over their own masked tokens.

    Args:
        source_states: States (B, Ls, w) of the source sentences with tokens masked, normalised here.
        target_states: States (B, Lt, w) of the target sentences with tokens masked, normalised here.
        masked_source: True at the tokens that were masked (B, Ls), as from `mask_tokens`.
        masked_target: True at the tokens that were masked (B, Lt).
        plan: Plans (B, Ls, Lt) of the sentences as they were, from `transport_plan`; no gradient reaches them.
        source_mask: 1 or True at real tokens (B, Ls).
        target_mask: 1 or True at real tokens (B, Lt).
        temperature: Of the softmax.
        source_keys: States (B, Ls, w) in which the target's masked tokens look, if not `source_states`: for example
            those of the whole sentences, which the plan needed anyway.
        target_keys: States (B, Lt, w) in which the source's masked tokens look, if not `target_states`.

    Returns:
        Scalar, float32 (float64 if the states are). A side without masked tokens adds 0.

    Raises:
        TrainingError: If the shapes do not fit.
    """
    source_keys = source_states if source_keys is None else source_keys
    target_keys = target_states if target_keys is None else target_keys
    _check(source_states, source_keys, masked_source, source_mask, plan.shape[:2])
    _check(target_states, target_keys, masked_target, target_mask, plan.shape[::2])
    plan = plan.detach()
    with full_precision(source_states):
        forth = _predict(source_states, target_keys, plan, masked_source, source_mask, target_mask, temperature)
        back = _predict(target_states, source_keys, plan.mT, masked_target, target_mask, source_mask, temperature)
        return (forth + back) / 2


def mask_tokens(
    input_ids: Tensor,
    attention_mask: Tensor,
    mask_id: int | None,
    share: float,
    special_ids: Sequence[int],
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """Replace some ordinary tokens by the mask token.

    Each is drawn with probability `share`, and of a caption for which none was, one: every caption takes part in
    `word_alignment`. The mask token takes the place of all that are drawn; the plan is asked for, not the words, so
    nothing is gained from leaving some as they are.

    Args:
        input_ids: Ids (B, L); left as they are.
        attention_mask: 1 or True at real tokens (B, L).
        mask_id: Id of the mask token; `None` where there is none: an ordinary token of the batch, drawn for each.
        share: Share of the ordinary tokens to mask, 0 to 1; 0.15 in masked prediction.
        special_ids: Ids that are never masked: start, end, padding.
        generator: Source of the draw, for repeatable runs.

    Returns:
        The ids with masks (B, L), and True where a token was masked (B, L). A caption of special tokens alone keeps
        them all.

    Raises:
        TrainingError: If the shapes differ.
        ConfigError: If the share is not between 0 and 1.

    Example:
        >>> ids = torch.tensor([[1, 7, 8, 3, 0]])
        >>> masked, which = mask_tokens(ids, ids > 0, mask_id=99, share=1.0, special_ids=[0, 1, 3])
        >>> masked.tolist(), which.sum().item()
        ([[1, 99, 99, 3, 0]], 2)
    """
    if input_ids.ndim != 2 or input_ids.shape != attention_mask.shape:
        raise TrainingError(
            f"mask_tokens takes ids and a mask of one shape (B, L); got {tuple(input_ids.shape)} and "
            f"{tuple(attention_mask.shape)}."
        )
    if not 0 <= share <= 1:
        raise ConfigError(f"The share of tokens to mask must be between 0 and 1; got {share}.")
    special = torch.tensor(list(special_ids), dtype=input_ids.dtype, device=input_ids.device)
    ordinary = attention_mask.bool() & ~torch.isin(input_ids, special)  # (B, L)
    device = input_ids.device if generator is None else generator.device
    draw = torch.rand(input_ids.shape, generator=generator, device=device).to(input_ids.device)  # (B, L)
    draw = draw.masked_fill(~ordinary, torch.inf)
    # The lowest draw of a caption is below the share if any is: marking it as well adds one where none was drawn.
    lowest = draw == draw.amin(dim=1, keepdim=True)  # (B, L)
    which = ordinary & (lowest | (draw < share))
    if mask_id is not None:
        return input_ids.masked_fill(which, mask_id), which
    words, hidden = input_ids[ordinary], input_ids.clone()
    if len(words):
        drawn = torch.randint(len(words), (int(which.sum()),), generator=generator, device=device)
        hidden[which] = words[drawn.to(input_ids.device)]
    return hidden, which


def _predict(
    queries: Tensor,
    keys: Tensor,
    plan: Tensor,
    masked: Tensor,
    query_mask: Tensor,
    key_mask: Tensor,
    temperature: float,
) -> Tensor:
    """Cross-entropy of one direction: (B, Lq, w), (B, Lk, w), (B, Lq, Lk) -> ()"""
    queries, keys = unit(queries, keys)
    logits = queries @ keys.transpose(1, 2) / temperature  # (B, Lq, Lk)
    # Not -inf: 0 * -inf is NaN, and a sentence without real tokens has nothing else.
    logits = logits.masked_fill(~key_mask.bool()[:, None, :], torch.finfo(logits.dtype).min)
    mass = plan.to(logits.dtype) * key_mask.bool()[:, None, :]  # (B, Lq, Lk)
    total = mass.sum(dim=2)  # (B, Lq)
    asked = masked.bool() & query_mask.bool() & (total > 0)  # (B, Lq)
    targets = mass / total.masked_fill(~asked, 1)[:, :, None]
    losses = -(targets * F.log_softmax(logits, dim=2)).sum(dim=2)  # (B, Lq)
    return losses.masked_fill(~asked, 0).sum() / asked.sum().clamp(min=1)


def _check(states: Tensor, keys: Tensor, masked: Tensor, mask: Tensor, expected: torch.Size) -> None:
    """Refuse what does not belong to one side of the plan."""
    if states.ndim != 3 or states.shape != keys.shape or not states.shape[:2] == masked.shape == mask.shape == expected:
        raise TrainingError(
            f"word_alignment takes states and keys (B, L, w), masked tokens (B, L) and a mask (B, L) for each side of "
            f"the plan, here (B, L) = {tuple(expected)}; got {tuple(states.shape)}, {tuple(keys.shape)}, "
            f"{tuple(masked.shape)} and {tuple(mask.shape)}."
        )
