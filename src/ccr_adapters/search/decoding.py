"""Bytes of a picture file to what an encoder should see: upright, RGB, no larger than needed; and when it was taken."""

from __future__ import annotations

import io
import re
import threading
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from PIL import Image, UnidentifiedImageError

from ccr_adapters.errors import ImageError
from ccr_adapters.pixels import BROKEN, as_rgb, open_picture
from ccr_adapters.search.interface import Scalar

# A JPEG is decoded at a half, a quarter or an eighth of its size as long as its shorter side keeps so many pixels:
# encoders look at 224 to 512 of them.
_ENOUGH = 1024
# Pictures above this many pixels are decoded one at a time, so that workers do not fill the memory with them.
_LARGE = 32_000_000
_one_large = threading.Lock()

_EXIF, _TAKEN = 0x8769, 0x9003
# Pillow decodes all of a PNG to see whether there is EXIF behind its pixels; these are there if there is any.
_EXIF_IN_PNG = (b"eXIf", b"Raw profile type exif")
_WHEN = re.compile(r"(\d{4}):(\d\d):(\d\d) (\d\d:\d\d:\d\d)")


def decode(content: bytes) -> Image.Image:
    """Decode a picture: turned as its EXIF says, the first frame of an animation, on white where it is transparent.

    Args:
        content: The file.

    Returns:
        An RGB picture.

    Raises:
        ImageError: If it is broken, of an unknown format, or too large; the message is the reason alone.
    """
    try:
        with _opened(content) as image, _alone_if_large(image):
            times = min(image.size) / _ENOUGH
            if times > 1:
                image.draft("RGB", (int(image.width / times), int(image.height / times)))
            image.load()
            return as_rgb(image)
    except UnidentifiedImageError as error:
        raise ImageError("is no picture of a known format") from error
    except BROKEN as error:
        raise ImageError(str(error).strip() or type(error).__name__) from error


def facts(content: bytes) -> dict[str, Scalar]:
    """What a picture says of itself: `taken` (ISO 8601) and `year`, where a camera has written it.

    Args:
        content: The file.

    Returns:
        Metadata; empty if there is nothing or it cannot be read.
    """
    try:
        with _opened(content) as image:
            if image.format == "PNG" and not any(mark in content for mark in _EXIF_IN_PNG):
                return {}
            with _alone_if_large(image):
                found = _WHEN.fullmatch(str(image.getexif().get_ifd(_EXIF).get(_TAKEN)))
    except BROKEN:
        return {}
    if found is None or found[1] == "0000":
        return {}
    return {"taken": f"{found[1]}-{found[2]}-{found[3]}T{found[4]}", "year": int(found[1])}


def _alone_if_large(image: Image.Image) -> AbstractContextManager[Any]:
    return _one_large if image.width * image.height > _LARGE else nullcontext()


def _opened(content: bytes) -> Image.Image:
    return open_picture(io.BytesIO(content))
