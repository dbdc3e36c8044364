"""Uploads to pictures. The header is believed only to refuse: what it says is too large is never decoded."""

from __future__ import annotations

import io

from PIL import Image, UnidentifiedImageError

from ccr_adapters.errors import ImageError, LimitError
from ccr_adapters.pixels import FORMATS, open_picture
from ccr_adapters.processing.pictures import UNREADABLE
from ccr_adapters.search.decoding import decode

# What people upload: anyone may send anything, so readers that are rarely used and rarely looked at are left out.
_FORMATS = tuple(each for each in FORMATS if each not in ("JPEG2000", "PPM"))


def open_upload(content: bytes, name: str, max_pixels: int) -> Image.Image:
    """Decode an upload: upright, RGB, the first frame of an animation.

    Args:
        content: The file.
        name: What the message calls it.
        max_pixels: Most pixels that its header may claim.

    Returns:
        The picture.

    Raises:
        ImageError: If it is no picture of a known format, or broken.
        LimitError: If it has more pixels.
    """
    try:
        with open_picture(io.BytesIO(content), _FORMATS) as image:
            width, height = image.size
    except Image.DecompressionBombError as error:
        raise LimitError(f"{name} has too many pixels; expected at most {max_pixels:,}. Make it smaller.") from error
    except UnidentifiedImageError as error:
        raise ImageError(
            f"{name} is no picture of a known format. Upload JPEG, PNG, WebP, GIF, AVIF, BMP or TIFF."
        ) from error
    except UNREADABLE as error:
        raise ImageError(f"{name} cannot be read: its header is broken. Save it again.") from error
    if width * height > max_pixels:
        raise LimitError(f"{name} is {width} x {height} pixels; expected at most {max_pixels:,}. Make it smaller.")
    try:
        return decode(content)
    except ImageError as error:  # of the bytes alone, which have no name
        raise ImageError(f"{name} cannot be read: {error}. Save it again.") from error
