"""What `index` and `search` share: loading a model by name, and telling names of files to a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ccr_adapters.cli.places import check_device

if TYPE_CHECKING:
    from ccr_adapters.modeling import CCRModel


def load_model(names: Sequence[str], device: str | None = None) -> CCRModel:
    """Load a base or an adapter repository, and the languages of more repositories.

    Args:
        names: `tiny_clip`, folders or repositories; all for the same base.
        device: Where it shall run; default: the accelerator if there is one.

    Returns:
        The model.
    """
    from transformers.utils import logging

    from ccr_adapters.modeling import CCRModel
    from ccr_adapters.processing.devices import default_device

    check_device(device)
    # a bar for a second of loading would stand between the command and its answer
    logging.disable_progress_bar()
    first, *others = names
    model = CCRModel.from_pretrained(first)
    for name in others:
        model.load_language(name)
    model.eval()
    model.to(device or default_device())  # type: ignore[arg-type]
    return model


def remembered(model: str) -> str:
    """How a collection remembers a model: a folder by where it is, whatever folder the next command runs in."""
    return str(Path(model).absolute()) if Path(model).is_dir() else model


def models_for(given: Sequence[str] | None, recorded: str | None) -> list[str]:
    """The models that search an index: those that the user names, or the one that made it.

    Args:
        given: Those of the user.
        recorded: The one that the index remembers.

    Raises:
        SearchIndexError: If it remembers none, or one that has gone.
    """
    from ccr_adapters.errors import SearchIndexError

    if given:
        return list(given)
    if not recorded:
        raise SearchIndexError("The index does not say which model made it: give one with --model.")
    if Path(recorded).is_absolute() and not Path(recorded).is_dir():
        raise SearchIndexError(f"The index was made with '{recorded}', which is not there. Say where it is: --model.")
    return [recorded]


def printable(text: str) -> str:
    """Text for a terminal: what would move the cursor, and what is no Unicode, becomes a question mark."""
    return "".join(letter if letter.isprintable() and not "\ud800" <= letter <= "\udfff" else "?" for letter in text)
