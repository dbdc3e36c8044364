"""A model as an adapter repository, and back: the languages' files, and the name and hash of the base they need."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModel, AutoTokenizer

from ccr_adapters.configuration import CCRConfig, LanguageConfig, VocabularyConfig
from ccr_adapters.dasd import find_text_encoder
from ccr_adapters.dasd.families import caption_limit
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
    read_tensors,
    write_adapter,
    write_tensors,
    written_aside,
)
from ccr_adapters.modeling.card import write_card
from ccr_adapters.modeling.download import hub_arguments, local_folder, wanted
from ccr_adapters.modeling.interfaces import HoldsLanguages
from ccr_adapters.modeling.layout import earlier_files, files_below, read_config, remove_leftovers
from ccr_adapters.modeling.registry import is_base, listed_codes, repositories_for
from ccr_adapters.modeling.upload import check_folder, upload
from ccr_adapters.modeling.vocabulary import Vocabulary
from ccr_adapters.modeling.vocabulary_source import source_table
from ccr_adapters.processing import CCRProcessor
from ccr_adapters.processing.bases import resolve_base

PUSH_ARGUMENTS = ("private", "token", "revision", "commit_message", "replace")


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

    Files of an earlier save of the same languages, and of any adapter at the top of the folder, are replaced or removed.

    Args:
        model: The model.
        save_directory: The folder. One language lies at its top, several get a folder each.
        language: Only this one; default all.
        dtype: Precision of the written weights; default as they are. `torch.float16` halves the download.
        evidence: What was measured, for the card: `training`, `metrics`, ... (see `ccr_adapters.modeling.card`).
        push_to_hub: Upload afterwards exactly what was written (`repo_id=`, by default the folder's name, `private=`,
            `token=`, `revision=`, `commit_message=`, `replace=`; see `ccr_adapters.modeling.upload.upload`).
        kwargs: Those arguments; those of transformers' own `save_pretrained` have no meaning here.
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
    target = Path(save_directory)
    earlier = earlier_files(target, codes)
    with written_aside(target) as aside:
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
            languages={code: replace(own, folder=folders[code]) for code, own in chosen.items()},
        )
        written.architectures = ["CCRModel"]
        written.save_pretrained(str(aside))
        write_card(aside / "README.md", written, codes, aside, evidence or {})
        names = files_below(aside)
    remove_leftovers(earlier, [target / name for name in names], target)
    if push_to_hub:
        chosen_arguments = {key: kwargs[key] for key in PUSH_ARGUMENTS if kwargs.get(key) is not None}
        mine = check_folder(target, among_others=True)
        upload(target, kwargs.get("repo_id") or target.name, mine, **chosen_arguments)


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
    languages: Iterable[str] | Mapping[str, str] | None = None,
    **kwargs: Any,
) -> Any:
    """Load an adapter repository together with its base.

    A base may be named instead, with the `languages` that it shall learn: each comes from the one adapter repository
    that the Hub lists for it, or from the one that is named (`languages={"de": "org/dasd-clip-de"}`).

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
        languages: Only these; of a repository of the Hub, only their files are downloaded.
        kwargs: `revision`, `token`, `cache_dir`, `local_files_only`.

    Raises:
        AdapterError: If a file is missing, truncated or tampered with, or the base has other weights.
        HubError: If a repository cannot be downloaded.
        LanguageError: If a language is not there.
    """
    hub = hub_arguments(kwargs)
    name = pretrained_model_name_or_path
    if languages is not None and not subfolder and is_base(name, hub):
        return _load_on_base(cls, name, languages, hub, processor=processor, dtype=dtype, device_map=device_map)
    codes = listed_codes(languages, name)
    folder = inside(local_folder(name, hub, codes, subfolder), subfolder or "")
    own = read_config(folder)
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
    chosen = {code: own.languages[code] for code in wanted(own, codes, name)}
    own.languages = {}
    model = cls(own, module, processor)
    _check_base(model, own)
    for code, language in chosen.items():
        _load_language(model, code, language, folder)
    return _ready(model, device_map)


def _load_on_base(
    cls: Any,
    base: str | Path,
    languages: Iterable[str] | Mapping[str, str],
    hub: dict[str, Any],
    *,
    processor: CCRProcessor | None,
    dtype: Any | None,
    device_map: Any | None,
) -> Any:
    """A base, with languages from the repositories that teach them; the revision is the base's."""
    elsewhere = {key: value for key, value in hub.items() if key != "revision"}
    places = repositories_for(base, languages, hub.get("token"))
    model = cls.from_base(
        base, processor=processor, revision=hub.get("revision"), dtype=dtype or torch.float32, **elsewhere
    )
    for code, place in places.items():
        load_languages(model, place, code, **elsewhere)
    return _ready(model, device_map)


def _ready(model: Any, device_map: Any | None) -> Any:
    """Choose the first language, and put the model where it shall run."""
    if len(model.languages) > 0:
        model.set_language(model.languages[0])
    model.eval()
    if isinstance(device_map, (str, torch.device)) and device_map != "auto":
        model.to(device_map)
    return model


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
    asked = None if code is None else [code]
    folder = local_folder(name, hub_arguments(kwargs), asked)
    own = read_config(folder)
    _check_base(model, own)
    added = wanted(own, asked, name)
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
    room = caption_limit(model.base.config)
    if language.pad_to is not None and language.pad_to > room:
        raise AdapterError(f"Language {code!r}: `pad_to` is {language.pad_to}; the base has room for {room} tokens.")
    width = find_text_encoder(model.base).token_width
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
