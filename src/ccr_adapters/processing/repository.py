"""Files of an adapter repository, before any model: named, downloaded, and checked against the hash each is stored by.

The client of the Hub checks a download's size, and with Xet its content; over plain HTTP wrong bytes of the right size
would pass, and stay. So every file that is about to be used is hashed here: milliseconds for an adapter.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from glob import escape
from pathlib import Path, PurePosixPath
from typing import Any

from huggingface_hub import snapshot_download

from ccr_adapters.configuration import CCRConfig
from ccr_adapters.errors import AdapterError, HubError
from ccr_adapters.processing.hub_errors import hub_errors

CONFIG = "config.json"
MOVING = ".saved-"
"""How the name of a folder begins that holds a whole save while its files are moved to where they belong."""
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "bpe.codes",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "source.spm",
    "target.spm",
)
HUB_ARGUMENTS = ("revision", "token", "cache_dir", "local_files_only", "force_download")
_COMMIT = re.compile(r"[0-9a-f]{40}")


# what transformers' Auto classes pass along to every model
_PASSED_ALONG = frozenset(
    {"_from_auto", "_commit_hash", "_from_pipeline", "adapter_kwargs", "code_revision", "trust_remote_code", "proxies"}
)


def hub_arguments(values: Mapping[str, Any]) -> dict[str, Any]:
    """Those of `from_pretrained`'s arguments that say where from and how to download.

    Raises:
        TypeError: If there is another, which would otherwise be dropped without a word.
    """
    unknown = [key for key in values if key not in (*HUB_ARGUMENTS, *_PASSED_ALONG)]
    if unknown:
        raise TypeError(
            f"Unexpected argument{'s' if len(unknown) > 1 else ''} {', '.join(map(repr, unknown))}; of those that say how to "
            f"download there are {', '.join(HUB_ARGUMENTS)}. Precision is `dtype`, a language one of `languages`."
        )
    return {key: values[key] for key in HUB_ARGUMENTS if values.get(key) is not None}


def elsewhere(hub: Mapping[str, Any]) -> dict[str, Any]:
    """Those of them that hold for another repository too: a revision is one repository's own."""
    return {key: value for key, value in hub.items() if key != "revision"}


def is_repository_id(name: str | Path) -> bool:
    """Whether a name can only be that of a repository: owner/name, and no folder here."""
    return not Path(name).is_dir() and not Path(name).is_absolute() and str(name).count("/") == 1


def inside(folder: Path, relative: str) -> Path:
    """Join, refusing a path that climbs out of the folder."""
    parts = PurePosixPath(relative)
    if parts.is_absolute() or ".." in parts.parts or "\\" in relative:
        raise AdapterError(f"The configuration points outside its repository: {relative!r}.")
    if "\0" in relative or len(relative) > 255:  # more than a file system can name
        raise AdapterError(f"The configuration names {relative[:60]!r}, which is no path.")
    return folder / relative


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file.

    Raises:
        AdapterError: If the file is missing or holds no JSON object.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        hint = "Is this an adapter repository?"
        for whole in path.parent.glob(f"{MOVING}*/{path.name}"):
            hint = f"A save was stopped as it moved its files: copy what '{whole.parent}' holds over the folder, and it is whole."
        raise AdapterError(f"'{path.name}' is missing in '{path.parent}'. {hint}") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise AdapterError(f"'{path}' is no valid JSON ({error}). Download it again.") from error
    if not isinstance(values, dict):
        raise AdapterError(f"'{path}' holds a {type(values).__name__}; expected a JSON object.")
    return values


def read_config(folder: Path) -> CCRConfig:
    """The configuration of an adapter repository.

    Raises:
        AdapterError: If the folder holds something else.
        ConfigError: If a key is unknown, as in a newer format.
    """
    kind = read_json(folder / CONFIG).get("model_type")
    if kind != "ccr":
        raise AdapterError(
            f"'{folder}' holds a {kind!r} model, a base perhaps, and not an adapter repository of this package."
        )
    return CCRConfig.from_pretrained(str(folder))


def snapshot(
    repo_id: str, hub: Mapping[str, Any], names: Iterable[str], *, below: str | None = None, told: str | None = None
) -> Path:
    """Download files of a repository, and check each against its hash.

    Args:
        repo_id: The repository.
        hub: `revision`, `token`, `cache_dir`, `local_files_only`, `force_download`.
        names: The files, with slashes; those that are not there do not come.
        below: A folder to come whole.
        told: The revision as the user named it, for messages.

    Returns:
        The snapshot's folder in the cache.

    Raises:
        HubError: If the repository cannot be read, or the bytes of a file are others than it says.
    """
    names = list(names)
    patterns = [escape(name) for name in names] + ([f"{escape(below)}/*"] if below else [])
    with hub_errors(repo_id, revision=told or hub.get("revision"), token=hub.get("token")):
        root = Path(snapshot_download(repo_id, allow_patterns=patterns, **hub))
    for name in names:
        if (root / name).is_file():
            verify(root / name)
    for path in sorted((root / below).rglob("*")) if below else ():
        if path.is_file():
            verify(path)
    return root


def at_commit(hub: Mapping[str, Any], root: Path) -> dict[str, Any]:
    """Arguments for a second download of the commit that a first one found, whoever pushes in between."""
    return {**hub, "revision": root.name} if _COMMIT.fullmatch(root.name) else dict(hub)


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
