"""A new language that starts from a trained one: its adapter, its head, and the rows of the tokens that both have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from peft import PeftConfig, PeftType, get_peft_model_state_dict, set_peft_model_state_dict
from torch import nn

from ccr_adapters.configuration import LanguageConfig
from ccr_adapters.errors import AdapterError
from ccr_adapters.modeling.adapter_folder import read_adapter_config
from ccr_adapters.modeling.checks import check_whole
from ccr_adapters.modeling.download import local_folder, wanted
from ccr_adapters.modeling.interfaces import HoldsLanguages
from ccr_adapters.modeling.language_files import load_language
from ccr_adapters.modeling.persistence import check_same_base
from ccr_adapters.processing.repository import elsewhere, hub_arguments, inside, read_config
from ccr_adapters.processing.shared_tokens import shared_tokens

# A token that two languages share may mean something else in each: half of what the pairs say, half of what was trained. Measured
# by benchmarks/warm_start.py: the trained row alone is worse than none.
SHARE = 0.5
# settings of an adapter that the shapes of its tensors follow from, or what they mean
_SIZES = (
    "mode",
    "r",
    "condition_dim",
    "generator_rank",
    "adapt_from",
    "prefix_blocks",
    "condition_on",
    "sr_pooling",
    "sa_all_positions",
)
# what the trained language is called while it is in the model, where its own code may be the new one's
_NEIGHBOUR = "warm-start"


def find_start(
    name: str | Path, language: str | None, adapter: PeftConfig, **kwargs: Any
) -> tuple[Path, str, LanguageConfig]:
    """The trained language that a new one can start from.

    Args:
        name: Folder or repository of its adapter.
        language: Its code, where there are several.
        adapter: The adapter of the new language.
        kwargs: `revision`, `token`, `cache_dir`, `local_files_only`.

    Returns:
        The folder, the code, and the language's configuration.

    Raises:
        AdapterError: If a file is missing or truncated, if it is of another method or size, or if it must be said which
            language is meant. Nothing is loaded for that, so it can be asked before hours of translating.
        LanguageError: If there is no such language.
    """
    folder = local_folder(name, hub_arguments(kwargs), None if language is None else [language])
    own = read_config(folder)
    codes = wanted(own, None if language is None else [language], name)
    if len(codes) != 1:
        raise AdapterError(f"'{name}' has several languages ({', '.join(codes)}); say which one to start from.")
    place = inside(folder, own.languages[codes[0]].folder)
    check_whole(place, own.languages[codes[0]])
    trained = read_adapter_config(place)
    theirs, ours = (PeftType(each.peft_type).value for each in (trained, adapter))
    if theirs != ours:
        raise AdapterError(f"'{name}' holds an adapter of {theirs}, which cannot start one of {ours}.")
    for key in _SIZES:
        there, here = getattr(trained, key, None), getattr(adapter, key, None)
        if there != here:
            raise AdapterError(
                f"'{name}' has an adapter with `{key}={there}`, the new one `{key}={here}`; to start from it, give that the same."
            )
    return folder, codes[0], own.languages[codes[0]]


def start_from(model: HoldsLanguages, name: str | Path, code: str, language: str | None = None, **kwargs: Any) -> int:
    """Give an untrained language the weights of a trained one, its neighbour: less is then left to learn.

    Rows of tokens that both vocabularies have become the mean of both; all of the neighbour's, if it is the same language.

    Args:
        model: The model, with the language.
        name: Folder or repository of the neighbour's adapter, on the same base.
        code: The new language.
        language: Which of its languages; default the only one.
        kwargs: `revision`, `token`, `cache_dir`, `local_files_only`.

    Returns:
        How many tokens both have; 0 where a vocabulary is shared with the base.

    Raises:
        AdapterError: If it stands on another base, or its adapter is of another method or size.
    """
    folder, near, trained = find_start(name, language, model.base.peft_config[code], **kwargs)
    check_same_base(model, read_config(folder))
    with model.shelf.alone():
        load_language(model, _NEIGHBOUR, trained, folder, **elsewhere(hub_arguments(kwargs)))
        try:
            _copy_adapter(model.base, code, name)
            if code in model.heads and _NEIGHBOUR in model.heads:
                _copy_module(model.heads[_NEIGHBOUR], model.heads[code], f"The head of '{name}'")
            return _mix_rows(model, code, 1.0 if near == code else SHARE, name)
        finally:
            model.take_language(_NEIGHBOUR)


def _copy_adapter(base: nn.Module, code: str, name: str | Path) -> None:
    ours, theirs = (
        get_peft_model_state_dict(base, adapter_name=each, save_embedding_layers=False) for each in (code, _NEIGHBOUR)
    )
    wrong = sorted(key for key in ours.keys() | theirs.keys() if key not in ours or key not in theirs)
    wrong += [key for key in ours if key in theirs and ours[key].shape != theirs[key].shape]
    if wrong:
        shapes = [tuple(state[wrong[0]].shape) if wrong[0] in state else "none" for state in (theirs, ours)]
        raise AdapterError(
            f"The adapter of '{name}' has other sizes: '{wrong[0]}' is {shapes[0]} there, {shapes[1]} here. Use the same settings."
        )
    # copies, or the new language would train the tensors of one that leaves
    state = {key: value.detach().clone() for key, value in theirs.items()}
    set_peft_model_state_dict(base, state, adapter_name=code)


def _copy_module(source: nn.Module, target: nn.Module, what: str) -> None:
    try:
        target.load_state_dict(source.state_dict(), strict=True)
    except RuntimeError as error:
        raise AdapterError(f"{what} has other sizes: {str(error).splitlines()[-1].strip()}") from error


def _mix_rows(model: HoldsLanguages, code: str, share: float, name: str | Path) -> int:
    if code not in model.vocabularies or _NEIGHBOUR not in model.vocabularies or model.processor is None:
        return 0
    ours: Any = model.vocabularies[code]
    theirs: Any = model.vocabularies[_NEIGHBOUR]
    if ours.config.width != theirs.config.width:
        raise AdapterError(f"Rows of '{name}' have width {theirs.config.width}, those here {ours.config.width}.")
    here, there = shared_tokens(model.processor.tokenizer_for(code), model.processor.tokenizer_for(_NEIGHBOUR))
    ours.mix(here.to(ours.table.weight.device), theirs.rows_of(there.to(ours.table.weight.device)), share)
    if ours.projection is not None and theirs.projection is not None:
        _copy_module(theirs.projection, ours.projection, f"The projection of '{name}'")
    return len(here)
