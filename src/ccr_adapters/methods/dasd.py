"""DASD: align the target captions with their source (CLA), then with the pictures (CMA), with disentangled features.

The same objective trains every kind of adapter: terms over disentangled features apply where a dynamic adapter made
some, and are left out for a static acquirer or LoRA.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ccr_adapters.errors import ConfigError
from ccr_adapters.methods.base import Method, Terms
from ccr_adapters.modeling import CCRModel
from ccr_adapters.objectives import (
    PairDiscriminator,
    adversary,
    info_nce,
    info_nce_one_way,
    mse,
    semantic_consistency,
)
from ccr_adapters.objectives.precision import full_precision

NO_TERM = (
    "No term is left to minimise: all weights are 0, or only those over disentangled features are not, which a static "
    "adapter does not have."
)

STAGES: dict[str, Terms] = {
    # weights as published (Cai et al. 2025, section 'Training'; methods.md)
    "cla": Terms(alignment=1.0, consistency=0.1, adversarial=0.001, guide="source"),
    "cma": Terms(alignment=1.0, contrastive=1.0, consistency=0.1, adversarial=0.001, guide="visual"),
}


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

    bank: Tensor

    def __init__(self, model: CCRModel, language: str, terms: Terms, visual_bank: Tensor | None = None) -> None:
        super().__init__(model, language)
        if not terms.computed(dynamic=model.disentangles(language)):
            raise ConfigError(NO_TERM)
        if (terms.bank or terms.relational) and visual_bank is None:
            raise ConfigError("The terms `bank` and `relational` need the vectors of all pictures: pass `visual_bank`.")
        self.terms = terms
        self.discriminator: PairDiscriminator | None = None
        if terms.adversarial and model.disentangles(language):
            self.discriminator = PairDiscriminator(model.embedding_dim)
        # the same in every process, and rebuilt from the cache: no part of a checkpoint
        bank = F.normalize(visual_bank.float(), dim=-1) if visual_bank is not None else torch.empty(0)
        self.register_buffer("bank", bank, persistent=False)

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
        language, terms = str(self.language), self.terms
        target, _, condition = self.model.target_features(
            target_input_ids, target_attention_mask, target_pooled_at, language
        )
        target = target.float()  # (B, d)
        source, visual = source_vectors.float(), visual_vectors.float()
        found: dict[str, Tensor] = {}
        if terms.alignment:
            found["alignment"] = terms.alignment * mse(target, source)
        if terms.cosine:
            found["cosine"] = terms.cosine * (1 - F.cosine_similarity(target, source.detach(), dim=-1)).mean()
        if terms.contrastive:
            found["contrastive"] = terms.contrastive * info_nce(target, visual, scale=terms.scale, ids=image_index)
        if terms.bank:
            found["bank"] = terms.bank * info_nce_one_way(target, self.bank, image_index, terms.scale)
        if terms.relational:
            found["relational"] = terms.relational * self._relational(target, source)
        features = condition.features.get(language)
        if features is not None:
            guide = source if terms.guide == "source" else visual
            if terms.consistency:
                # smooth L1 towards pictures, plain L1 towards captions, as published
                consistency = semantic_consistency(features.related.float(), guide, smooth=terms.guide == "visual")
                found["consistency"] = terms.consistency * consistency
            if self.discriminator is not None:
                found.update(adversary(self.discriminator, features.agnostic.float(), guide, terms.adversarial))
        return found

    def _relational(self, target: Tensor, source: Tensor) -> Tensor:
        """KL from the source captions' softmax over the pictures to the target captions'. (B, d), (B, d) -> ()"""
        scale = self.terms.relational_scale
        with full_precision(target):
            logits = scale * F.normalize(target, dim=-1) @ self.bank.t()  # (B, M)
            with torch.no_grad():
                teacher = F.softmax(scale * F.normalize(source, dim=-1) @ self.bank.t(), dim=-1)
        return F.kl_div(F.log_softmax(logits, dim=-1), teacher, reduction="batchmean")
