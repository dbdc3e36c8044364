"""Pictures to arrays of pixels without torch: what an image processor of transformers does, as data and in Pillow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from ccr_adapters.errors import ExportError, ImageError
from ccr_adapters.pixels import as_rgb, open_picture

_UNREADABLE = (UnidentifiedImageError, Image.DecompressionBombError, OSError, SyntaxError, ValueError)


@dataclass(frozen=True)
class PictureSettings:
    """How pictures become pixels: resized, cropped in the middle, rescaled, normalised.

    Args:
        size: Height and width to resize to; `None` resizes by the shorter edge, or not at all.
        shortest_edge: Length of the shorter edge to resize to, the shape kept.
        resample: Pillow's number of the filter.
        crop: Height and width that are kept of the middle.
        rescale: Factor of the bytes.
        mean: Mean of each channel.
        std: Spread of each channel.
    """

    size: tuple[int, int] | None
    shortest_edge: int | None
    resample: int
    crop: tuple[int, int] | None
    rescale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def of(cls, image_processor: Any) -> PictureSettings:
        """Those of an image processor of transformers.

        Raises:
            ExportError: If it does something else as well.
        """
        values = image_processor.to_dict()
        resize, crop = values.get("size") or {}, values.get("crop_size") or {}
        resizes, crops = values.get("do_resize", False), values.get("do_center_crop", False)
        size = (resize["height"], resize["width"]) if resizes and {"height", "width"} <= set(resize) else None
        edge = resize.get("shortest_edge") if resizes and size is None else None
        window = (crop["height"], crop["width"]) if crops and {"height", "width"} <= set(crop) else None
        smallest = size or (edge, edge)
        fits = window is None or all(a is not None and a >= b for a, b in zip(smallest, window, strict=True))
        known = bool(size or (edge and not resize.get("longest_edge") and window)) and fits
        if not known or crops != bool(window) or values.get("do_pad"):
            raise ExportError(
                f"A {type(image_processor).__name__} with size={dict(resize)} and crop_size={dict(crop)} is not written out here: "
                "it must resize by height and width, or by the shorter edge and then crop, and not pad. Export the text tower "
                "alone."
            )
        normal = values.get("do_normalize", False)
        return cls(
            size=size,
            shortest_edge=edge,
            resample=int(values.get("resample", Image.Resampling.BICUBIC)),
            crop=window,
            rescale=float(values.get("rescale_factor", 1 / 255)) if values.get("do_rescale", True) else 1.0,
            mean=tuple(map(float, values["image_mean"])) if normal else (0.0, 0.0, 0.0),
            std=tuple(map(float, values["image_std"])) if normal else (1.0, 1.0, 1.0),
        )

    def pixels(self, pictures: Sequence[Any]) -> NDArray[np.float32]:
        """Paths, PIL images, or arrays (H, W, 3) of bytes, to what the image tower takes. -> (B, 3, H, W)

        Raises:
            ImageError: Naming a picture that cannot be read.
        """
        return np.stack([self._one(_opened(picture, row)) for row, picture in enumerate(pictures)])

    def _one(self, picture: Image.Image) -> NDArray[np.float32]:
        width, height = picture.size
        if self.size is not None:
            picture = picture.resize(self.size[::-1], self.resample)
        elif self.shortest_edge is not None:
            short = min(width, height)
            # rounded down, as transformers does
            wide, high = (int(self.shortest_edge * edge / short) for edge in (width, height))
            picture = picture.resize((wide, high), self.resample)
        if self.crop is not None:
            high, wide = self.crop
            left, top = (picture.width - wide) // 2, (picture.height - high) // 2
            picture = picture.crop((left, top, left + wide, top + high))
        mean, std = (np.array(each, dtype=np.float32) for each in (self.mean, self.std))
        found: NDArray[np.float32] = np.asarray(picture, dtype=np.float32) * np.float32(self.rescale)  # (H, W, 3)
        normal: NDArray[np.float32] = (found - mean) / std
        return np.ascontiguousarray(normal.transpose(2, 0, 1))


def _opened(picture: Any, row: int) -> Image.Image:
    try:
        if isinstance(picture, (str, Path)):
            with open_picture(picture) as image:
                image.load()
                return as_rgb(image)
        if isinstance(picture, np.ndarray):
            picture = Image.fromarray(picture)
        if isinstance(picture, Image.Image):
            return as_rgb(picture)
    except FileNotFoundError as error:
        raise ImageError(f"Picture {row} is missing: '{picture}'. Check the path.") from error
    except (*_UNREADABLE, TypeError) as error:
        raise ImageError(f"Picture {row} cannot be read: {picture!r} ({error}). Replace it or leave it out.") from error
    raise ImageError(
        f"Picture {row} is a {type(picture).__name__}; expected a path, a PIL image or an array (H, W, 3) of bytes."
    )
