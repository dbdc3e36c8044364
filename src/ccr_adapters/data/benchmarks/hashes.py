"""Difference hashes: 64 bits that stay nearly the same when a picture is scaled or compressed again, and their search."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ccr_adapters.errors import ImageError
from ccr_adapters.pixels import BROKEN, as_rgb, open_picture

_SIDE = 8
# one band more than differing bits are allowed, so that one band at least is equal (64 = 4 x 13 + 12)
_BANDS = ((0, 13), (13, 13), (26, 13), (39, 13), (52, 12))
MAX_DISTANCE = len(_BANDS) - 1
_ONES = np.array([bin(byte).count("1") for byte in range(256)], dtype=np.uint8)


def difference_hash(picture: str | Path | Image.Image) -> np.uint64:
    """Hash a picture: in 9 x 8 grey cells, whether each is brighter than its left neighbour.

    What is hashed is what an encoder sees (`as_rgb`): a file has the hash of its copy that `datasets` turned upright.

    Args:
        picture: A path or a PIL image.

    Returns:
        64 bits. A picture without any contrast has 0.

    Raises:
        ImageError: If it cannot be read.
    """
    try:
        if isinstance(picture, Image.Image):
            grey = as_rgb(picture).convert("L")
        else:
            with open_picture(picture) as opened:
                opened.draft("L", (16 * _SIDE, 16 * _SIDE))  # a JPEG is decoded small
                grey = as_rgb(opened).convert("L")
    except BROKEN as error:
        raise ImageError(f"'{picture}' cannot be hashed: {error}.") from error
    # draft stops at some power of two: the box filter takes the mean of whole cells, whatever the size is
    cells = np.asarray(grey.resize((_SIDE + 1, _SIDE), Image.Resampling.BOX), dtype=np.int16)  # (8, 9)
    return np.packbits(cells[:, 1:] > cells[:, :-1]).view(">u8").astype(np.uint64)[0]


def hash_pictures(pictures: Sequence[Any]) -> np.ndarray:
    """Hash many pictures: paths or PIL images.

    Returns:
        Hashes. (M,) uint64
    """
    return np.array([difference_hash(pictures[row]) for row in range(len(pictures))], dtype=np.uint64)


def is_flat(hashes: np.ndarray, most: int = MAX_DISTANCE) -> np.ndarray:
    """Whether a hash says nothing: it is within the allowed distance of an even picture, or of an even gradient. (n,)"""
    ones = distances(np.asarray(hashes, dtype=np.uint64), np.zeros(len(hashes), dtype=np.uint64))
    return np.minimum(ones, 64 - ones) <= most


def distances(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Differing bits of pairs of hashes. (n,)"""
    differing = np.ascontiguousarray(np.bitwise_xor(left, right)).view(np.uint8).reshape(len(left), 8)
    return _ONES[differing].sum(axis=1, dtype=np.int64)


def near_pairs(left: np.ndarray, right: np.ndarray, most: int = MAX_DISTANCE) -> np.ndarray:
    """All pairs of hashes that differ in few bits, without comparing all with all.

    Two hashes that differ in at most four bits agree in one of five bands of bits: only pairs that share a band are
    compared.

    Args:
        left: Hashes. (n,)
        right: Hashes. (m,)
        most: Bits that may differ, at most 4.

    Returns:
        Rows of `left` and `right`, sorted. (p, 2)

    Raises:
        ValueError: If more bits are to differ than there are bands for.
    """
    if not 0 <= most <= MAX_DISTANCE:
        raise ValueError(f"most is {most}; the search finds hashes that differ in at most {MAX_DISTANCE} bits.")
    left, right = np.asarray(left, dtype=np.uint64), np.asarray(right, dtype=np.uint64)
    found = [np.empty((0, 2), dtype=np.int64)]
    for shift, width in _BANDS:
        mask = np.uint64((1 << width) - 1)
        own, other = (left >> np.uint64(shift)) & mask, (right >> np.uint64(shift)) & mask
        order = np.argsort(other, kind="stable")
        first = np.searchsorted(other[order], own, "left")
        counts = np.searchsorted(other[order], own, "right") - first
        rows = np.repeat(np.arange(len(left)), counts)
        # position inside each run of equal bands
        inside = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
        columns = order[np.repeat(first, counts) + inside] if len(rows) else np.empty(0, dtype=np.int64)
        close = distances(left[rows], right[columns]) <= most
        found.append(np.stack([rows[close], columns[close]], axis=1))
    return np.unique(np.concatenate(found), axis=0)
