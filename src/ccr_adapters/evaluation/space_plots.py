"""Plots of the shared space: captions against pictures as a heat-map, and a map of a language before and after."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from unicodedata import bidirectional

import numpy as np
from PIL import Image, ImageOps

from ccr_adapters.errors import EvaluationError
from ccr_adapters.evaluation.lettering import Lettering
from ccr_adapters.evaluation.plots import COLOURS, DPI, INK, QUIET, RULE, WIDTH, new_figure
from ccr_adapters.pixels import as_rgb

if TYPE_CHECKING:
    from matplotlib.figure import Figure

logger = logging.getLogger(__name__)

_PICTURE, _CAPTION = COLOURS[1], COLOURS[4]
_OTHERS = "#c3c9d3"
_THUMB = 144  # pixels of a picture before it is drawn
_LETTERS = 11  # points
_MOST = 12  # rows and columns that can be read
_LAYS_OUT = (3, 11)  # the matplotlib that has letters joined, and in the order that they are read in


def similarity_heatmap(
    similarity: np.ndarray,
    captions: Sequence[str],
    pictures: Sequence[Image.Image | str],
    *,
    right: Sequence[int] | None = None,
    title: str = "",
    font: str | None = None,
) -> Figure:
    """How alike each caption and each picture are, with both along the sides.

    Args:
        similarity: Cosines. (n, m)
        captions: The captions, in any language. (n,)
        pictures: The pictures, or names where there are only features. (m,)
        right: Column of each caption's picture; default its own row. (n,)
        title: First line.
        font: A font file, for letters that neither DejaVu Sans nor the system's fonts have.

    Raises:
        EvaluationError: If the numbers do not fit, or there are too many to be read.
        MissingExtraError: If there is no matplotlib.
    """
    rows, columns = similarity.shape if similarity.ndim == 2 else (0, 0)
    if (rows, columns) != (len(captions), len(pictures)) or not 1 <= max(rows, columns) <= _MOST:
        raise EvaluationError(
            f"A heat-map of shape {similarity.shape} for {len(captions)} captions and {len(pictures)} pictures; expected at most "
            f"{_MOST} of each."
        )
    right = range(rows) if right is None else right
    letters = Lettering(font)
    left, edge, head, foot = 3.9, 0.95, 0.8, 0.62  # inches
    cell_width = (WIDTH - left - edge) / columns
    cell = min(cell_width, 0.84)
    thumb = 0.5 if all(isinstance(picture, str) for picture in pictures) else min(cell_width, 1.0)
    height = head + thumb + 0.12 + rows * cell + foot
    figure = new_figure(height)
    _check_direction([*captions, *(picture for picture in pictures if isinstance(picture, str))])
    figure.text(0.025, 1 - 0.4 / height, title, fontsize=17, fontweight="bold", color=INK, va="center")
    panel = figure.add_axes((left / WIDTH, foot / height, 1 - (left + edge) / WIDTH, rows * cell / height))
    shown = panel.imshow(similarity, cmap="cividis", aspect="auto")
    _cells(panel, similarity, right)
    panel.set_axis_off()
    _captions(panel, captions, letters, left, cell)
    _thumbnails(figure, pictures, letters, (left, height - head - thumb, cell_width, thumb), height)
    bar = figure.add_axes(((WIDTH - edge + 0.18) / WIDTH, foot / height, 0.16 / WIDTH, rows * cell / height))
    figure.colorbar(shown, cax=bar).outline.set_visible(False)
    bar.tick_params(labelsize=10, colors=INK, length=0)
    note = "framed: the picture that the caption was written for   ·   bold: the picture that it finds first"
    figure.text(left / WIDTH, 0.28 / height, note, fontsize=11, color=QUIET, va="center")
    return figure


def _check_direction(texts: Sequence[str]) -> None:
    """Say so where letters that are written from right to left will be drawn the other way round, as older versions do."""
    import matplotlib

    leftward = any(bidirectional(letter) in ("R", "AL") for text in texts for letter in text)
    if leftward and matplotlib.__version_info__ < _LAYS_OUT:
        logger.warning(
            "matplotlib %s draws Arabic and Hebrew letters from left to right, each by itself: those captions cannot be read. "
            "Install one that lays out text: pip install 'matplotlib>=3.11' (which needs Python 3.11).",
            matplotlib.__version__,
        )


def _cells(panel: Any, similarity: np.ndarray, right: Sequence[int]) -> None:
    """The numbers, readable on their colour, and the frames."""
    from matplotlib.patches import Rectangle

    low, high = float(similarity.min()), float(similarity.max())
    for row, values in enumerate(similarity):
        for column, value in enumerate(values):
            pale = (value - low) > 0.55 * (high - low)
            first = column == int(values.argmax())
            panel.text(
                column,
                row,
                f"{value:.2f}".replace("-", "−"),
                ha="center",
                va="center",
                fontsize=12 if first else 11,
                fontweight="bold" if first else "normal",
                color="#111827" if pale else "white",
            )
        place = (right[row] - 0.47, row - 0.46)
        panel.add_patch(Rectangle(place, 0.94, 0.92, fill=False, edgecolor="white", linewidth=4.5))
        panel.add_patch(Rectangle(place, 0.94, 0.92, fill=False, edgecolor=_CAPTION, linewidth=2.6))


def _captions(panel: Any, captions: Sequence[str], letters: Lettering, left: float, cell: float) -> None:
    """Captions to the left of the rows, each in a font that has its letters."""
    from matplotlib.font_manager import FontProperties

    pixels = round(_LETTERS * DPI / 72)
    lines = max(1, int(cell * DPI / (1.3 * pixels)))
    for row, caption in enumerate(captions):
        wrapped = letters.wrap(caption, pixels, (left - 0.6) * DPI, most=min(lines, 4))
        face = FontProperties(fname=str(letters.font(caption, pixels).path), size=_LETTERS)
        panel.text(
            -0.16 / left,
            1 - (row + 0.5) / len(captions),
            # what stands between dollars is no formula here
            "\n".join(wrapped).replace("$", r"\$"),
            transform=panel.transAxes,
            ha="right",
            va="center",
            multialignment="left",
            fontproperties=face,
            color=INK,
            linespacing=1.25,
        )


def _thumbnails(
    figure: Figure,
    pictures: Sequence[Image.Image | str],
    letters: Lettering,
    place: tuple[float, float, float, float],
    height: float,
) -> None:
    """Pictures above the columns, or their names."""
    from matplotlib.font_manager import FontProperties

    left, bottom, cell, side = place
    for column, picture in enumerate(pictures):
        middle = left + (column + 0.5) * cell
        if isinstance(picture, str):
            face = FontProperties(fname=str(letters.font(picture, 12).path), size=10)
            words = "\n".join(letters.wrap(picture, 14, 0.95 * cell * DPI, most=4))
            x, y = middle / WIDTH, (bottom + 0.05) / height
            figure.text(x, y, words, ha="center", va="bottom", fontproperties=face, color=INK)
            continue
        small = side * 0.92
        spot = figure.add_axes(((middle - small / 2) / WIDTH, bottom / height, small / WIDTH, small / height))
        spot.imshow(np.asarray(ImageOps.fit(as_rgb(picture), (_THUMB, _THUMB))), interpolation="antialiased")
        spot.set(xticks=[], yticks=[])
        for edge in spot.spines.values():
            edge.set_color(RULE)


@dataclass(frozen=True)
class MapPanel:
    """One side of a map.

    Attributes:
        heading: What stands above it: "before", "after".
        text: Captions. (n, d)
        visual: The picture of each caption. (n, d)
        fitted: Pictures that the plane is fitted on: all of the gallery. (M, d)
    """

    heading: str
    text: np.ndarray
    visual: np.ndarray
    fitted: np.ndarray


def language_map(panels: Sequence[MapPanel], *, title: str = "") -> Figure:
    """Captions and their pictures in a plane, a line from each caption to its picture.

    The plane is that of the two directions in which pictures differ most (principal components, by singular values).
    Captions are drawn in it as they are: that they lie away from all pictures, if they do, is part of the truth.

    Args:
        panels: One or two, for example before and after.
        title: First line.

    Raises:
        EvaluationError: If a panel has no pairs, or other captions than pictures.
        MissingExtraError: If there is no matplotlib.
    """
    if not panels:
        raise EvaluationError("A map needs a panel.")
    for each in panels:
        if each.text.shape != each.visual.shape or not len(each.text) or len(each.fitted) < 3:
            raise EvaluationError(
                f"The map '{each.heading}' has captions {each.text.shape} and pictures {each.visual.shape}, fitted on "
                f"{len(each.fitted)}; expected pairs, and at least three pictures."
            )
    figure = new_figure(7.0)
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    limits = []
    for panel, each in zip(axes, panels, strict=True):
        limits.append(_draw_map(panel, each))
    one_plane = all(each.fitted is panels[0].fitted for each in panels)
    for panel, own in zip(axes, limits, strict=True):
        low, high = (np.min(limits, axis=0)[0], np.max(limits, axis=0)[1]) if one_plane else own
        space = 0.05 * (high - low)
        panel.set_xlim(low[0] - space[0], high[0] + space[0])
        panel.set_ylim(low[1] - space[1], high[1] + space[1])
    figure.text(0.03, 0.945, title, fontsize=17, fontweight="bold", color=INK, va="center")
    handles, labels = axes[0].get_legend_handles_labels()
    style = {"ncols": 3, "frameon": False, "fontsize": 12, "labelcolor": INK}
    figure.legend(handles, labels, loc="upper left", bbox_to_anchor=(0.022, 0.92), **style)
    figure.subplots_adjust(left=0.03, right=0.985, top=0.8, bottom=0.065, wspace=0.05)
    return figure


def plane_of(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """The plane in which vectors differ most.

    Args:
        vectors: The vectors. (M, d)

    Returns:
        Their mean (d,), two orthonormal directions (2, d), of which the second is 0 where there is one vector, and the share
        of their variance in that plane. A direction's sign is such that its largest entry is positive.
    """
    mean = vectors.mean(axis=0)
    _, values, directions = np.linalg.svd(vectors - mean, full_matrices=False)
    first = np.zeros((2, vectors.shape[1]), dtype=vectors.dtype)
    first[: len(directions)] = directions[:2]  # one vector has one
    largest = np.take_along_axis(first, np.abs(first).argmax(axis=1, keepdims=True), axis=1)
    share = float((values[:2] ** 2).sum() / max((values**2).sum(), 1e-12))
    return mean, first * np.sign(largest), share


def _draw_map(panel: Any, each: MapPanel) -> tuple[np.ndarray, np.ndarray]:
    """Draw one side; returns the lower and upper corner of what is on it."""
    from matplotlib.collections import LineCollection

    mean, directions, share = plane_of(each.fitted)
    text, visual, all_pictures = ((part - mean) @ directions.T for part in (each.text, each.visual, each.fitted))
    panel.scatter(*all_pictures.T, s=9, color=_OTHERS, zorder=1, label="other pictures", linewidths=0)
    pairs = np.stack([text, visual], axis=1)  # (n, 2, 2)
    panel.add_collection(LineCollection(list(pairs), colors=QUIET, linewidths=0.7, alpha=0.55, zorder=2))
    panel.scatter(*visual.T, s=44, color=_PICTURE, zorder=3, label="picture", edgecolors="white", linewidths=0.6)
    panel.scatter(
        *text.T, s=48, color=_CAPTION, marker="^", zorder=4, label="its caption", edgecolors="white", linewidths=0.6
    )
    apart = np.linalg.norm(each.text - each.visual, axis=1).mean()
    panel.set_title(each.heading, loc="left", fontsize=14, fontweight="bold", color=INK, pad=7)
    note = f"a caption is {apart:.2f} from its picture; the plane shows {share:.0%} of the variance"
    panel.set_xlabel(note, fontsize=11, color=QUIET, labelpad=7)
    panel.set(xticks=[], yticks=[])
    for spine in panel.spines.values():
        spine.set_color(RULE)
    drawn = np.concatenate([text, visual, all_pictures])
    return drawn.min(axis=0), drawn.max(axis=0)
