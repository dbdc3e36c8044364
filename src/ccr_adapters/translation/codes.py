"""Language codes: plain `de`, `sw`, `pt-BR` in, and out what a translation model itself calls the language.

Five spellings are in use: NLLB writes `deu_Latn`, M2M100 `__de__`, mBART-50 `de_DE`, MADLAD `<2de>`, and Marian models
with several targets `>>deu<<`. Which of them a model speaks is read off its own tokenizer and configuration, never off
the name of a repository.
"""

from __future__ import annotations

import difflib
import logging
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from ccr_adapters.data.benchmarks.languages import ISO_639_3
from ccr_adapters.errors import LanguageError, TranslationError
from ccr_adapters.translation.table import TABLE

logger = logging.getLogger(__name__)

# How a code is written as a token.
STYLES = {"nllb": "{}", "m2m100": "__{}__", "mbart50": "{}", "madlad": "<2{}>", "marian": ">>{}<<"}
# What looks like a code of a style; models know languages that the table does not have.
SHAPES = {
    "nllb": r"[a-z]{3}_[A-Z][a-z]{3}",
    "m2m100": r"__[a-z]+__",
    "mbart50": r"[a-z]{2,3}_[A-Z]{2}",
    "madlad": r"<2[\w-]+>",
    "marian": r">>[\w-]+<<",
}
# Which spellings a kind of model can have; other kinds are tried with all of them.
STYLES_OF = {
    "marian": ("marian",),
    "m2m_100": ("nllb", "m2m100"),
    "nllb-moe": ("nllb",),
    "mbart": ("mbart50",),
    "t5": ("madlad",),
    "mt5": ("madlad",),
    "umt5": ("madlad",),
}
# Which of its two written forms is not said.
_NORWEGIAN = ("no", "nor")
# Spellings whose encoder is told the source language too.
TWO_SIDED = ("nllb", "m2m100", "mbart50")


@dataclass(frozen=True)
class Language:
    """One row of the table: a language and its spellings; `None` where a family of models does not have it."""

    code: str
    name: str
    nllb: str | None
    m2m100: str | None
    mbart50: str | None
    others: tuple[str, ...]

    @property
    def script(self) -> str | None:
        """The script that it is written in, as ISO 15924 names it: `Latn`, `Hans`."""
        tag = self.code.partition("-")[2]
        if len(tag) == 4:
            return tag
        return self.nllb.rpartition("_")[2] if self.nllb else None

    @property
    def nllb_language(self) -> list[str]:
        """NLLB's code without the script."""
        return [self.nllb.partition("_")[0]] if self.nllb else []

    def spellings(self, style: str) -> list[str]:
        """What the language may be called in a style, most exact first."""
        if style in TWO_SIDED:
            own = getattr(self, style)
            return [own] if own else []
        main, _, variant = self.code.partition("-")
        found = [self.code.replace("-", "_"), self.code, *self.others]
        if self.nllb:
            found.append(self.nllb)
        # a region may fall back to its language, another script may not
        found += [] if len(variant) == 4 else [*self.nllb_language, main]
        return list(dict.fromkeys(found))


@dataclass(frozen=True)
class ModelCodes:
    """How one model is told its languages.

    Args:
        style: One of `STYLES`, `prompt` (T5's "translate English to German: "), or `pair` for a model of one pair.
        source: The model's own code of the source language, where it takes one.
        target: The model's own code of the target language, where it takes one.
        prefix: Text in front of every caption.
        forced_bos: Id of the token that every translation begins with.
        silent: Ids of all languages' tokens; not every tokenizer knows that they are no words.
    """

    style: str
    source: str | None = None
    target: str | None = None
    prefix: str = ""
    forced_bos: int | None = None
    silent: frozenset[int] = frozenset()


@lru_cache(maxsize=1)
def languages() -> dict[str, Language]:
    """The table by BCP-47 code."""
    found = {}
    for line in TABLE.strip().splitlines():
        code, nllb, m2m100, mbart50, others, name = line.split(maxsplit=5)
        found[code] = Language(
            code,
            name.replace("_", " "),
            nllb=None if nllb == "-" else nllb,
            m2m100=None if m2m100 == "-" else m2m100,
            mbart50=None if mbart50 == "-" else mbart50,
            others=() if others == "-" else tuple(others.split(",")),
        )
    return found


@lru_cache(maxsize=1)
def _by_any_name() -> dict[str, Language]:
    names: dict[str, Language] = {}
    for language in languages().values():
        own = (language.code, language.nllb, language.mbart50, *language.others)
        short = language.nllb.partition("_")[0] if language.nllb else None
        for name in (*own, short):
            if name:
                names.setdefault(name.lower().replace("_", "-"), language)
    return names


def find_language(code: str) -> Language | None:
    """Look a language up by any of its codes: `de`, `DE`, `de-AT`, `deu`, `deu_Latn`; `None` if the table lacks it."""
    key = code.strip().lower().replace("_", "-")
    found = _by_any_name().get(key)
    if found is None and re.fullmatch(r"[a-z]{2,3}-([a-z]{2}|\d{3})", key):
        found = _by_any_name().get(key.partition("-")[0])  # a region that no model tells apart
    main, _, rest = key.partition("-")
    if found is None and re.fullmatch(r"[a-z]{4}-([a-z]{2}|\d{3})", rest):
        found = find_language(f"{main}-{rest[:4]}")
    if found is None and len(rest) == 4:
        plain = _by_any_name().get(main)
        found = plain if plain is not None and str(plain.script).lower() == rest else None  # the script it has anyway
    return found


def script_of(code: str) -> str | None:
    """The ISO 15924 name of the script of a language; `None` if neither the table nor the code says it."""
    language = find_language(code)
    if language is not None:
        return language.script
    named = re.fullmatch(r"[A-Za-z]{2,3}[-_]([A-Za-z]{4})([-_].*)?", code.strip())
    return named[1].title() if named else None


def _tokens(tokenizer: Any) -> set[str]:
    own = set(tokenizer.get_vocab()) | set(getattr(tokenizer, "supported_language_codes", ()))
    return own | set(getattr(tokenizer, "lang_code_to_token", {}).values())


def _spelling(code: str, style: str, tokens: set[str]) -> str | None:
    """The first spelling of a language that is a token of the model, and looks like a code: 'de' is a piece of words too."""
    language = find_language(code)
    candidates = [code.strip()] + (language.spellings(style) if language else [])
    for name in candidates:
        token = STYLES[style].format(name)
        if token in tokens and re.fullmatch(SHAPES[style], token):
            return name
    return _of_nllb(code, tokens) if style == "nllb" and language is None else None


def _of_nllb(code: str, tokens: set[str]) -> str | None:
    """NLLB's spelling of a language that the table lacks, if it has one, in one script: `ckb` is `ckb_Arab`."""
    key = code.strip().lower()
    names = {key, *(three for three, two in ISO_639_3.items() if two == key)}
    found = [token for token in tokens if re.fullmatch(SHAPES["nllb"], token) and token[:3] in names]
    return found[0] if len(found) == 1 else None


def _known(style: str, tokens: set[str]) -> list[str]:
    return [code for code in languages() if _spelling(code, style, tokens)]


def _nearest(code: str, known: Iterable[str]) -> str:
    """Say which of the known languages may have been meant, and how many there are."""
    known = list(known)
    names = {languages()[item].name.lower(): item for item in known if item in languages()}
    wanted = find_language(code)
    close = [item for item in known if item.partition("-")[0] == code.lower().replace("_", "-").partition("-")[0]]
    for name in (code.lower(), wanted.name.lower() if wanted else ""):
        close += [names[match] for match in difflib.get_close_matches(name, names, n=2, cutoff=0.6)]
    if len(code) < 5 or not close:
        close += difflib.get_close_matches(code.lower(), known, n=3, cutoff=0.5)
    close = list(dict.fromkeys(close))[:5] if len(known) > 12 else known
    shown = ", ".join(f"{item} ({languages()[item].name})" if item in languages() else item for item in close)
    if len(close) == len(known):
        return f"It knows {shown}."
    return f"Nearest of the {len(known)} in the table: {shown or ', '.join(known[:5]) + ', ...'}."


def _style_of(config: Any, tokens: set[str]) -> str | None:
    """The spelling that the most languages of the table have among the model's tokens."""
    styles = STYLES_OF.get(str(getattr(config, "model_type", "")), tuple(STYLES))
    counts = {style: len(_known(style, tokens)) for style in styles}
    best = max(counts, key=lambda style: counts[style])
    return best if counts[best] else None


def resolve_codes(config: Any, tokenizer: Any, source: str, target: str) -> ModelCodes:
    """Find out how a model is told to translate from one language into another.

    Args:
        config: The model's configuration.
        tokenizer: Its tokenizer.
        source: BCP-47 code, for example `"en"`.
        target: BCP-47 code, for example `"de"`.

    Returns:
        The codes in the model's own spelling.

    Raises:
        LanguageError: If the model does not know a language; the message names the nearest that it knows.
        TranslationError: If the tokenizer does not write the source code that its model needs.
    """
    tokens = _tokens(tokenizer)
    style = _style_of(config, tokens)
    if style is None:
        return _without_codes(config, tokenizer, source, target)
    found = {}
    for side, code in (("source", source), ("target", target)):
        spelling = _spelling(code, style, tokens)
        if spelling is None and (side == "target" or style in TWO_SIDED):
            raise LanguageError(
                f"The translator knows no {side} language '{code}'. {_nearest(code, _known(style, tokens))}"
            )
        found[side] = spelling
    silent = frozenset(
        int(tokenizer.convert_tokens_to_ids(token)) for token in tokens if re.fullmatch(SHAPES[style], token)
    )
    if style not in TWO_SIDED:
        _check_trained_for(tokenizer, source, None)
        prefix = STYLES[style].format(found["target"]) + " "
        return ModelCodes(style, None, found["target"], prefix=prefix, silent=silent)
    ids = {side: int(tokenizer.convert_tokens_to_ids(STYLES[style].format(code))) for side, code in found.items()}
    tokenizer.src_lang = found["source"]
    if ids["source"] not in tokenizer("a")["input_ids"]:
        raise TranslationError(
            f"The tokenizer ({type(tokenizer).__name__}) does not write the source code '{found['source']}' into its inputs, "
            "and the model would guess the language. Load it with its own class, for example NllbTokenizer."
        )
    return ModelCodes(style, found["source"], found["target"], forced_bos=ids["target"], silent=silent)


def _without_codes(config: Any, tokenizer: Any, source: str, target: str) -> ModelCodes:
    """A model of one pair, or one that is told in plain words what to do."""
    tasks = getattr(config, "task_specific_params", None) or {}
    pairs = {name.removeprefix("translation_"): task for name, task in tasks.items() if name.startswith("translation_")}
    if pairs:
        wanted = f"{source}_to_{target}"
        if wanted not in pairs:
            known = ", ".join(name.replace("_to_", " to ") for name in sorted(pairs))
            raise LanguageError(f"The translator does not translate {source} to {target}. It translates {known}.")
        return ModelCodes("prompt", prefix=str(pairs[wanted].get("prefix", "")))
    if not _check_trained_for(tokenizer, source, target):
        logger.warning(
            "The translator does not say which languages it translates; it is taken to translate %s to %s.",
            source,
            target,
        )
    return ModelCodes("pair")


def _one_language(*named: tuple[str, Language]) -> bool:
    """Whether two names mean one language, which may have two rows of the table (Filipino, Tagalog) or a wider name."""
    wide = any(name.strip().lower() in _NORWEGIAN for name, _ in named)
    mains = {language.code.partition("-")[0] for _, language in named}
    models = {language.nllb for _, language in named}
    return len(mains) == 1 or (len(models) == 1 and None not in models) or (wide and mains == {"nb", "nn"})


def _check_trained_for(tokenizer: Any, source: str, target: str | None) -> bool:
    """Refuse a pair that the tokenizer says the model was not trained for. Groups ('mul', 'gmw') are taken as they are.

    Returns:
        Whether the tokenizer said anything.
    """
    said = False
    for side, wanted in (("source", source), ("target", target)):
        own = getattr(tokenizer, f"{side}_lang", None)
        if wanted is None or not isinstance(own, str):
            continue
        said = True
        theirs, ours = find_language(own), find_language(wanted)
        if theirs and ours and not _one_language((own, theirs), (wanted, ours)):
            raise LanguageError(
                f"The translator's {side} language is {theirs.code} ({theirs.name}), not '{wanted}'. "
                "Choose a model of this pair."
            )
    return said
