"""What an encoder should see of a picture: upright, RGB, on white where it is transparent. The same wherever pictures come from."""

from __future__ import annotations

import struct
import zlib

import numpy as np
from PIL import ExifTags, Image, ImageOps

VERSION = 2
"""Of what `as_rgb` makes; part of the names of what is kept of pictures."""
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
