"""Info: what an adapter repository is made of, by language and by part, without downloading its weights."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from huggingface_hub import HfApi
from huggingface_hub.errors import SafetensorsParsingError
from huggingface_hub.hf_api import RepoFile

from ccr_adapters.configuration import CCRConfig
from ccr_adapters.errors import AdapterError
from ccr_adapters.hub.made_of import AdapterInfo, FileInfo
from ccr_adapters.hub.pieces import (
    Stored,
    generator_of,
    read_header,
    split_adapter,
    split_vocabulary,
    stored,
)
from ccr_adapters.modeling.adapter_folder import ADAPTER_CONFIG, ADAPTER_WEIGHTS, VOCABULARY_WEIGHTS
from ccr_adapters.modeling.download import download
from ccr_adapters.modeling.layout import (
    carried_base,
    files_below,
    language_folders,
    owner,
    part_of,
)
from ccr_adapters.processing.hub_errors import hub_errors
from ccr_adapters.processing.repository import (
    file_hash,
    hub_arguments,
    inside,
    is_repository_id,
    read_config,
    read_json,
)


def adapter_info(
    name: str | Path,
    *,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
) -> AdapterInfo:
    """Look into an adapter folder or repository.

    Of a repository only configurations are downloaded, and the headers of weights, by ranges of bytes.

    Args:
        name: Folder or repository.
        revision: Branch, tag or commit of a repository.
        token: For private ones.
        cache_dir: Another cache than the Hub's usual one.
        local_files_only: Look at what is in the cache only.

    Raises:
        AdapterError: If it is no adapter repository.
        HubError: If the repository cannot be reached.
    """
    if Path(name).is_dir():
        return _of_folder(Path(name), str(name), None)
    if not is_repository_id(name):
        raise AdapterError(f"'{name}' is neither a folder here nor the id of a repository (owner/name).")
    how = {"revision": revision, "token": token, "cache_dir": cache_dir, "local_files_only": local_files_only}
    root = download(str(name), hub_arguments(how), [])
    if local_files_only:
        return _of_folder(root, str(name), root.name)
    return _of_repository(str(name), root, token)


def _of_folder(folder: Path, name: str, revision: str | None) -> AdapterInfo:
    config = read_config(folder)
    adapters = {
        code: read_json(inside(folder, place) / ADAPTER_CONFIG)
        for code, place in language_folders(config).items()
        if (folder / place / ADAPTER_CONFIG).is_file()
    }
    files = []
    for path, code in _owned(files_below(folder), config):
        where = folder / path
        tensors = read_header(where) if _has_pieces(path, adapters.get(code)) else {}
        files.append(_file(path, where.stat().st_size, code, file_hash(where), tensors))
    return _info(name, revision, config, adapters, files)


def _of_repository(name: str, root: Path, token: str | bool | None) -> AdapterInfo:
    """From the listing of a repository whose `config.json` lies in `root`, the snapshot of a commit."""
    config, commit, api = read_config(root), root.name, HfApi(token=token)
    files, adapters = [], {}
    with hub_errors(name, revision=commit, token=token):
        listed = {
            file.path: file
            for file in api.list_repo_tree(name, recursive=True, revision=commit)
            if isinstance(file, RepoFile)
        }
        for code, place in language_folders(config).items():
            path = f"{place}/{ADAPTER_CONFIG}" if place else ADAPTER_CONFIG
            if path in listed:
                local = api.hf_hub_download(name, path, revision=commit, cache_dir=root.parents[2])
                adapters[code] = read_json(Path(local))
        for path, code in _owned(sorted(listed), config):
            found = listed[path]
            tensors = _remote_header(api, name, found, commit) if _has_pieces(path, adapters.get(code)) else {}
            files.append(_file(path, found.size, code, found.lfs.sha256 if found.lfs else None, tensors))
    return _info(name, commit, config, adapters, files)


def _has_pieces(path: str, adapter: Mapping[str, Any] | None) -> bool:
    """Whether a file's header is worth reading: that of a vocabulary, and that of a DASD adapter."""
    name = PurePosixPath(path).name
    return name == VOCABULARY_WEIGHTS or (name == ADAPTER_WEIGHTS and _kind(adapter or {}) == "DASD")


def _remote_header(api: HfApi, name: str, file: RepoFile, commit: str) -> dict[str, Stored]:
    """The tensors of a file of a repository, by a range of its bytes."""
    try:
        if not file.size:
            raise ValueError("it is empty")
        found = api.parse_safetensors_file_metadata(name, file.path, revision=commit).tensors
        tensors = {key: stored(tensor.dtype, tensor.shape, tensor.data_offsets) for key, tensor in found.items()}
        if sum(each.size for each in tensors.values()) > file.size:
            raise ValueError("its tensors are longer than the file")
    except (SafetensorsParsingError, AttributeError, TypeError, ValueError) as error:
        raise AdapterError(f"'{file.path}' of '{name}' is truncated or no safetensors file ({error}).") from error
    return tensors


def _file(path: str, size: int, code: str, sha256: str | None, tensors: Mapping[str, Stored]) -> FileInfo:
    if not tensors:
        return FileInfo(path, size, code, {part_of(path): size}, sha256)
    if PurePosixPath(path).name == VOCABULARY_WEIGHTS:
        return FileInfo(path, size, code, split_vocabulary(tensors, size), sha256)
    return FileInfo(
        path, size, code, {part_of(path): size}, sha256, split_adapter(tensors, size), generator_of(tensors)
    )


def _owned(paths: Iterable[str], config: CCRConfig) -> list[tuple[str, str]]:
    """Each file with the language that it belongs to, what all share last; strangers count as shared."""
    folders, base = language_folders(config), carried_base(config)
    found = [(path, owner(path, folders, base) or "") for path in paths]
    return sorted(found, key=lambda each: (not each[1], each[1]))


def _info(
    name: str,
    revision: str | None,
    config: CCRConfig,
    adapters: Mapping[str, Mapping[str, Any]],
    files: list[FileInfo],
) -> AdapterInfo:
    known = {
        code: _method(adapters[code], config, code) if code in adapters else "not downloaded"
        for code in language_folders(config)
    }
    return AdapterInfo(name, revision, config.base_model_name_or_path, config.base_sha256, known, tuple(files))


def _kind(adapter: Mapping[str, Any]) -> str:
    return str(adapter.get("peft_type", "unknown")).upper()


def _method(adapter: Mapping[str, Any], config: CCRConfig, code: str) -> str:
    """What an adapter is, in words: its method, mode and rank, and what it was trained with if that is another name."""
    kind = _kind(adapter)
    text = f"{kind} ({adapter['mode']})" if adapter.get("mode") else kind
    if adapter.get("r"):
        text += f", r = {adapter['r']}"
    trained = str((config.languages[code].recipe or {}).get("method") or kind).upper()
    return text if trained == kind else f"{text}, trained as {trained}"


__all__ = ["AdapterInfo", "FileInfo", "adapter_info"]
