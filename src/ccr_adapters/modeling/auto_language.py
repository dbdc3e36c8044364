"""Captions whose language nobody says: each goes to the language that it is recognised as, or to the base."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Protocol

from ccr_adapters.processing.captions import check_captions
from ccr_adapters.processing.language_id import MIN_CONFIDENCE, identify, recognised

logger = logging.getLogger(__name__)

AUTO = "auto"
"""As the language of captions: recognise it."""
# what the base understands, unless the model has an adapter for it
_BASE = "en"


class Speaks(Protocol):
    """A model with languages."""

    @property
    def languages(self) -> list[str]:
        """Codes of the languages."""


def resolve_auto(
    model: Speaks, captions: str | Sequence[str], min_confidence: float = MIN_CONFIDENCE
) -> list[str | None]:
    """The language of each caption.

    Args:
        model: The model, of whose languages each caption may be, or of the base's, English.
        captions: One or many.
        min_confidence: Where the recogniser is less sure, the caption goes to the base.

    Returns:
        A code for each caption; `None` is the base.

    Raises:
        CaptionError: If a caption is empty or no text.
        LanguageError: If none of the languages can be recognised.
        MissingExtraError: If the recogniser is not installed.
    """
    texts = check_captions([captions] if isinstance(captions, str) else captions)
    known = recognised(model.languages)
    candidates = [*known, *([_BASE] if _BASE not in known else [])]
    found: list[str | None] = []
    unsure = 0
    for text in texts:
        code, confidence = identify(text, candidates)
        unsure += confidence < min_confidence
        base = confidence < min_confidence or (code == _BASE and _BASE not in known)
        found.append(None if base else code)
    if unsure:
        logger.warning(
            "%d of %d captions were not recognised as %s (confidence below %g), and went to the base.",
            unsure,
            len(texts),
            ", ".join(sorted(candidates)),
            min_confidence,
        )
    return found
