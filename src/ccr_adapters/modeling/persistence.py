"""A model as an adapter repository, and back: the languages' files, and the name and hash of the base they need."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from ccr_adapters.configuration import CCRConfig, LanguageConfig
from ccr_adapters.errors import AdapterError, ConfigError, HubError, LanguageError, first_line
from ccr_adapters.modeling.adapter_folder import ADAPTER_CONFIG, written_aside
from ccr_adapters.modeling.card import write_card
from ccr_adapters.modeling.checks import check_whole
from ccr_adapters.modeling.download import kind_of, local_folder, wanted
from ccr_adapters.modeling.fingerprint import remembered_sha256
from ccr_adapters.modeling.interfaces import HoldsLanguages
from ccr_adapters.modeling.language_files import load_language, precision_of, write_language
from ccr_adapters.modeling.layout import earlier_files, files_below, left_out, remove_leftovers
from ccr_adapters.modeling.loading import load_base
from ccr_adapters.modeling.registry import is_base, listed_codes, repositories_for
from ccr_adapters.modeling.shelf import Place
from ccr_adapters.modeling.upload import check_folder, upload
from ccr_adapters.processing import CCRProcessor
from ccr_adapters.processing.bases import TINY_CLIP, resolve_base, weight_files
from ccr_adapters.processing.devices import default_device
from ccr_adapters.processing.repository import at_commit, elsewhere, hub_arguments, inside, read_config

PUSH_ARGUMENTS = ("private", "token", "revision", "commit_message", "replace")
_TRANSFORMERS_OWN = (
    "is_main_process",
    "state_dict",
    "save_function",
    "max_shard_size",
    "variant",
    "safe_serialization",
)


def save_model(
    model: HoldsLanguages,
    save_directory: str | Path,
    *,
    language: str | None = None,
    dtype: torch.dtype | str | None = None,
    row_tolerance: float | None = None,
    evidence: dict[str, Any] | None = None,
    push_to_hub: bool = False,
    **kwargs: Any,
) -> None:
    """`CCRModel.save_pretrained`, which says what the arguments are.

    Files of an earlier save of the same languages, and of any adapter at the top of the folder, are replaced or removed;
    a folder that lists other languages is refused. Arguments of transformers' own `save_pretrained` have no meaning here.
    """
    unknown = [key for key in kwargs if key not in (*PUSH_ARGUMENTS, "repo_id", *_TRANSFORMERS_OWN)]
    if unknown:
        raise TypeError(f"save_pretrained() has no argument {unknown[0]!r}. One language alone is `language=`.")
    precision = precision_of(dtype)
    codes = [language] if language else model.languages
    if not codes:
        raise LanguageError("There is no language to save; add one with add_language(...).")
    for code in codes:
        model.known_language(code)
    if model.base.dtype == torch.float16 and model.verified_sha256 is None:
        raise ConfigError(
            "The base is in float16, and the hash of its rounded weights is not that of the base. Load it in float32 or "
            "bfloat16, or save before model.half(); `dtype='float16'` writes the adapter alone in half precision."
        )
    config = model.config
    target = Path(save_directory)
    name, sha256 = _base_name(model, target), model.base_sha256()
    chosen = {code: model.language_config(code) for code in codes}
    folders = {code: code if len(codes) > 1 else "" for code in codes}
    _refuse_to_leave_out(model, target, codes)
    earlier = earlier_files(target, codes)
    with written_aside(target) as aside:
        for code in codes:
            with model.shelf.using(model, [code]):
                vocabulary = write_language(model, code, aside / folders[code], name, precision, row_tolerance)
            chosen[code] = replace(chosen[code], vocabulary=vocabulary)
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
    for code, place in model.shelf.places.items():
        if code in codes and _lies_in(place, target):
            # the save may have moved it, and given it another vocabulary
            model.shelf.places[code] = replace(
                place, name=target.resolve(), language=written.languages[code], subfolder=None
            )
    if push_to_hub:
        chosen_arguments = {key: kwargs[key] for key in PUSH_ARGUMENTS if kwargs.get(key) is not None}
        mine = check_folder(target, among_others=True)
        upload(target, kwargs.get("repo_id") or target.name, mine, **chosen_arguments)


def _refuse_to_leave_out(model: HoldsLanguages, target: Path, codes: list[str]) -> None:
    """Refuse a save after which a folder's other languages could not be loaded any more."""
    loaded_from = {code for code, place in model.shelf.places.items() if _lies_in(place, target)}
    lost = sorted({*left_out(target, codes), *loaded_from} - set(codes))
    if lost:
        raise AdapterError(
            f"'{target}' holds {', '.join(lost)} too, which could not be loaded from there any more once {', '.join(codes)} "
            "lies there. Save into another folder, or save a model that has all of them (load_language)."
        )


def _lies_in(place: Place, folder: Path) -> bool:
    """Whether a language is loaded from a folder."""
    return Path(place.name).is_dir() and Path(place.name, place.subfolder or "").resolve() == folder.resolve()


def _base_name(model: HoldsLanguages, target: Path) -> str | None:
    """How an adapter in a folder names its base: one that lies here is found from there, if both move together too."""
    if model.base_folder is None:
        name: str | None = model.config.base_model_name_or_path
        return name
    return Path(os.path.relpath(model.base_folder.resolve(), target.resolve())).as_posix()


def load_model(
    cls: Any,
    pretrained_model_name_or_path: str | Path,
    *,
    base: Any | None = None,
    processor: CCRProcessor | None = None,
    config: CCRConfig | None = None,
    dtype: Any | None = None,
    attn_implementation: str | None = None,
    device_map: Any | None = None,
    subfolder: str | None = None,
    languages: Iterable[str] | Mapping[str, str] | None = None,
    lazy: bool = False,
    max_languages: int | None = None,
    **kwargs: Any,
) -> Any:
    """`CCRModel.from_pretrained`, which says what the arguments are.

    `cls` is built as `cls(config, base, processor)`. `config` is not used, since the repository's own is read: `AutoModel`
    passes one.
    """
    hub, how = hub_arguments(kwargs), {"dtype": dtype, "attn_implementation": attn_implementation}
    name = pretrained_model_name_or_path
    if not subfolder and is_base(name, hub):
        model = _load_on_base(
            cls, name, languages or {}, hub, how=how, processor=processor, max_languages=max_languages, lazy=lazy
        )
        return _ready(model, device_map)
    codes = listed_codes(languages, name)
    bound = lazy or max_languages is not None
    root = local_folder(name, hub, [] if bound else codes, subfolder, with_base=base is None)
    folder = inside(root, subfolder or "")
    own = read_config(folder)
    codes = wanted(own, codes, name)  # before a base is loaded for nothing
    found = _find_base(own, base, folder, how, hub)
    if found.place is not None and processor is None:
        lies, revision = resolve_base(found.place, folder), found.revision or "main"
        processor = CCRProcessor.for_base(lies, found.module.config, revision=revision, **elsewhere(hub))
    chosen = {code: own.languages[code] for code in codes}
    own.languages = {}
    model = cls(own, found.module, processor)
    model.base_folder = found.beside
    model.max_languages = max_languages
    check_same_base(model, own, found.files)
    for code, place in _places(name, root, chosen, hub, subfolder).items():
        _add(model, code, place, lazy=lazy, folder=None if bound else folder)
    return _ready(model, device_map)


@dataclass(frozen=True)
class _Base:
    """A base that an adapter stands on.

    Args:
        module: The model.
        place: What its processor can be loaded from; `None` where that is not known.
        revision: Of that place; `None` is its newest.
        files: Those that it was loaded from just now.
        beside: Its folder, where the adapter names it by a path of its own.
    """

    module: Any
    place: str | None
    revision: str | None = None
    files: Sequence[Path] = ()
    beside: Path | None = None


def _find_base(own: CCRConfig, base: Any | None, folder: Path, how: Mapping[str, Any], hub: Mapping[str, Any]) -> _Base:
    """The base that an adapter names, or the one that the user gives instead.

    Args:
        own: The adapter's configuration.
        base: What the user gives: a model, a repository or folder, or nothing.
        folder: The adapter's folder.
        how: Its `dtype` and `attn_implementation`; `None` leaves each at its default.
        hub: How to download.

    Raises:
        AdapterError: If there is none, or it cannot be loaded.
    """
    named = own.base_model_name_or_path
    if base is not None and not isinstance(base, (str, os.PathLike)):
        return _Base(base, named, own.base_revision)
    if base is None and named is None:
        raise AdapterError("The repository does not name its base; pass it with `base=`.")
    place = resolve_base(str(named if base is None else base), folder)
    # the adapter's revision is a commit of the repository that it names, which a mirror does not have
    revision = own.base_revision if base is None or str(base) == named else None
    if _is_adapter(place, {**elsewhere(hub), "revision": revision or "main"}):
        raise AdapterError(
            f"The base '{place}' of this adapter is an adapter itself. Say where its base is, with `base=`."
        )
    try:
        module = load_base(place, revision=revision or "main", **_chosen(how), **elsewhere(hub))
    except (OSError, ValueError) as error:
        raise AdapterError(
            f"The base '{place}' that this adapter needs cannot be loaded ({first_line(error)}). Say where it is, or "
            "load it yourself and pass it, with `base=`."
        ) from error
    files = weight_files(place, revision, hub.get("cache_dir"))
    named_by_path = base is None and named not in (place, TINY_CLIP) and not Path(str(named)).is_absolute()
    beside = Path(place).resolve() if named_by_path and Path(place).is_dir() else None
    return _Base(module, place, revision, files, beside)


def _is_adapter(place: str, hub: dict[str, Any]) -> bool:
    """Whether what shall be a base is an adapter repository, which would look for a base in its turn."""
    try:
        return kind_of(place, hub) == "ccr"
    except HubError:
        return False  # what loads the base says why it cannot be reached


def _chosen(how: Mapping[str, Any]) -> dict[str, Any]:
    """What a base is loaded with; left to itself transformers takes the file's precision, and float16 cannot be checked."""
    return {"dtype": torch.float32} | {key: value for key, value in how.items() if value is not None}


def _places(
    name: str | Path,
    root: Path,
    languages: Mapping[str, LanguageConfig],
    hub: Mapping[str, Any],
    subfolder: str | None = None,
) -> dict[str, Place]:
    """Where languages come from: a folder wherever the process goes, a repository at the commit that was read."""
    here = Path(name).is_dir()
    where: str | Path = Path(name).resolve() if here else name
    how = elsewhere(hub) if here else at_commit(hub, root)
    return {code: Place(where, language, how, subfolder) for code, language in languages.items()}


def _add(model: HoldsLanguages, code: str, place: Place, *, lazy: bool, folder: Path | None) -> None:
    """A new language: loaded now where there is room for it, else on first use."""
    model.check_new_language(code)
    most = model.shelf.most
    if not lazy and (most is None or len(model.loaded_languages) < most):
        folder = place.fetch(code) if folder is None else folder
        with model.shelf.alone():
            load_language(model, code, place.language, folder, **elsewhere(place.hub))
    else:
        own = inside(inside(Path(place.name), place.subfolder or ""), place.language.folder)
        if (own / ADAPTER_CONFIG).is_file():
            check_whole(own, place.language)  # now, not at its first caption
    model.shelf.places[code] = place


def _load_on_base(
    cls: Any,
    base: str | Path,
    languages: Iterable[str] | Mapping[str, str],
    hub: dict[str, Any],
    *,
    how: Mapping[str, Any],
    processor: CCRProcessor | None,
    max_languages: int | None,
    lazy: bool,
) -> Any:
    """A base, with languages from the repositories that teach them; the revision is the base's."""
    places = repositories_for(base, languages, hub.get("token"))
    model = cls.from_base(base, processor=processor, revision=hub.get("revision"), **_chosen(how), **elsewhere(hub))
    model.max_languages = max_languages
    for code, place in places.items():
        load_languages(model, place, code, lazy=lazy, **elsewhere(hub))
    return model


def _ready(model: Any, device_map: Any | None) -> Any:
    """Choose the first language, and put the model where it shall run."""
    if model.languages:
        model.set_language(model.languages[0])
    model.eval()
    if isinstance(device_map, Mapping) and set(device_map) == {""}:  # how Accelerate writes it
        device_map = device_map[""]
    if isinstance(device_map, (str, int, torch.device)):
        model.to(default_device() if device_map == "auto" else device_map)
    elif device_map is not None:
        raise ConfigError(f"`device_map` is {device_map!r}; the whole model goes to one device, for example 'cuda'.")
    return model


def check_same_base(model: HoldsLanguages, config: CCRConfig, files: Sequence[Path] = ()) -> None:
    """Refuse a base of other weights; `files` are those that it was loaded from just now."""
    if config.base_sha256 is None or (model.base_frozen and config.base_sha256 == model.verified_sha256):
        return
    if model.base.dtype == torch.float16:
        raise AdapterError(
            "A base in float16 cannot be checked against the hash of its weights. Load it in bfloat16 or float32."
        )
    found = remembered_sha256(model.base, files)
    if found != config.base_sha256:
        raise AdapterError(
            f"The base '{config.base_model_name_or_path}' has other weights than the one that this adapter was trained on "
            f"(sha256 {found[:12]}..., expected {config.base_sha256[:12]}...). Load the right one, by revision if it has "
            "several, or train the adapter anew."
        )
    model.verified_sha256 = found


def load_languages(
    model: HoldsLanguages, name: str | Path, code: str | None = None, *, lazy: bool = False, **kwargs: Any
) -> list[str]:
    """Add languages of an adapter repository to a model that stands on the same base.

    Args:
        model: The model.
        name: Repository or folder.
        code: Only this language; default all of them.
        lazy: Load (and download) each language when it is first used.
        kwargs: `revision`, `token`, `cache_dir`, `local_files_only`.

    Returns:
        The codes that were added.
    """
    asked = None if code is None else [code]
    hub, bound = hub_arguments(kwargs), lazy or model.shelf.most is not None
    folder = local_folder(name, hub, [] if bound else asked)
    own = read_config(folder)
    check_same_base(model, own)
    added = wanted(own, asked, name)
    places = _places(name, folder, {each: own.languages[each] for each in added}, hub)
    with ExitStack() as undo:
        for chosen in added:
            _add(model, chosen, places[chosen], lazy=lazy, folder=None if bound else folder)
            undo.callback(model.delete_language, chosen)
        undo.pop_all()
    return added
