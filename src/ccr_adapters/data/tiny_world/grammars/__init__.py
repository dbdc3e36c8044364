"""The grammars of the tiny world, one module for each language."""

from __future__ import annotations

from functools import cache

from ccr_adapters.errors import LanguageError

from .base import PLAIN, STYLES, Grammar, Voice
from .chinese import Chinese
from .czech import Czech
from .english import English
from .french import French
from .german import German
from .swahili import Swahili

__all__ = ["LANGUAGES", "PLAIN", "SOURCE_LANGUAGE", "STYLES", "Grammar", "Voice", "grammar_for"]

_GRAMMARS: dict[str, type[Grammar]] = {
    grammar.language: grammar for grammar in (English, German, French, Czech, Chinese, Swahili)
}

SOURCE_LANGUAGE = English.language
LANGUAGES = tuple(language for language in _GRAMMARS if language != SOURCE_LANGUAGE)
"""The target languages: German, French, Czech, Chinese (simplified) and Swahili, the low-resource one."""


@cache
def grammar_for(language: str) -> Grammar:
    """The grammar of a language.

    Args:
        language: 'en' or one of `LANGUAGES`.

    Returns:
        The grammar, which has no state and is shared.

    Raises:
        LanguageError: if the tiny world does not speak the language.
    """
    if language not in _GRAMMARS:
        raise LanguageError(
            f"The tiny world has no grammar for language {language!r}. It has: {', '.join(sorted(_GRAMMARS))}."
        )
    return _GRAMMARS[language]()
