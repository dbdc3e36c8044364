"""Where a base lies: the one that comes with the package, a folder here or beside the adapter, or a repository."""

from __future__ import annotations

from pathlib import Path

from ccr_adapters.data import tiny_clip_path
from ccr_adapters.errors import AdapterError

TINY_CLIP = "tiny_clip"
"""Name of the packaged base; adapters name it so, since its folder differs from machine to machine."""


def resolve_base(name: str | Path, beside: Path | None = None) -> str:
    """What transformers can load a base from.

    Args:
        name: `tiny_clip`, a folder, or a repository.
        beside: Folder of the adapter that names the base; relative folders are looked for there first.

    Raises:
        AdapterError: If the name is a path and there is no such folder.
    """
    text = str(name)
    if text == TINY_CLIP:
        return str(tiny_clip_path())
    # what an adapter names lies beside it before it lies wherever the user happens to be
    if beside is not None and not Path(text).is_absolute() and (beside / text).is_dir():
        return str(beside / text)
    if Path(text).is_dir():
        return text
    if Path(text).is_absolute() or text.startswith(".") or text.count("/") > 1:
        raise AdapterError(f"The base '{text}' is not here. Put it there, or say where it is with `base=`.")
    return text
