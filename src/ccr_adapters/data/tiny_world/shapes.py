"""The outlines of the tiny world's shapes, as polygons in the unit square, y downwards."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

Polygon = NDArray[np.float64]


@dataclass(frozen=True)
class Shape:
    """A shape within [-1, 1] x [-1, 1].

    Attributes:
        outline: corners of the filled polygon. # (n, 2)
        hole: corners of the polygon cut out of it, if any. # (m, 2)
        details: polygons painted on top (a door, an eye), each with 'dark' or 'light'.
    """

    outline: Polygon
    hole: Polygon | None = None
    details: tuple[tuple[Polygon, str], ...] = ()


def _arc(start: float, stop: float, number: int, radius: float = 1.0, centre: tuple[float, float] = (0, 0)) -> Polygon:
    angles = np.linspace(start, stop, number)
    return np.stack([radius * np.cos(angles), radius * np.sin(angles)], axis=1) + np.asarray(centre)


def _disc(radius: float, centre: tuple[float, float] = (0, 0), number: int = 32) -> Polygon:
    return _arc(0, 2 * np.pi, number + 1, radius, centre)[:-1]


def _box(left: float, top: float, right: float, bottom: float) -> Polygon:
    return np.array([(left, top), (right, top), (right, bottom), (left, bottom)], dtype=float)


def _circle() -> Shape:
    return Shape(_disc(0.95))


def _square() -> Shape:
    return Shape(_box(-0.84, -0.84, 0.84, 0.84))


def _triangle() -> Shape:
    return Shape(np.array([(0, -0.95), (1.0, 0.82), (-1.0, 0.82)]))


def _star() -> Shape:
    angles = -np.pi / 2 + np.arange(10) * np.pi / 5
    radii = np.where(np.arange(10) % 2 == 0, 1.08, 0.46)
    return Shape(np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=1))


def _heart() -> Shape:
    t = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    x = 16 * np.sin(t) ** 3
    y = -(13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t))
    return Shape(np.stack([x / 16.5, y / 15.5 - 0.12], axis=1))


def _diamond() -> Shape:
    return Shape(np.array([(0, -1.08), (0.74, 0), (0, 1.08), (-0.74, 0)]))


def _cross() -> Shape:
    a, b = 0.33, 0.98
    corners = [
        (-a, -b),
        (a, -b),
        (a, -a),
        (b, -a),
        (b, a),
        (a, a),
        (a, b),
        (-a, b),
        (-a, a),
        (-b, a),
        (-b, -a),
        (-a, -a),
    ]
    return Shape(np.array(corners))


def _ring() -> Shape:
    return Shape(_disc(1.0), hole=_disc(0.56))


def _moon() -> Shape:
    outer = _arc(-0.28 * np.pi, 1.28 * np.pi, 28)
    inner = _arc(1.17 * np.pi, -0.17 * np.pi, 24, radius=0.86, centre=(0.0, -0.38))
    tilt = np.deg2rad(62)
    turn = np.array([[np.cos(tilt), np.sin(tilt)], [-np.sin(tilt), np.cos(tilt)]])
    return Shape(np.concatenate([outer, inner]) @ turn)


def _flower() -> Shape:
    angles = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    radii = 0.55 + 0.47 * np.abs(np.cos(2.5 * angles + np.pi / 4))
    petals = np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=1)
    return Shape(petals, details=((_disc(0.3, number=16), "light"),))


def _house() -> Shape:
    walls = np.array(
        [(0, -1.0), (1.0, -0.18), (0.76, -0.18), (0.76, 0.92), (-0.76, 0.92), (-0.76, -0.18), (-1.0, -0.18)]
    )
    door = _box(-0.22, 0.3, 0.22, 0.92)
    roof = np.array([(0, -1.0), (1.0, -0.18), (-1.0, -0.18)])
    return Shape(walls, details=((roof, "dark"), (door, "light")))


def _fish() -> Shape:
    body = _arc(0.86 * np.pi, -0.86 * np.pi, 30) * (0.74, 0.56) + (-0.26, 0.0)
    # The body's outline runs from its tail end, round the mouth on the left, back to the tail end.
    body[:, 0] = -0.52 - body[:, 0]
    tail = np.array([(1.05, -0.56), (0.82, 0.0), (1.05, 0.56)])
    return Shape(np.concatenate([body, tail]), details=((_disc(0.13, (-0.62, -0.14), 10), "eye"),))


_MAKERS: dict[str, Callable[[], Shape]] = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
    "heart": _heart,
    "diamond": _diamond,
    "cross": _cross,
    "ring": _ring,
    "moon": _moon,
    "flower": _flower,
    "house": _house,
    "fish": _fish,
}


@cache
def unit_shape(name: str) -> Shape:
    """The polygons of a shape.

    Args:
        name: one of `scenes.SHAPES`.

    Returns:
        The shape, made once and shared: do not change its arrays.
    """
    return _MAKERS[name]()
