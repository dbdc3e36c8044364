"""Which of the loaded languages a question is in: the one whose tokenizer writes it with the least effort."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from ccr_adapters.demo.names import SOURCE
from ccr_adapters.processing import CCRProcessor

Detector: TypeAlias = Callable[[str], tuple[str, float]]
"""A text to the code of its language and how sure that is, from 0 to 1."""


def effort(tokenizer: Any, text: str) -> int:
    """What it takes a tokenizer to write a text: its pieces, and the letters of what it does not know.

    A tokenizer of words says that it does not know a word; one of bytes knows everything, and spells it in many pieces.
    Counting the letters of an unknown piece makes the two comparable.

    Args:
        tokenizer: A tokenizer of transformers.
        text: The text.

    Returns:
        The number of pieces, and the letters of unknown ones on top.
    """
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=bool(tokenizer.is_fast), verbose=False)
    ids = encoded["input_ids"]
    if not ids:  # nothing of it is left
        return 2 * len(text)
    unknown = [index for index, token in enumerate(ids) if token == tokenizer.unk_token_id]
    if tokenizer.is_fast:
        spans = [encoded["offset_mapping"][index] for index in unknown]
        return len(ids) + sum(end - start for start, end in spans)
    return len(ids) + round(len(text) * len(unknown) / len(ids))


def detect_by_tokenizer(processor: CCRProcessor, languages: Sequence[str]) -> Detector:
    """The detector that needs no model of its own.

    Args:
        processor: It has the tokenizers.
        languages: Codes of the adapters; the base's own language is always among the candidates, as the last.

    Returns:
        The detector. It is as sure as the best is shorter than the second best; 0 is a tie, which the first language
        wins. Languages that share the base's tokenizer cannot be told from it.
    """
    candidates = [*languages, SOURCE]

    def detect(text: str) -> tuple[str, float]:
        efforts = [effort(processor.tokenizer_for(None if code == SOURCE else code), text) for code in candidates]
        (best, first), *others = sorted(zip(efforts, range(len(candidates)), strict=True))
        return candidates[first], 1 - best / others[0][0] if others else 1.0

    return detect
