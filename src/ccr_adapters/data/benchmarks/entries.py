"""Images with their captions, as every reader gives them, and the rules that all benchmarks share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from ccr_adapters.data.benchmarks.problems import Problems
from ccr_adapters.data.benchmarks.textfiles import clean_text

_ENDINGS = {"jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "mp4", "avi", "mkv", "webm"}


@dataclass
class Caption:
    """A caption and the place it was read from, for messages."""

    text: str
    where: str


@dataclass
class Entry:
    """One image or video of a gallery.

    Args:
        image_id: Its id, without a file ending.
        captions: Its captions in file order.
        where: The place that named it.
        files: Names that its file may have.
    """

    image_id: str
    captions: list[Caption] = field(default_factory=list)
    where: str = ""
    files: tuple[str, ...] = ()

    def names(self) -> set[str]:
        """Its id and the names that its file may have, as they were read."""
        return {self.image_id, *self.files}

    def aliases(self) -> list[str]:
        """What a feature file may call it: the id, and its file names with and without their endings."""
        names = [self.image_id, *self.files]
        return list(dict.fromkeys(key for name in names for key in (name, PurePosixPath(name).name, stem(name))))


def own_aliases(entries: Sequence[Entry]) -> list[list[str]]:
    """The aliases of each entry that mean no other one: of `a/0.jpg` and `b/0.jpg`, neither is `0.jpg`."""
    every = Counter(key for entry in entries for key in entry.aliases())
    whole = Counter(key for entry in entries for key in entry.names())
    return [
        [key for key in entry.aliases() if every[key] == 1 or (key in entry.names() and whole[key] == 1)]
        for entry in entries
    ]


def stem(name: str) -> str:
    """A file name without folders and a picture's or video's ending; ids may have dots, which stay."""
    return _without_ending(PurePosixPath(name.replace("\\", "/")).name)


def _without_ending(name: str) -> str:
    head, dot, ending = name.rpartition(".")
    return head if dot and ending.lower() in _ENDINGS else name


def ids_of_files(names: Iterable[str]) -> dict[str, str]:
    """An id for each file name: that without folders and ending, or with what of them tells it from the others."""
    there = list(dict.fromkeys(names))
    forms: tuple[Callable[[str], str], ...] = (stem, _without_ending, str)
    counts = [Counter(map(form, there)) for form in forms]
    return {
        name: next(form(name) for form, count in zip(forms, counts, strict=True) if count[form(name)] == 1)
        for name in there
    }


class FileNames:
    """Finds rows of a list of files by what captions may call a file.

    The whole path comes first, then the path without its ending, then its last parts.

    Args:
        names: Paths as they are listed.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self.names = list(names)
        # by how exact a spelling is; one row each, for lists are long and names seldom come twice
        self._first: tuple[dict[str, int], ...] = ({}, {}, {})
        self._more: tuple[dict[str, list[int]], ...] = ({}, {}, {})
        for row, name in enumerate(self.names):
            parts = name.replace("\\", "/").split("/")
            tails = ["/".join(parts[start:]) for start in range(1, len(parts))]
            self._add(row, 0, name)
            self._add(row, 1, _without_ending(name))
            for key in {*tails, *map(_without_ending, tails)}:
                self._add(row, 2, key)

    def _add(self, row: int, level: int, key: str) -> None:
        first = self._first[level].setdefault(key, row)
        if first != row:
            self._more[level].setdefault(key, [first]).append(row)

    def find(self, keys: Iterable[str]) -> list[int]:
        """Rows of the file that has one of some names: one, none, or several that the names do not tell apart."""
        several: list[int] = []
        for key in keys:
            level = next((level for level, first in enumerate(self._first) if key in first), None)
            if level is not None and key not in self._more[level]:
                return [self._first[level][key]]
            if level is not None:
                several = several or self._more[level][key]
        return several


def collect(pairs: Iterable[tuple[str, Caption]], files: Mapping[str, tuple[str, ...]] | None = None) -> list[Entry]:
    """Group captions by image, images in the order in which they first come."""
    found: dict[str, Entry] = {}
    for image_id, caption in pairs:
        entry = found.get(image_id)
        if entry is None:
            entry = found[image_id] = Entry(image_id, where=caption.where, files=(files or {}).get(image_id, ()))
        entry.captions.append(caption)
    return list(found.values())


def without_duplicates(entries: Sequence[Entry], problems: Problems) -> list[Entry]:
    """Refuse images that come twice, or leave the later ones out with their captions.

    Twice the same picture in a gallery makes one of two right answers wrong.
    """
    first: dict[str, Entry] = {}
    for entry in entries:
        other = first.setdefault(entry.image_id, entry)
        if other is not entry:
            problems.report(
                "duplicate images", f"{entry.where}: image '{entry.image_id}' was there before, at {other.where}"
            )
    return list(first.values())


def counted_captions(entries: Sequence[Entry], problems: Problems, per_image: int | None) -> list[Entry]:
    """The captions that count: the first so many of each image that are not empty."""
    found = []
    for entry in entries:
        kept: list[Caption] = []
        for caption in entry.captions:
            if len(kept) == per_image:
                break
            text = clean_text(caption.text)
            if text:
                kept.append(Caption(text, caption.where))
            else:
                problems.report("empty captions", f"{caption.where}: the caption of image '{entry.image_id}' is empty")
        found.append(Entry(entry.image_id, kept, entry.where, entry.files))
    return found
