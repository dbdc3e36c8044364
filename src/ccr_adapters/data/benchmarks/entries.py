"""Images with their captions, as every reader gives them, and the rules that all benchmarks share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from ccr_adapters.data.benchmarks.problems import Problems
from ccr_adapters.data.benchmarks.textfiles import clean_text


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

    def aliases(self) -> list[str]:
        """What a feature file may call it: the id, and its file names with and without their endings."""
        names = [self.image_id, *self.files]
        return list(dict.fromkeys(key for name in names for key in (name, PurePosixPath(name).name, stem(name))))


def stem(name: str) -> str:
    """A file name without folders and a picture's or video's ending; ids may have dots, which stay."""
    last = PurePosixPath(name.replace("\\", "/")).name
    head, dot, ending = last.rpartition(".")
    known = ending.lower() in {"jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "mp4", "avi", "mkv", "webm"}
    return head if dot and known else last


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
