"""A contact sheet: queries with the pictures they find, the right ones framed, before and after."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from PIL import Image, ImageDraw, ImageOps

from ccr_adapters.errors import EvaluationError
from ccr_adapters.evaluation.lettering import Lettering
from ccr_adapters.pixels import as_rgb

_PAPER, _INK, _GREY, _PALE = "#ffffff", "#111827", "#6b7280", "#8b94a3"
_HAIRLINE, _EDGE, _GREEN = "#e9ecf1", "#dfe3e9", "#16a34a"
# All measures below are in points; a point is this many pixels, so that the sheet stays sharp on fine
# screens.
_PIXELS = 2
_MARGIN, _TEXT_WIDTH, _TEXT_GAP, _BLOCK_GAP = 48, 236, 30, 48
_TILE, _TILE_GAP, _ROUND = 100, 16, 9
_ROW_PADDING, _LINE, _SMALL_LINE, _TITLE_LINE = 18, 23, 18, 38
_TITLE_SIZE, _QUERY_SIZE, _HEADING_SIZE, _NOTE_SIZE, _SMALL_SIZE = 27, 16, 15, 13, 11


@dataclass(frozen=True)
class ResultBlock:
    """What one model found: a block of the sheet.

    Attributes:
        images: For each query its pictures, best first.
        marks: For each query and picture, whether it is a right one; None if unknown.
        scores: For each query and picture its score; None to show none.
        heading: What stands above the block, for example "before" or "after".
    """

    images: Sequence[Sequence[Image.Image]]
    marks: Sequence[Sequence[bool]] | None = None
    scores: Sequence[Sequence[float]] | None = None
    heading: str = ""


def contact_sheet(
    queries: Sequence[str],
    images_for_query: Sequence[Sequence[Image.Image]],
    *,
    path: str | os.PathLike[str],
    marks: Sequence[Sequence[bool]] | None = None,
    scores: Sequence[Sequence[float]] | None = None,
    heading: str = "",
    before: ResultBlock | None = None,
    glosses: Sequence[str] | None = None,
    title: str = "",
    subtitle: str = "",
    font: str | os.PathLike[str] | None = None,
) -> Path:
    """Draw a contact sheet.

    Args:
        queries: The captions searched with, one a row.
        images_for_query: For each query the pictures it found, best first: five look best.
        path: Where the picture goes; the ending says the format.
        marks: For each query and picture, whether it is a right one: it gets a green frame and a tick.
        scores: For each query and picture its score, in small grey.
        heading: What stands above these results, needed where there are two blocks ("after").
        before: Results of another model for the same queries, drawn to the left of these.
        glosses: A translation of each query for the reader, in small grey below it.
        title: First line.
        subtitle: Second line, in grey.
        font: A font file, for letters that neither DejaVu Sans nor the system's fonts have.

    Returns:
        The path.

    Raises:
        EvaluationError: If the numbers of queries, pictures, marks and scores do not fit.
        MissingExtraError: If no suitable typeface is found.
    """
    after = ResultBlock(images_for_query, marks, scores, heading)
    blocks = [after] if before is None else [before, after]
    _check(queries, blocks, glosses)
    sheet = _Sheet(queries, blocks, glosses, title, subtitle, Lettering(font)).draw()
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(target)
    return target


def _check(queries: Sequence[str], blocks: Sequence[ResultBlock], glosses: Sequence[str] | None) -> None:
    if not queries:
        raise EvaluationError("A contact sheet needs at least one query.")
    if glosses is not None and len(glosses) != len(queries):
        raise EvaluationError(f"There are {len(queries)} queries and {len(glosses)} glosses; give one for each.")
    for block in blocks:
        counts = [len(row) for row in block.images]
        if len(counts) != len(queries) or not max(counts):
            raise EvaluationError(
                f"There are {len(queries)} queries and pictures for {sum(map(bool, counts))} of them."
            )
        for name, table in (("marks", block.marks), ("scores", block.scores)):
            if table is not None and [len(row) for row in table] != counts:
                raise EvaluationError(f"{name} must have one value for each picture of each query: {counts}.")


class _Sheet:
    """One sheet being drawn; coordinates are in points until they reach the canvas."""

    def __init__(
        self,
        queries: Sequence[str],
        blocks: Sequence[ResultBlock],
        glosses: Sequence[str] | None,
        title: str,
        subtitle: str,
        letters: Lettering,
    ) -> None:
        self.blocks, self.letters = blocks, letters
        self.lefts, self.right = self._columns()
        self.title = self._wrapped(title, _TITLE_SIZE, self.right - _MARGIN, 2, bold=True)
        self.subtitle = self._wrapped(subtitle, _HEADING_SIZE, self.right - _MARGIN, 2)
        self.texts = [self._wrapped(query, _QUERY_SIZE, _TEXT_WIDTH, 5) for query in queries]
        self.glosses = [self._wrapped(gloss, _NOTE_SIZE, _TEXT_WIDTH, 3) for gloss in glosses or [""] * len(queries)]

    def draw(self) -> Image.Image:
        """Lay the sheet out from top to bottom and draw it."""
        heading = 28 * any(bool(block.heading) for block in self.blocks)
        marked = any(block.marks is not None for block in self.blocks)
        heights = [self._row_height(row) for row in range(len(self.texts))]
        head = len(self.title) * _TITLE_LINE + len(self.subtitle) * _LINE
        blocks_top = _MARGIN + head + (18 if head else 0)
        top = blocks_top + heading + (26 if marked else 0)
        bottom = top + sum(heights) + (34 if marked else 0) + _MARGIN - 16
        self.canvas = Image.new("RGB", ((self.right + _MARGIN) * _PIXELS, bottom * _PIXELS), _PAPER)
        self.pen = ImageDraw.Draw(self.canvas)
        for number, line in enumerate(self.title):
            self._write(_MARGIN, _MARGIN + number * _TITLE_LINE, line, _TITLE_SIZE, _INK, bold=True)
        for number, line in enumerate(self.subtitle):
            y = _MARGIN + len(self.title) * _TITLE_LINE + number * _LINE
            self._write(_MARGIN, y, line, _HEADING_SIZE, _GREY)
        for left, block in zip(self.lefts, self.blocks, strict=True):
            self._heading(left, blocks_top, blocks_top + heading, block)
        for row, height in enumerate(heights):
            self._rule(top)
            self._row(row, top)
            top += height
        self._rule(top)
        if marked:
            self._legend(top + 16)
        return self.canvas

    def _wrapped(self, text: str, size: int, width: int, most: int, *, bold: bool = False) -> list[str]:
        if not text:
            return []
        return self.letters.wrap(text, size * _PIXELS, width * _PIXELS, most=most, bold=bold)

    def _columns(self) -> tuple[list[int], int]:
        """Left edge of each block, and the right edge of the last."""
        lefts, edge = [], _MARGIN + _TEXT_WIDTH + _TEXT_GAP - _BLOCK_GAP
        for block in self.blocks:
            lefts.append(edge + _BLOCK_GAP)
            tiles = max(len(row) for row in block.images)
            edge = lefts[-1] + tiles * _TILE + (tiles - 1) * _TILE_GAP
        return lefts, edge

    def _row_height(self, row: int) -> int:
        return 2 * _ROW_PADDING + max(_TILE + 20, self._text_height(row))

    def _text_height(self, row: int) -> int:
        gloss = self.glosses[row]
        return len(self.texts[row]) * _LINE + len(gloss) * _SMALL_LINE + (6 if gloss else 0)

    def _row(self, row: int, top: int) -> None:
        # Beside the middle of the tiles, not of the row: the numbers below the tiles are not part of the
        # picture.
        y = top + _ROW_PADDING + max(0, (_TILE - self._text_height(row)) // 2)
        for line in self.texts[row]:
            self._write(_MARGIN, y, line, _QUERY_SIZE, _INK)
            y += _LINE
        for line in self.glosses[row]:
            self._write(_MARGIN, y + 6, line, _NOTE_SIZE, _PALE)
            y += _SMALL_LINE
        tile_y = top + _ROW_PADDING + max(0, (self._text_height(row) - _TILE - 20) // 2)
        for left, block in zip(self.lefts, self.blocks, strict=True):
            for place, image in enumerate(block.images[row]):
                right_one = block.marks is not None and bool(block.marks[row][place])
                score = None if block.scores is None else block.scores[row][place]
                self._tile(left + place * (_TILE + _TILE_GAP), tile_y, image, place + 1, right_one, score)

    def _tile(self, x: int, y: int, image: Image.Image, place: int, right_one: bool, score: float | None) -> None:
        if right_one:
            self._panel(x - 5, y - 5, _TILE + 10, _ROUND + 5, _GREEN)
            self._panel(x - 2, y - 2, _TILE + 4, _ROUND + 2, _PAPER)
        else:
            self._panel(x - 0.5, y - 0.5, _TILE + 1, _ROUND + 0.5, _EDGE)
        side = _TILE * _PIXELS
        self.canvas.paste(_square(image, side), (x * _PIXELS, y * _PIXELS), _rounded(side, _ROUND * _PIXELS))
        if right_one:
            badge = _badge(24 * _PIXELS)
            self.canvas.paste(badge, (int((x + _TILE - 15.5) * _PIXELS), int((y - 8.5) * _PIXELS)), badge)
        below = y + _TILE + 8
        self._write(x + 1, below, str(place), _SMALL_SIZE, _GREEN if right_one else _GREY, bold=right_one)
        if score is not None:
            self._write(x + _TILE - 1, below, f"{score:.2f}", _SMALL_SIZE, _GREEN if right_one else _PALE, anchor="ra")

    def _heading(self, x: int, y: int, note_y: int, block: ResultBlock) -> None:
        if block.heading:
            self._write(x, y, block.heading, _HEADING_SIZE, _INK, bold=True)
        if block.marks is not None:
            first = sum(bool(row) and bool(row[0]) for row in block.marks)
            among = sum(any(row) for row in block.marks)
            total, tiles = len(block.marks), max(len(row) for row in block.images)
            note = f"right picture first: {first} of {total}   ·   among the first {tiles}: {among} of {total}"
            self._write(x, note_y - 4, note, _NOTE_SIZE, _GREY)

    def _legend(self, y: int) -> None:
        badge = _badge(16 * _PIXELS)
        self.canvas.paste(badge, (_MARGIN * _PIXELS, y * _PIXELS), badge)
        self._write(_MARGIN + 22, y + 1, "a picture that the caption was written for", _NOTE_SIZE - 1, _GREY)

    def _rule(self, y: int) -> None:
        self.pen.rectangle((_MARGIN * _PIXELS, y * _PIXELS, self.right * _PIXELS, y * _PIXELS + 1), fill=_HAIRLINE)

    def _panel(self, x: float, y: float, side: float, radius: float, colour: str) -> None:
        pixels = int(side * _PIXELS)
        self.canvas.paste(colour, (int(x * _PIXELS), int(y * _PIXELS)), _rounded(pixels, int(radius * _PIXELS)))

    def _write(
        self, x: float, y: float, text: str, size: int, colour: str, *, bold: bool = False, anchor: str = "la"
    ) -> None:
        font = self.letters.font(text, size * _PIXELS, bold=bold)
        self.pen.text((x * _PIXELS, y * _PIXELS), text, fill=colour, font=font, anchor=anchor)


def _square(image: Image.Image, side: int) -> Image.Image:
    """Cut the middle square out of a picture, as an encoder sees it, and bring it to size."""
    # Lanczos leaves ghosts beside hard edges when it enlarges, and small drawings have many.
    method = Image.Resampling.BICUBIC if min(image.size) < side else Image.Resampling.LANCZOS
    return ImageOps.fit(as_rgb(image), (side, side), method=method)


@lru_cache(maxsize=16)
def _rounded(side: int, radius: int) -> Image.Image:
    """Mask of a square with round corners, drawn large and reduced: Pillow itself draws jagged curves."""
    mask = Image.new("L", (side * 4, side * 4), 0)
    ImageDraw.Draw(mask).rounded_rectangle((0, 0, side * 4 - 1, side * 4 - 1), radius * 4, fill=255)
    return mask.resize((side, side), Image.Resampling.LANCZOS)


@lru_cache(maxsize=4)
def _badge(side: int) -> Image.Image:
    """A white tick on a green disc with a white rim."""
    big = side * 4
    badge = Image.new("RGBA", (big, big), (255, 255, 255, 0))
    pen = ImageDraw.Draw(badge)
    pen.ellipse((0, 0, big - 1, big - 1), fill=_PAPER)
    rim = big * 0.09
    pen.ellipse((rim, rim, big - 1 - rim, big - 1 - rim), fill=_GREEN)
    points = [(big * 0.31, big * 0.52), (big * 0.45, big * 0.65), (big * 0.70, big * 0.37)]
    thick = big * 0.085
    pen.line(points, fill=_PAPER, width=int(thick), joint="curve")
    for x, y in (points[0], points[-1]):
        pen.ellipse((x - thick / 2, y - thick / 2, x + thick / 2, y + thick / 2), fill=_PAPER)
    return badge.resize((side, side), Image.Resampling.LANCZOS)
