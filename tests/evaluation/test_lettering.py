"""Letters: coverage of the languages at hand, fall-backs, and line breaks."""

from __future__ import annotations

import logging
import sys

import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen

from ccr_adapters.errors import EvaluationError, MissingExtraError
from ccr_adapters.evaluation import lettering
from ccr_adapters.evaluation.lettering import Lettering

SIZE = 20


@pytest.mark.parametrize(
    "text",
    [
        "Größe, Öl, überaus",
        "élève, œuf, ça, naïve",
        "příliš žluťoučký kůň",
        "ọmọ ẹ̀kọ́ ṣe",
        "маленький круг",
        "δύο κύκλοι",
    ],
)
def test_letters_of_european_and_african_languages_are_there(text, caplog):
    letters = Lettering()
    with caplog.at_level(logging.WARNING):
        font, bold = letters.font(text, SIZE), letters.font(text, SIZE, bold=True)
    assert caplog.records == []
    assert font.getname()[1] != bold.getname()[1]


def test_a_letter_that_no_font_has_is_named_once(caplog):
    letters = Lettering()
    with caplog.at_level(logging.WARNING, logger="ccr_adapters"):
        for _ in range(3):
            letters.font("circle \ufffe", SIZE)
    (record,) = caplog.records
    assert "\ufffe" in record.getMessage()


def make_font(path, letters):
    """A font file whose letters are all the same bar."""
    pen = TTGlyphPen(None)
    pen.moveTo((100, 0))
    for corner in ((100, 700), (900, 700), (900, 0)):
        pen.lineTo(corner)
    pen.closePath()
    names = [".notdef", *(f"uni{ord(letter):04X}" for letter in letters)]
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder(names)
    builder.setupCharacterMap({ord(letter): name for letter, name in zip(letters, names[1:], strict=True)})
    builder.setupGlyf({**dict.fromkeys(names, pen.glyph()), ".notdef": TTGlyphPen(None).glyph()})
    builder.setupHorizontalMetrics(dict.fromkeys(names, (1000, 100)))
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": "Bars", "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(path)
    return path


def test_a_named_font_is_taken_for_letters_that_others_lack(caplog, tmp_path):
    font = Lettering(make_font(tmp_path / "bars.ttf", "红色的圆")).font("红色的圆", SIZE)
    assert font.getname()[0] == "Bars"
    assert caplog.records == []


def test_letters_that_the_typeface_lacks_are_noticed(caplog, monkeypatch):
    monkeypatch.setattr(lettering, "_EAST_ASIAN", ())
    with caplog.at_level(logging.WARNING, logger="ccr_adapters"):
        Lettering().font("ein roter Kreis, 红圆", SIZE)
    (record,) = caplog.records
    assert "圆 红" in record.getMessage()


def test_a_font_that_cannot_be_read_is_named(tmp_path):
    path = tmp_path / "broken.ttf"
    path.write_bytes(b"no font")
    with pytest.raises(EvaluationError, match=r"broken\.ttf is not a font file"):
        Lettering(path)


def test_without_any_typeface_the_message_has_the_pip_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)  # how Python itself marks what cannot be imported
    monkeypatch.setattr(lettering, "_FAMILIES", (("No Such Font.ttf", "No Such Font.ttf"),))
    with pytest.raises(MissingExtraError, match=r"ccr-adapters\[plots\]"):
        Lettering()


@pytest.mark.parametrize("width", [40, 90, 200, 10_000])
@pytest.mark.parametrize(
    "text",
    [
        "Ein kleiner roter Kreis über einem Dreieck",
        "Donaudampfschifffahrtsgesellschaftskapitän",
        "a",
        "  two   spaces ",
    ],
)
def test_lines_fit_and_nothing_is_lost(text, width):
    letters = Lettering()
    lines = letters.wrap(text, SIZE, width, most=99)
    font = letters.font(text, SIZE)
    assert all(font.getlength(line) <= width for line in lines)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    assert "".join(lines) == " ".join(text.split()) or len(lines) > 1


def test_words_stay_whole_where_they_fit():
    text = "Ein kleiner roter Kreis über einem Dreieck"
    lines = Lettering().wrap(text, SIZE, 150, most=9)
    assert len(lines) > 2
    assert " ".join(lines) == text


def test_chinese_breaks_between_characters_but_not_before_a_full_stop(caplog):
    letters = Lettering()
    width = letters.font("红", SIZE).getlength("红") * 4.5
    lines = letters.wrap("红色的圆，蓝色的方块。", SIZE, width, most=9)
    assert "".join(lines) == "红色的圆，蓝色的方块。"
    assert len(lines) == 3
    assert not any(line[0] in "，。" for line in lines)


def test_what_does_not_fit_ends_in_an_ellipsis():
    letters = Lettering()
    lines = letters.wrap("one two three four five six seven eight nine ten", SIZE, 120, most=2)
    assert len(lines) == 2
    assert lines[1].endswith(" …")
    assert lines[1].removesuffix(" …").split()[-1] in {"two", "three", "four", "five", "six"}
    assert letters.font("x", SIZE).getlength(lines[1]) <= 120
