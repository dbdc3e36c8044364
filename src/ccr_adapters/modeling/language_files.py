"""One language's files, and the language in a model: written from it, and put back."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from peft import PeftConfig, PeftType, inject_adapter_in_model

from ccr_adapters.configuration import HeadConfig, LanguageConfig, VocabularyConfig
from ccr_adapters.dasd import find_text_encoder
from ccr_adapters.dasd.families import caption_limit
from ccr_adapters.errors import AdapterError, CCRError, ConfigError, first_line
from ccr_adapters.modeling.adapter_folder import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    HEAD_WEIGHTS,
    VOCABULARY_WEIGHTS,
    fill_adapter,
    fill_module,
    patterns_in,
    read_adapter_config,
    read_tensors,
    write_adapter,
    write_tensors,
)
from ccr_adapters.modeling.interfaces import HoldsLanguages
from ccr_adapters.modeling.vocabulary import Vocabulary
from ccr_adapters.modeling.vocabulary_source import source_table
from ccr_adapters.processing.bases import read_tokenizer
from ccr_adapters.processing.repository import inside

_LOADS = ("DASD", "FULL", "LORA")
"""Methods that are known to be loaded as they were saved; another one is tried."""
# what peft and torch raise at a configuration that cannot be
_MISFITS = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)


def precision_of(dtype: torch.dtype | str | None) -> torch.dtype | None:
    """A precision by its name.

    Raises:
        ConfigError: If it is none that weights can be written in.
    """
    found = getattr(torch, dtype.removeprefix("torch."), None) if isinstance(dtype, str) else dtype
    if dtype is not None and found not in (torch.float32, torch.float16, torch.bfloat16):
        raise ConfigError(f"`dtype` is {dtype!r}; expected 'float32', 'float16' or 'bfloat16'.")
    return found


def write_language(
    model: HoldsLanguages,
    code: str,
    folder: Path,
    base_name: str | None,
    dtype: torch.dtype | None,
    row_tolerance: float | None = None,
) -> VocabularyConfig | None:
    """Write what a language adds to the base.

    Args:
        model: The model, with the language in memory.
        code: The language.
        folder: Where to.
        base_name: How the adapter names its base.
        dtype: Precision; default as it is.
        row_tolerance: Leave out rows that are no further from the vocabulary's source.

    Returns:
        The configuration of the vocabulary as it was written; `None` where there is none.

    Raises:
        ConfigError: If the language has a vocabulary, and the model not its tokenizer.
    """
    revision = model.config.base_revision
    processor = model.processor
    tokenizer = None if processor is None else processor.languages.get(code, (None,))[0]
    if code in model.vocabularies and tokenizer is None:
        raise ConfigError(
            f"Language {code!r} has a vocabulary of its own, and the model no processor that holds its tokenizer. Load the "
            "model with `processor=`."
        )
    write_adapter(folder, model.base, code, base_name=base_name, revision=revision, dtype=dtype)
    plan: VocabularyConfig | None = None
    if code in model.vocabularies:
        table: Any = model.vocabularies[code]
        plan, state = table.config, table.trained_state()
        if row_tolerance is not None and plan.source is not None:
            plan, state = table.changed_rows(source_table(plan.source, sha256=plan.source_sha256), row_tolerance)
        write_tensors(folder / VOCABULARY_WEIGHTS, state, dtype)
    if code in model.heads:
        write_tensors(folder / HEAD_WEIGHTS, model.heads[code].state_dict(), dtype)
    if tokenizer is not None:
        tokenizer.save_pretrained(str(folder))
    return plan


def check_it_loads(base: Any, adapter: PeftConfig, code: str) -> None:
    """Refuse an adapter that could be trained and saved, and not be loaded again: it is tried on a copy of the base.

    Some methods of peft keep more than their weights, or make it from numbers that loading does not have.

    Args:
        base: The base; it stays as it is.
        adapter: The adapter's configuration.
        code: Its language.

    Raises:
        ConfigError: If it is one of those.
    """
    method = PeftType(adapter.peft_type).value
    patterns = set(patterns_in(adapter.to_dict())) - {"target_modules", "exclude_modules"}
    if patterns:
        raise ConfigError(
            f"`{min(patterns)}` of the {method} adapter holds a regular expression; name modules plainly."
        )
    if method in _LOADS:
        return
    tried = copy.deepcopy(base)
    try:
        with TemporaryDirectory() as aside, torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            folder = Path(aside)
            inject_adapter_in_model(copy.deepcopy(adapter), tried, adapter_name=code)
            if not any(parameter.requires_grad for parameter in tried.parameters()):
                raise ValueError("it has nothing to train")
            write_adapter(folder, tried, code, base_name=None, revision=None, dtype=None)
            tried = copy.deepcopy(base)
            with torch.device("meta"):
                inject_adapter_in_model(read_adapter_config(folder), tried, adapter_name=code)
            fill_adapter(tried, code, folder / ADAPTER_WEIGHTS, base.dtype)
            ids = torch.arange(4, device=base.device)[None]
            find_text_encoder(tried).module(input_ids=ids, attention_mask=torch.ones_like(ids))
    except _MISFITS as error:
        raise ConfigError(
            f"An adapter of {method} could not be saved here and loaded again ({first_line(error)}). Use another method: DASD, "
            "LORA, FULL, or one of peft's that keeps nothing but weights, as IA3, LOHA or C3A."
        ) from error


def load_language(model: HoldsLanguages, code: str, language: LanguageConfig, root: Path, **hub: Any) -> None:
    """Put a language from an adapter repository into a model, which is left as it was if that fails.

    Args:
        model: The model.
        code: The language's code.
        language: Its configuration in the repository.
        root: The repository's folder.
        hub: How to load the source of a vocabulary (`token`, `cache_dir`, `local_files_only`).

    Raises:
        AdapterError: If a file is missing, broken, or does not fit the base.
    """
    folder = inside(root, language.folder)
    adapter = read_adapter_config(folder)
    adapter.inference_mode = True
    room = caption_limit(model.base.config)
    if language.pad_to is not None and language.pad_to > room:
        raise AdapterError(f"Language {code!r}: `pad_to` is {language.pad_to}; the base has room for {room} tokens.")
    width = find_text_encoder(model.base).token_width
    table = tokenizer = None
    if language.vocabulary is not None:
        tokenizer = _load_tokenizer(folder, language.vocabulary)
        table = _load_vocabulary(language, folder / VOCABULARY_WEIGHTS, width, hub)
        longest = model.processor.base_max_length if model.processor is not None else language.max_length
        if language.max_length > longest:
            raise AdapterError(
                f"Language {code!r}: `max_length` is {language.max_length}; the base takes {longest} tokens."
            )
    with _misfits_told(folder / ADAPTER_CONFIG):
        model.inject(adapter, code, device="meta")
    dtype = model.base.dtype if model.base.dtype.is_floating_point else torch.float32
    with ExitStack() as undo:
        model.config.languages[code] = language
        undo.callback(model.take_language, code)
        with _misfits_told(folder / ADAPTER_WEIGHTS):
            fill_adapter(model.base, code, folder / ADAPTER_WEIGHTS, dtype)
        if language.head is not None:
            model.heads[code] = _load_head(model, language.head, folder / HEAD_WEIGHTS, dtype)
        if table is not None:
            model.vocabularies[code] = table.to(model.base.device, dtype).requires_grad_(False)
        if model.processor is not None:
            model.processor.add_language(code, tokenizer, language.max_length)
        undo.pop_all()


@contextmanager
def _misfits_told(path: Path) -> Iterator[None]:
    """Name the file whose content peft or torch could not make anything of."""
    try:
        yield
    except CCRError:
        raise
    except _MISFITS as error:
        raise AdapterError(f"'{path}' does not fit the base, or is too large: {first_line(error)}") from error


def _load_head(model: HoldsLanguages, config: HeadConfig, path: Path, dtype: torch.dtype) -> torch.nn.Module:
    with _misfits_told(path), torch.device("meta"):
        head = model.build_head(config)
    return fill_module(head, path, model.base.device, dtype)


def _load_tokenizer(folder: Path, vocabulary: VocabularyConfig) -> Any:
    tokenizer = read_tokenizer(folder)
    if len(tokenizer) > vocabulary.size:
        raise AdapterError(
            f"The tokenizer in '{folder}' has {len(tokenizer)} tokens, its table {vocabulary.size} rows."
        )
    highest = max(tokenizer.get_vocab().values(), default=0)
    if highest >= vocabulary.size:
        raise AdapterError(
            f"The tokenizer in '{folder}' has a token of the id {highest}, its table {vocabulary.size} rows."
        )
    # tables are padded to round numbers, but not to many times their tokens
    if vocabulary.size > 2 * len(tokenizer) + 1024:
        raise AdapterError(
            f"The table in '{folder}' is said to have {vocabulary.size} rows, for a tokenizer of {len(tokenizer)} tokens."
        )
    return tokenizer


def _load_vocabulary(language: LanguageConfig, path: Path, width: int, hub: Mapping[str, Any]) -> Vocabulary:
    config = language.vocabulary
    if config is None:
        raise AdapterError("The language has no vocabulary.")
    state = read_tensors(path)
    source = None
    if config.source is not None and config.train != "all":
        source = source_table(config.source, sha256=config.source_sha256, **hub)
    return Vocabulary.from_trained_state(config, width, state, source=source)
