"""DASD: align the target captions with their source (CLA), then with the pictures (CMA), with disentangled features.

The same objective trains every kind of adapter: terms over disentangled features apply where a dynamic adapter made
some, and are left out for a static acquirer or LoRA.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ccr_adapters.dasd import Condition
from ccr_adapters.errors import ConfigError
from ccr_adapters.methods.base import Method, Terms
from ccr_adapters.modeling import CCRModel
from ccr_adapters.objectives import (
    PairDiscriminator,
    adversary,
    cosine_distance,
    discriminator_accuracy,
    info_nce,
    info_nce_one_way,
    mse,
    relational_to_bank,
    semantic_consistency,
)

NO_TERM = (
    "No term is left to minimise: all weights are 0, or only those over disentangled features are not, which a static "
    "adapter does not have."
)


@dataclass(frozen=True)
class DASDTerms(Terms):
    """Weights of DASD's terms, and of those that measured well beside them.

    Args:
        alignment: Mean squared error between the raw target and source vectors.
        cosine: One minus their cosine: the same pull, on vectors of unit length.
        contrastive: InfoNCE between captions and pictures, both ways, negatives from the batch of all processes.
        bank: InfoNCE of captions against all training pictures at once, whose vectors are cached.
        relational: Divergence from the source captions' softmax over all training pictures to the target captions'.
        consistency: L1 between the semantic-related feature and the guide.
        adversarial: The encoder's side of the adversary.
        scale: Inverse temperature of `contrastive` and `bank`.
        relational_scale: Inverse temperature of `relational`.
        anchor: How far the picture itself is the teacher of `relational`, in place of its English caption; 0 to 1.
        guide: What the disentangled features are compared with, `"source"` or `"visual"`.
    """

    CHOICES: ClassVar[Mapping[str, tuple[str, ...]]] = {"guide": ("source", "visual")}
    RANGES: ClassVar[Mapping[str, tuple[float, float]]] = {
        "scale": (0.0, math.inf),
        "relational_scale": (0.0, math.inf),
        "anchor": (-math.inf, 1.0),
    }

    alignment: float = 0.0
    cosine: float = 0.0
    contrastive: float = 0.0
    bank: float = 0.0
    relational: float = 0.0
    consistency: float = 0.0
    adversarial: float = 0.0
    scale: float = 100.0
    relational_scale: float = 20.0
    anchor: float = 0.0
    guide: str = "source"


class DASD(Method):
    """The objective of one stage.

    Args:
        model: A model with the language added.
        language: Its code.
        terms: Weights of the terms.
        visual_bank: Vectors of all training pictures, for `terms.bank` and `terms.relational`. (M, d)

    Raises:
        ConfigError: If no term is left to minimise, or the vectors of the pictures are needed and not given.
    """

    terms_class = DASDTerms
    takes_head = False
    stages: ClassVar[Mapping[str, Terms]] = {
        # weights as published (Cai et al. 2025, section 'Training'; methods.md)
        "cla": DASDTerms(alignment=1.0, consistency=0.1, adversarial=0.001, guide="source"),
        "cma": DASDTerms(alignment=1.0, contrastive=1.0, consistency=0.1, adversarial=0.001, guide="visual"),
    }
    arguments: ClassVar[Mapping[str, Mapping[str, Any]]] = {"cma": {"learning_rate": 6e-6}}
    bank: Tensor

    def __init__(self, model: CCRModel, language: str, terms: DASDTerms, visual_bank: Tensor | None = None) -> None:
        super().__init__(model, language)
        if not self.computed(terms, dynamic=model.disentangles(language)):
            raise ConfigError(NO_TERM)
        if "bank" in self.needs(terms) and visual_bank is None:
            raise ConfigError("The terms `bank` and `relational` need the vectors of all pictures: pass `visual_bank`.")
        self.terms = terms
        self.discriminator: PairDiscriminator | None = None
        if terms.adversarial and model.disentangles(language):
            self.discriminator = PairDiscriminator(model.embedding_dim)
        # the same in every process, and rebuilt from the cache: no part of a checkpoint
        bank = F.normalize(visual_bank.float(), dim=-1) if visual_bank is not None else torch.empty(0)
        self.register_buffer("bank", bank, persistent=False)

    @classmethod
    def computed(cls, terms: DASDTerms, *, dynamic: bool) -> list[str]:
        """As in the base class; the settings are no terms, and a static adapter has no features to compare."""
        names = ["alignment", "cosine", "contrastive", "bank", "relational"]
        names += ["consistency", "adversarial"] if dynamic else []
        return [name for name in names if getattr(terms, name)]

    @classmethod
    def needs(cls, terms: DASDTerms) -> frozenset[str]:
        """The base's vectors of the source captions, and those of all pictures for the terms over them."""
        return frozenset({"source_vectors"} | ({"bank"} if terms.bank or terms.relational else set()))

    @property
    def leaves_unused(self) -> bool:
        """Where one half of the features neither makes weights nor has a term: the ablations of it."""
        read = self.model.conditions_on(str(self.language))
        return (read == "related" and not self.terms.adversarial) or (read == "agnostic" and not self.terms.consistency)

    def modules_of(self, kind: str) -> list[nn.Module]:
        """As in the base class; the discriminator is auxiliary."""
        if kind == "auxiliary":
            return [] if self.discriminator is None else [self.discriminator]
        return super().modules_of(kind)

    def forward(  # type: ignore[override]
        self,
        target_input_ids: Tensor,
        target_attention_mask: Tensor,
        target_pooled_at: Tensor,
        source_vectors: Tensor,
        visual_vectors: Tensor,
        image_index: Tensor,
    ) -> dict[str, Tensor]:
        """Terms of a batch.

        Args:
            target_input_ids: Ids of the target captions. (B, L)
            target_attention_mask: 1 at real tokens. (B, L)
            target_pooled_at: Position of each end token. (B,)
            source_vectors: Vectors `s` of the source captions by the frozen base. (B, d)
            visual_vectors: Vectors `v` of the pictures by the frozen base. (B, d)
            image_index: Which picture each row shows. (B,)
        """
        captions = (target_input_ids, target_attention_mask, target_pooled_at)
        target, _, condition = self.model.target_features(*captions, str(self.language), keep_states=False)
        return self._terms(target.float(), condition, source_vectors, visual_vectors, image_index)

    def _terms(
        self, target: Tensor, condition: Condition, source_vectors: Tensor, visual_vectors: Tensor, image_index: Tensor
    ) -> dict[str, Tensor]:
        """Terms over the captions' vectors and disentangled features. (B, d) each"""
        language, terms = str(self.language), self.terms
        source, visual = source_vectors.float(), visual_vectors.float()
        self.observe_vectors(target, visual)
        found: dict[str, Tensor] = {}
        if terms.alignment:
            found["alignment"] = terms.alignment * mse(target, source)
        if terms.cosine:
            found["cosine"] = terms.cosine * cosine_distance(target, source)
        if terms.contrastive:
            found["contrastive"] = terms.contrastive * info_nce(target, visual, scale=terms.scale, ids=image_index)
        if terms.bank:
            found["bank"] = terms.bank * info_nce_one_way(target, self.bank, image_index, terms.scale)
        if terms.relational:
            relation = relational_to_bank(
                target, source, self.bank, scale=terms.relational_scale, visual=visual, share=terms.anchor
            )
            found["relational"] = terms.relational * relation
        features = condition.features.get(language)
        if features is not None:
            guide = source if terms.guide == "source" else visual
            if terms.consistency:
                # smooth L1 towards pictures, plain L1 towards captions, as published
                consistency = semantic_consistency(features.related.float(), guide, smooth=terms.guide == "visual")
                found["consistency"] = terms.consistency * consistency
            if self.discriminator is not None:
                agnostic = features.agnostic.float()
                found.update(adversary(self.discriminator, agnostic, guide, terms.adversarial, ids=image_index))
                with torch.no_grad():
                    true, shuffled = (self.discriminator(agnostic, g) for g in (guide, guide.roll(1, dims=0)))
                    self.observe(discriminator_accuracy=discriminator_accuracy(true, shuffled))
        return found
