"""Checkpoints of other projects: read without running what is in them, and every tensor accounted for."""

from __future__ import annotations

import argparse
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor

from ccr_adapters.errors import AdapterError, first_line

Shape = tuple[int, ...]

MOST_NAMED = 3
"""Names that a message lists before it only counts."""


def read_checkpoint(path: str | Path) -> Any:
    """What `torch.save` wrote: tensors, plain values, and options in an `argparse.Namespace`; no other objects.

    Args:
        path: The file.

    Raises:
        AdapterError: If it is missing, is no checkpoint, is broken, or holds objects that could run code.
    """
    path = Path(path)
    if path.is_dir():
        inside = ", ".join(sorted(file.name for file in path.iterdir() if file.is_file())[:5])
        raise AdapterError(f"'{path}' is a folder; expected the checkpoint in it. It holds: {inside or 'no files'}.")
    if not path.is_file():
        raise AdapterError(
            f"There is no checkpoint '{path}'. Download the authors' file, and unpack it if it is an archive."
        )
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        found = re.search(r"(?:GLOBAL|function|class) ['<]*([\w.]+)", str(error))
        what = f"holds a {found[1]}" if found and "." in found[1] else "is no checkpoint, or holds more than tensors"
        raise AdapterError(
            f"'{path}' {what}. Only tensors and plain values are read, since anything else may run code. If you trust the "
            "file, load it where it was made and save its state dict alone: torch.save(model.state_dict(), 'plain.pt')."
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        told = first_line(error) if " " in str(error) else "it is cut off, or something else"
        raise AdapterError(
            f"'{path}' cannot be read as a checkpoint ({told[:100].strip()}). Download it again; an archive (zip, tar) must "
            "be unpacked first, and a TorchScript file is not one."
        ) from error


def state_dict(values: Any, what: str) -> dict[str, Tensor]:
    """A state dict, without the `module.` that `DataParallel` puts in front of its names.

    Args:
        values: What the checkpoint holds.
        what: How a message calls it.

    Raises:
        AdapterError: If it is no mapping of names to tensors.
    """
    if not isinstance(values, Mapping) or not all(isinstance(value, Tensor) for value in values.values()):
        kind = type(values).__name__
        raise AdapterError(f"{what} is a {kind} that is no state dict; expected names and tensors.")
    return {str(name).removeprefix("module."): value for name, value in values.items()}


def without(tensors: Mapping[str, Tensor], dead: Iterable[str]) -> tuple[dict[str, Tensor], list[str]]:
    """Leave out what no vector depends on.

    Args:
        tensors: By name.
        dead: Regular expressions that match a whole name.

    Returns:
        The rest, and the names that were left out.
    """
    patterns = [re.compile(pattern) for pattern in dead]
    dropped = [name for name in tensors if any(pattern.fullmatch(name) for pattern in patterns)]
    left = set(dropped)
    return {name: value for name, value in tensors.items() if name not in left}, dropped


def check(tensors: Mapping[str, Tensor], expected: Mapping[str, Shape], what: str, advice: str) -> None:
    """Refuse a state dict with anything missing, left over, of another shape, or not finite.

    Args:
        tensors: By name.
        expected: Shapes by name.
        what: How a message calls it.
        advice: What to do.

    Raises:
        AdapterError: Naming the first of what is wrong.
    """
    missing, extra = sorted(set(expected) - set(tensors)), sorted(set(tensors) - set(expected))
    if missing or extra:
        parts = [
            f"{len(names)} {kind} ({some(names)})"
            for names, kind in ((missing, "missing"), (extra, "unexpected"))
            if names
        ]
        raise AdapterError(f"{what}: tensors do not fit, {' and '.join(parts)}. {advice}")
    for name, shape in sorted(expected.items()):
        if tuple(tensors[name].shape) != tuple(shape):
            raise AdapterError(
                f"{what}: '{name}' has shape {tuple(tensors[name].shape)}, expected {tuple(shape)}. {advice}"
            )
        if tensors[name].is_floating_point() and not torch.isfinite(tensors[name]).all():
            raise AdapterError(f"{what}: '{name}' holds values that are not finite. Download the file again.")


def shapes_of(tensors: Mapping[str, Tensor]) -> dict[str, Shape]:
    """Shapes by name."""
    return {name: tuple(value.shape) for name, value in tensors.items()}


def some(names: Iterable[str]) -> str:
    """The first of many names."""
    names = list(names)
    more = f", and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return f"{', '.join(names[:MOST_NAMED])}{more}"


def collapsed(names: Iterable[str]) -> dict[str, int]:
    """Names with numbers as `*`, and how many are so called: for people, of whom none reads 200 names."""
    return dict(sorted(Counter(re.sub(r"(?<=\.)\d+(?=\.)", "*", name) for name in names).items()))


def largest_difference(found: Mapping[str, Tensor], base: Mapping[str, Tensor], names: Iterable[str]) -> float:
    """How far any value of a checkpoint is from the base's."""
    differences = [float((found[name].float() - base[name].float()).abs().max()) for name in names]
    return max(differences, default=0.0)
