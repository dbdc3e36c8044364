"""What is known about a benchmark, as data: sizes, files, the Hub copy, the licence, what counts as right, the traps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal


def _nothing() -> Mapping[str, int]:
    return MappingProxyType({})


@dataclass(frozen=True)
class HubCopy:
    """A copy on the Hub that loads without a script. `{language}` stands for the language's code.

    Args:
        repository: Name of the data set on the Hub.
        revision: Commit that the columns below were seen at. `None` where no source gave one: the newest is asked for when
            the set is loaded, once, and the facts of the set name its commit.
        captions: Column of captions, a text or a list of texts.
        split: Name of the split.
        image: Column of pictures; `None` if there are none, and `images=` has to name a folder.
        image_id: Column of ids; `None` if there is none, and rows are numbered.
        image_file: Column of file names, where pictures come from a folder.
        archive: A tar of the official files, where the repository holds no rows.
        languages: What it has, if that is less than the benchmark has.
        parquet: Whether the rows are known to be Parquet, of which columns can be read apart.
    """

    repository: str
    revision: str | None
    captions: str = "captions"
    split: str = "test"
    image: str | None = "image"
    image_id: str | None = None
    image_file: str | None = None
    archive: str | None = None
    languages: tuple[str, ...] | None = None
    parquet: bool = True


@dataclass(frozen=True)
class KnownOverlap:
    """Test pictures that a well-known training set holds.

    Args:
        training: The training data, as people name it.
        images: How many test pictures are in it.
        note: What to do about it.
    """

    training: str
    images: int
    note: str


@dataclass(frozen=True)
class Benchmark:
    """One benchmark with its protocol.

    Args:
        name: What it is asked for by.
        title: What people call it.
        reader: Which reader takes the official files (`official.py`).
        languages: BCP-47 codes.
        images: Pictures or videos of the gallery; where it differs by language, `images_by_language` says so.
        captions: Captions counted, by language.
        caption_files: Official caption files by language, relative to the folder people unpack.
        image_files: Official lists of images, where captions are aligned with one; any one of them will do.
        nrccr_files: Caption files of the NRCCR authors that hold the same, `{language}` is their tag.
        captions_per_image: How many captions of an image count, in file order; `None` for all.
        first_images: The gallery is this many images, in file order; `None` for all.
        licence: Of the captions.
        images_from: Where the pictures are, and on which terms.
        homepage: Where the official files are.
        protocol: One sentence: what is searched with what, and what counts as right.
        notes: Traps.
        hub: The copy on the Hub; `None` where no copy is known that gives these rows.
        overlaps: Known leaks.
        visual: What the gallery holds.
        images_by_language: Sizes of the galleries that differ.
    """

    name: str
    title: str
    reader: str
    languages: tuple[str, ...]
    images: int
    captions: Mapping[str, int]
    caption_files: Mapping[str, tuple[str, ...]]
    licence: str
    images_from: str
    homepage: str
    protocol: str
    image_files: tuple[str, ...] = ()
    nrccr_files: tuple[str, ...] = ()
    captions_per_image: int | None = None
    first_images: int | None = None
    notes: tuple[str, ...] = ()
    hub: HubCopy | None = None
    overlaps: tuple[KnownOverlap, ...] = ()
    visual: Literal["image", "video"] = "image"
    images_by_language: Mapping[str, int] = field(default_factory=_nothing)

    @property
    def captions_counted(self) -> str:
        """Which captions of an image are queries: `"first"`, `"first 5"` or `"all"`."""
        if self.captions_per_image is None:
            return "all"
        return "first" if self.captions_per_image == 1 else f"first {self.captions_per_image}"

    def published_size(self, language: str) -> tuple[int, int | None]:
        """Images and captions that the complete benchmark has in a language; `None` where nobody published it."""
        return self.images_by_language.get(language, self.images), self.captions.get(language)

    def where_to_get(self) -> str:
        """Where the captions are and on which terms, for messages."""
        return f"Get it from {self.homepage} (captions: {self.licence}; pictures: {self.images_from})."
