"""Which language a caption is in, among those that a model knows, and how sure that is.

py3langid (BSD, 4.6 MB, numpy alone, no pickle, nothing downloaded) does the work: naive Bayes over byte n-grams, for 140
languages. The confidence is the share of the best candidate among all 140, not among the candidates: a caption in a
language that the model does not know is then near nothing, where among a few candidates one would win by a mile.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from ccr_adapters.errors import LanguageError, MissingExtraError
from ccr_adapters.extras import require

MIN_CONFIDENCE = 0.3
"""From here on a caption counts as recognised.

`benchmarks/language_id.py` measures what it does, and its table is in `docs/many_languages.md`: whole captions nearly always reach
it, three to five words mostly, one or two seldom. What reaches it is hardly ever wrong, and a caption in a language that is not
among the candidates hardly ever does.
"""
# codes that py3langid knows by another name
_ALSO = {"nb": "no", "fil": "tl", "iw": "he", "in": "id", "ji": "yi", "cmn": "zh", "swh": "sw", "prs": "fa"}


# languages that no count of captions tells apart
_NEAR = ({"bs", "hr", "sr"}, {"no", "nb", "nn", "da"}, {"id", "ms"}, {"cs", "sk"})


def identify(text: str, languages: Iterable[str]) -> tuple[str, float]:
    """Recognise the language of a text.

    Args:
        text: A caption.
        languages: Codes of the languages that it may be in; `zh-Hant` is recognised as `zh`.

    Returns:
        The code, one of `languages`, and the confidence, from 0 to 1. Of two that are one to the recogniser (`zh`, `zh-Hant`)
        the first.

    Raises:
        LanguageError: If none of the languages can be recognised.
        MissingExtraError: If py3langid is not installed.

    Example:
        >>> identify("Ein Hund rennt durch den Schnee", ["de", "en"])  # doctest: +SKIP
        ('de', 0.99)
    """
    languages, names = list(languages), dict[str, str]()
    for code in recognised(languages):
        names.setdefault(_name(code), code)
    if not names:
        raise LanguageError(
            f"None of the languages can be recognised: {', '.join(languages) or 'there is none'}. Say which one it is."
        )
    shares = dict(_recogniser().rank(text))
    best = max(names, key=lambda name: shares[name])
    return names[best], float(shares[best])


def mostly_other(texts: Sequence[str], language: str, *, most: int = 500) -> str | None:
    """Say so if texts that are said to be in a language read as another one for the most part.

    Near languages pass for each other in single captions, so this is told of many, and not of one.

    Args:
        texts: For example the translations of a corpus; what is missing is of no language.
        language: Its code.
        most: Texts to look at, from all over.

    Returns:
        A sentence with counts; `None` if they read as the language, if nothing is known of it, or without py3langid.
    """
    try:
        known = recognised([language])
    except MissingExtraError:
        return None
    if not known or not len(texts):
        return None
    places = sorted({int(place) for place in np.linspace(0, len(texts) - 1, most)})
    best = [_recogniser().rank(texts[place] or "")[0] for place in places]
    counts = Counter(code for code, share in best if share >= MIN_CONFIDENCE)
    other, count = max(counts.items(), key=lambda found: found[1], default=("", 0))
    own = _name(language)
    if other == own or 2 * count <= len(places) or any({own, other} <= near for near in _NEAR):
        return None
    return (
        f"Of {len(places)} translations {count} read as '{other}' and {counts[own]} as '{language}'. Look whether they "
        "are in the language that they are said to be in."
    )


def recognised(languages: Iterable[str]) -> list[str]:
    """Those of some languages that can be told from others.

    Args:
        languages: Codes.
    """
    return [code for code in languages if _name(code) in _known()]


def _name(code: str) -> str:
    main = code.split("-")[0].lower()
    return _ALSO.get(main, main)


@lru_cache(maxsize=1)
def _known() -> frozenset[str]:
    return frozenset(_recogniser().labels)


@lru_cache(maxsize=1)
def _recogniser() -> Any:
    """The model, unpacked once: a second or two, and 100 MB."""
    module = require("py3langid.langid", extra="langid")
    return module.LanguageIdentifier.from_model_file(module.MODEL_FILE, norm_probs=True)
