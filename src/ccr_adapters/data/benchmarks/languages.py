"""Language codes as data sets write them (`jp`, `enc`, `deu_Latn`, `zho-Hans`) to the code that this package uses."""

from __future__ import annotations

from collections.abc import Iterable

# what users and files write instead of the BCP-47 code
ALIASES = {"jp": "ja", "cn": "zh", "cz": "cs", "gr": "el", "kr": "ko", "ua": "uk", "vn": "vi", "enc": "en", "iw": "he"}
# ISO 639-3, as MTEB (`deu-Latn`) and NLLB (`deu_Latn`) spell languages, also the single languages that stand for a group
ISO_639_3 = {
    "aar": "aa", "abk": "ab", "afr": "af", "aka": "ak", "als": "sq", "amh": "am", "ara": "ar", "arb": "ar", "arg": "an",
    "asm": "as", "ava": "av", "ave": "ae", "aym": "ay", "ayr": "ay", "aze": "az", "azj": "az", "bak": "ba", "bam": "bm",
    "bel": "be", "ben": "bn", "bis": "bi", "bod": "bo", "bos": "bs", "bre": "br", "bul": "bg", "cat": "ca", "ces": "cs",
    "cha": "ch", "che": "ce", "chu": "cu", "chv": "cv", "cmn": "zh", "cor": "kw", "cos": "co", "cre": "cr", "cym": "cy",
    "dan": "da", "deu": "de", "div": "dv", "dzo": "dz", "ekk": "et", "ell": "el", "eng": "en", "epo": "eo", "est": "et",
    "eus": "eu", "ewe": "ee", "fao": "fo", "fas": "fa", "fij": "fj", "fin": "fi", "fra": "fr", "fry": "fy", "ful": "ff",
    "fuv": "ff", "gaz": "om", "gla": "gd", "gle": "ga", "glg": "gl", "glv": "gv", "grn": "gn", "gug": "gn", "guj": "gu",
    "hat": "ht", "hau": "ha", "heb": "he", "her": "hz", "hin": "hi", "hmo": "ho", "hrv": "hr", "hun": "hu",
    "hye": "hy", "ibo": "ig", "ido": "io", "iii": "ii", "iku": "iu", "ile": "ie", "ina": "ia", "ind": "id", "ipk": "ik",
    "isl": "is", "ita": "it", "jav": "jv", "jpn": "ja", "kal": "kl", "kan": "kn", "kas": "ks", "kat": "ka", "kau": "kr",
    "kaz": "kk", "khk": "mn", "khm": "km", "kik": "ki", "kin": "rw", "kir": "ky", "kmr": "ku", "knc": "kr", "kom": "kv",
    "kon": "kg", "kor": "ko", "kua": "kj", "kur": "ku", "lao": "lo", "lat": "la", "lav": "lv", "lim": "li", "lin": "ln",
    "lit": "lt", "ltz": "lb", "lub": "lu", "lug": "lg", "lvs": "lv", "mah": "mh", "mal": "ml", "mar": "mr", "mkd": "mk",
    "mlg": "mg", "mlt": "mt", "mon": "mn", "mri": "mi", "msa": "ms", "mya": "my", "nau": "na", "nav": "nv", "nbl": "nr",
    "nde": "nd", "ndo": "ng", "nep": "ne", "nld": "nl", "nno": "nn", "nob": "no", "nor": "no", "npi": "ne", "nya": "ny",
    "oci": "oc", "oji": "oj", "ori": "or", "orm": "om", "ory": "or", "oss": "os", "pan": "pa", "pbt": "ps", "pes": "fa",
    "pli": "pi", "plt": "mg", "pol": "pl", "por": "pt", "pus": "ps", "que": "qu", "quy": "qu", "roh": "rm", "ron": "ro",
    "run": "rn", "rus": "ru", "sag": "sg", "san": "sa", "sin": "si", "slk": "sk", "slv": "sl", "sme": "se", "smo": "sm",
    "sna": "sn", "snd": "sd", "som": "so", "sot": "st", "spa": "es", "sqi": "sq", "srd": "sc", "srp": "sr", "ssw": "ss",
    "sun": "su", "swa": "sw", "swe": "sv", "swh": "sw", "tah": "ty", "tam": "ta", "tat": "tt", "tel": "te", "tgk": "tg",
    "tgl": "tl", "tha": "th", "tir": "ti", "ton": "to", "tsn": "tn", "tso": "ts", "tuk": "tk", "tur": "tr", "twi": "tw",
    "uig": "ug", "ukr": "uk", "urd": "ur", "uzb": "uz", "uzn": "uz", "ven": "ve", "vie": "vi", "vol": "vo", "wln": "wa",
    "wol": "wo", "xho": "xh", "ydd": "yi", "yid": "yi", "yor": "yo", "zha": "za", "zho": "zh", "zsm": "ms", "zul": "zu",
}  # fmt: skip

# codes that adapters, translators and benchmarks use for one language: its written forms, its variety, its wider name
_ONE_LANGUAGE = ({"no", "nb", "nn"}, {"tl", "fil"}, {"qu", "quz"})


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


def codes_of(codes: Iterable[str], language: str) -> list[str]:
    """Those of some codes that mean a language: of its primary code, and if there is none, of another that it has.

    Args:
        codes: As an adapter or a benchmark spells them.
        language: As somebody writes it.

    Returns:
        The codes, in their order.

    Example:
        >>> codes_of(["de", "no"], "nb"), codes_of(["zh-Hans", "zh-Hant"], "zho"), codes_of(["nb", "nn"], "nn")
        (['no'], ['zh-Hans', 'zh-Hant'], ['nn'])
    """
    there = [(code, primary_language(code)) for code in codes]
    wanted = primary_language(language)
    same = [code for code, primary in there if primary == wanted]
    return same or [code for code, primary in there if any({primary, wanted} <= group for group in _ONE_LANGUAGE)]
