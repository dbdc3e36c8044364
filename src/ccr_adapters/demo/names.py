"""What a page calls languages."""

from __future__ import annotations

from ccr_adapters.data.benchmarks.languages import primary_language

SOURCE = "en"
"""Code that means the base itself, without an adapter."""

NAMES = {
    "ar": "Arabic", "bg": "Bulgarian", "bn": "Bengali", "cs": "Czech", "da": "Danish", "de": "German", "el": "Greek",
    "en": "English", "es": "Spanish", "et": "Estonian", "fa": "Persian", "fi": "Finnish", "fr": "French", "he": "Hebrew",
    "hi": "Hindi", "hr": "Croatian", "hu": "Hungarian", "id": "Indonesian", "it": "Italian", "ja": "Japanese",
    "ko": "Korean", "mi": "Maori", "nl": "Dutch", "no": "Norwegian", "pl": "Polish", "pt": "Portuguese", "ro": "Romanian",
    "ru": "Russian", "sv": "Swedish", "sw": "Swahili", "te": "Telugu", "th": "Thai", "tr": "Turkish", "uk": "Ukrainian",
    "vi": "Vietnamese", "yo": "Yoruba", "zh": "Chinese",
}  # fmt: skip


def name_of(code: str) -> str:
    """The English name of a language.

    Args:
        code: Its code.

    Returns:
        `"German"`, `"Portuguese (pt-BR)"` where the code says more, and the code itself where the name is not known.
    """
    primary = primary_language(code)
    name = NAMES.get(primary)
    if name is None:
        return code
    return name if code.lower() == primary else f"{name} ({code})"
