"""Objectives: pure tensors in, scalar terms out; what to add up, and how, is the business of a method."""

from __future__ import annotations

from ccr_adapters.objectives.adversary import (
    PairDiscriminator,
    adversarial_loss,
    adversary,
    discriminator_loss,
)
from ccr_adapters.objectives.contrastive import info_nce, info_nce_one_way
from ccr_adapters.objectives.disentanglement import semantic_consistency
from ccr_adapters.objectives.distillation import cosine_distance, mse
from ccr_adapters.objectives.gather import all_gather_with_grad, local_offset

__all__ = [
    "PairDiscriminator",
    "adversarial_loss",
    "adversary",
    "all_gather_with_grad",
    "cosine_distance",
    "discriminator_loss",
    "info_nce",
    "info_nce_one_way",
    "local_offset",
    "mse",
    "semantic_consistency",
]
