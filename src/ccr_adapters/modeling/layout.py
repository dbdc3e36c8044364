"""Which files make an adapter repository, whose they are, and what an earlier save left of another one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from ccr_adapters.configuration import CCRConfig
from ccr_adapters.errors import AdapterError
from ccr_adapters.modeling.adapter_folder import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    ASIDE,
    HEAD_WEIGHTS,
    VOCABULARY_WEIGHTS,
)
from ccr_adapters.processing.repository import CONFIG, MOVING, TOKENIZER_FILES, inside, read_json

CARD = "README.md"
LANGUAGE_FILES = (ADAPTER_CONFIG, ADAPTER_WEIGHTS, VOCABULARY_WEIGHTS, HEAD_WEIGHTS, *TOKENIZER_FILES)
# What was measured may lie beside the card that tells it.
TOP_FILES = (
    CONFIG,
    CARD,
    "LICENSE",
    "LICENSE.md",
    "LICENSE.txt",
    "NOTICE",
    "metrics.json",
    "training_summary.json",
    ".gitattributes",
)
BASE_SUFFIXES = (".json", ".safetensors", ".txt", ".model", ".jinja")
PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib")

_PARTS = {
    ADAPTER_WEIGHTS: "adapter",
    VOCABULARY_WEIGHTS: "vocabulary rows",
    HEAD_WEIGHTS: "head",
    CONFIG: "configuration",
    ADAPTER_CONFIG: "configuration",
    CARD: "card",
    **dict.fromkeys(TOKENIZER_FILES, "tokenizer"),
}


def clean(folder: str) -> str:
    """A language's folder as file listings name it: no slash at the end, and nothing for the top."""
    text = PurePosixPath(folder).as_posix()
    return "" if text == "." else text


def language_folders(config: CCRConfig) -> dict[str, str]:
    """Folder of each language, by its code; refuses those that climb out."""
    folders = {code: clean(language.folder) for code, language in (config.languages or {}).items()}
    for folder in folders.values():
        inside(Path(), folder)
    return folders


def carried_base(config: CCRConfig) -> str | None:
    """Folder of a base that the repository carries along; `None` where the base lies elsewhere for sure."""
    name = config.base_model_name_or_path or ""
    parts = PurePosixPath(name)
    if not parts.parts or parts.is_absolute() or ".." in parts.parts or "\\" in name or Path(name).is_absolute():
        return None
    return clean(name) or None


def owner(name: str, folders: Mapping[str, str], base: str | None = None) -> str | None:
    """Which language a file belongs to: its code, `""` for what all share, `None` for a file that has no place here.

    Args:
        name: Path in the repository, with slashes.
        folders: Folder of each language (`language_folders`).
        base: Folder of a base that is carried along.
    """
    path = PurePosixPath(name)
    parent = clean(path.parent.as_posix())
    if path.name in LANGUAGE_FILES:
        for code, folder in folders.items():
            if folder == parent:
                return code
    if name in TOP_FILES or (base is not None and name.startswith(f"{base}/") and path.suffix in BASE_SUFFIXES):
        return ""
    return None


def part_of(name: str) -> str:
    """What a file is for: adapter, vocabulary rows, head, tokenizer, configuration, card, other."""
    return _PARTS.get(PurePosixPath(name).name, "other")


def is_pickle(name: str) -> bool:
    """Whether a file runs code where it is opened."""
    return PurePosixPath(name).suffix in PICKLES


def files_below(folder: Path) -> list[str]:
    """Every file of a folder but what version control, downloads and saves keep for themselves; paths with slashes."""
    names = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if path.is_file()]
    return [name for name in names if not name.startswith((".git/", ".cache/", ASIDE, MOVING))]


def refuse_links(folder: Path, names: Iterable[str]) -> None:
    """Refuse files of a folder that are links out of it: nobody who pushes it means what they lead to.

    The Hub's cache is made of links, to blobs beside its snapshots.

    Raises:
        AdapterError: Naming the first one.
    """
    home = folder.resolve()
    for name in names:
        found = (folder / name).resolve()
        if not (found.is_relative_to(home) or found.is_relative_to(home.parent.parent / "blobs")):
            raise AdapterError(f"'{name}' in '{folder}' is a link that leads out of it. Put the file itself there.")


def earlier_files(folder: Path, codes: Iterable[str]) -> list[Path]:
    """Files that an earlier save of an adapter wrote where other ones would now stand for the same languages.

    Those at the top, which peft would load as the folder's adapter, and those of the languages that are saved again,
    wherever they lay. Languages that are not saved again keep their folders.

    Args:
        folder: The folder to be saved into; may be missing.
        codes: Languages to be saved.
    """
    if not folder.is_dir():
        return []
    codes = list(codes)
    listed = _listed(folder)
    places = {"", *codes, *(listed[code] for code in codes if code in listed)}
    found: list[Path] = []
    for place in sorted(places):
        try:
            where = inside(folder, place)
        except AdapterError:
            continue
        if (where / ADAPTER_CONFIG).is_file():
            found += [where / name for name in LANGUAGE_FILES if (where / name).is_file()]
    return found


def left_out(folder: Path, codes: Iterable[str]) -> list[str]:
    """Languages that a folder's configuration lists, and would list no more after a save of other ones.

    One at the top is not among them: a save takes its place.

    Args:
        folder: The folder to be saved into; may be missing.
        codes: Languages to be saved.
    """
    return sorted(code for code, place in _listed(folder).items() if place and code not in set(codes))


def _listed(folder: Path) -> dict[str, str]:
    """Folder of each language that a configuration lists, as far as it can be read; nothing where there is none."""
    try:
        languages: Any = read_json(folder / CONFIG).get("languages")
    except AdapterError:
        return {}
    named = {
        code: language.get("folder") if isinstance(language, dict) else None
        for code, language in (languages.items() if isinstance(languages, dict) else ())
    }
    return {code: clean(place) for code, place in named.items() if isinstance(place, str)}


def remove_leftovers(found: Iterable[Path], written: Iterable[Path], root: Path) -> None:
    """Remove files of an earlier save that the new one did not replace, and folders that are empty then.

    Args:
        found: What lay there (`earlier_files`).
        written: What was written now.
        root: The folder that was saved into; it stays.
    """
    for path in sorted(set(found) - set(written)):
        path.unlink(missing_ok=True)
        if path.parent != root and not any(path.parent.iterdir()):
            path.parent.rmdir()
