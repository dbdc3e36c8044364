"""Transfer: DASD's adapters, taught by the English encoder itself; a mixture of the family that no paper has.

CL2CM trains a cross-lingual teacher beside the student. Here the teacher is at hand: the frozen base reads the English
caption. Its ranking of all training pictures is handed on (CL2CM's relational transfer, over a bank instead of a batch), and
so are its words, where that is asked for, through an optimal transport plan that gives a wrong word of the translation no
partner to be pulled to. What English does not know of a picture comes from the pictures themselves, by CL2CM's InfoNCE.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from ccr_adapters.dasd import BASE
from ccr_adapters.errors import ConfigError
from ccr_adapters.methods.base import Terms
from ccr_adapters.methods.dasd import DASD, DASDTerms
from ccr_adapters.objectives import cosine_cost, transport_cost, transport_plan


@dataclass(frozen=True)
class TransferTerms(DASDTerms):
    """DASD's terms, and one over words.

    Args:
        words: Transport cost between the token states of the translation and those of its English caption.
        epsilon: Entropic regularisation of the transport.
    """

    RANGES: ClassVar[Mapping[str, tuple[float, float]]] = {**DASDTerms.RANGES, "epsilon": (0.0, math.inf)}

    words: float = 0.0
    epsilon: float = 0.1


class Transfer(DASD):
    """The objective of the mixture.

    Args:
        model: A model with the language added.
        language: Its code.
        terms: Weights of the terms.
        visual_bank: Vectors of all training pictures. (M, d)
    """

    terms_class = TransferTerms
    terms: TransferTerms
    stages: ClassVar[Mapping[str, Terms]] = {
        "joint": TransferTerms(
            cosine=6.0, relational=1.0, contrastive=1.0, scale=20.0, consistency=0.1, adversarial=0.001
        )
    }

    arguments: ClassVar[Mapping[str, Mapping[str, Any]]] = {}

    @classmethod
    def computed(cls, terms: TransferTerms, *, dynamic: bool) -> list[str]:  # type: ignore[override]
        """As for DASD, and the words."""
        return [*super().computed(terms, dynamic=dynamic), *(["words"] if terms.words else [])]

    @classmethod
    def needs(cls, terms: TransferTerms) -> frozenset[str]:  # type: ignore[override]
        """As for DASD, and the tokens of the source captions for the words."""
        return super().needs(terms) | ({"source"} if terms.words else set())

    def forward(  # type: ignore[override]
        self,
        target_input_ids: Tensor,
        target_attention_mask: Tensor,
        target_pooled_at: Tensor,
        source_vectors: Tensor,
        visual_vectors: Tensor,
        image_index: Tensor,
        source_input_ids: Tensor | None = None,
        source_attention_mask: Tensor | None = None,
        source_pooled_at: Tensor | None = None,
        target_words: Tensor | None = None,
        source_words: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Terms of a batch.

        Args:
            target_input_ids: Ids of the translations, with their mask and end positions. (B, L)
            target_attention_mask: 1 at real tokens. (B, L)
            target_pooled_at: Position of each end token. (B,)
            source_vectors: Vectors of the source captions by the frozen base. (B, d)
            visual_vectors: Vectors of the pictures by the frozen base. (B, d)
            image_index: Which picture each row shows. (B,)
            source_input_ids: Ids of the source captions, where the words count. (B, Ls)
            source_attention_mask: (B, Ls)
            source_pooled_at: (B,)
            target_words: 1 at real tokens, where the mask has padding that the base reads as well (SigLIP). (B, L)
            source_words: The same of the source captions. (B, Ls)

        Raises:
            ConfigError: If the words count, and the batch has no source captions.
        """
        captions = (target_input_ids, target_attention_mask, target_pooled_at)
        target, states, condition = self.model.target_features(
            *captions, str(self.language), keep_states=bool(self.terms.words)
        )
        found = self._terms(target.float(), condition, source_vectors, visual_vectors, image_index)
        if self.terms.words:
            if source_input_ids is None or source_attention_mask is None:
                raise ConfigError("The term `words` reads source captions, and the batch holds none.")
            with torch.no_grad():
                source_states = self.model.token_states(
                    source_input_ids, source_attention_mask, source_pooled_at, BASE, source=True
                )  # (B, Ls, w), by the frozen base
            cost = cosine_cost(source_states.float(), states.float())  # (B, Ls, L)
            real = (
                source_attention_mask if source_words is None else source_words,
                target_attention_mask if target_words is None else target_words,
            )
            plan = transport_plan(cost, *real, epsilon=self.terms.epsilon)
            found["words"] = self.terms.words * transport_cost(cost, plan)
        return found
