"""Where a base lies: the one that comes with the package, a folder here or beside the adapter, or a repository."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from huggingface_hub import try_to_load_from_cache
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from ccr_adapters.data import tiny_clip_path
from ccr_adapters.errors import AdapterError, first_line
from ccr_adapters.processing.repository import read_json

# for `from_pretrained`: without it transformers would ask whoever sits at the terminal whether to run a repository's code,
# one that an adapter names and nobody typed
NO_REMOTE_CODE = {"trust_remote_code": False}
_FAST = "tokenizer.json"
_KINDS = ("BPE", "Unigram", "WordLevel", "WordPiece", None)  # an early file does not say
TINY_CLIP = "tiny_clip"
"""Name of the packaged base; adapters name it so, since its folder differs from machine to machine."""
_BESIDE_THE_MODEL = "Save it beside the model, with tokenizer.save_pretrained(folder), or pass `processor=`."


def resolve_base(name: str | Path, beside: Path | None = None) -> str:
    """What transformers can load a base from.

    Args:
        name: `tiny_clip`, a folder, or a repository.
        beside: Folder of the adapter that names the base; relative folders are looked for there first.

    Raises:
        AdapterError: If the name is a path and there is no such folder.
    """
    text = str(name)
    if text == TINY_CLIP:
        return str(tiny_clip_path())
    # what an adapter names lies beside it before it lies wherever the user happens to be
    if beside is not None and not Path(text).is_absolute() and (beside / text).is_dir():
        return str(beside / text)
    if Path(text).is_dir():
        return text
    if Path(text).is_absolute() or text.startswith(".") or text.count("/") > 1:
        raise AdapterError(f"The base '{text}' is not here. Put it there, or say where it is with `base=`.")
    return text


def read_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a language, from its folder.

    Raises:
        AdapterError: If it cannot be read, or only by code of its own.
    """
    if (folder / _FAST).is_file():
        model = read_json(folder / _FAST).get("model")
        kind = model.get("type") if isinstance(model, dict) else "none"
        if kind not in _KINDS:  # at which the library raises a bare Exception
            raise AdapterError(
                f"The tokenizer in '{folder}' cannot be read (its kind is {kind!r}). Download its files again."
            )
    try:
        found: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(str(folder), **NO_REMOTE_CODE)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise AdapterError(
            f"The tokenizer in '{folder}' cannot be read ({first_line(error)}). Download its files again."
        ) from error
    if knows_no_words(found):
        raise AdapterError(f"The tokenizer in '{folder}' knows no words; its files are missing. Download them again.")
    return found


def read_base_tokenizer(place: str | Path, **how: Any) -> PreTrainedTokenizerBase:
    """The tokenizer of a base, which lies beside its weights.

    Args:
        place: What transformers can load it from.
        how: What `from_pretrained` of transformers takes (`revision`, `token`, `local_files_only`, ...).

    Raises:
        AdapterError: If it is not there, or cannot be read.
    """
    try:
        found: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(str(place), **{**NO_REMOTE_CODE, **how})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise AdapterError(
            f"The tokenizer of the base '{place}' cannot be read ({first_line(error)}). {_BESIDE_THE_MODEL}"
        ) from error
    if knows_no_words(found):
        raise AdapterError(
            f"The base '{place}' has no files of its tokenizer, and every word would be the same one. {_BESIDE_THE_MODEL}"
        )
    return found


def knows_no_words(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether there is nothing in it but special tokens: where its files are missing, transformers makes such a one."""
    return set(tokenizer.get_vocab()) <= set(tokenizer.all_special_tokens)


def weight_files(place: str, revision: str | None = None, cache_dir: str | Path | None = None) -> list[Path]:
    """Files of weights that a base was loaded from: of its folder, or of the snapshot in the Hub's cache.

    Args:
        place: What transformers loaded it from.
        revision: Of a repository.
        cache_dir: Another cache than the Hub's usual one.

    Returns:
        Its safetensors; none if they cannot be told.
    """
    folder = Path(place)
    if not folder.is_dir():
        found = try_to_load_from_cache(place, "config.json", cache_dir=cache_dir, revision=revision or "main")
        if not isinstance(found, str):
            return []
        folder = Path(found).parent
    return sorted(folder.glob("*.safetensors"))


def cache_folder() -> Path:
    """Where this package keeps what it can make again: `$CCR_ADAPTERS_CACHE`, else `~/.cache/ccr_adapters`."""
    return Path(os.environ.get("CCR_ADAPTERS_CACHE") or "~/.cache/ccr_adapters").expanduser()
