"""Pull: the languages asked for of an adapter repository into the cache, each file checked against its hash."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ccr_adapters.errors import AdapterError
from ccr_adapters.modeling.download import download
from ccr_adapters.processing.repository import hub_arguments, is_repository_id


def pull_adapter(
    repo_id: str,
    languages: str | Iterable[str] | None = None,
    *,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
) -> Path:
    """Download an adapter repository, or only some of its languages.

    What is in the cache by now is not downloaded again, and a download that broke off goes on with the files that are
    missing.

    Args:
        repo_id: The repository.
        languages: Only these; default all.
        revision: Branch, tag or commit.
        token: For private ones; default the one that `hf auth login` keeps, or HF_TOKEN.
        cache_dir: Another cache than the Hub's usual one.
        local_files_only: Look in the cache only.

    Returns:
        The folder. `CCRModel.from_pretrained` takes it, with the same `languages` if they were not all.

    Raises:
        AdapterError: If it is no adapter repository.
        HubError: If it is not there, not allowed, not reachable, or its bytes are not what they should be.
        LanguageError: If a language is not there.

    Example:
        >>> pull_adapter("org/dasd-clip", ["de", "cs"])  # doctest: +SKIP
    """
    if not is_repository_id(repo_id):
        raise AdapterError(f"'{repo_id}' is no id of a repository; expected owner/name.")
    chosen = [languages] if isinstance(languages, str) else languages
    how = {"revision": revision, "token": token, "cache_dir": cache_dir, "local_files_only": local_files_only}
    return download(repo_id, hub_arguments(how), chosen)
