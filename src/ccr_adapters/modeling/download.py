"""Adapter repositories from the Hub: only the languages asked for, each file checked against the hash it is stored by.

The client of the Hub checks a download's size, and with Xet its content; over plain HTTP wrong bytes of the right size
would pass, and stay. So every file that is about to be used is hashed here: milliseconds for an adapter.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from glob import escape
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, constants, snapshot_download

from ccr_adapters.configuration import CCRConfig
from ccr_adapters.errors import AdapterError, HubError, LanguageError
from ccr_adapters.modeling.adapter_folder import ADAPTER_CONFIG, ADAPTER_WEIGHTS, inside, read_json
from ccr_adapters.modeling.hub_errors import hub_errors
from ccr_adapters.modeling.layout import (
    CARD,
    CONFIG,
    LANGUAGE_FILES,
    carried_base,
    is_pickle,
    language_folders,
    read_config,
)

HUB_ARGUMENTS = ("revision", "token", "cache_dir", "local_files_only", "force_download")
_COMMIT = re.compile(r"[0-9a-f]{40}")


def hub_arguments(values: Mapping[str, Any]) -> dict[str, Any]:
    """Those of `from_pretrained`'s arguments that say where from and how to download."""
    return {key: values[key] for key in HUB_ARGUMENTS if values.get(key) is not None}


def is_repository_id(name: str | Path) -> bool:
    """Whether a name can only be that of a repository: owner/name, and no folder here."""
    return not Path(name).is_dir() and not Path(name).is_absolute() and str(name).count("/") == 1


def local_folder(
    name: str | Path, hub: dict[str, Any], languages: Iterable[str] | None = None, subfolder: str | None = None
) -> Path:
    """Where an adapter repository lies here, downloaded if it is one of the Hub.

    Args:
        name: Folder, or id of a repository.
        hub: Arguments of the download (`hub_arguments`).
        languages: Only these; default all.
        subfolder: Folder inside the repository that holds its `config.json`.

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
    return download(str(name), hub, languages, subfolder)


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
    repo_id: str, hub: dict[str, Any], languages: Iterable[str] | None = None, subfolder: str | None = None
) -> Path:
    """Download what languages of an adapter repository need, and nothing else.

    Args:
        repo_id: The repository.
        hub: `revision`, `token`, `cache_dir`, `local_files_only`, `force_download`.
        languages: Only these; default all.
        subfolder: Folder inside the repository that holds its `config.json`.

    Returns:
        The snapshot's folder in the cache, in which other languages may be missing.
    """
    top = f"{subfolder.strip('/')}/" if subfolder else ""
    root = _snapshot(repo_id, hub, [top + CONFIG])
    home = inside(root, subfolder) if subfolder else root
    if not (home / CONFIG).is_file():
        raise AdapterError(
            f"'{repo_id}' is no adapter repository: it has no '{top}{CONFIG}'.{_pickle_hint(repo_id, hub)}"
        )
    verify(home / CONFIG)
    config = read_config(home)
    folders = language_folders(config)
    chosen = wanted(config, languages, repo_id)
    names = [
        f"{top}{folders[code]}/{name}" if folders[code] else top + name for code in chosen for name in LANGUAGE_FILES
    ]
    patterns = [escape(name) for name in [*names, top + CARD]]
    base = carried_base(config)
    if base is not None and chosen:
        patterns.append(f"{escape(top + base)}/*")
    # one commit for both calls, whoever pushes in between
    fixed = {**hub, "revision": root.name} if _COMMIT.fullmatch(root.name) else hub
    root = _snapshot(repo_id, fixed, patterns, told_revision=hub.get("revision"))
    for name in names:
        if (root / name).is_file():
            verify(root / name)
    for code in chosen:
        _whole(repo_id, hub, root / top / folders[code], code)
    return root


def kind_of(name: str | Path, hub: dict[str, Any]) -> str | None:
    """The `model_type` of a folder or a repository; `None` where there is no `config.json`."""
    folder = Path(name)
    if not folder.is_dir():
        folder = _snapshot(str(name), hub, [CONFIG])
    if not (folder / CONFIG).is_file():
        return None
    kind = read_json(folder / CONFIG).get("model_type")
    return kind if isinstance(kind, str) else None


def _snapshot(repo_id: str, hub: dict[str, Any], patterns: list[str], told_revision: str | None = None) -> Path:
    revision = told_revision or hub.get("revision")
    with hub_errors(repo_id, revision=revision, token=hub.get("token")):
        return Path(snapshot_download(repo_id, allow_patterns=patterns, **hub))


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


def verify(path: Path) -> None:
    """Check a file of the cache against the hash that it is stored by, and take it out if it is another.

    The cache names a file by what the server says it is: the SHA-256 of large ones, git's SHA-1 of small ones. Caches
    without symbolic links do not keep it, and are not checked.

    Raises:
        HubError: If the bytes have another hash.
    """
    if not path.is_symlink():
        return
    link = path.readlink()
    blob, expected = path.parent / link, link.name
    if not re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", expected):
        return
    found = file_hash(path, git=len(expected) == 40)
    if found != expected:
        path.unlink()
        blob.unlink(missing_ok=True)
        raise HubError(
            f"'{path.name}' holds other bytes than its repository says (hash {found[:12]}..., expected {expected[:12]}...). It "
            "was taken out of the cache; download it again."
        )


def file_hash(path: Path, *, git: bool = False) -> str:
    """SHA-256 of a file, or the SHA-1 that git names it by."""
    digest = hashlib.sha1(usedforsecurity=False) if git else hashlib.sha256()
    if git:
        digest.update(b"blob %d\0" % path.stat().st_size)
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
