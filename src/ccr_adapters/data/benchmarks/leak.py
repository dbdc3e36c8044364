"""The leak check: test images that were in the training data, found by id and by looks, and named."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from ccr_adapters.data.benchmarks.definitions import find_benchmark
from ccr_adapters.data.benchmarks.hashes import MAX_DISTANCE, is_flat, near_pairs
from ccr_adapters.data.benchmarks.schema import KnownOverlap
from ccr_adapters.errors import DataError

_COCO = re.compile(r"(?:coco_)?(?:(?:train|val|test)20\d\d_)?(\d{12})$", re.IGNORECASE)
# a secret of digits alone is told from the number in an album by its ten places, behind a photo's long number
_FLICKR_SECRET = re.compile(r"(?:(\d{5,})_(?=\d*[a-f])[0-9a-f]{8,10}|([1-9]\d{7,})_\d{10})(?:_[a-z])?$", re.IGNORECASE)
_ENDING = re.compile(r"\.(jpe?g|png|webp|gif|bmp|tiff?|mp4|avi|mkv|webm|npy)$", re.IGNORECASE)
_NAMED = 10


def normalise_image_id(name: str | int) -> str:
    """Bring the spellings of one image to one id.

    Folders, file endings and a caption's number (`#0`) go. COCO's twelve digits, with the split before them or not, become
    the number (`COCO_train2014_000000123456.jpg` is `123456`, which is also its `cocoid`), and of a Flickr file with its
    secret (`1000268201_693b08cb0e.jpg`, Flickr8K) the photo's number is kept, which is the whole name in Flickr30K.

    Args:
        name: An id, a file name or a path.

    Returns:
        The id.
    """
    text = PurePosixPath(_without_number(name).replace("\\", "/")).name
    text = _ENDING.sub("", text)
    match = _COCO.match(text) or _FLICKR_SECRET.match(text)
    if match:
        text = match[match.lastindex or 0]
    return text.lstrip("0") or "0" if text.isdigit() else text


def _without_number(name: str | int) -> str:
    """The name of an image, without that of one of its captions."""
    return str(name).strip().partition("#")[0]


@dataclass(frozen=True)
class Overlap:
    """What two sets of images share.

    Args:
        ids: Pairs of a test id and the training id that is the same image, by id.
        alike: Pairs of a test id and the training id whose picture looks the same.
        test_images: Test images of different names.
        train_images: Training images of different names.
        hashed: Whether pictures were compared too.
        flat: Test pictures without any contrast, which say nothing and were not compared.
    """

    ids: list[tuple[str, str]]
    alike: list[tuple[str, str]]
    test_images: int
    train_images: int
    hashed: bool = False
    flat: int = 0
    leaked: list[str] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "leaked", list(dict.fromkeys(test for test, _ in (*self.ids, *self.alike))))

    @property
    def is_leak(self) -> bool:
        """Whether any test image was in the training data."""
        return bool(self.leaked)

    def setting(self, claimed: str = "zero-shot") -> str:
        """The label of a score: what is claimed, or that it leaked, never both.

        Args:
            claimed: The label of a score without a leak.
        """
        if not self.is_leak:
            return claimed
        return f"leaked ({len(self.leaked):,} of {self.test_images:,} test images were in the training data)"

    def report(self) -> str:
        """One sentence for people, naming images."""
        how = "by id and by looks" if self.hashed else "by id"
        if not self.is_leak:
            return f"No overlap {how}: {self.test_images:,} test and {self.train_images:,} training images."
        named = ", ".join(self.leaked[:_NAMED]) + (", ..." if len(self.leaked) > _NAMED else "")
        return (
            f"{len(self.leaked):,} of {self.test_images:,} test images are among the {self.train_images:,} training images "
            f"({len({test for test, _ in self.ids}):,} by id, {len({test for test, _ in self.alike}):,} by looks): {named}."
        )

    def to_dict(self) -> dict[str, Any]:
        """For JSON; all leaked images are named."""
        return {
            "is_leak": self.is_leak,
            "test_images": self.test_images,
            "train_images": self.train_images,
            "leaked": self.leaked,
            "by_id": [list(pair) for pair in self.ids],
            "by_looks": [list(pair) for pair in self.alike],
            "hashed": self.hashed,
            "flat_pictures": self.flat,
        }


def find_overlap(
    train_ids: Sequence[str | int],
    test_ids: Sequence[str | int],
    *,
    train_hashes: np.ndarray | None = None,
    test_hashes: np.ndarray | None = None,
    distance: int = MAX_DISTANCE,
) -> Overlap:
    """Find test images that are in the training data.

    A bare number may be a COCO or a Flickr id: a match of two bare numbers of different collections is reported too, and
    whether it is one shows in the pairs. Better one alarm too many than a leak.

    Args:
        train_ids: Ids, file names or paths, one an image or one a caption.
        test_ids: Likewise.
        train_hashes: `hash_pictures` of the training pictures, in the order of `train_ids`.
        test_hashes: Likewise of the test pictures.
        distance: Bits in which the hashes of one picture may differ, at most 4.

    Returns:
        The overlap, with the ids as they were given.

    Raises:
        DataError: If hashes do not fit the ids, or only one side has them.
    """
    if (train_hashes is None) != (test_hashes is None):
        raise DataError("Pictures are compared if both sides have hashes; one side has none.")
    train_of: dict[str, str] = {}
    for name in train_ids:
        train_of.setdefault(normalise_image_id(name), str(name))
    tests: dict[str, str] = {}
    for name in test_ids:
        tests.setdefault(_without_number(name), str(name))
    keys = ((name, normalise_image_id(name)) for name in tests.values())
    ids = [(name, train_of[key]) for name, key in keys if key in train_of]
    alike: list[tuple[str, str]] = []
    flat = 0
    if train_hashes is not None and test_hashes is not None:
        for what, names, hashes in (("training", train_ids, train_hashes), ("test", test_ids, test_hashes)):
            if len(names) != len(hashes):
                raise DataError(f"{len(names):,} {what} ids, and {len(hashes):,} hashes.")
        # pictures without contrast look like one another
        structured = np.flatnonzero(~is_flat(test_hashes, distance))
        flat = len(test_hashes) - len(structured)
        pairs = near_pairs(np.asarray(test_hashes)[structured], np.asarray(train_hashes), distance)
        named = [(str(test_ids[structured[test]]), str(train_ids[train])) for test, train in pairs]
        alike = list(dict.fromkeys(named))
    train_images = len({_without_number(name) for name in train_ids})
    return Overlap(ids, alike, len(tests), train_images, train_hashes is not None, flat)


def known_overlaps(benchmark: str) -> tuple[KnownOverlap, ...]:
    """What is known of a benchmark without looking: training sets that hold test images, and how many.

    Raises:
        DataError: If there is no such benchmark.
    """
    return find_benchmark(benchmark).overlaps
