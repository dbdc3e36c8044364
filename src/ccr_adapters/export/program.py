"""Towers as `torch.export` programs: one `.pt2` file that torch runs or compiles without this package."""

from __future__ import annotations

import os
from pathlib import Path
from zipfile import BadZipFile

import torch
from torch import nn

from ccr_adapters.errors import ConfigError, ExportError, first_line
from ccr_adapters.export.image import ImageExport
from ccr_adapters.export.text import TextExport
from ccr_adapters.modeling import CCRModel


def save_program(model: CCRModel, language: str | None, path: str | Path, *, tower: str = "text") -> Path:
    """Write a tower as a program for any number of captions of any length.

    Args:
        model: The model.
        language: The language; `None` is the base, `"active"` the model's active one.
        path: The file; its name ends in `.pt2`.
        tower: `"text"`, called with `input_ids` and `attention_mask`, or `"image"`, called with `pixel_values`.

    Returns:
        The file.

    Raises:
        ConfigError: If the name or the tower is another.
        ExportError: If the tower cannot be exported.
    """
    target = Path(path)
    if target.suffix != ".pt2":
        raise ConfigError(f"'{target}' does not end in '.pt2', by which torch knows its programs.")
    if tower not in ("text", "image"):
        raise ConfigError(f"`tower` is {tower!r}; expected text or image.")
    module = TextExport(model, language) if tower == "text" else ImageExport(model, language)
    with torch.no_grad():
        program = torch.export.export(module, module.example(), dynamic_shapes=module.dynamic_shapes())
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_name(f".{target.name}.{os.getpid()}.pt2")
    try:
        torch.export.save(program, aside)
        os.replace(aside, target)
    finally:
        aside.unlink(missing_ok=True)
    return target


def load_program(path: str | Path) -> nn.Module:
    """Read such a program; it is called as the tower is, under `torch.no_grad()`.

    Load only files that you trust: torch opens some parts of a program with pickle.

    Raises:
        ExportError: If the file is missing or no program.
    """
    if not Path(path).is_file():
        raise ExportError(f"There is no program '{path}'. Write one with `ccr-adapters export --format torch`.")
    try:
        return torch.export.load(path).module()
    except (BadZipFile, RuntimeError, ValueError, KeyError) as error:
        raise ExportError(f"'{path}' is no program of torch.export ({first_line(error)}).") from error
