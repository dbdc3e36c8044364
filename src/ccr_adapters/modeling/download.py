"""Adapter repositories from the Hub: only the languages asked for, whole or not at all."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, constants

from ccr_adapters.configuration import CCRConfig
from ccr_adapters.errors import AdapterError, HubError, LanguageError
from ccr_adapters.modeling.adapter_folder import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from ccr_adapters.modeling.layout import CARD, LANGUAGE_FILES, carried_base, is_pickle, language_folders
from ccr_adapters.processing.hub_errors import hub_errors
from ccr_adapters.processing.repository import (
    CONFIG,
    at_commit,
    inside,
    is_repository_id,
    read_config,
    read_json,
    snapshot,
)


def local_folder(
    name: str | Path,
    hub: dict[str, Any],
    languages: Iterable[str] | None = None,
    subfolder: str | None = None,
    *,
    with_base: bool = False,
) -> Path:
    """Where an adapter repository lies here, downloaded if it is one of the Hub.

    Args:
        name: Folder, or id of a repository.
        hub: Arguments of the download (`hub_arguments`).
        languages: Only these; default all.
        subfolder: Folder inside the repository that holds its `config.json`.
        with_base: A base that is carried along is needed even if no language is.

    Returns:
        The folder, or the snapshot of the repository; without the subfolder.

    Raises:
        AdapterError: If it is neither, or no adapter repository.
        HubError: If it cannot be downloaded.
        LanguageError: If a language is not there.
    """
    if Path(name).is_dir():
        return Path(name)
    if not is_repository_id(name):
        raise AdapterError(f"'{name}' is neither a folder here nor the id of a repository (owner/name).")
    return download(str(name), hub, languages, subfolder, with_base=with_base)


def wanted(config: CCRConfig, languages: Iterable[str] | None, name: str | Path) -> list[str]:
    """The languages asked for, all if none are named.

    Raises:
        LanguageError: If one is not there.
    """
    there = config.languages or {}
    if languages is None:
        return list(there)
    chosen = [languages] if isinstance(languages, str) else list(dict.fromkeys(languages))
    for code in chosen:
        if code not in there:
            raise LanguageError(f"'{name}' has no language {code!r}. It has: {', '.join(sorted(there)) or 'none'}.")
    return chosen


def download(
    repo_id: str,
    hub: dict[str, Any],
    languages: Iterable[str] | None = None,
    subfolder: str | None = None,
    *,
    with_base: bool = False,
) -> Path:
    """Download what languages of an adapter repository need, and nothing else.

    Args:
        repo_id: The repository.
        hub: `revision`, `token`, `cache_dir`, `local_files_only`, `force_download`.
        languages: Only these; default all.
        subfolder: Folder inside the repository that holds its `config.json`.
        with_base: Also a base that is carried along; else only where a language is wanted.

    Returns:
        The snapshot's folder in the cache, in which other languages may be missing.
    """
    top = f"{subfolder.strip('/')}/" if subfolder else ""
    root = snapshot(repo_id, hub, [top + CONFIG])
    home = inside(root, subfolder) if subfolder else root
    if not (home / CONFIG).is_file():
        raise AdapterError(
            f"'{repo_id}' is no adapter repository: it has no '{top}{CONFIG}'.{_pickle_hint(repo_id, hub)}"
        )
    config = read_config(home)
    folders = language_folders(config)
    chosen = wanted(config, languages, repo_id)
    names = [
        f"{top}{folders[code]}/{name}" if folders[code] else top + name for code in chosen for name in LANGUAGE_FILES
    ]
    base = carried_base(config) if chosen or with_base else None
    below = None if base is None else top + base
    root = snapshot(repo_id, at_commit(hub, root), [*names, top + CARD], below=below, told=hub.get("revision"))
    for code in chosen:
        _whole(repo_id, hub, root / top / folders[code], code)
    return root


def kind_of(name: str | Path, hub: dict[str, Any]) -> str | None:
    """The `model_type` of a folder or a repository; `None` where there is no `config.json`."""
    folder = Path(name)
    if not folder.is_dir():
        folder = snapshot(str(name), hub, [CONFIG])
    if not (folder / CONFIG).is_file():
        return None
    kind = read_json(folder / CONFIG).get("model_type")
    return kind if isinstance(kind, str) else None


def _whole(repo_id: str, hub: dict[str, Any], folder: Path, code: str) -> None:
    """Refuse a language whose weights did not come, with the reason where there is one."""
    missing = [name for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS) if not (folder / name).is_file()]
    if not missing:
        return
    if hub.get("local_files_only") or constants.HF_HUB_OFFLINE:
        raise HubError(
            f"Language {code!r} of '{repo_id}' is not in the cache, and downloads are off. Run "
            f"`ccr-adapters pull {repo_id} --language {code}` once with network."
        )
    raise AdapterError(f"'{missing[0]}' of language {code!r} is missing in '{repo_id}'.{_pickle_hint(repo_id, hub)}")


def _pickle_hint(repo_id: str, hub: dict[str, Any]) -> str:
    if hub.get("local_files_only") or constants.HF_HUB_OFFLINE:
        return ""
    with hub_errors(repo_id, revision=hub.get("revision"), token=hub.get("token")):
        names = HfApi(token=hub.get("token")).list_repo_files(repo_id, revision=hub.get("revision"))
    pickles = [name for name in names if is_pickle(name)]
    return f" There is {pickles[0]}, but pickles are never opened." if pickles else ""
