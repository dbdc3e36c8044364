"""NRCCR: one network for both languages, taught against bad translations by what the English caption attends to.

Source, translation and back-translation go through the same fine-tuned encoder and the same head; captions and pictures
meet in a common space. Wang et al., ACM MM 2022 (arXiv 2208.12526); equations in methods.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ccr_adapters.errors import ConfigError
from ccr_adapters.methods.base import Method, Terms
from ccr_adapters.modeling import CCRModel
from ccr_adapters.objectives import (
    TokenDiscriminator,
    discriminator_accuracy,
    feature_view,
    language_adversary,
    similarity_view,
    triplet,
)


@dataclass(frozen=True)
class NRCCRTerms(Terms):
    """Weights of NRCCR's terms.

    Args:
        source: Triplet loss between English captions and pictures.
        target: Triplet loss between translations and pictures.
        similarity: The teacher view's distribution over the pictures, and theirs over it, for the translation.
        feature: Smooth L1 between the translation's vector and the teacher view's.
        cycle: Triplet loss between English captions and back-translations; needs back-translations.
        adversarial: The encoder's side of the language adversary.
        margin: Of the triplet losses.
        temperature: Of the similarity view.
        beta: Of the feature view.
    """

    RANGES: ClassVar[Mapping[str, tuple[float, float]]] = {"temperature": (0.0, math.inf)}

    source: float = 0.0
    target: float = 0.0
    similarity: float = 0.0
    feature: float = 0.0
    cycle: float = 0.0
    adversarial: float = 0.0
    margin: float = 0.2
    temperature: float = 0.07
    beta: float = 4.0


WEIGHTS = ("source", "target", "similarity", "feature", "cycle", "adversarial")


class NRCCR(Method):
    """The objective.

    Args:
        model: A model with the language and its head added.
        language: Its code.
        terms: Weights of the terms.
        visual_bank: Not used.

    Raises:
        ConfigError: If the language has no head, or no term is left.
    """

    terms_class = NRCCRTerms
    stages: ClassVar[Mapping[str, Terms]] = {
        "joint": NRCCRTerms(source=1.0, target=0.6, similarity=0.4, feature=0.1, cycle=0.5, adversarial=0.001)
    }
    arguments: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "joint": {
            "learning_rate": 1e-4,
            "auxiliary_learning_rate": 1e-3,
            "lr_scheduler_type": "constant",  # x0.99 an epoch is published, which transformers does not have
            "warmup_steps": 0,
            "adam_beta2": 0.999,
            "weight_decay": 0.0,
            "max_grad_norm": 2.0,
        }
    }
    adapter: ClassVar[Mapping[str, Any]] = {"peft_type": "FULL", "head": False}
    head: ClassVar[Mapping[str, Any] | None] = {}

    def __init__(self, model: CCRModel, language: str, terms: NRCCRTerms, visual_bank: Tensor | None = None) -> None:
        super().__init__(model, language)
        if model.space(language) is None:
            raise ConfigError("NRCCR maps captions and pictures into a space of their own: give the language a `head`.")
        if not self.computed(terms, dynamic=False):
            raise ConfigError(f"No term is left to minimise: give one of {', '.join(WEIGHTS)} a weight.")
        self.terms = terms
        width = int(model.heads[language].text.entry[0].normalized_shape[0])  # type: ignore[union-attr, index]
        self.discriminator = TokenDiscriminator(width) if terms.adversarial else None

    @classmethod
    def computed(cls, terms: NRCCRTerms, *, dynamic: bool) -> list[str]:
        """As in the base class; margin, temperature and beta are no terms."""
        return [name for name in WEIGHTS if getattr(terms, name)]

    @classmethod
    def needs(cls, terms: NRCCRTerms) -> frozenset[str]:
        """Source captions always, back-translations for the cycle."""
        return frozenset({"source", "back"} if terms.cycle else {"source"})

    @property
    def leaves_unused(self) -> bool:
        """Where no caption is compared with a picture, nothing reads half of the features or the base's copied projection."""
        compared = self.terms.source or self.terms.target or self.terms.similarity
        return not compared or self.reads_half() or self.model.copies_projection(str(self.language))

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
        source_input_ids: Tensor,
        source_attention_mask: Tensor,
        source_pooled_at: Tensor,
        visual_vectors: Tensor,
        image_index: Tensor,
        back_input_ids: Tensor | None = None,
        back_attention_mask: Tensor | None = None,
        back_pooled_at: Tensor | None = None,
        visual_frames: Tensor | None = None,
        visual_mask: Tensor | None = None,
        **_: Tensor,
    ) -> dict[str, Tensor]:
        """Terms of a batch.

        Args:
            target_input_ids: Ids of the translations, with their mask and end positions. (B, L)
            target_attention_mask: 1 at real tokens. (B, L)
            target_pooled_at: Position of each end token. (B,)
            source_input_ids: The same of the source captions. (B, Ls)
            source_attention_mask: (B, Ls)
            source_pooled_at: (B,)
            visual_vectors: Vectors of the pictures by the frozen base. (B, d)
            image_index: Which picture each row shows. (B,)
            back_input_ids: The same of the back-translations, where there is a cycle. (B, Lb)
            back_attention_mask: (B, Lb)
            back_pooled_at: (B,)
            visual_frames: Frames in place of one vector, for videos. (B, T, d)
            visual_mask: 1 at real frames. (B, T)
        """
        language, terms = str(self.language), self.terms
        head: Any = self.model.heads[language]
        target_states = self.model.token_states(
            target_input_ids, target_attention_mask, target_pooled_at, language
        )  # (B, L, w)
        english, english_mask, ends = _stacked(
            (source_input_ids, source_attention_mask, source_pooled_at),
            (back_input_ids, back_attention_mask, back_pooled_at) if terms.cycle else None,
        )
        # source captions and back-translations share a pass
        english_states = self.model.token_states(english, english_mask, ends, language, source=True)
        count = len(target_input_ids)
        source_states, source_mask = english_states[:count], english_mask[:count]
        target_entered, source_entered = head.text.enter(target_states), head.text.enter(source_states)  # (B, L, h)
        target = head.text.project(
            head.text.attend(target_entered, target_attention_mask), target_attention_mask
        )  # (B, d')
        source = head.text.project(head.text.attend(source_entered, source_mask), source_mask)
        visual = head.visual(visual_vectors if visual_frames is None else visual_frames, visual_mask)
        self.observe_vectors(target, visual)

        found: dict[str, Tensor] = {}
        compare: Any = {"margin": terms.margin, "ids": image_index}
        if terms.source:
            found["source"] = terms.source * triplet(source, visual, **compare)
        if terms.target:
            found["target"] = terms.target * triplet(target, visual, **compare)
        if terms.similarity or terms.feature:
            view = head.text.cross_view(source_entered, target_entered, source_mask, target_attention_mask)  # (B, d')
            if terms.similarity:
                similarity = similarity_view(view, target, visual, temperature=terms.temperature, ids=image_index)
                found["similarity"] = terms.similarity * similarity
            if terms.feature:
                found["feature"] = terms.feature * feature_view(target, view, beta=terms.beta)
        if terms.cycle:
            back = head.text(english_states[count:], english_mask[count:])  # (B, d')
            found["cycle"] = terms.cycle * triplet(source, back, **compare)
        if self.discriminator is not None:
            states = (source_states.float(), target_states.float(), source_mask, target_attention_mask)
            found.update(language_adversary(self.discriminator, *states, weight=terms.adversarial))
            with torch.no_grad():
                is_target = self.discriminator(states[1], states[3]), self.discriminator(states[0], states[2])
                self.observe(discriminator_accuracy=discriminator_accuracy(*is_target))
        return found


def _stacked(
    first: tuple[Tensor, Tensor, Tensor], second: tuple[Tensor | None, Tensor | None, Tensor | None] | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Two sets of captions as one batch, padded to the longer."""
    if second is None:
        return first
    if second[0] is None or second[1] is None or second[2] is None:
        raise ConfigError("The term `cycle` needs back-translations, and the batch holds none.")
    length = max(first[0].shape[1], second[0].shape[1])
    ids, mask = (
        torch.cat([F.pad(part, (0, length - part.shape[1])) for part in pair])
        for pair in ((first[0], second[0]), (first[1], second[1]))
    )
    return ids, mask, torch.cat([first[2], second[2]])
