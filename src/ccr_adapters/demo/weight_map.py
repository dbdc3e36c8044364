"""The map of generated weights as a picture without letters: its legend is text on the page, which any width can hold."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from ccr_adapters.demo.names import name_of
from ccr_adapters.demo.reasons import Plane
from ccr_adapters.evaluation.plots import COLOURS
from ccr_adapters.extras import require

Colouring = Literal["style", "length", "language"]

# seen on white and on black: neither of the two, and grey is for what has no name
_NAMED = tuple(colour for colour in COLOURS[1:] if colour != "#000000")
OTHER = COLOURS[0]
SCALE = "viridis"
_SIZE = (7.2, 4.5)  # inches
_DPI = 200


@dataclass(frozen=True)
class WeightMap:
    """A drawn map.

    Attributes:
        png: The picture, transparent.
        legend: Names with their colours; empty for a scale.
        scale: Lowest and highest value of a scale, in letters; `None` for names.
        captions: How many captions are on it.
        share: Share of the variance that it shows.
    """

    png: bytes
    legend: list[tuple[str, str]]
    scale: tuple[int, int] | None
    captions: int
    share: float


def draw_map(plane: Plane, by: Colouring = "style") -> WeightMap:
    """Draw where the weights of captions are, and those of the question.

    Args:
        plane: Where they are.
        by: What colours say: the `style` of a caption, its `length`, or its `language`.

    Returns:
        The map.

    Raises:
        MissingExtraError: If there is no matplotlib.
    """
    require("matplotlib", extra="demo")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=_SIZE, dpi=_DPI)
    FigureCanvasAgg(figure)
    panel: Any = figure.add_axes((0, 0, 1, 1))
    panel.set_axis_off()
    x, y = plane.points.T
    dots = {"s": 48, "alpha": 0.8, "linewidths": 0}
    legend: list[tuple[str, str]] = []
    scale = None
    if by == "length":
        letters = np.array([len(each.text) for each in plane.captions])
        panel.scatter(x, y, c=letters, cmap=SCALE, **dots)
        scale = (int(letters.min()), int(letters.max()))
    else:
        names = [each.style if by == "style" else name_of(each.language) for each in plane.captions]
        colour_of = _colours(names)
        panel.scatter(x, y, color=[colour_of[name] for name in names], **dots)
        legend = [(name or "no style known", colour) for name, colour in colour_of.items()]
    for size, colour in ((700, "white"), (420, "#dc2626")):  # a rim sets it off from dots of any colour
        panel.scatter(*plane.query, s=size, marker="*", color=colour, linewidths=0, zorder=3)
    panel.margins(0.04)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", transparent=True)
    return WeightMap(buffer.getvalue(), legend, scale, len(plane.captions), plane.share)


def _colours(names: list[str]) -> dict[str, str]:
    """A colour for each name, the rarest all grey where there are more names than colours."""
    order = sorted(set(names), key=lambda name: (not name, -names.count(name), name))
    return {name: _NAMED[number] if name and number < len(_NAMED) else OTHER for number, name in enumerate(order)}
