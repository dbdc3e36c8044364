"""Bytes of a picture file to what an encoder should see: upright, RGB, no larger than needed; and when it was taken."""

from __future__ import annotations

import io
import re
import struct
import threading
import zlib
from contextlib import nullcontext

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from ccr_adapters.errors import ImageError
from ccr_adapters.search.interface import Scalar

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
# Pictures that people have and Pillow does not read.
FOREIGN = {".heic": "HEIC", ".heif": "HEIF", ".jxl": "JPEG XL"}
# Only these are tried: others start programs (EPS) or are rarely meant as pictures.
_FORMATS = ("JPEG", "MPO", "PNG", "GIF", "WEBP", "BMP", "TIFF", "AVIF", "JPEG2000", "PPM")
# A JPEG is decoded at a half, a quarter or an eighth of its size as long as its shorter side keeps so many pixels:
# encoders look at 224 to 512 of them.
_ENOUGH = 1024
# Pictures above this many pixels are decoded one at a time, so that workers do not fill the memory with them.
_LARGE = 32_000_000
_one_large = threading.Lock()

# what Pillow raises over broken files: its readers are many
_BROKEN = (
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
_EXIF, _TAKEN = 0x8769, 0x9003
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
        with _opened(content) as image:
            many = image.width * image.height > _LARGE
            with _one_large if many else nullcontext():
                times = min(image.size) / _ENOUGH
                if times > 1:
                    image.draft("RGB", (int(image.width / times), int(image.height / times)))
                image.load()
                return _rgb(_upright(image))
    except UnidentifiedImageError as error:
        raise ImageError("is no picture of a known format") from error
    except _BROKEN as error:
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
            found = _WHEN.fullmatch(str(image.getexif().get_ifd(_EXIF).get(_TAKEN)))
    except _BROKEN:
        return {}
    if found is None or found[1] == "0000":
        return {}
    return {"taken": f"{found[1]}-{found[2]}-{found[3]}T{found[4]}", "year": int(found[1])}


def _opened(content: bytes) -> Image.Image:
    Image.init()
    return Image.open(io.BytesIO(content), formats=[name for name in _FORMATS if name in Image.OPEN])


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except _BROKEN:
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
