"""Translation: English captions into pseudo-parallel corpora, and how noisy those are."""

from __future__ import annotations

from ccr_adapters.translation.checks import chrf
from ccr_adapters.translation.codes import Language, ModelCodes, find_language, languages, resolve_codes
from ccr_adapters.translation.job import TranslationSummary, translate_dataset
from ccr_adapters.translation.noise import NoiseReport, filter_rows, noise_report, with_weights
from ccr_adapters.translation.rows import load_rows
from ccr_adapters.translation.translator import Translator

__all__ = [
    "Language",
    "ModelCodes",
    "NoiseReport",
    "TranslationSummary",
    "Translator",
    "chrf",
    "filter_rows",
    "find_language",
    "languages",
    "load_rows",
    "noise_report",
    "resolve_codes",
    "translate_dataset",
    "with_weights",
]
