"""A model as an adapter repository, and back: the languages' files, and the name and hash of the base they need."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from transformers import AutoModel, AutoTokenizer

from ccr_adapters.configuration import CCRConfig, LanguageConfig, VocabularyConfig
from ccr_adapters.dasd import find_text_encoder
from ccr_adapters.dasd.anatomy import width_of
from ccr_adapters.errors import AdapterError, CCRError, LanguageError
from ccr_adapters.modeling.adapter_folder import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    HEAD_WEIGHTS,
    VOCABULARY_WEIGHTS,
    fill_adapter,
    fill_module,
    inside,
    read_adapter_config,
    read_json,
    read_tensors,
    write_adapter,
    write_tensors,
    written_aside,
)
from ccr_adapters.modeling.card import write_card
from ccr_adapters.modeling.interfaces import HoldsLanguages
from ccr_adapters.modeling.vocabulary import Vocabulary
from ccr_adapters.modeling.vocabulary_source import source_table
from ccr_adapters.processing import CCRProcessor
from ccr_adapters.processing.bases import resolve_base

HUB_ARGUMENTS = ("revision", "token", "cache_dir", "local_files_only", "force_download")


def save_model(
    model: HoldsLanguages,
    save_directory: str | Path,
    *,
    language: str | None = None,
    dtype: torch.dtype | None = None,
    evidence: dict[str, Any] | None = None,
    push_to_hub: bool = False,
    **kwargs: Any,
) -> None:
    """Write an adapter repository: everything that the languages need but the base.

    Args:
        model: The model.
        save_directory: The folder. One language lies at its top, several get a folder each.
        language: Only this one; default all.
        dtype: Precision of the written weights; default as they are. `torch.float16` halves the download.
        evidence: What was measured, for the card: `training`, `metrics`, ... (see `ccr_adapters.modeling.card`).
        push_to_hub: Upload afterwards (`repo_id=`, `token=`, ... as everywhere in transformers).
        kwargs: Arguments of `push_to_hub`; those of transformers' own `save_pretrained` have no meaning here.
    """
    codes = [language] if language else model.languages
    if not codes:
        raise LanguageError("There is no language to save; add one with add_language(...).")
    for code in codes:
        model.known_language(code)
    config = model.config
    name, sha256 = config.base_model_name_or_path, model.base_sha256()
    chosen = {code: config.languages[code] for code in codes}
    folders = {code: code if len(codes) > 1 else "" for code in codes}
    with written_aside(save_directory) as aside:
        for code in codes:
            folder = aside / folders[code]
            write_adapter(folder, model.base, code, base_name=name, revision=config.base_revision, dtype=dtype)
            if code in model.vocabularies:
                table: Any = model.vocabularies[code]
                write_tensors(folder / VOCABULARY_WEIGHTS, table.trained_state(), dtype)
            if code in model.heads:
                write_tensors(folder / HEAD_WEIGHTS, model.heads[code].state_dict(), dtype)
            if model.processor is not None and model.processor.languages.get(code, (None,))[0] is not None:
                model.processor.languages[code][0].save_pretrained(str(folder))
        written = CCRConfig(
            base_model_name_or_path=name,
            base_revision=config.base_revision,
            base_sha256=sha256,
            base_config=config.base_config,
            pooling=config.pooling,
            visual_dim=config.visual_dim,
            languages={
                code: LanguageConfig(own.vocabulary, own.max_length, folders[code], own.recipe, own.head)
                for code, own in chosen.items()
            },
        )
        written.architectures = ["CCRModel"]
        written.save_pretrained(str(aside))
        write_card(aside / "README.md", written, codes, aside, evidence or {})
    if push_to_hub:
        model.push_to_hub(kwargs.pop("repo_id", Path(save_directory).name), **kwargs)


def _local_folder(name: str | Path, hub: dict[str, Any]) -> Path:
    folder = Path(name)
    if folder.is_dir():
        return folder
    if folder.is_absolute() or str(name).count("/") != 1:
        raise AdapterError(f"'{name}' is neither a folder here nor the id of a repository (owner/name).")
    return Path(snapshot_download(str(name), **hub))


def load_model(
    cls: Any,
    pretrained_model_name_or_path: str | Path,
    *model_args: Any,
    base: Any | None = None,
    processor: CCRProcessor | None = None,
    config: CCRConfig | None = None,
    dtype: Any | None = None,
    device_map: Any | None = None,
    subfolder: str | None = None,
    **kwargs: Any,
) -> Any:
    """Load an adapter repository together with its base.

    Args:
        cls: The model class, built as `cls(config, base, processor)`.
        pretrained_model_name_or_path: Repository or folder.
        model_args: Unused; in transformers' signature.
        base: The base as a model, or another place to load it from; it must have the same weights.
        processor: The base's processor; by default it is loaded from where the base is named to be.
        config: Unused but for its type; the repository's own is read.
        dtype: Precision of the base.
        device_map: A device for the whole model (`"cuda"`, `"cpu"`).
        subfolder: Folder inside the repository.
        kwargs: `revision`, `token`, `cache_dir`, `local_files_only`.

    Raises:
        AdapterError: If a file is missing, truncated or tampered with, or the base has other weights.
    """
    hub = {key: kwargs[key] for key in HUB_ARGUMENTS if kwargs.get(key) is not None}
    folder = _local_folder(pretrained_model_name_or_path, hub)
    if subfolder:
        folder = inside(folder, subfolder)
    own = _read_config(folder)
    place = own.base_model_name_or_path if base is None else base
    if place is None:
        raise AdapterError("The repository does not name its base; pass it with `base=`.")
    elsewhere = {key: value for key, value in hub.items() if key != "revision"}
    if isinstance(place, (str, os.PathLike)):
        place = resolve_base(str(place), folder)
        try:
            module = AutoModel.from_pretrained(
                place, revision=own.base_revision or "main", dtype=dtype or torch.float32, **elsewhere
            )
        except OSError as error:
            raise AdapterError(
                f"The base '{place}' that this adapter needs cannot be loaded ({str(error).splitlines()[0]}). Say where it is "
                "with `base=`."
            ) from error
    else:
        module, place = place, own.base_model_name_or_path
        place = place if place is None or processor is not None else resolve_base(place, folder)
    if place is not None and processor is None:
        processor = CCRProcessor.for_base(place, module.config, revision=own.base_revision or "main", **elsewhere)
    languages, own.languages = own.languages, {}
    model = cls(own, module, processor)
    _check_base(model, own)
    for code, language in (languages or {}).items():
        _load_language(model, code, language, folder)
    if len(model.languages) > 0:
        model.set_language(model.languages[0])
    model.eval()
    if isinstance(device_map, (str, torch.device)) and device_map != "auto":
        model.to(device_map)
    return model


def _read_config(folder: Path) -> CCRConfig:
    """The configuration of an adapter repository."""
    kind = read_json(folder / "config.json").get("model_type")
    if kind != "ccr":
        raise AdapterError(f"'{folder}' holds a {kind!r} model, not an adapter repository of this package.")
    return CCRConfig.from_pretrained(str(folder))


def _check_base(model: HoldsLanguages, config: CCRConfig) -> None:
    if config.base_sha256 is None:
        return
    if model.base.dtype == torch.float16:
        raise AdapterError(
            "A base in float16 cannot be checked against the hash of its weights. Load it in bfloat16 or float32."
        )
    found = model.base_sha256()
    if found != config.base_sha256:
        raise AdapterError(
            f"The base '{config.base_model_name_or_path}' has other weights than the one that this adapter was trained on "
            f"(sha256 {found[:12]}..., expected {config.base_sha256[:12]}...). Load the right one, by revision if it has "
            "several, or train the adapter anew."
        )


def load_languages(model: HoldsLanguages, name: str | Path, code: str | None = None, **kwargs: Any) -> list[str]:
    """Add languages of an adapter repository to a model that stands on the same base.

    Args:
        model: The model.
        name: Repository or folder.
        code: Only this language; default all of them.
        kwargs: `revision`, `token`, `cache_dir`, `local_files_only`.

    Returns:
        The codes that were added.
    """
    hub = {key: kwargs[key] for key in HUB_ARGUMENTS if kwargs.get(key) is not None}
    folder = _local_folder(name, hub)
    own = _read_config(folder)
    _check_base(model, own)
    if code is not None and code not in own.languages:
        raise LanguageError(f"'{name}' has no language {code!r}. It has: {', '.join(sorted(own.languages))}.")
    added = [code] if code else list(own.languages)
    with ExitStack() as undo:
        for chosen in added:
            _load_language(model, chosen, own.languages[chosen], folder)
            undo.callback(model.delete_language, chosen)
        undo.pop_all()
    return added


def _load_language(model: HoldsLanguages, code: str, language: LanguageConfig, root: Path) -> None:
    model.check_new_language(code)
    folder = inside(root, language.folder)
    adapter = read_adapter_config(folder)
    adapter.inference_mode = True
    width = width_of(find_text_encoder(model.base).config)
    table = tokenizer = None
    if language.vocabulary is not None:
        tokenizer = _load_tokenizer(folder, language.vocabulary)
        table = _load_vocabulary(language, folder / VOCABULARY_WEIGHTS, width)
        longest = model.processor.base_max_length if model.processor is not None else language.max_length
        if language.max_length > longest:
            raise AdapterError(
                f"Language {code!r}: `max_length` is {language.max_length}; the base takes {longest} tokens."
            )
    try:
        model.inject(adapter, code, device="meta")
    except CCRError:
        raise
    except (TypeError, ValueError, RuntimeError) as error:
        raise AdapterError(f"'{folder / ADAPTER_CONFIG}' does not fit the base, or is too large: {error}") from error
    dtype = model.base.dtype if model.base.dtype.is_floating_point else torch.float32
    try:
        fill_adapter(model.base, code, folder / ADAPTER_WEIGHTS, dtype)
        if language.head is not None:
            with torch.device("meta"):
                head = model.build_head(language.head)
            model.heads[code] = fill_module(head, folder / HEAD_WEIGHTS, model.base.device, dtype)
    except AdapterError:
        # leave the model as it was
        model.config.languages[code] = language
        model.delete_language(code)
        raise
    if table is not None:
        model.vocabularies[code] = table.to(model.base.device, dtype).requires_grad_(False)
    model.config.languages[code] = language
    if model.processor is not None:
        model.processor.add_language(code, tokenizer, language.max_length)


def _load_tokenizer(folder: Path, vocabulary: VocabularyConfig) -> Any:
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(folder))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise AdapterError(
            f"The tokenizer in '{folder}' cannot be read ({str(error).splitlines()[0]}). Download its files again."
        ) from error
    if len(tokenizer) > vocabulary.size:
        raise AdapterError(
            f"The tokenizer in '{folder}' has {len(tokenizer)} tokens, its table {vocabulary.size} rows."
        )
    # tables are padded to round numbers, but not to many times their tokens
    if vocabulary.size > 2 * len(tokenizer) + 1024:
        raise AdapterError(
            f"The table in '{folder}' is said to have {vocabulary.size} rows, for a tokenizer of {len(tokenizer)} tokens."
        )
    return tokenizer


def _load_vocabulary(language: LanguageConfig, path: Path, width: int) -> Vocabulary:
    config = language.vocabulary
    if config is None:
        raise AdapterError("The language has no vocabulary.")
    state = read_tensors(path)
    source = None
    if config.source is not None and config.train != "all":
        source = source_table(config.source)
    return Vocabulary.from_trained_state(config, width, state, source=source)
