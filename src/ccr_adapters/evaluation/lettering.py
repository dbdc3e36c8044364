"""Letters for pictures: a typeface that has the letters of many languages, and line breaks to suit."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from PIL import ImageFont

from ccr_adapters.errors import EvaluationError, MissingExtraError
from ccr_adapters.extras import require

logger = logging.getLogger(__name__)

# Pillow's own typeface has no letter beyond ASCII, not even ä: hence matplotlib's DejaVu, else one of the
# system's.
_FAMILIES = (
    ("DejaVuSans.ttf", "DejaVuSans-Bold.ttf"),
    ("NotoSans-Regular.ttf", "NotoSans-Bold.ttf"),
    ("LiberationSans-Regular.ttf", "LiberationSans-Bold.ttf"),
    ("Arial.ttf", "Arial Bold.ttf"),
    ("arial.ttf", "arialbd.ttf"),
)
# For letters that the typeface lacks; Pillow looks these names up in the folders of the system.
_EAST_ASIAN = (
    "NotoSansCJK-Regular.ttc",
    "NotoSansSC-Regular.otf",
    "SourceHanSansSC-Regular.otf",
    "wqy-microhei.ttc",
    "wqy-zenhei.ttc",
    "DroidSansFallbackFull.ttf",
    "PingFang.ttc",
    "Hiragino Sans GB.ttc",
    "Arial Unicode.ttf",
    "msyh.ttc",
    "YuGothM.ttc",
)
_IDEOGRAPH = "\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\uff00-\uffef"
# A line may break after any ideograph, but closing punctuation stays with the one before it.
_PIECE = re.compile(rf"[{_IDEOGRAPH}][、。，．！？：；）」』》”’]*|[^\s{_IDEOGRAPH}]+|\s+")
# No character at all, so no font has it; unassigned ones may be of those that text layout leaves out where it lacks them.
_UNASSIGNED = "\uffff"


class Lettering:
    """A typeface with a regular and a bold face, and others to fall back on for letters it lacks.

    Args:
        font: A font file, or None for DejaVu Sans (which ships with matplotlib) or the nearest that the
            system has.

    Raises:
        EvaluationError: If the font file cannot be read.
        MissingExtraError: If no typeface is found; the message has the pip line.
    """

    def __init__(self, font: str | os.PathLike[str] | None = None) -> None:
        self._regular, self._bold = (os.fspath(font),) * 2 if font is not None else _default_family()
        if _load(self._regular, 12) is None:
            raise EvaluationError(f"{self._regular} is not a font file that can be read; give a .ttf, .otf or .ttc.")
        self._warned: set[str] = set()

    def font(self, text: str, size: int, *, bold: bool = False) -> ImageFont.FreeTypeFont:
        """Choose the font for a text.

        Args:
            text: What will be drawn. If the typeface lacks a letter, a font that has all of them is taken.
            size: Size in pixels.
            bold: Take the bold face.

        Returns:
            The font. If none has all letters, the typeface itself, with one warning that names those missing.
        """
        first = self._bold if bold else self._regular
        for name in (first, *_EAST_ASIAN):
            font = _load(name, size)
            if font is not None and not _missing(name, text):
                return font
        unknown = _missing(first, text)
        if unknown - self._warned:
            self._warned |= unknown
            logger.warning(
                "No font at hand has %s: they are drawn as boxes. Install a font that has them (for Chinese "
                "and Japanese, Noto Sans CJK) or name its file.",
                " ".join(sorted(unknown)),
            )
        font = _load(first, size)
        if font is None:
            raise EvaluationError(f"The font {first} was there and is gone.")
        return font

    def wrap(self, text: str, size: int, width: float, *, most: int, bold: bool = False) -> list[str]:
        """Break a text into lines.

        Args:
            text: The text; runs of white space count as one space.
            size: Size in pixels.
            width: Width of a line in pixels.
            most: Number of lines; what does not fit ends in an ellipsis.
            bold: Measure the bold face, which is wider.

        Returns:
            The lines, at least one.
        """
        font = self.font(text, size, bold=bold)
        lines = [""]
        for piece in _pieces(text, font, width):
            if font.getlength((lines[-1] + piece).rstrip()) <= width or not lines[-1]:
                lines[-1] += piece
            else:
                lines.append(piece.lstrip())
        lines = [line.rstrip() for line in lines]
        if len(lines) > most:
            last = lines[most - 1]
            while last and font.getlength(last + " …") > width:
                # Whole words go, as long as there are some; in Chinese, single letters.
                last = last.rpartition(" ")[0] or last[:-1]
            lines = [*lines[: most - 1], f"{last.rstrip()} …"]
        return lines


def _pieces(text: str, font: ImageFont.FreeTypeFont, width: float) -> Iterator[str]:
    """Yield what must stay on one line: words, ideographs, spaces, and parts of words wider than a line."""
    for piece in _PIECE.findall(text.strip()):
        if piece.isspace():
            yield " "
            continue
        while len(piece) > 1 and font.getlength(piece) > width:
            cut = next((n for n in range(len(piece) - 1, 1, -1) if font.getlength(piece[:n]) <= width), 1)
            yield piece[:cut]
            piece = piece[cut:]
        yield piece


def _default_family() -> tuple[str, str]:
    try:
        folder = Path(require("matplotlib", extra="plots").get_data_path()) / "fonts" / "ttf"
    except MissingExtraError:
        for regular, bold in _FAMILIES:
            if _load(regular, 12) is not None and _load(bold, 12) is not None:
                return regular, bold
        raise
    return str(folder / _FAMILIES[0][0]), str(folder / _FAMILIES[0][1])


@lru_cache(maxsize=256)
def _load(name: str, size: int) -> ImageFont.FreeTypeFont | None:
    try:
        return ImageFont.truetype(name, size)
    except OSError:
        return None


def _missing(name: str, text: str) -> set[str]:
    return {letter for letter in text if not letter.isspace() and not _has(name, letter)}


@lru_cache(maxsize=8192)
def _has(name: str, letter: str) -> bool:
    """Whether a font draws a letter otherwise than a letter that no font has."""
    font = _load(name, 24)
    if font is None:
        return False
    drawn, box = font.getmask(letter), font.getmask(_UNASSIGNED)
    return drawn.size != box.size or bytes(drawn) != bytes(box)
