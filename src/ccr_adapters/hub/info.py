"""Info: what an adapter repository is made of, by language and by part, without downloading its weights."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi
from huggingface_hub.hf_api import RepoFile

from ccr_adapters.configuration import CCRConfig
from ccr_adapters.errors import AdapterError
from ccr_adapters.modeling.adapter_folder import ADAPTER_CONFIG, VOCABULARY_WEIGHTS
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

PARTS = ("adapter", "vocabulary rows", "projection", "head", "tokenizer", "configuration", "card", "other")
LONGEST_HEADER = 100_000_000


@dataclass(frozen=True)
class FileInfo:
    """A file of the repository.

    Args:
        path: In the repository.
        size: Bytes.
        language: Whose it is; `""` for what all share.
        parts: Bytes by part.
        sha256: Of its content, where it is known without downloading it.
    """

    path: str
    size: int
    language: str
    parts: dict[str, int]
    sha256: str | None


@dataclass(frozen=True)
class AdapterInfo:
    """What a repository is made of.

    Args:
        name: Folder or repository.
        revision: Commit, for a repository.
        base: The base that it needs.
        base_sha256: Hash of that base's weights.
        methods: What each language's adapter is.
        files: Its files.
    """

    name: str
    revision: str | None
    base: str | None
    base_sha256: str | None
    methods: dict[str, str]
    files: tuple[FileInfo, ...] = field(default_factory=tuple)

    @property
    def languages(self) -> tuple[str, ...]:
        """Codes of the languages."""
        return tuple(self.methods)

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)

    def by_part(self, language: str | None = None) -> dict[str, int]:
        """Bytes of each part that is there, of all languages or one."""
        sums = dict.fromkeys(PARTS, 0)
        for file in self.files:
            if language in (None, file.language):
                for part, size in file.parts.items():
                    sums[part] += size
        return {part: size for part, size in sums.items() if size}

    def shares(self) -> dict[str, float]:
        """Share of each part that is there, in per cent of all bytes, the largest first."""
        parts = sorted(self.by_part().items(), key=lambda part: -part[1])
        return {part: round(100 * size / self.size, 1) for part, size in parts}

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        sums = {
            "size": self.size,
            "parts": self.by_part(),
            "shares": self.shares(),
            "languages": {code: self.by_part(code) for code in self.languages},
        }
        return {**asdict(self), "files": [asdict(file) for file in self.files], **sums}

    def to_text(self) -> str:
        """For people: a table of parts by language, and the files."""
        lines = [
            f"{self.name}" + (f" at {self.revision[:12]}" if self.revision else ""),
            f"base     {self.base or 'not named'}",
            f"sha256   {self.base_sha256 or 'not recorded'}",
            *(f"{code:8} {method}" for code, method in self.methods.items()),
            "",
        ]
        columns = [*self.languages, ""]
        rows = [["bytes", *(code or "shared" for code in columns), "all", "share"]]
        whole, shares = self.by_part(), self.shares()
        split = {code: self.by_part(code) for code in columns}
        rows += [
            [part, *(f"{split[c].get(part, 0):,}" for c in columns), f"{whole[part]:,}", f"{share:.1f}%"]
            for part, share in shares.items()
        ]
        rows.append(["together", *(f"{sum(split[c].values()):,}" for c in columns), f"{self.size:,}", "100.0%"])
        return "\n".join([*lines, *_aligned(rows), "", *_aligned([[f.path, f"{f.size:,}"] for f in self.files])])


def _aligned(rows: list[list[str]]) -> list[str]:
    """Rows in columns: the first to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join([row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    ]


def adapter_info(
    name: str | Path,
    *,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
) -> AdapterInfo:
    """Look into an adapter folder or repository.

    Of a repository only configurations are downloaded, and the headers of vocabularies, by ranges of bytes.

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
    files, methods = [], {}
    for path, code in _owned(files_below(folder), config):
        where = folder / path
        size = where.stat().st_size
        parts = {part_of(path): size}
        if where.name == VOCABULARY_WEIGHTS:
            with where.open("rb") as file:
                parts = _split_vocabulary(_header(file.read(8), file.read), size)
        files.append(FileInfo(path, size, code, parts, file_hash(where)))
    for code, place in language_folders(config).items():
        if (folder / place / ADAPTER_CONFIG).is_file():
            methods[code] = _method(read_json(inside(folder, place) / ADAPTER_CONFIG), config, code)
    return _info(name, revision, config, methods, files)


def _of_repository(name: str, root: Path, token: str | bool | None) -> AdapterInfo:
    """From the listing of a repository whose `config.json` lies in `root`, the snapshot of a commit."""
    config, commit, api = read_config(root), root.name, HfApi(token=token)
    files, methods = [], {}
    with hub_errors(name, revision=commit, token=token):
        listed = {
            file.path: file
            for file in api.list_repo_tree(name, recursive=True, revision=commit)
            if isinstance(file, RepoFile)
        }
        for path, code in _owned(sorted(listed), config):
            found = listed[path]
            parts = {part_of(path): found.size}
            if Path(path).name == VOCABULARY_WEIGHTS:
                header = api.parse_safetensors_file_metadata(name, path, revision=commit)
                offsets = {key: tensor.data_offsets for key, tensor in header.tensors.items()}
                parts = _split_vocabulary(offsets, found.size)
            files.append(FileInfo(path, found.size, code, parts, found.lfs.sha256 if found.lfs else None))
        for code, place in language_folders(config).items():
            config_path = f"{place}/{ADAPTER_CONFIG}" if place else ADAPTER_CONFIG
            if config_path in listed:
                local = api.hf_hub_download(name, config_path, revision=commit, cache_dir=root.parents[2])
                methods[code] = _method(read_json(Path(local)), config, code)
    return _info(name, commit, config, methods, files)


def _owned(paths: Iterable[str], config: CCRConfig) -> list[tuple[str, str]]:
    """Each file with the language that it belongs to, what all share last; strangers count as shared."""
    folders, base = language_folders(config), carried_base(config)
    found = [(path, owner(path, folders, base) or "") for path in paths]
    return sorted(found, key=lambda each: (not each[1], each[1]))


def _info(
    name: str, revision: str | None, config: CCRConfig, methods: Mapping[str, str], files: list[FileInfo]
) -> AdapterInfo:
    known = {code: methods.get(code, "not downloaded") for code in language_folders(config)}
    return AdapterInfo(name, revision, config.base_model_name_or_path, config.base_sha256, known, tuple(files))


def _method(adapter: Mapping[str, Any], config: CCRConfig, code: str) -> str:
    """What an adapter is, in words: its method, mode and rank, and what it was trained with if that is another name."""
    kind = str(adapter.get("peft_type", "unknown")).upper()
    text = f"{kind} ({adapter['mode']})" if adapter.get("mode") else kind
    if adapter.get("r"):
        text += f", r = {adapter['r']}"
    trained = str((config.languages[code].recipe or {}).get("method") or kind).upper()
    return text if trained == kind else f"{text}, trained as {trained}"


def _header(length: bytes, read: Any) -> dict[str, tuple[int, int]]:
    """Where each tensor of a safetensors file lies, from the first bytes of the file."""
    try:
        (size,) = struct.unpack("<Q", length)
        if size > LONGEST_HEADER:
            raise ValueError(f"a header of {size} bytes")
        values = json.loads(read(size))
        return {key: tuple(each["data_offsets"]) for key, each in values.items() if key != "__metadata__"}
    except (struct.error, ValueError, TypeError, KeyError, AttributeError) as error:
        raise AdapterError(f"'{VOCABULARY_WEIGHTS}' is truncated or no safetensors file ({error}).") from error


def _split_vocabulary(offsets: Mapping[str, tuple[int, int]], size: int) -> dict[str, int]:
    """Bytes of a vocabulary's rows, its file's header among them, and of its projection."""
    projection = sum(end - start for key, (start, end) in offsets.items() if key.startswith("projection."))
    parts = {"vocabulary rows": size - projection}
    return {**parts, "projection": projection} if projection else parts


__all__ = ["AdapterInfo", "FileInfo", "adapter_info"]
