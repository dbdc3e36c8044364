"""What can be told of a translation without knowing its language: overlap, script, loops. Strings in, numbers out."""

from __future__ import annotations

import unicodedata
from collections import Counter
from functools import lru_cache

# ISO 15924 names of the table -> how Unicode begins the names of the letters.
SCRIPTS: dict[str, tuple[str, ...]] = {
    "Arab": ("ARABIC",),
    "Armn": ("ARMENIAN",),
    "Beng": ("BENGALI",),
    "Cyrl": ("CYRILLIC",),
    "Deva": ("DEVANAGARI",),
    "Ethi": ("ETHIOPIC",),
    "Geor": ("GEORGIAN",),
    "Grek": ("GREEK",),
    "Gujr": ("GUJARATI",),
    "Guru": ("GURMUKHI",),
    # 々 and 〆 are IDEOGRAPHIC
    "Hang": ("HANGUL", "CJK", "IDEOGRAPHIC"),
    "Hans": ("CJK", "IDEOGRAPHIC"),
    "Hant": ("CJK", "IDEOGRAPHIC", "BOPOMOFO"),
    "Hebr": ("HEBREW",),
    "Jpan": ("HIRAGANA", "KATAKANA", "CJK", "IDEOGRAPHIC"),
    "Khmr": ("KHMER",),
    "Knda": ("KANNADA",),
    "Laoo": ("LAO",),
    "Latn": ("LATIN",),
    "Mlym": ("MALAYALAM",),
    "Mymr": ("MYANMAR",),
    "Orya": ("ORIYA",),
    "Sinh": ("SINHALA",),
    "Taml": ("TAMIL",),
    "Telu": ("TELUGU",),
    "Thai": ("THAI",),
}
# Languages that are written in a second script too, beside that of the table.
ALSO_WRITTEN = {
    "sr": "Latn",
    "uz": "Cyrl",
    "az": "Cyrl",
    "kk": "Latn",
    "ku": "Arab",
    "tk": "Cyrl",
    "tt": "Latn",
    "pa": "Arab",
}
# Scripts without spaces between words.
UNSPACED = ("Hans", "Hant", "Jpan", "Khmr", "Laoo", "Mymr", "Thai")

_PUNCTUATION = ".,;:!?…\"'()[]«»„“”‚‘’¿¡،؛؟।"
_ORDER = 6
_BETA = 2.0


def _ngrams(text: str, n: int) -> Counter[str]:
    return Counter(text[i : i + n] for i in range(len(text) - n + 1))


def chrf(hypothesis: str, reference: str, *, order: int = _ORDER, beta: float = _BETA) -> float:
    """Character n-gram F-score (chrF, Popović 2015), without case and spaces.

    Precision and recall are averaged over the orders that both texts are long enough for.

    Args:
        hypothesis: One text.
        reference: The other; `beta` times as much weight lies on its n-grams being found.
        order: Longest n-gram.
        beta: See above.

    Returns:
        From 0 to 1.
    """
    texts = ["".join(text.lower().split()) for text in (hypothesis, reference)]
    precision = recall = 0.0
    orders = 0
    for n in range(1, order + 1):
        ours, theirs = (_ngrams(text, n) for text in texts)
        if not ours or not theirs:
            break
        common = (ours & theirs).total()
        precision += common / ours.total()
        recall += common / theirs.total()
        orders += 1
    if not precision or not recall:
        return 0.0
    precision, recall = precision / orders, recall / orders
    return (1 + beta**2) * precision * recall / (beta**2 * precision + recall)


@lru_cache(maxsize=65536)
def _script(letter: str) -> str:
    """How Unicode begins the name of a letter: LATIN, CJK, HANGUL; '' for what is no letter of a script."""
    if not unicodedata.category(letter).startswith("L"):
        return ""
    name = unicodedata.name(letter, "")
    return "" if name.startswith("MODIFIER") else name.replace("-", " ").partition(" ")[0]


def share_of_script(text: str, scripts: tuple[str, ...]) -> float:
    """Share of letters that belong to scripts, as Unicode names them; 1 for a text without letters."""
    # full-width Latin letters and half-width Katakana have names of their own
    found = [_script(letter) for letter in unicodedata.normalize("NFKC", text)]
    letters = [script for script in found if script]
    return sum(script in scripts for script in letters) / len(letters) if letters else 1.0


def _words(text: str) -> list[str]:
    """Words without the punctuation around them; a word of nothing else stays as it is."""
    return [word.strip(_PUNCTUATION) or word for word in text.lower().split()]


def share_of_loops(text: str, *, spaced: bool = True) -> float:
    """Share of a text that only repeats what stands right in front of it, three times or more in a row.

    What stands between may be left out behind the last: "a dog and a dog and a dog" has it three times.

    Args:
        text: A text.
        spaced: Count in words, without punctuation; otherwise in letters, of which a single one has to stand five times in a row.
            What has no letter is then no loop: the zeros of a number, dots.

    Returns:
        From 0 to 1: "a dog dog dog" is one half.
    """
    tokens = _words(text) if spaced else list("".join(text.lower().split()))
    surplus, place = 0, 0
    while place < len(tokens):
        best = 0
        for n in range(1, (len(tokens) - place + spaced) // 3 + 1):
            times = 1
            unit = tokens[place : place + n]
            if not spaced and not any(map(str.isalpha, unit)):
                continue
            while tokens[place + times * n : place + (times + 1) * n] == unit:
                times += 1
            length = times * n
            if spaced and n > 2 and tokens[place + length : place + length + n - 1] == unit[:-1]:
                times, length = times + 1, length + n - 1
            if times >= (5 if n == 1 and not spaced else 3):
                best = max(best, length - n)
        surplus += best
        place += max(best, 1)
    return surplus / len(tokens) if tokens else 0.0
