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
from ccr_adapters.objectives.health import alignment, mean_cosine, uniformity
from ccr_adapters.objectives.language import TokenDiscriminator, discriminator_accuracy, language_adversary
from ccr_adapters.objectives.relations import relational, relational_to_bank
from ccr_adapters.objectives.transport import cosine_cost, transport_cost, transport_plan
from ccr_adapters.objectives.triplet import triplet
from ccr_adapters.objectives.views import feature_view, similarity_view
from ccr_adapters.objectives.words import mask_tokens, word_alignment

__all__ = [
    "PairDiscriminator",
    "TokenDiscriminator",
    "adversarial_loss",
    "adversary",
    "alignment",
    "all_gather_with_grad",
    "cosine_cost",
    "cosine_distance",
    "discriminator_accuracy",
    "discriminator_loss",
    "feature_view",
    "info_nce",
    "info_nce_one_way",
    "language_adversary",
    "local_offset",
    "mask_tokens",
    "mean_cosine",
    "mse",
    "relational",
    "relational_to_bank",
    "semantic_consistency",
    "similarity_view",
    "transport_cost",
    "transport_plan",
    "triplet",
    "uniformity",
    "word_alignment",
]
