"""CL2CM: what a cross-lingual network knows of a translation is handed to the cross-modal network.

The teacher sees English captions and translations, aligned by sentence and, through optimal transport, by word; the
student sees pictures and translations, and learns to rank as the teacher does. The teacher is an adapter of its own on
the same base, removed when training ends. Wang et al., AAAI 2024 (arXiv 2312.08984); equations in methods.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from ccr_adapters.errors import ConfigError
from ccr_adapters.methods.base import Method, Terms
from ccr_adapters.modeling import CCRModel
from ccr_adapters.objectives import cosine_cost, info_nce, mask_tokens, relational, transport_plan, word_alignment


@dataclass(frozen=True)
class CL2CMTerms(Terms):
    """Weights of CL2CM's terms.

    Args:
        contrastive: InfoNCE of the student between translations and pictures.
        source: InfoNCE of the student between source captions and pictures.
        sentence: InfoNCE of the teacher between source captions and translations.
        words: The teacher's masked words must find what the transport plan pairs them with.
        transfer: Divergence from the teacher's similarities (source, translation) to the student's (picture, translation).
        scale: Inverse temperature of the contrastive terms.
        temperature: Of the transfer.
        mask: Share of the words that are masked.
        epsilon: Entropic regularisation of the transport.
    """

    RANGES: ClassVar[Mapping[str, tuple[float, float]]] = {
        "scale": (0.0, math.inf),
        "temperature": (0.0, math.inf),
        "epsilon": (0.0, math.inf),
        "mask": (-math.inf, 1.0),
    }

    contrastive: float = 0.0
    source: float = 0.0
    sentence: float = 0.0
    words: float = 0.0
    transfer: float = 0.0
    scale: float = 20.0
    temperature: float = 0.05
    mask: float = 0.15
    epsilon: float = 0.1


WEIGHTS = ("contrastive", "source", "sentence", "words", "transfer")


class CL2CM(Method):
    """The objective; both networks train in one backward pass.

    Args:
        model: A model with the language added.
        language: Its code.
        terms: Weights of the terms.
        visual_bank: Not used.

    Raises:
        ConfigError: If no term is left, or the transfer has no teacher to come from.
    """

    terms_class = CL2CMTerms
    stages: ClassVar[Mapping[str, Terms]] = {
        "joint": CL2CMTerms(contrastive=1.0, source=1.0, sentence=1.0, words=1.0, transfer=1.0)
    }
    # the rate is ours: whole blocks are trained
    arguments: ClassVar[Mapping[str, Mapping[str, Any]]] = {"joint": {"learning_rate": 3e-5}}
    adapter: ClassVar[Mapping[str, Any]] = {"peft_type": "FULL"}

    def __init__(self, model: CCRModel, language: str, terms: CL2CMTerms, visual_bank: Tensor | None = None) -> None:
        super().__init__(model, language)
        if not self.computed(terms, dynamic=False):
            raise ConfigError(f"No term is left to minimise: give one of {', '.join(WEIGHTS)} a weight.")
        if terms.transfer and not (terms.sentence or terms.words):
            raise ConfigError(
                "`transfer` hands on what the teacher learns from `sentence` and `words`: give one a weight."
            )
        self.terms = terms
        self.teacher = f"{language}_teacher"
        self.teaches = bool(terms.sentence or terms.words)
        if self.teaches:
            model.add_auxiliary(self.teacher, language)
            model.trainable(language)
            if self.teacher in model.heads:
                # it reads captions alone
                model.heads[self.teacher].visual.requires_grad_(False)

    @property
    def leaves_unused(self) -> bool:
        """Where nothing reads a vector of one network, half of its features, or the base's projection behind a head."""
        read = self.terms.contrastive or self.terms.transfer
        replaced = self.model.space(str(self.language)) is not None and self.model.copies_projection(str(self.language))
        return not read or replaced or self.reads_half() or (self.teaches and not self.terms.sentence)

    @classmethod
    def computed(cls, terms: CL2CMTerms, *, dynamic: bool) -> list[str]:
        """As in the base class; scales and shares are no terms."""
        return [name for name in WEIGHTS if getattr(terms, name)]

    @classmethod
    def needs(cls, terms: CL2CMTerms) -> frozenset[str]:
        """Source captions, but for the plain contrastive term."""
        return frozenset({"source"} if terms.source or terms.sentence or terms.words else ())

    def finish(self) -> None:
        """Remove the teacher."""
        if self.teaches:
            self.model.remove_auxiliary(self.teacher)
            self.teaches = False

    def forward(  # type: ignore[override]
        self,
        target_input_ids: Tensor,
        target_attention_mask: Tensor,
        target_pooled_at: Tensor,
        visual_vectors: Tensor,
        image_index: Tensor,
        source_input_ids: Tensor | None = None,
        source_attention_mask: Tensor | None = None,
        source_pooled_at: Tensor | None = None,
        visual_frames: Tensor | None = None,
        visual_mask: Tensor | None = None,
        target_words: Tensor | None = None,
        source_words: Tensor | None = None,
        **_: Tensor,
    ) -> dict[str, Tensor]:
        """Terms of a batch.

        Args:
            target_input_ids: Ids of the translations, with their mask and end positions. (B, L)
            target_attention_mask: 1 at real tokens. (B, L)
            target_pooled_at: Position of each end token. (B,)
            visual_vectors: Vectors of the pictures by the frozen base. (B, d)
            image_index: Which picture each row shows. (B,)
            source_input_ids: The same of the source captions. (B, Ls)
            source_attention_mask: (B, Ls)
            source_pooled_at: (B,)
            visual_frames: Frames in place of one vector, for videos and a head that takes them. (B, T, d)
            visual_mask: 1 at real frames. (B, T)
            target_words: 1 at real tokens, where the mask has padding that the base reads as well (SigLIP). (B, L)
            source_words: The same of the source captions. (B, Ls)
        """
        language, terms, model = str(self.language), self.terms, self.model
        targets = (target_input_ids, target_attention_mask, target_pooled_at)
        sources = (source_input_ids, source_attention_mask, source_pooled_at)
        head: Any = model.heads[language] if model.space(language) else None
        shown = visual_vectors if visual_frames is None else visual_frames
        visual = visual_vectors.float() if head is None else head.visual(shown, visual_mask)
        target = model.target_features(*targets, language)[0].float()  # (B, d)
        self.observe_vectors(target, visual)
        found: dict[str, Tensor] = {}
        compare: Any = {"scale": terms.scale, "ids": image_index}
        if terms.contrastive:
            found["contrastive"] = terms.contrastive * info_nce(target, visual, **compare)
        if terms.source:
            source = model.target_features(*sources, language, source=True)[0].float()  # type: ignore[arg-type]
            found["source"] = terms.source * info_nce(source, visual, **compare)
        if self.teaches:
            real = (
                target_attention_mask if target_words is None else target_words,
                source_attention_mask if source_words is None else source_words,
            )
            lesson, teacher_source, teacher_target = self._teach(targets, sources, real, image_index)  # type: ignore[arg-type]
            found.update(lesson)
            if terms.transfer:
                vectors = (teacher_source, teacher_target, visual, target)
                transfer = relational(*vectors, temperature=terms.temperature, ids=image_index)
                found["transfer"] = terms.transfer * transfer
        return found

    def _teach(
        self,
        targets: tuple[Tensor, Tensor, Tensor],
        sources: tuple[Tensor, Tensor, Tensor],
        real: tuple[Tensor, Tensor],
        image_index: Tensor,
    ) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """The teacher's own terms, and its vectors of source captions and translations. (B, d)"""
        terms, count = self.terms, len(targets[0])
        target_words, source_words = real
        source, source_states, source_masked = self._read(sources, source_words, source=True)
        target, target_states, target_masked = self._read(targets, target_words, source=False)
        found: dict[str, Tensor] = {}
        if terms.sentence:
            sentence = info_nce(source[:count], target[:count], scale=terms.scale, ids=image_index)
            found["sentence"] = terms.sentence * sentence
        if terms.words and source_masked is not None and target_masked is not None:
            with torch.no_grad():
                cost = cosine_cost(source_states[:count], target_states[:count])  # (B, Ls, Lt)
                plan = transport_plan(cost, source_words, target_words, epsilon=terms.epsilon)
            words = word_alignment(
                source_states[count:],
                target_states[count:],
                source_masked,
                target_masked,
                plan,
                source_words,
                target_words,
                # a masked word looks in the whole sentence on the other side
                source_keys=source_states[:count],
                target_keys=target_states[:count],
            )
            found["words"] = terms.words * words
        return found, source[:count], target[:count]

    def _read(
        self, captions: tuple[Tensor, Tensor, Tensor], words: Tensor, *, source: bool
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """The teacher's vectors and token states of captions, and below them of the same with words masked."""
        ids, mask, ends = captions
        masked: Tensor | None = None
        if self.terms.words:
            tokenizer = self.model.processor.tokenizer_for(None if source else self.language)  # type: ignore[union-attr]
            hidden, masked = mask_tokens(ids, words, blank_of(tokenizer), self.terms.mask, tokenizer.all_special_ids)
            # both halves share a pass
            ids, mask, ends = torch.cat([ids, hidden]), torch.cat([mask, mask]), torch.cat([ends, ends])
        features, states, _ = self.model.target_features(ids, mask, ends, self.teacher, source=source)
        return features.float(), states.float(), masked


def blank_of(tokenizer: Any) -> int | None:
    """The token that stands for a masked word: the mask, else the unknown token.

    Returns:
        Its id; `None` where that ends a caption too, as CLIP's unknown token does: another word of the batch then.
    """
    if tokenizer.mask_token_id is not None:
        return int(tokenizer.mask_token_id)
    unknown = tokenizer.unk_token_id
    return None if unknown is None or unknown in (tokenizer.eos_token_id, tokenizer.pad_token_id) else int(unknown)
