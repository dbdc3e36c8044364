"""What an encoder should see of a picture: upright, RGB, on white where it is transparent. The same wherever pictures come from."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import ExifTags, Image, ImageOps

VERSION = 2
"""Of what `as_rgb` makes; part of the names of what is kept of pictures."""
# endings of files that are taken for pictures
PICTURES = frozenset(
    (
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jfif",
        ".png",
        ".gif",
        ".webp",
        ".bmp",
        ".tif",
        ".tiff",
        ".avif",
        ".jp2",
        ".ppm",
        ".pgm",
    )
)
# pictures that people have and Pillow does not read
FOREIGN = {".heic": "HEIC", ".heif": "HEIF", ".jxl": "JPEG XL"}
# what a file may hold, whatever it is called: other readers start programs (EPS) or are rarely meant for pictures
FORMATS = ("JPEG", "MPO", "PNG", "GIF", "WEBP", "BMP", "TIFF", "AVIF", "JPEG2000", "PPM")
# what Pillow raises over broken files: its readers are many
BROKEN = (
    Image.DecompressionBombError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    OverflowError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)


def open_picture(file: str | Path | BinaryIO, formats: tuple[str, ...] = FORMATS) -> Image.Image:
    """Open a picture with no readers but those of known formats; Pillow alone tries all it has.

    Args:
        file: A path, or a stream of the bytes.
        formats: Names of formats as Pillow has them; one that this Pillow is built without is left out.

    Returns:
        The picture, not decoded yet.

    Raises:
        PIL.UnidentifiedImageError: If it is of none of them.
    """
    Image.init()
    return Image.open(file, formats=[name for name in formats if name in Image.OPEN])


def as_rgb(image: Image.Image) -> Image.Image:
    """A decoded picture, turned as its EXIF says, its 16 bits scaled to eight, laid on white where it is transparent.

    Args:
        image: The picture; of an animation the frame that is shown.

    Returns:
        An RGB picture; the same one if there was nothing to do.
    """
    return _rgb(_upright(image))


def _upright(image: Image.Image) -> Image.Image:
    try:
        turned = image.getexif().get(ExifTags.Base.Orientation, 1) != 1
        return ImageOps.exif_transpose(image) if turned else image
    except BROKEN:
        # EXIF is broken more often than the picture is
        return image


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        # convert() would cut 16 bits off at 255
        pixels = np.asarray(image).astype(np.float32)
        image = Image.fromarray((pixels / max(pixels.max() / 255, 1)).clip(0, 255).astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        layer = image.convert("RGBA")
        paper = Image.new("RGBA", layer.size, "white")
        image = Image.alpha_composite(paper, layer)
    return image if image.mode == "RGB" else image.convert("RGB")
