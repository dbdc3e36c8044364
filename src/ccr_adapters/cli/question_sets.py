"""The sets that `evaluate` scores: a benchmark by name, the tiny world, or somebody's own folder; one for each language."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ccr_adapters.data.benchmarks import (
    find_benchmark,
    load_dasd,
    load_image_folder,
    load_languages,
    load_nrccr,
    primary_language,
)
from ccr_adapters.data.benchmarks.problems import OnError
from ccr_adapters.data.retrieval_set import RetrievalSet
from ccr_adapters.errors import CCRError, ConfigError, DataError, LanguageError

TINY_WORLD = "tiny-world"
_TINY_PICTURES = 1000
_START = 1 << 20
_VIDEOS = (".mp4", ".webm", ".mkv", ".avi", ".mov")
# what the loaders call what the command calls otherwise
_OPTIONS = {
    "on_error='skip'": "--on-error skip",
    "source=": "--folder",
    "images=": "--images",
    "features=": "--features",
    "table=": "--table",
}


@dataclass(frozen=True)
class Asked:
    """Which sets are asked for, as the options of the command say it.

    Attributes:
        benchmark: Name of a benchmark, or `tiny-world`.
        data: Anybody's own: a folder of pictures with a table, an NRCCR `*.caption.txt`, or a DASD path file. In this and
            in `table` and `columns`, `{language}` stands for the language.
        folder: The benchmark's official files.
        images: Folder of the pictures, where the captions come without.
        features: Features instead of pictures.
        table: Table of captions in `data`.
        columns: Names of its columns.
        split: Of a DASD path file.
        on_error: What happens to bad rows.
        limit: Only the first pictures.
    """

    benchmark: str | None = None
    data: str | None = None
    folder: Path | None = None
    images: Path | None = None
    features: Path | None = None
    table: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    split: str = "test"
    on_error: OnError = "raise"
    limit: int | None = None

    @property
    def source(self) -> str:
        """Where the sets are from: one text for one source, whatever folder the command is run in."""
        places = (self.data, self.folder, self.images, self.features)
        whole = [None if place is None else str(Path(place).absolute()) for place in places]
        return json.dumps([self.benchmark, *whole, self.table, self.split, *sorted(self.columns.items())])


def load_sets(asked: Asked, languages: Sequence[str]) -> dict[str, RetrievalSet]:
    """Load a set for each language; sets over one gallery share it.

    Args:
        asked: What to load.
        languages: Codes, as the user spells them.

    Returns:
        Sets by those codes; the captions of each are under its primary code (`ja` for `jp`).

    Raises:
        ConfigError: If options do not go together.
        DataError: If a file is missing or a row refused.
        LanguageError: If the set does not have a language.
        ImageError: If a picture is missing or broken.
    """
    _check(asked)
    with _in_options():
        if asked.benchmark == TINY_WORLD:
            found = _tiny_world(languages, asked.limit or _TINY_PICTURES)
        elif asked.benchmark is not None:
            found = load_languages(
                asked.benchmark,
                languages,
                source=asked.folder,
                images=asked.images,
                features=asked.features,
                on_error=asked.on_error,
            )
        else:
            found = _own(asked, languages)
    if asked.limit is not None and asked.benchmark != TINY_WORLD:
        found = _limited(found, asked.limit)
    return found


def _check(asked: Asked) -> None:
    if (asked.benchmark is None) == (asked.data is None):
        raise ConfigError("Name the questions: either --benchmark NAME or --data FOLDER.")
    only_own = {"--table": asked.table, "--column": asked.columns or None}
    only_named = {"--folder": asked.folder}
    given = only_own if asked.benchmark is not None else only_named
    wrong = [name for name, value in given.items() if value is not None]
    if wrong:
        raise ConfigError(f"{wrong[0]} goes with {'--data' if asked.benchmark is not None else '--benchmark'}.")
    if asked.benchmark == TINY_WORLD and (asked.folder or asked.images or asked.features):
        raise ConfigError(
            "The tiny world is made by the package: --folder, --images and --features have no meaning for it."
        )
    if asked.benchmark not in (None, TINY_WORLD):
        try:
            find_benchmark(str(asked.benchmark))
        except DataError as error:
            raise DataError(f"{error} And, rendered by the package: {TINY_WORLD}.") from None


@contextmanager
def _in_options() -> Iterator[None]:
    """Let messages of the loaders name the options of the command instead of their own arguments."""
    try:
        yield
    except CCRError as error:
        text = str(error)
        for argument, option in _OPTIONS.items():
            text = text.replace(argument, option)
        text = re.sub(r"columns=\{'(\w+)': \.\.\.\}", r"--column \1=...", text)
        raise type(error)(text) from error


def _tiny_world(languages: Sequence[str], pictures: int) -> dict[str, RetrievalSet]:
    """Test scenes with two captions by speakers of each language; rendered once, for they are the same for all."""
    from ccr_adapters.data.tiny_world import LANGUAGES, build_tiny_world

    first: RetrievalSet | None = None
    found = {}
    for language in languages:
        code = primary_language(language)
        if code not in (*LANGUAGES, "en"):
            raise LanguageError(f"The tiny world has no captions in '{language}'; it has en, {', '.join(LANGUAGES)}.")
        size = {"image_size": 8} if first is not None else {}  # those pictures are not looked at
        spoken = LANGUAGES[0] if code == "en" else code
        rows = build_tiny_world(spoken, train=0, validation=0, test=pictures, **size)["test"]
        one = RetrievalSet.from_dataset(
            rows, {code: "caption" if code == "en" else "target_caption"}, name=f"{TINY_WORLD}-{pictures}"
        )
        if first is None:
            first = one
        one.pictures = first.pictures
        one.facts = {
            "language": code,
            "protocol": f"tiny world: {pictures:,} rendered scenes with two captions each, both ways",
            "source": "made by the package, seed 0",
            "images": pictures,
            "captions": len(one.captions[code]),
            "skipped": {},
        }
        found[language] = one
    return found


def _own(asked: Asked, languages: Sequence[str]) -> dict[str, RetrievalSet]:
    found: dict[str, RetrievalSet] = {}
    for language in languages:
        one = _own_language(asked, language)
        for other in found.values():
            if one.image_ids == other.image_ids and _same_gallery(one, other):
                one.pictures, one.visual, one.videos = other.pictures, other.visual, other.videos
                break
        found[language] = one
    return found


def _own_language(asked: Asked, language: str) -> RetrievalSet:
    path = Path(_filled(str(asked.data), language))
    if path.is_file() and asked.columns:
        raise ConfigError("--column goes with a folder of pictures and its table.")
    looks: dict[str, Any] = {"images": asked.images, "features": asked.features}
    if path.name.endswith(".caption.txt"):
        return load_nrccr(path, language, **looks, video=_holds_videos(asked.images), on_error=asked.on_error)
    if path.suffix == ".json" and path.is_file():
        return load_dasd(path, asked.split, language, **looks, on_error=asked.on_error)
    if asked.images is not None or asked.features is not None:
        raise ConfigError("--images and --features go with a benchmark, a *.caption.txt or a path file (.json).")
    table = None if asked.table is None else _filled(asked.table, language)
    columns = {own: _filled(theirs, language) for own, theirs in asked.columns.items()}
    return load_image_folder(path, language, table=table, columns=columns, on_error=asked.on_error)


def _holds_videos(folder: Path | None) -> bool:
    return folder is not None and any(file.suffix.lower() in _VIDEOS for file in folder.rglob("*"))


def _filled(text: str, language: str) -> str:
    return text.replace("{language}", language)


def _same_gallery(one: RetrievalSet, other: RetrievalSet) -> bool:
    """Whether galleries of equal ids show the same: the same files, or the same vectors."""
    for mine, theirs in ((one.pictures, other.pictures), (one.videos, other.videos)):
        if isinstance(mine, list) and isinstance(theirs, list):
            return mine == theirs
    if one.visual is not None and other.visual is not None:
        return np.array_equal(one.visual, other.visual)
    return False


def _limited(sets: Mapping[str, RetrievalSet], limit: int) -> dict[str, RetrievalSet]:
    """The first pictures of each set with their captions; what was one gallery stays one."""
    galleries: dict[int, Any] = {}
    found = {}
    for language, one in sets.items():
        if limit >= len(one.image_ids):
            found[language] = one
            continue
        code = next(iter(one.captions))
        kept = np.flatnonzero(one.caption_to_image[code] < limit)
        if not len(kept):
            raise DataError(f"{one.name} ({language}): none of the first {limit:,} images has a caption.")
        whole = gallery_object(one)
        cut = galleries.setdefault(id(whole), whole[:limit] if isinstance(whole, np.ndarray) else First(whole, limit))
        kind = "pictures" if one.pictures is not None else "visual" if one.visual is not None else "videos"
        found[language] = replace(
            one,
            image_ids=one.image_ids[:limit],
            captions={code: [one.captions[code][row] for row in kept]},
            caption_to_image={code: one.caption_to_image[code][kept]},
            name=f"{one.name}-first{limit}",
            facts={
                **one.facts,
                "protocol": f"{one.facts.get('protocol', one.name)}; ONLY THE FIRST {limit:,} IMAGES",
            },
            **{kind: cut},
        )
    return found


class First:
    """The first items of a lazy sequence, still lazy.

    Args:
        items: The sequence.
        count: How many.
    """

    def __init__(self, items: Any, count: int) -> None:
        self.items = items
        self.count = min(count, len(items))

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return [self.items[row] for row in range(*index.indices(self.count))]
        return self.items[range(self.count)[index]]

    def raw(self, index: int) -> Any:
        """An item as it is kept; see `Column.raw`."""
        return getattr(self.items, "raw", self.items.__getitem__)(range(self.count)[index])


def gallery_object(questions: RetrievalSet) -> Any:
    """What the gallery of a set is: its pictures, vectors or videos. One object is one gallery."""
    shown = (questions.pictures, questions.visual, questions.videos)
    return next(each for each in shown if each is not None)


def fingerprint_of(questions: RetrievalSet, language: str, gallery: str | None = None) -> str:
    """A hash that tells questions apart: ids, captions, answers, and what the gallery shows.

    Args:
        questions: The set.
        language: Code of its captions.
        gallery: `gallery_fingerprint` of its gallery, where sets share one.
    """
    digest = hashlib.sha256()
    for text in (*questions.image_ids, *questions.captions[language]):
        digest.update(f"{len(text)}:{text}".encode())
    digest.update(np.asarray(questions.caption_to_image[language], dtype=np.int64).tobytes())
    digest.update((gallery or gallery_fingerprint(gallery_object(questions))).encode())
    return digest.hexdigest()


def gallery_fingerprint(gallery: Any) -> str:
    """A hash of every item of a gallery; of a file its size and its first MiB.

    Args:
        gallery: Pictures, vectors or videos.
    """
    digest = hashlib.sha256()
    raw = getattr(gallery, "raw", gallery.__getitem__)
    for row in range(len(gallery)):
        size, start = _start_of(raw(row))
        digest.update(f"{size}:".encode())
        digest.update(start)
    return digest.hexdigest()


def _start_of(item: Any) -> tuple[int, bytes]:
    """How large an item is, and what it begins with."""
    if isinstance(item, Mapping):  # a picture that `datasets` has not decoded
        item = item.get("bytes") or item.get("path") or b""
    if isinstance(item, (str, Path)):
        with Path(item).open("rb") as file:
            return Path(item).stat().st_size, file.read(_START)
    if isinstance(item, np.ndarray):
        item = np.ascontiguousarray(item).tobytes()
    found: bytes = (
        item if isinstance(item, bytes) else item.tobytes() if hasattr(item, "tobytes") else repr(item).encode()
    )
    return len(found), found
