"""What the conversions share: the model on its way to becoming an adapter folder, bases and tokenizers, and the result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from ccr_adapters.errors import AdapterError, first_line
from ccr_adapters.modeling import CCRModel
from ccr_adapters.processing.bases import knows_no_words, resolve_base

SAME = 1e-6
"""How far frozen weights may be from the base's to be the same."""
CARRIED = "base"
"""Folder of a base that no repository has."""


@dataclass
class Draft:
    """A checkpoint that was read and checked, and the base that stands ready for it."""

    model: CCRModel
    """The base, without the language."""
    base_name: str
    """Where the base came from."""
    carried: bool
    """The base is in no repository: it is written into the adapter's folder."""
    difference: float | None
    """How far the checkpoint's frozen weights are from the base's; `None` if it holds none."""
    dropped: list[str]
    """Tensors that no vector depends on."""
    add: Callable[[], None]
    """Gives the model the language."""
    license: str
    source: str
    """Where the authors' code is."""


@dataclass(frozen=True)
class Converted:
    """What became of a checkpoint."""

    folder: Path
    method: str
    language: str
    base: str
    """The base that the adapter names; `base` is one that lies in its folder."""
    compared_with: str
    difference: float | None
    """Largest difference between the checkpoint's frozen weights and those of `compared_with`."""
    dropped: dict[str, int]
    """Tensors that were left out, numbers as `*`, and how many of each name."""

    def to_text(self) -> str:
        """For people."""
        lines = [f"{self.method} for {self.language!r} is in {self.folder}."]
        place = f"in {self.folder / CARRIED}" if self.base == CARRIED else self.base
        if self.difference is None:
            lines.append(f"base: {place}; the checkpoint holds no frozen weights to compare it with.")
        elif self.difference <= SAME:
            lines.append(f"base: {place}; the checkpoint's frozen weights are those of {self.compared_with}.")
        else:
            found = f"they differ from {self.compared_with} by up to {self.difference:.2g}"
            lines.append(f"base: {place}, with the checkpoint's own weights: {found}.")
        lines.append(f"left out, as no vector depends on them: {sum(self.dropped.values())} tensors")
        lines += [f"  {name}" + (f"  x {count}" if count > 1 else "") for name, count in self.dropped.items()]
        return "\n".join(lines)


def load_base(name: str | Path, **kwargs: Any) -> CCRModel:
    """A base with its processor.

    Raises:
        AdapterError: If it cannot be loaded.
    """
    try:
        return CCRModel.from_base(str(name), **kwargs)
    except (OSError, ValueError) as error:
        raise AdapterError(
            f"The base '{name}' cannot be loaded ({first_line(error)}). Say where it is: a "
            "folder or a repository of transformers."
        ) from error


def load_tokenizer(name: str | Path, **kwargs: Any) -> Any:
    """A tokenizer of transformers.

    Raises:
        AdapterError: If it cannot be loaded, or has no words since its files are missing.
    """
    try:
        found = AutoTokenizer.from_pretrained(resolve_base(name), **kwargs)
    except (OSError, ValueError, KeyError) as error:
        raise AdapterError(
            f"The tokenizer '{name}' cannot be loaded ({first_line(error)}). Say where it "
            "is: a folder or a repository of transformers."
        ) from error
    if knows_no_words(found):
        raise AdapterError(f"'{name}' has no files of a tokenizer. Name a folder or a repository that has them.")
    return found


def write_base(model: CCRModel, folder: Path) -> None:
    """Write a base with its processor, before it has any language."""
    processor: Any = model.processor
    for part in (model.base, processor.tokenizer, processor.image_processor):
        if part is not None:
            part.save_pretrained(str(folder))
