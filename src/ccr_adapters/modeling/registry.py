"""Adapter repositories found by their tags: which ones teach a base a language."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi

from ccr_adapters.errors import AdapterError, LanguageError
from ccr_adapters.modeling.download import kind_of
from ccr_adapters.modeling.upload import TAG
from ccr_adapters.processing.bases import TINY_CLIP
from ccr_adapters.processing.hub_errors import hub_errors
from ccr_adapters.processing.repository import is_repository_id

logger = logging.getLogger(__name__)

_NO_METHOD = {TAG, "cross-lingual", "cross-modal-retrieval", "multilingual"}


@dataclass(frozen=True)
class Listed:
    """A repository, as its card describes it.

    Args:
        repo_id: The repository.
        languages: What its card says it teaches.
        base: The base it needs.
        method: What it was trained with.
        downloads: In the last month.
        modified: Day of the last change.
        private: Whether a token is needed.
    """

    repo_id: str
    languages: tuple[str, ...]
    base: str | None
    method: str | None
    downloads: int
    modified: str | None
    private: bool


def find_repositories(
    base: str | None = None,
    language: str | None = None,
    *,
    author: str | None = None,
    limit: int | None = None,
    token: str | bool | None = None,
) -> list[Listed]:
    """Adapter repositories, the most downloaded first.

    Args:
        base: Only for this base.
        language: Only with this language.
        author: Only of this user or organisation.
        limit: Most results.
        token: Shows private ones too.

    Raises:
        HubError: If the Hub cannot be asked.
    """
    tags = [TAG]
    if base:
        tags.append(f"base_model:adapter:{base}")
    if language:
        tags.append(language)
    with hub_errors("the list of adapters", token=token):
        found = HfApi(token=token).list_models(filter=tags, author=author, sort="downloads", limit=limit, cardData=True)
        listed = [_listed(info) for info in found if TAG in (info.tags or [])]
    return [each for each in listed if language is None or language in each.languages]


def _listed(info: Any) -> Listed:
    card = info.card_data.to_dict() if info.card_data is not None else {}
    spoken = card.get("language") or []
    base = card.get("base_model")
    tags = card.get("tags") or []
    method = next((tag for tag in tags if tag not in _NO_METHOD and ":" not in tag), None)
    return Listed(
        repo_id=info.id,
        languages=tuple([spoken] if isinstance(spoken, str) else spoken),
        base=next(iter(base), None) if isinstance(base, list) else base,
        method=method,
        downloads=info.downloads or 0,
        modified=info.last_modified.date().isoformat() if info.last_modified else None,
        private=bool(info.private),
    )


def is_base(name: str | Path, hub: dict[str, Any]) -> bool:
    """Whether a name is that of a base rather than of an adapter repository."""
    if str(name) == TINY_CLIP:
        return True
    if not Path(name).is_dir() and not is_repository_id(name):
        return False
    kind = kind_of(name, hub)
    return kind is not None and kind != "ccr"


def repositories_for(
    base: str | Path, languages: Iterable[str] | Mapping[str, str], token: str | bool | None = None
) -> dict[str, str]:
    """Where to take each language of a base from.

    Args:
        base: The base.
        languages: Codes, to be searched for; or the repository of each code.
        token: For private ones.

    Raises:
        LanguageError: If nobody teaches a language, or several do: which one to trust is the user's choice.
    """
    if isinstance(languages, Mapping):
        return dict(languages)
    chosen = {}
    for code in [languages] if isinstance(languages, str) else dict.fromkeys(languages):
        found = [each.repo_id for each in find_repositories(str(base), code, token=token)]
        if not found:
            raise LanguageError(f"No adapter on the Hub teaches '{base}' the language {code!r}.")
        if len(found) > 1:
            raise LanguageError(
                f"{len(found)} adapters teach '{base}' the language {code!r}: {', '.join(found[:5])}. Name one: "
                f"languages={{{code!r}: {found[0]!r}}}."
            )
        logger.warning("Language %r of '%s' is taken from '%s', the one adapter found for it.", code, base, found[0])
        chosen[code] = found[0]
    return chosen


def listed_codes(languages: Iterable[str] | Mapping[str, str] | None, name: str | Path) -> list[str] | None:
    """Codes as a list, refusing repositories by language where the name is already that of an adapter repository."""
    if isinstance(languages, Mapping):
        raise AdapterError(
            f"'{name}' is an adapter repository; `languages` then lists codes. Repositories by language go with a base."
        )
    return languages if languages is None else [languages] if isinstance(languages, str) else list(languages)
