"""Languages pushed into a repository that has others: their folders, one configuration for all, and one card."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import yaml

from ccr_adapters.configuration import CCRConfig
from ccr_adapters.errors import AdapterError
from ccr_adapters.modeling.layout import clean, language_folders, owner

# what of a card's front matter is a list that languages share
_LISTS = ("language", "datasets", "tags", "model-index")
_SECTION = re.compile(
    r"\n*<!-- ccr-adapters: ([^\n]+?) -->\n(.*?)\n<!-- ccr-adapters: end of \1 -->\n*", flags=re.DOTALL
)
_FRONT = re.compile(r"\s*---\n(.*?)\n---[ \t]*\n", flags=re.DOTALL)


def merged_config(there: CCRConfig, pushed: CCRConfig, repo_id: str) -> CCRConfig:
    """One configuration for the languages that a repository has and those that are pushed into it.

    A pushed language takes the folder that it has there, or one named by its code; no other language moves.

    Args:
        there: The repository's.
        pushed: That of the folder that is pushed.
        repo_id: The repository, for messages.

    Raises:
        AdapterError: If the two do not stand on the same base.
    """
    for name, what in (
        ("base_sha256", "the hash of its weights"),
        ("pooling", "its pooling"),
        ("visual_dim", "the width of its visual vectors"),
    ):
        old, new = getattr(there, name), getattr(pushed, name)
        if old != new and not (name == "base_sha256" and None in (old, new)):
            raise AdapterError(
                f"The languages in '{repo_id}' ({', '.join(there.languages)}) stand on '{there.base_model_name_or_path}', those "
                f"that are pushed on '{pushed.base_model_name_or_path}', and {what} differs ({str(old)[:12]}, {str(new)[:12]}). "
                "Push them to a repository of their own."
            )
    merged = copy.deepcopy(there)
    merged.base_sha256 = there.base_sha256 or pushed.base_sha256
    for code, language in pushed.languages.items():
        place = there.languages[code].folder if code in there.languages else code
        merged.languages[code] = replace(language, folder=place)
    return merged


def remote_names(names: Iterable[str], pushed: CCRConfig, merged: CCRConfig) -> dict[str, str]:
    """Where each file of a language goes: path in the folder -> path in the repository; what languages share is left out."""
    here, there = language_folders(pushed), language_folders(merged)
    found = {}
    for name in names:
        code = owner(name, here)
        if code:
            bare = name.removeprefix(f"{here[code]}/") if here[code] else name
            found[name] = f"{clean(there[code])}/{bare}" if there[code] else bare
    return found


def merged_card(there: str, pushed: str, codes: Iterable[str], earlier: Iterable[str] = ()) -> str:
    """The repository's card, with what is pushed added: in the front matter, and as a section of its own below.

    A section goes once each of its languages was pushed again, so that no number stays that holds no more.

    Args:
        there: The repository's card; empty if it has none.
        pushed: The card of the folder that is pushed.
        codes: Languages that are pushed.
        earlier: Languages that the repository has: text without a mark is of the first push, that of those without one.
    """
    if not there.strip():
        return pushed
    (data, text), (new, section) = _parts(there), _parts(pushed)
    data.update({key: both for key in _LISTS if (both := _union(data.get(key), new.get(key)))})
    marked = [(found[1], found[2]) for found in _SECTION.finditer(text)]
    first = set(earlier) - {code for name, _ in marked for code in name.split(", ")}
    rest, newer, kept = _SECTION.sub("\n", text).strip(), set(codes), [_marked(codes, section)]
    if first and rest:
        marked, rest = [(", ".join(sorted(first)), rest), *marked], ""
    for name, own in reversed(marked):
        of = set(name.split(", "))
        if not of <= newer:
            kept.insert(0, _marked(of, own))
        newer |= of
    front = yaml.safe_dump(data, sort_keys=False, allow_unicode=True)
    return "\n\n".join([f"---\n{front}---", *([rest] if rest else []), *kept]) + "\n"


def _marked(codes: Iterable[str], text: str) -> str:
    """A section of a card between marks that say whose it is."""
    name = ", ".join(sorted(codes))
    return f"<!-- ccr-adapters: {name} -->\n{text.strip()}\n<!-- ccr-adapters: end of {name} -->"


def _parts(card: str) -> tuple[dict[str, Any], str]:
    """The front matter of a card, and its text."""
    found = _FRONT.match(card)
    try:
        data = yaml.safe_load(found[1]) if found else {}
    except yaml.YAMLError as error:
        raise AdapterError(
            f"The YAML at the top of the repository's card is broken ({' '.join(str(error).split())[:160]}). Mend it there."
        ) from error
    return (data if isinstance(data, dict) else {}), card[found.end() :] if found else card


def _union(old: Any, new: Any) -> list[Any]:
    """Two lists as one; of results of models of one name, the new ones."""
    both = [[value] if isinstance(value, (str, Mapping)) else list(value or []) for value in (old, new)]
    named = {value["name"] for value in both[1] if isinstance(value, Mapping) and "name" in value}
    kept = [value for value in both[0] if not (isinstance(value, Mapping) and value.get("name") in named)]
    return [*kept, *(value for value in both[1] if value not in kept)]
