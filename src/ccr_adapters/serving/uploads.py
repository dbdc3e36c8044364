"""Uploads to pictures. The header is believed only to refuse: what it says is too large is never decoded."""

from __future__ import annotations

import io

from PIL import Image, UnidentifiedImageError

from ccr_adapters.errors import ImageError, LimitError
from ccr_adapters.processing.pictures import UNREADABLE
from ccr_adapters.search.decoding import decode

# What people upload. Pillow reads more than these, by readers that are rarely used and rarely looked at.
FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "GIF", "AVIF", "BMP", "TIFF")


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
    Image.init()
    try:
        with Image.open(io.BytesIO(content), formats=[each for each in FORMATS if each in Image.OPEN]) as image:
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
