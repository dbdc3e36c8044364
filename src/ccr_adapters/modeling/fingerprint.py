"""A hash of a base model's weights: an adapter is worth nothing on any other."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from ccr_adapters.processing.bases import cache_folder

logger = logging.getLogger(__name__)


def weights_sha256(model: nn.Module, *, rounded: bool = True) -> str:
    """Hash all parameters of a model, adapters left out.

    Values are rounded to bfloat16 first, so that a base gives the same hash whether it was loaded in float32 or in
    bfloat16; names are those that the parameters had before any block was wrapped.

    Args:
        model: The base, bare or already adapted.
        rounded: `False` takes values as they are, to tell whether any of them changed.

    Returns:
        64 hexadecimal digits.
    """
    digest = hashlib.sha256()
    # peft's containers begin with the method's prefix; whatever stands inside a wrapper beside `base_layer` is adapter
    wrappers = {name for name, module in model.named_modules() if hasattr(module, "base_layer")}
    named = []
    for name, parameter in model.named_parameters():
        inside = [wrapper for wrapper in wrappers if name.startswith(f"{wrapper}.")]
        if all(name.startswith(f"{wrapper}.base_layer.") for wrapper in inside):
            named.append((name.replace(".base_layer.", "."), parameter))
    for name, parameter in sorted(named, key=lambda pair: pair[0]):
        digest.update(f"{name}{tuple(parameter.shape)}".encode())
        values = parameter.detach().to("cpu", torch.bfloat16 if rounded else parameter.dtype).contiguous()
        digest.update(values.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def remembered_sha256(model: nn.Module, files: Sequence[Path]) -> str:
    """The hash of a base that was loaded from files just now: looked up if these very files were hashed before.

    Hashing reads all weights, where loading only maps them. A file counts as the same while its place, size and time of
    change are.

    Args:
        model: The base, as it was loaded.
        files: Where from; with none it is hashed anew.
    """
    if not files:
        return weights_sha256(model)
    stats = [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    dtype = str(next(model.parameters()).dtype)
    key = hashlib.sha256(json.dumps([type(model).__name__, dtype, stats]).encode()).hexdigest()
    note = cache_folder() / "bases" / key[:32]
    try:
        known = note.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError):
        known = ""
    if re.fullmatch("[0-9a-f]{64}", known):
        return known
    found = weights_sha256(model)
    aside = note.with_name(f".{note.name}.{os.getpid()}")
    try:
        note.parent.mkdir(parents=True, exist_ok=True)
        aside.write_text(found, encoding="ascii")
        os.replace(aside, note)
    except OSError as error:
        logger.debug("The hash of the base is not remembered: %s", error)
    return found
