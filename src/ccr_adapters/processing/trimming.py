"""A tokenizer cut down to the pieces that some texts use, which cuts those texts as before.

Three kinds of models, and what each needs beside the pieces that are used:

- WordPiece takes the longest piece at each place: a piece that is left out was never the longest where it counted.
- BPE joins pairs in their order: the pairs that lead to a piece that is used must all stay, and the parts of those.
- Unigram takes the best path: leaving out other paths does not change the best one. What an unknown character costs is
  measured from the worst piece, so that one stays.

Single characters and bytes stay as well, so that no text becomes unknown that was not.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from ccr_adapters.errors import ConfigError

_CHUNK = 4096
_NAMED = ("pad_token", "bos_token", "eos_token", "cls_token", "sep_token", "unk_token", "mask_token")
_SETTINGS = ("model_max_length", "padding_side", "truncation_side", "clean_up_tokenization_spaces", "model_input_names")
# scripts, by the first words of their characters' names, and the languages that are written in them
_CHINESE = "CJK IDEOGRAPHIC FULLWIDTH"
_SCRIPTS = {
    "LATIN": "af az bs ca ceb cs cy da de en eo es et eu fi fil fo fr fy ga gd gl gn ha haw hr ht hu id ig is it jv ku la lb "
    "lg ln lt lv mg mi ms mt nb nl nn no nso ny oc om pl pt qu ro rw sk sl sm sn so sq sr st su sv sw tk tl tn to tr ts uz vi wo "
    "xh yo zu an ast bar br co frp fur hsb kl lmo nds oc pms quz sc scn sco se vec wa war wln",
    "CYRILLIC": "ru uk be bg mk sr kk ky mn tg tt ba cv uz",
    "ARABIC": "ar fa ur ps ckb sd ug arz ary",
    "DEVANAGARI": "hi mr ne sa mai bho",
    _CHINESE: "zh yue",
    "CJK IDEOGRAPHIC FULLWIDTH HALFWIDTH HIRAGANA KATAKANA KATAKANA-HIRAGANA": "ja",
    "HANGUL CJK": "ko",
    "BENGALI": "bn as",
    "HEBREW": "he yi",
    "ETHIOPIC": "am ti",
    "GREEK": "el",
    "ARMENIAN": "hy",
    "GEORGIAN": "ka",
    "THAI": "th",
    "LAO": "lo",
    "KHMER": "km",
    "MYANMAR": "my",
    "TAMIL": "ta",
    "TELUGU": "te",
    "KANNADA": "kn",
    "MALAYALAM": "ml",
    "GUJARATI": "gu",
    "GURMUKHI": "pa",
    "SINHALA": "si",
    "ORIYA": "or",
}
# what a tag says that names a script (ISO 15924), `sr-Latn`
_TAGS = {
    "latn": "LATIN",
    "cyrl": "CYRILLIC",
    "arab": "ARABIC",
    "deva": "DEVANAGARI",
    "hans": _CHINESE,
    "hant": _CHINESE,
    "beng": "BENGALI",
    "hebr": "HEBREW",
    "grek": "GREEK",
    "geor": "GEORGIAN",
    "thai": "THAI",
    "guru": "GURMUKHI",
    "ethi": "ETHIOPIC",
    "armn": "ARMENIAN",
    "laoo": "LAO",
    "khmr": "KHMER",
    "mymr": "MYANMAR",
    "taml": "TAMIL",
    "telu": "TELUGU",
    "knda": "KANNADA",
    "mlym": "MALAYALAM",
    "gujr": "GUJARATI",
    "sinh": "SINHALA",
    "orya": "ORIYA",
}


def ids_in_use(tokenizer: Any, texts: Iterable[str]) -> set[int]:
    """Ids that a tokenizer makes of texts."""
    used: set[int] = set()
    batch: list[str] = []
    for text in texts:
        batch.append(text)
        if len(batch) == _CHUNK:
            used.update(i for ids in tokenizer(batch, verbose=False)["input_ids"] for i in ids)
            batch = []
    if batch:
        used.update(i for ids in tokenizer(batch, verbose=False)["input_ids"] for i in ids)
    return used


def ids_of_scripts(tokenizer: Any, languages: Iterable[str]) -> set[int]:
    """Ids of all pieces that the scripts of some languages could need: those without a letter of another script.

    Raises:
        ConfigError: If it is not known which script a language is written in.
    """
    scripts = {"COMBINING", "MODIFIER", *(script for code in languages for script in _scripts(code))}
    suffix = json.loads(tokenizer.backend_tokenizer.to_str())["model"].get("end_of_word_suffix") or ""
    found = set()
    for piece, index in tokenizer.get_vocab().items():
        # half of a character of a byte-level vocabulary decodes to nothing that has a script, and stays
        text = tokenizer.convert_tokens_to_string([piece.removesuffix(suffix)])
        letters = [char for char in text if unicodedata.category(char)[0] in "LM"]
        if all(unicodedata.name(char, "").split(" ")[0] in scripts for char in letters):
            found.add(index)
    return found


def _scripts(code: str) -> list[str]:
    main, *tags = code.lower().replace("_", "-").split("-")
    found = [_TAGS[tag] for tag in tags if tag in _TAGS]
    found = found or [scripts for scripts, codes in _SCRIPTS.items() if main in codes.split()]
    if not found:
        raise ConfigError(
            f"Which script '{code}' is written in is not known here, and so not which pieces it needs. Give texts of it: "
            f"`--corpus {code}=captions.txt`."
        )
    return [word for scripts in found for word in scripts.split()]


def trim_tokenizer(tokenizer: Any, used: Iterable[int]) -> tuple[PreTrainedTokenizerFast, list[int]]:
    """Cut a tokenizer down to pieces in use, and what they need.

    Args:
        tokenizer: A fast tokenizer of transformers with a WordPiece, BPE or Unigram model.
        used: Ids that must stay.

    Returns:
        The new tokenizer, and the old id of each of its ids, in the old order.

    Raises:
        ConfigError: If it is of another kind.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise ConfigError(f"A {type(tokenizer).__name__} has no `tokenizer.json` to trim; load the fast one.")
    spec = json.loads(backend.to_str())
    model = spec["model"]
    kind = model.get("type")
    if kind not in _KEEP:
        raise ConfigError(
            f"A vocabulary of the kind {kind!r} cannot be trimmed without making texts unknown; expected {', '.join(_KEEP)}."
        )
    vocab: dict[str, int] = (
        {piece: index for index, (piece, _) in enumerate(model["vocab"])} if kind == "Unigram" else dict(model["vocab"])
    )
    ids = {**vocab, **{each["content"]: each["id"] for each in spec["added_tokens"]}}
    always = {each["content"] for each in spec["added_tokens"]} | set(tokenizer.all_special_tokens)
    always |= {str(model["unk_token"])} if model.get("unk_token") else set()
    used = set(used)
    wanted = {piece for piece, index in ids.items() if index in used} | (always & set(ids))
    kept = _KEEP[kind](model, vocab, wanted) | wanted
    old = sorted({ids[piece] for piece in kept})
    new = {before: after for after, before in enumerate(old)}
    if kind == "Unigram":
        if model.get("unk_id") is not None:
            model["unk_id"] = new[model["unk_id"]]
        model["vocab"] = [entry for entry in model["vocab"] if entry[0] in kept]
    else:
        model["vocab"] = {piece: new[index] for piece, index in vocab.items() if piece in kept}
    for each in spec["added_tokens"]:
        each["id"] = new[each["id"]]
    _renumber(spec.get("post_processor"), new)
    if spec.get("padding"):
        spec["padding"]["pad_id"] = new[spec["padding"]["pad_id"]]
    trimmed = _wrapped(tokenizer, Tokenizer.from_str(json.dumps(spec)))
    found = trimmed.get_vocab()
    wrong = [piece for piece in kept if found.get(piece) != new[ids[piece]]]
    if wrong:
        raise ConfigError(
            f"The ids of this tokenizer cannot be closed up: {wrong[0]!r} was to become {new[ids[wrong[0]]]}, and is "
            f"{found.get(wrong[0])}."
        )
    return trimmed, old


def check_same(tokenizer: Any, smaller: Any, old: Sequence[int], texts: Sequence[str]) -> None:
    """Refuse a trimmed tokenizer that cuts a text in another way.

    Raises:
        ConfigError: With the first such text.
    """
    for start in range(0, len(texts), 1024):
        batch = list(texts[start : start + 1024])
        before = tokenizer(batch, verbose=False)["input_ids"]
        after = smaller(batch, verbose=False)["input_ids"]
        for text, whole, cut in zip(batch, before, after, strict=True):
            if whole != [old[index] for index in cut]:
                raise ConfigError(
                    f"The trimmed tokenizer cuts {text[:60]!r} in another way ({smaller.convert_ids_to_tokens(cut)} for "
                    f"{tokenizer.convert_ids_to_tokens(whole)}). Nothing was written; please report it."
                )


def _wordpiece(model: dict[str, Any], vocab: Mapping[str, int], wanted: set[str]) -> set[str]:
    prefix = model.get("continuing_subword_prefix") or ""
    single = {piece for piece in vocab if len(piece.removeprefix(prefix)) == 1}

    def odd(piece: str) -> bool:
        inner = piece.removeprefix(prefix) if prefix else piece
        at_start = inner == piece
        return any((char if at_start and not i else prefix + char) not in single for i, char in enumerate(inner))

    return single | {piece for piece in vocab if odd(piece)}


def _bpe(model: dict[str, Any], vocab: Mapping[str, int], wanted: set[str]) -> set[str]:
    """The symbols that every text starts from, and all parts of what is wanted; cuts the merges down to them."""
    prefix, suffix = model.get("continuing_subword_prefix") or "", model.get("end_of_word_suffix") or ""
    kept = {piece for piece in vocab if len(piece.removeprefix(prefix).removesuffix(suffix)) <= 1 or _is_byte(piece)}
    merges = [tuple(pair.split(" ")) if isinstance(pair, str) else tuple(pair) for pair in model["merges"]]
    parts: dict[str, list[tuple[str, ...]]] = {}
    for pair in merges:
        parts.setdefault(_joined(pair, prefix), []).append(pair)
    waiting = list(wanted | kept)
    seen = set(waiting)
    while waiting:
        for pair in parts.get(waiting.pop(), ()):
            for part in pair:
                if part not in seen:
                    seen.add(part)
                    waiting.append(part)
    model["merges"] = [list(pair) for pair in merges if _joined(pair, prefix) in seen]
    return seen & set(vocab)


def _joined(pair: tuple[str, ...], prefix: str) -> str:
    return pair[0] + pair[1].removeprefix(prefix)


def _unigram(model: dict[str, Any], vocab: Mapping[str, int], wanted: set[str]) -> set[str]:
    single = {piece for piece in vocab if len(piece) == 1 or _is_byte(piece)}
    # a character that no piece of its own covers can only be read as part of a longer one
    odd = {piece for piece in vocab if not set(piece) <= single}
    worst = min(model["vocab"], key=lambda entry: entry[1])[0]
    unknown = model["vocab"][model["unk_id"]][0] if model.get("unk_id") is not None else worst
    return single | odd | {worst, unknown}


def _is_byte(piece: str) -> bool:
    return len(piece) == 6 and piece.startswith("<0x") and piece.endswith(">")


_KEEP = {"WordPiece": _wordpiece, "BPE": _bpe, "Unigram": _unigram}


def _renumber(part: Any, new: Mapping[int, int]) -> None:
    """New ids in a post-processor, which names the special tokens it puts around a text."""
    if not isinstance(part, dict):
        return
    for key in ("sep", "cls"):
        if isinstance(part.get(key), list):
            part[key][1] = new[part[key][1]]
    if part.get("type") == "TemplateProcessing":
        for token in part["special_tokens"].values():
            token["ids"] = [new[index] for index in token["ids"]]
    for inner in part.get("processors") or ():
        _renumber(inner, new)


def _wrapped(tokenizer: Any, backend: Tokenizer) -> PreTrainedTokenizerFast:
    """As a tokenizer of transformers with the settings of another."""
    names = {name: getattr(tokenizer, name) for name in _NAMED if getattr(tokenizer, name, None) is not None}
    settings = {name: getattr(tokenizer, name) for name in _SETTINGS if getattr(tokenizer, name, None) is not None}
    return PreTrainedTokenizerFast(tokenizer_object=backend, **names, **settings)
