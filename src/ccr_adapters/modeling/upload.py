"""An adapter folder into a repository of the Hub: checked first, then all files in one commit."""

from __future__ import annotations

import logging
import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, ModelCard, constants
from huggingface_hub.hf_api import RepoFile

from ccr_adapters.configuration import CCRConfig
from ccr_adapters.errors import AdapterError, ConfigError
from ccr_adapters.modeling.adapter_folder import ADAPTER_CONFIG
from ccr_adapters.modeling.checks import check_language
from ccr_adapters.modeling.layout import (
    BASE_SUFFIXES,
    CARD,
    carried_base,
    files_below,
    is_pickle,
    language_folders,
    owner,
    refuse_links,
)
from ccr_adapters.modeling.merging import merged_card, merged_config, remote_names
from ccr_adapters.processing.bases import TINY_CLIP
from ccr_adapters.processing.hub_errors import hub_errors
from ccr_adapters.processing.repository import CONFIG, read_config

logger = logging.getLogger(__name__)

TAG = "ccr-adapters"
CARRIED = "base"
"""Folder of a base that no repository has."""
UNNAMED = '"path/to/this/folder"'
"""What the example of a card loads that does not know its repository yet."""


@dataclass(frozen=True)
class Pushed:
    """What a push made.

    Args:
        repo_id: The repository, with its owner.
        commit: The commit that holds the files.
        url: Its page.
        files: Files of the adapter repository.
        size: Their bytes.
    """

    repo_id: str
    commit: str
    url: str
    files: int
    size: int


def check_folder(folder: Path, *, among_others: bool = False) -> list[str]:
    """Refuse a folder that nobody could load, and list the files that belong to it.

    Args:
        folder: An adapter repository, as `save_pretrained` writes it.
        among_others: Other files may lie there too; they are not listed. Else they are refused.

    Returns:
        Paths of its files, with slashes.

    Raises:
        AdapterError: If it is no adapter repository, a file is broken, or one does not belong here.
    """
    if not folder.is_dir():
        raise AdapterError(f"'{folder}' is no folder; expected an adapter repository, as save_pretrained writes it.")
    config = read_config(folder)
    folders = language_folders(config)
    if not folders:
        raise AdapterError(f"'{folder}' holds no language; there is nothing to push.")
    if not re.fullmatch("[0-9a-f]{64}", config.base_sha256 or ""):
        raise AdapterError(
            f"'{folder}' does not say which weights its base has (`base_sha256` in config.json is {config.base_sha256!r}; "
            "expected 64 hexadecimal digits). Save the adapter again."
        )
    base, names = carried_base(config), files_below(folder)
    pickles = [name for name in names if is_pickle(name)]
    if pickles and not among_others:
        raise AdapterError(f"'{folder}' holds a pickle, {pickles[0]}. Pickles are never pushed; take it out.")
    strangers = [name for name in names if owner(name, folders, base) is None]
    if strangers and not among_others:
        raise AdapterError(
            f"'{folder}' holds files that do not belong to an adapter repository: {', '.join(strangers[:5])}"
            f"{', ...' if len(strangers) > 5 else ''}. Take them out, or save the adapter into a folder of its own."
        )
    mine = [name for name in names if owner(name, folders, base) is not None and not is_pickle(name)]
    refuse_links(folder, mine)
    for code, place in folders.items():
        check_language(folder / place, config.languages[code])
    check_card(folder / CARD)
    name = config.base_model_name_or_path or ""
    here = Path(name).is_dir() and not (base and (folder / base).is_dir())
    if name != TINY_CLIP and (Path(name).is_absolute() or name.startswith("../") or (name and here)):
        logger.warning(
            "The adapter names its base by a folder of this machine, '%s'; whoever loads it must pass `base=`.",
            name,
        )
    return mine


def check_card(path: Path) -> None:
    """Refuse a card that the Hub could not read, or by which nobody would find the adapter.

    Raises:
        AdapterError: If it is missing, its YAML is broken, or it lacks the tag of this package.
    """
    if not path.is_file():
        raise AdapterError(f"The card '{path.name}' is missing in '{path.parent}'. Save the adapter again.")
    try:
        data = ModelCard(path.read_text(encoding="utf-8")).data
    except (ValueError, TypeError, yaml.YAMLError) as error:
        first = " ".join(str(error).split())
        raise AdapterError(
            f"The YAML at the top of '{path}' is broken ({first[:160]}). Save the adapter again."
        ) from error
    if TAG not in (data.get("tags") or []):
        raise AdapterError(f"The card '{path}' lacks the tag '{TAG}', without which nobody finds it. Save it again.")


def upload(
    folder: Path,
    repo_id: str,
    names: Iterable[str],
    *,
    private: bool = False,
    token: str | bool | None = None,
    revision: str | None = None,
    commit_message: str | None = None,
    replace: bool = False,
) -> Pushed:
    """Upload an adapter folder that was checked, as one commit.

    `create_commit` rather than `upload_folder`, which with Xet may split what it uploads into several commits, the
    first of which would stay if the second failed.

    Args:
        folder: The folder.
        repo_id: Repository; made if it is not there. Without an owner it is the token's.
        names: Files (`check_folder`).
        private: Make it private, if it is not there yet.
        token: Token that may write.
        revision: Branch; made from main if it is not there.
        commit_message: Title of the commit.
        replace: Languages that only the repository has go; else they stay, and the pushed ones come beside them.

    Raises:
        AdapterError: If the repository holds something that the push would destroy, or languages of another base.
        HubError: If the Hub refuses, or cannot be reached.
    """
    names = list(names)
    config = read_config(folder)
    api = HfApi(token=token)
    with hub_errors(repo_id, revision=revision, token=token, write=True):
        repo_id = api.create_repo(repo_id, private=private or None, exist_ok=True).repo_id
        if revision not in (None, constants.DEFAULT_REVISION):
            api.create_branch(repo_id, branch=str(revision), exist_ok=True)
        head = api.model_info(repo_id, revision=revision).sha
        there = [
            file.path
            for file in api.list_repo_tree(repo_id, recursive=True, revision=head)
            if isinstance(file, RepoFile)
        ]
        with TemporaryDirectory() as cache:
            old, card = _held(api, repo_id, head, there, replace, Path(cache))
    contents: dict[str, str | bytes] = {name: _content(folder / name, repo_id) for name in names}
    folders = language_folders(old) if old is not None else {}
    if old is not None and set(folders) - set(config.languages) and not replace:
        contents = _among_others(contents, there, old, config, card, repo_id)
        folders = {code: place for code, place in folders.items() if code in config.languages}
    stale = [name for name in there if owner(name, folders) and name not in contents]
    additions = [CommitOperationAdd(name, content) for name, content in contents.items()]
    with hub_errors(repo_id, revision=revision, token=token, write=True):
        commit = api.create_commit(
            repo_id,
            [*(CommitOperationDelete(name, is_folder=False) for name in stale), *additions],
            commit_message=commit_message or f"Adapter for {', '.join(config.languages)}",
            revision=revision,
            parent_commit=head,
        )
    size = sum(addition.upload_info.size for addition in additions)
    return Pushed(repo_id, str(commit.oid), str(commit.commit_url), len(additions), size)


def _content(path: Path, repo_id: str) -> str | bytes:
    """A file's path; a card that does not know yet where it lies is told."""
    if path.name == CARD:
        return path.read_text(encoding="utf-8").replace(UNNAMED, f'"{repo_id}"').encode()
    return str(path)


def _among_others(
    contents: dict[str, str | bytes], there: list[str], old: CCRConfig, pushed: CCRConfig, card: str, repo_id: str
) -> dict[str, str | bytes]:
    """What to write so that the languages that only the repository has stay as they are.

    Files that all languages share, a licence or a base, stay the repository's; its configuration and card are merged.
    """
    merged = merged_config(old, pushed, repo_id)
    places = remote_names(contents, pushed, merged)
    mine = {name for name in contents if name not in places and name not in there}
    if merged.base_model_name_or_path != pushed.base_model_name_or_path:
        mine = {name for name in mine if "/" not in name}  # a base carried along, which the repository has elsewhere
    found = {places.get(name, name): contents[name] for name in contents if name in places or name in mine}
    found[CONFIG] = merged.to_json_string().encode()
    new_card = contents[CARD]
    text = new_card.decode() if isinstance(new_card, bytes) else Path(new_card).read_text(encoding="utf-8")
    found[CARD] = merged_card(card, text, pushed.languages, old.languages).encode()
    return found


def _held(
    api: HfApi, repo_id: str, head: str | None, there: list[str], replace: bool, cache: Path
) -> tuple[CCRConfig | None, str]:
    """The configuration and the card that a repository has by now.

    Raises:
        AdapterError: If it holds something else.
    """
    if CONFIG not in there:
        if ADAPTER_CONFIG in there and not replace:
            raise AdapterError(
                f"'{repo_id}' holds an adapter of another kind, which this push would take away. Choose another repository, or "
                "pass replace=True (--replace)."
            )
        return None, ""
    root = Path(api.hf_hub_download(repo_id, CONFIG, revision=head, cache_dir=cache)).parent
    try:
        config = read_config(root)
    except ConfigError as error:
        if replace:
            return None, ""
        raise AdapterError(
            f"'{repo_id}' holds adapters in a format that this version cannot read ({error}). Update ccr-adapters, or pass "
            "replace=True (--replace)."
        ) from error
    except AdapterError as error:
        raise AdapterError(f"'{repo_id}' holds something else than adapters. Choose another repository.") from error
    if CARD not in there:
        return config, ""
    path = api.hf_hub_download(repo_id, CARD, revision=head, cache_dir=cache)
    return config, Path(path).read_text(encoding="utf-8")


def push_model(
    model: Any,
    repo_id: str,
    *,
    language: str | None = None,
    dtype: Any = None,
    row_tolerance: float | None = None,
    evidence: dict[str, Any] | None = None,
    **kwargs: Any,
) -> Pushed:
    """Save a model's languages aside and upload exactly what was written.

    Args:
        model: A `CCRModel`.
        repo_id: Repository.
        language: Only this one; default all.
        dtype: Precision of the written weights.
        row_tolerance: Leave out rows of a vocabulary that are no further from its source, as `save_pretrained` does.
        evidence: What was measured, for the card.
        kwargs: Those of `upload`.
    """
    with TemporaryDirectory() as aside:
        folder = Path(aside) / "adapter"
        before = model.base_folder
        if before is not None:
            # nobody else has it: it goes along
            size = _carry(before, folder / CARRIED)
            logger.warning(
                "The base '%s' lies on this machine, and goes along (%.0f MB). Where it is a copy of a repository, load it by "
                "that name instead, and only the adapter is pushed.",
                before,
                size / 1e6,
            )
            model.base_folder = folder / CARRIED
        try:
            model.save_pretrained(
                folder, language=language, dtype=dtype, row_tolerance=row_tolerance, evidence=evidence
            )
        finally:
            model.base_folder = before
        return upload(folder, repo_id, check_folder(folder), **kwargs)


def _carry(base: Path, target: Path) -> int:
    """Copy what a base is loaded from, and nothing else that lies in its folder; its bytes."""
    size = 0
    names = [name for name in files_below(base) if Path(name).suffix in BASE_SUFFIXES]
    refuse_links(base, names)
    for name in names:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(base / name, target / name)
        size += (target / name).stat().st_size
    return size
