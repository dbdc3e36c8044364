"""Push: an adapter folder, or the languages of a model, into a repository of the Hub, in one commit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ccr_adapters.errors import AdapterError
from ccr_adapters.modeling import CCRModel
from ccr_adapters.modeling.upload import Pushed, check_folder, push_model, upload


def push_adapter(
    adapter: str | Path | CCRModel,
    repo_id: str,
    *,
    private: bool = False,
    token: str | bool | None = None,
    revision: str | None = None,
    commit_message: str | None = None,
    replace: bool = False,
    **model_arguments: Any,
) -> Pushed:
    """Push an adapter repository: all of its files in one commit, so that one that dies changes nothing.

    What the repository held of the same languages is replaced. Its other languages stay as they are: the pushed ones come
    beside them, with one configuration for all, and the card gains a section. The card's example is made to load the
    repository.

    Args:
        adapter: Folder that `save_pretrained` wrote, or a model.
        repo_id: Repository, made if it is not there; without an owner it is the token's.
        private: Make it private, if it is not there yet.
        token: Token that may write; default the one that `hf auth login` keeps, or HF_TOKEN.
        revision: Branch; made from main if it is not there.
        commit_message: Title of the commit.
        replace: Take languages away that only the repository has.
        model_arguments: For a model: `language`, `dtype`, `row_tolerance` and `evidence`, as for `save_pretrained`.

    Returns:
        Repository, commit, page, number of files and bytes.

    Raises:
        AdapterError: If the folder is no adapter repository, is broken, or holds pickles or unrelated files; if the
            repository holds something that would be lost, or languages of another base.
        HubError: If the Hub refuses, or cannot be reached.

    Example:
        >>> push_adapter("runs/de/adapter", "me/dasd-clip-de", private=True)  # doctest: +SKIP
    """
    how: dict[str, Any] = {
        "private": private,
        "token": token,
        "revision": revision,
        "commit_message": commit_message,
        "replace": replace,
    }
    if isinstance(adapter, CCRModel):
        return push_model(adapter, repo_id, **model_arguments, **how)
    if model_arguments:
        raise AdapterError(f"{', '.join(model_arguments)}: for models only; a folder is pushed as it is.")
    folder = Path(adapter)
    return upload(folder, repo_id, check_folder(folder), **how)
