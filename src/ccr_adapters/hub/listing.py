"""List: the adapters of the Hub for a base, a language, or both."""

from __future__ import annotations

from ccr_adapters.modeling.registry import Listed, find_repositories

__all__ = ["Listed", "list_adapters"]


def list_adapters(
    base: str | None = None,
    language: str | None = None,
    *,
    author: str | None = None,
    limit: int | None = None,
    token: str | bool | None = None,
) -> list[Listed]:
    """Adapter repositories by the tags of their cards, the most downloaded first.

    Args:
        base: Only for this base, as the adapters name it (`openai/clip-vit-base-patch32`).
        language: Only with this language (`de`).
        author: Only of this user or organisation.
        limit: Most results.
        token: Shows private ones too.

    Returns:
        One entry a repository.

    Raises:
        HubError: If the Hub cannot be asked.

    Example:
        >>> list_adapters("openai/clip-vit-base-patch32", "sw")  # doctest: +SKIP
    """
    return find_repositories(base, language, author=author, limit=limit, token=token)
