"""Pictures from wherever they come (paths, PIL, arrays) to RGB; one that cannot be read is named before any work."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias, Union

import numpy as np
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from ccr_adapters.errors import ImageError
from ccr_adapters.pixels import as_rgb, open_picture
from ccr_adapters.processing.ahead import ahead

# what Pillow raises over broken files of one format or another; a header that claims absurd sizes is a "bomb"
UNREADABLE = (UnidentifiedImageError, Image.DecompressionBombError, OSError, SyntaxError, ValueError)

Picture: TypeAlias = Union[str, Path, Image.Image, np.ndarray, Tensor]  # noqa: UP007 - evaluated on Python 3.10


def as_list(pictures: Picture | Sequence[Picture]) -> list[Any]:
    """One picture or many, as a list; a 4-d array or tensor is a batch."""
    if isinstance(pictures, (str, Path, Image.Image)):
        return [pictures]
    if isinstance(pictures, (np.ndarray, Tensor)):
        return [pictures] if pictures.ndim == 3 else list(pictures)
    return list(pictures)


def check_pictures(pictures: Sequence[Any]) -> None:
    """Look at every file before the first one is encoded.

    A JPEG is decoded at an eighth of its size here, which costs little beside encoding and finds truncated files.

    Raises:
        ImageError: Naming the first picture that is missing, unreadable, or of an unknown kind.
    """
    for _ in ahead(_check_picture, enumerate(pictures)):
        pass


def _check_picture(numbered: tuple[int, Any]) -> None:
    row, picture = numbered
    if isinstance(picture, (str, Path)):
        try:
            with open_picture(picture) as image:
                image.draft("RGB", (image.width // 8 or 1, image.height // 8 or 1))
                image.load()
        except FileNotFoundError as error:
            raise ImageError(f"Picture {row} is missing: '{picture}'. Check the path.") from error
        except UNREADABLE as error:
            raise ImageError(
                f"Picture {row} cannot be read: '{picture}' ({error}). Replace the file or leave it out; nothing was encoded."
            ) from error
    elif isinstance(picture, (np.ndarray, Tensor)):
        if picture.ndim != 3:
            raise ImageError(
                f"Picture {row} has shape {tuple(picture.shape)}; expected three axes (C, H, W) or (H, W, C)."
            )
    elif not isinstance(picture, Image.Image):
        raise ImageError(
            f"Picture {row} is a {type(picture).__name__}; expected a path, a PIL image, an array or a tensor."
        )


def load_picture(picture: Any) -> Any:
    """Open a path and make it upright RGB on white, the same with PIL; pass arrays and tensors.

    Raises:
        ImageError: If a picture that was opened but not read turns out to be broken.
    """
    if isinstance(picture, (str, Path)):
        with open_picture(picture) as image:
            image.load()
            return as_rgb(image)
    if isinstance(picture, Image.Image):
        try:
            picture.load()
        except UNREADABLE as error:
            name = getattr(picture, "filename", "") or "a picture in memory"
            raise ImageError(f"'{name}' cannot be read ({error}). Replace it or leave it out.") from error
        return as_rgb(picture)
    return picture
