"""From a scene to its picture: layout, then sticker-like drawing with anti-aliasing by supersampling."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw

from .backgrounds import VARIANTS, background
from .scenes import Scene, Thing
from .shapes import Polygon, unit_shape

Colour = tuple[int, int, int]

SUPERSAMPLING = 3
CANVAS = 64.0  # all lengths below are in 64ths of the picture's width
MARGIN = 1.5

PALETTE: dict[str, Colour] = {
    "red": (220, 38, 42),
    "orange": (246, 134, 24),
    "yellow": (250, 214, 38),
    "green": (36, 148, 66),
    "blue": (34, 92, 214),
    "purple": (128, 54, 168),
    "pink": (248, 138, 188),
    "white": (250, 250, 250),
    "black": (30, 30, 34),
}
_RADII = {"small": 6.4, "medium": 9.4, "large": 13.6}
_GROUP_RADIUS, _INSIDE_RADIUS = 5.8, 5.6
_DIRECTIONS = {"left_of": (-1, 0), "right_of": (1, 0), "above": (0, -1), "below": (0, 1)}
# Places of the members of a group, in radii.
_MEMBERS: dict[int, tuple[tuple[float, float], ...]] = {
    1: ((0.0, 0.0),),
    2: ((-1.12, -0.1), (1.12, 0.1)),
    3: ((-1.12, 0.85), (1.12, 0.95), (0.05, -0.95)),
}


@dataclass
class Placed:
    """A thing with its centre, the radius of one member, and its half width and half height, in the canvas's lengths."""

    thing: Thing
    radius: float
    x: float = 0.0
    y: float = 0.0

    @property
    def half(self) -> tuple[float, float]:
        """Half width and half height."""
        offsets = _MEMBERS[self.thing.count]
        return (
            self.radius * (1 + max(abs(dx) for dx, _ in offsets)),
            self.radius * (1 + max(abs(dy) for _, dy in offsets)),
        )

    def overlaps(self, other: Placed, gap: float) -> bool:
        """Whether two things are nearer than a gap."""
        (w1, h1), (w2, h2) = self.half, other.half
        return abs(self.x - other.x) < w1 + w2 + gap and abs(self.y - other.y) < h1 + h2 + gap


def render(scene: Scene, *, size: int = 64) -> Image.Image:
    """Draw a scene.

    Args:
        scene: what to draw; the same scene gives the same picture, byte for byte.
        size: width and height in pixels.

    Returns:
        An RGB picture of `size` x `size`.
    """
    rng = random.Random(scene.jitter)
    pixels = size * SUPERSAMPLING
    picture = background(scene.background, rng.randrange(VARIANTS), pixels).copy()
    for placed in _layout(scene, rng):
        colour = shade(PALETTE[placed.thing.colour], rng)
        tilt = math.radians(rng.uniform(-9, 9))
        draw(picture, placed, tilt, colour)
    return picture.reduce(SUPERSAMPLING)


def draw(picture: Image.Image, placed: Placed, tilt: float, colour: Colour) -> None:
    """Draw all members of a thing.

    Args:
        picture: where to; its width is that of the canvas.
        placed: the thing with its place.
        tilt: angle in radians.
        colour: its colour.
    """
    for dx, dy in _MEMBERS[placed.thing.count]:
        centre = (placed.x + dx * placed.radius, placed.y + dy * placed.radius)
        _draw_member(picture, placed.thing, centre, placed.radius, tilt, colour, picture.width / CANVAS)


def _layout(scene: Scene, rng: random.Random) -> list[Placed]:
    """Place the things as the relations say, then fit all of them on the canvas; back to front."""
    placed = [Placed(thing, radius_of(thing, rng)) for thing in scene.things]
    anchor = placed[0]
    for relation in scene.relations:
        item = placed[relation.subject]
        (anchor_w, anchor_h), (w, h) = anchor.half, item.half
        gap = rng.uniform(2.0, 4.0)
        if relation.kind == "inside":
            item.radius = _INSIDE_RADIUS
            item.x, item.y = rng.uniform(-0.8, 0.8), rng.uniform(-0.8, 0.8)
        elif relation.kind == "in_front_of":
            item.x, item.y = rng.choice((-1, 1)) * 0.62 * anchor_w, 0.62 * anchor_h
        else:
            dx, dy = _DIRECTIONS[relation.kind]
            item.x = dx * (anchor_w + w + gap) + (0 if dx else rng.uniform(-3, 3))
            item.y = dy * (anchor_h + h + gap) + (0 if dy else rng.uniform(-3, 3))
            # A wide thing above and a tall thing beside the anchor could meet at the corner: move the later one out.
            others = [o for o in placed[1 : relation.subject] if o is not item]
            while any(item.overlaps(other, 1.0) for other in others):
                item.x, item.y = item.x + dx, item.y + dy
    _fit(placed, rng)
    return placed


def _fit(placed: list[Placed], rng: random.Random) -> None:
    """Shrink the arrangement if it is too wide, and put it at a random place of the canvas."""
    lows = [min(p.x - p.half[0] for p in placed), min(p.y - p.half[1] for p in placed)]
    highs = [max(p.x + p.half[0] for p in placed), max(p.y + p.half[1] for p in placed)]
    room = CANVAS - 2 * MARGIN
    scale = min(1.0, room / max(highs[0] - lows[0], highs[1] - lows[1]))
    shifts = [
        MARGIN + rng.random() * (room - scale * (high - low)) - scale * low
        for low, high in zip(lows, highs, strict=True)
    ]
    for p in placed:
        p.x, p.y, p.radius = p.x * scale + shifts[0], p.y * scale + shifts[1], p.radius * scale


def radius_of(thing: Thing, rng: random.Random) -> float:
    """The radius of one member of a thing, a little different each time."""
    base = _GROUP_RADIUS if thing.count > 1 else _RADII[thing.size]
    return base * rng.uniform(0.95, 1.05)


def shade(colour: Colour, rng: random.Random) -> Colour:
    """A colour, a little different each time."""
    red, green, blue = (min(255, max(0, channel + rng.randint(-8, 8))) for channel in colour)
    return red, green, blue


def _mix(colour: Colour, other: Colour, share: float) -> Colour:
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(colour, other, strict=True))
    return red, green, blue


def _contrast(colour: Colour) -> Colour:
    """The second colour of a texture: a tint of a dark colour, a grey on white."""
    return _mix(colour, (60, 60, 70), 0.5) if min(colour) > 200 else _mix(colour, (255, 255, 255), 0.72)


def _edge(colour: Colour) -> Colour:
    """The colour of the outline: darker than the thing, but a grey around black, which must show at night."""
    return (150, 150, 160) if max(colour) < 60 else _mix(colour, (0, 0, 0), 0.55)


@lru_cache(maxsize=16)
def _pattern(texture: str, unit: float) -> Image.Image:
    """A texture as a mask: where the second colour goes."""
    side = round(40 * unit)
    mask = Image.new("L", (side, side), 0)
    draw = ImageDraw.Draw(mask)
    steps = np.arange(-20, 22)
    if texture == "striped":
        for step in steps:
            x = step * 5.0 * unit
            draw.line((x, side, x + side, 0), fill=255, width=round(1.7 * unit))
    elif texture == "dotted":
        for row, column in np.ndindex(12, 12):
            x, y, r = (column + 0.5 * (row % 2)) * 4.2 * unit, row * 3.7 * unit, 1.05 * unit
            draw.ellipse((x - r, y - r, x + r, y + r), fill=255)
    elif texture == "checked":
        cell = 3.0 * unit
        for row, column in np.ndindex(14, 14):
            if (row + column) % 2:
                draw.rectangle((column * cell, row * cell, (column + 1) * cell - 1, (row + 1) * cell - 1), fill=255)
    return mask


def _points(polygon: Polygon, turn: Polygon, scale: float, centre: tuple[float, float]) -> list[tuple[float, float]]:
    moved = polygon @ turn * scale + np.asarray(centre)
    return [(float(x), float(y)) for x, y in moved]


def _draw_member(
    picture: Image.Image,
    thing: Thing,
    centre: tuple[float, float],
    radius: float,
    tilt: float,
    colour: Colour,
    unit: float,
) -> None:
    """Draw one member of a thing: fill, texture, details, outline."""
    shape, edge = unit_shape(thing.shape), _edge(colour)
    turn = np.array([[math.cos(tilt), math.sin(tilt)], [-math.sin(tilt), math.cos(tilt)]])
    half = math.ceil(radius * unit * 1.3)
    left, top = round(centre[0] * unit) - half, round(centre[1] * unit) - half
    local = (centre[0] * unit - left, centre[1] * unit - top)
    outline = _points(shape.outline, turn, radius * unit, local)
    hole = _points(shape.hole, turn, radius * unit, local) if shape.hole is not None else None

    mask = Image.new("L", (2 * half, 2 * half), 0)
    stencil = ImageDraw.Draw(mask)
    stencil.polygon(outline, fill=255)
    if hole is not None:
        stencil.polygon(hole, fill=0)
    tile = Image.new("RGB", mask.size, colour)
    if thing.texture != "plain":
        pattern = _pattern(thing.texture, unit).crop((0, 0, *mask.size))
        tile.paste(_contrast(colour), (0, 0), pattern)
    paint = ImageDraw.Draw(tile)
    for polygon, tone in shape.details:
        if tone == "light":
            fill = (255, 246, 196) if thing.colour != "yellow" else (255, 255, 255)
        else:
            fill = edge if tone == "eye" else _mix(colour, (0, 0, 0), 0.3)
        paint.polygon(_points(polygon, turn, radius * unit, local), fill=fill)
    picture.paste(tile, (left, top), mask)

    pen, width = ImageDraw.Draw(picture), max(1, round(0.9 * unit))
    for contour in (outline, hole):
        if contour is not None:
            moved = [(x + left, y + top) for x, y in contour]
            pen.line([*moved, *moved[:2]], fill=edge, width=width, joint="curve")
