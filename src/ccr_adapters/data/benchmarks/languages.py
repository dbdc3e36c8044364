"""Language codes as data sets write them (`jp`, `enc`, `deu_Latn`, `zho-Hans`) to the code that this package uses."""

from __future__ import annotations

# what users and files write instead of the BCP-47 code
ALIASES = {"jp": "ja", "cn": "zh", "cz": "cs", "gr": "el", "kr": "ko", "ua": "uk", "vn": "vi", "enc": "en", "iw": "he"}
# ISO 639-3, as MTEB (`deu-Latn`) and NLLB (`deu_Latn`) spell the languages of the benchmarks
ISO_639_3 = {
    "ara": "ar", "arb": "ar", "ben": "bn", "bul": "bg", "ces": "cs", "cmn": "zh", "dan": "da", "deu": "de", "ell": "el",
    "eng": "en", "est": "et", "fas": "fa", "fin": "fi", "fra": "fr", "heb": "he", "hin": "hi", "hrv": "hr", "hun": "hu",
    "ind": "id", "ita": "it", "jpn": "ja", "kor": "ko", "mri": "mi", "nld": "nl", "nob": "no", "nor": "no", "pes": "fa",
    "pol": "pl", "por": "pt", "ron": "ro", "rus": "ru", "spa": "es", "swa": "sw", "swe": "sv", "swh": "sw", "tel": "te",
    "tha": "th", "tur": "tr", "ukr": "uk", "vie": "vi", "zho": "zh",
}  # fmt: skip


def primary_language(code: str) -> str:
    """Bring a code to the one that benchmarks are looked up by: the primary subtag of BCP-47.

    Args:
        code: As somebody writes it, in any case, with `-` or `_` before a script or region.

    Returns:
        The code, for example `"de"`; one that is not known comes back in lower case.

    Example:
        >>> [primary_language(code) for code in ("jp", "deu_Latn", "zh-CN", "quz")]
        ['ja', 'de', 'zh', 'quz']
    """
    primary = code.strip().lower().replace("_", "-").split("-")[0]
    return ALIASES.get(primary) or ISO_639_3.get(primary) or primary
