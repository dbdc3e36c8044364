"""The backgrounds of the tiny world: soft enough that a thing of any colour stands out."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import lru_cache

from PIL import Image, ImageDraw, ImageOps

# Backgrounds are painted once for each of so many variants and then copied: painting costs more than all things together.
VARIANTS = 8

Colour = tuple[int, int, int]
Painter = Callable[[ImageDraw.ImageDraw, random.Random, float], None]


def _ellipse(draw: ImageDraw.ImageDraw, x: float, y: float, rx: float, ry: float, fill: Colour) -> None:
    draw.ellipse((x - rx, y - ry, x + rx, y + ry), fill=fill)


def _sky(draw: ImageDraw.ImageDraw, rng: random.Random, unit: float) -> None:
    for _ in range(rng.randint(1, 3)):
        x, y = rng.uniform(4, 60) * unit, rng.uniform(4, 40) * unit
        for dx, dy, r in ((-4, 0.8, 3), (0, 0, 4), (4.2, 1.0, 2.8)):
            _ellipse(draw, x + dx * unit, y + dy * unit, r * 1.3 * unit, r * 0.75 * unit, (240, 247, 253))


def _grass(draw: ImageDraw.ImageDraw, rng: random.Random, unit: float) -> None:
    for _ in range(70):
        x, y = rng.uniform(0, 64) * unit, rng.uniform(2, 66) * unit
        lean, height = rng.uniform(-1, 1) * unit, rng.uniform(1.5, 3.5) * unit
        shade = rng.choice(((120, 168, 88), (176, 212, 136)))
        draw.line((x, y, x + lean, y - height), fill=shade, width=max(1, round(0.7 * unit)))


def _sand(draw: ImageDraw.ImageDraw, rng: random.Random, unit: float) -> None:
    for _ in range(110):
        r = rng.uniform(0.25, 0.6) * unit
        _ellipse(
            draw,
            rng.uniform(0, 64) * unit,
            rng.uniform(0, 64) * unit,
            r,
            r,
            rng.choice(((205, 180, 132), (245, 229, 192))),
        )


def _night(draw: ImageDraw.ImageDraw, rng: random.Random, unit: float) -> None:
    for _ in range(28):
        r = rng.uniform(0.3, 0.65) * unit
        _ellipse(draw, rng.uniform(0, 64) * unit, rng.uniform(0, 64) * unit, r, r, (214, 218, 240))


def _sunset(draw: ImageDraw.ImageDraw, rng: random.Random, unit: float) -> None:
    for _ in range(5):
        x, y, length = rng.uniform(-8, 50) * unit, rng.uniform(6, 60) * unit, rng.uniform(14, 34) * unit
        _ellipse(draw, x + length / 2, y, length / 2, 0.8 * unit, rng.choice(((250, 190, 150), (214, 140, 160))))


def _sea(draw: ImageDraw.ImageDraw, rng: random.Random, unit: float) -> None:
    start = rng.uniform(0, 8)
    for row in range(8):
        for column in range(-1, 9):
            x, y = (column * 8 + start + 4 * (row % 2)) * unit, (row * 8 + 4) * unit
            draw.arc(
                (x, y - 2 * unit, x + 6 * unit, y + 2 * unit),
                20,
                160,
                fill=(178, 222, 226),
                width=max(1, round(0.8 * unit)),
            )


def _snow(draw: ImageDraw.ImageDraw, rng: random.Random, unit: float) -> None:
    for _ in range(3):
        x, y = rng.uniform(0, 64) * unit, rng.uniform(40, 70) * unit
        _ellipse(draw, x, y, 26 * unit, 9 * unit, (250, 251, 253))
    for _ in range(30):
        r = rng.uniform(0.5, 1.0) * unit
        _ellipse(draw, rng.uniform(0, 64) * unit, rng.uniform(0, 64) * unit, r, r, (255, 255, 255))


def _wall(draw: ImageDraw.ImageDraw, rng: random.Random, unit: float) -> None:
    start, mortar = rng.uniform(0, 12), (216, 200, 188)
    for row in range(12):
        y = row * 6 * unit
        for column in range(-1, 7):
            x = (column * 12 + start + 6 * (row % 2)) * unit
            shift = rng.randint(-10, 10)
            brick = (176 + shift, 124 + shift, 106 + shift)
            draw.rectangle(
                (x, y, x + 12 * unit, y + 6 * unit), fill=brick, outline=mortar, width=max(1, round(0.7 * unit))
            )


# Colour at the top, colour at the bottom, and what is painted over the gradient.
_RECIPES: dict[str, tuple[Colour, Colour, Painter]] = {
    "sky": ((142, 196, 240), (206, 231, 248), _sky),
    "grass": ((166, 204, 124), (138, 184, 100), _grass),
    "sand": ((238, 220, 178), (222, 198, 150), _sand),
    "night": ((22, 26, 62), (54, 58, 110), _night),
    "sunset": ((150, 110, 168), (252, 188, 130), _sunset),
    "sea": ((132, 194, 206), (84, 152, 178), _sea),
    "snow": ((218, 226, 238), (238, 242, 248), _snow),
    "wall": ((176, 124, 106), (176, 124, 106), _wall),
}


@lru_cache(maxsize=len(_RECIPES) * VARIANTS)
def background(name: str, variant: int, pixels: int) -> Image.Image:
    """Paint a background.

    Args:
        name: one of `scenes.BACKGROUNDS`.
        variant: which of the `VARIANTS` arrangements.
        pixels: width and height.

    Returns:
        An RGB picture, made once and shared: copy it before drawing on it.
    """
    top, bottom, paint = _RECIPES[name]
    rng = random.Random(f"{name}/{variant}")
    shift = rng.randint(-8, 8)
    gradient = Image.linear_gradient("L").resize((pixels, pixels), Image.Resampling.BILINEAR)
    dark, light = (tuple(min(255, max(0, c + shift)) for c in colour) for colour in (top, bottom))
    picture = ImageOps.colorize(gradient, dark, light)
    paint(ImageDraw.Draw(picture), rng, pixels / 64)
    return picture
