"""What each button gives: answers, and lines for what cannot be answered."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from ccr_adapters.demo.answers import Answers
from ccr_adapters.demo.finder import Finder


@pytest.fixture(scope="module")
def answers(model, pictures, captions):
    return Answers(Finder(model, pictures, captions))


def test_pictures_for_a_question(answers, world):
    said, found = answers.search("roter stern himmel", "auto", 4)
    assert "German was detected" in said
    assert found.count("<li") == 4
    assert found.index(f'data-id="{world.id(0)}"') < found.index('data-id="', found.index(world.id(0)) + 1)


def test_side_by_side_has_a_column_for_each_reader(answers):
    _, found = answers.side_by_side("roter stern", "de", "cs", "rudá hvězda")
    assert [part.split("<")[0] for part in found.split("<h2>")[1:]] == ["No adapter", "German adapter", "Czech adapter"]
    assert '<p class="ccr-words" lang="cs">rudá hvězda</p>' in found
    # without words of its own, the other adapter reads the same
    assert '<p class="ccr-words" lang="cs">roter stern</p>' in answers.side_by_side("roter stern", "de", "cs", " ")[1]


@pytest.mark.parametrize(
    ("language", "other", "words", "columns"),
    [("de", "", "", 2), ("en", "", "", 1), ("en", "de", "roter stern", 2), ("de", "de", "", 2), ("de", "en", "", 2)],
)
def test_no_column_comes_twice(answers, language, other, words, columns):
    assert answers.side_by_side("red star", language, other, words)[1].count("<section>") == columns


def test_captions_for_a_picture(answers, folder, world):
    said, found = answers.captions(str(folder / world.file(1)), "de", 3)
    assert "The nearest of 18 captions in German" in said
    assert found.index("blauer fisch") < found.index("</tr>", found.index("<tbody>"))
    assert "Choose a picture" in answers.captions(None, "de", 3)[0]


def test_a_transparent_and_a_grey_picture_can_be_used(answers, tmp_path):
    Image.new("RGBA", (20, 30), (0, 0, 0, 0)).save(tmp_path / "a.png")
    Image.fromarray(np.full((30, 20), 40_000, np.uint16)).save(tmp_path / "b.png")
    for name in ("a.png", "b.png"):
        assert "<table" in answers.captions(str(tmp_path / name), "de", 3)[1]


@pytest.mark.parametrize("content", [b"", b"no picture", b"\x89PNG\r\n\x1a\n broken"])
def test_a_file_that_is_no_picture_is_a_line(answers, tmp_path, content):
    (tmp_path / "upload").write_bytes(content)
    said, found = answers.captions(str(tmp_path / "upload"), "de", 3)
    assert 'role="alert"' in said
    assert "This file cannot be used: it " in said
    assert str(tmp_path) not in said
    assert found == ""


def test_a_picture_of_200_megapixels_is_a_line(answers, tmp_path):
    Image.new("1", (20_000, 10_000)).save(tmp_path / "bomb.png")
    said, _ = answers.captions(str(tmp_path / "bomb.png"), "de", 3)
    assert "cannot be used" in said
    assert "decompression bomb" in said


def test_why(answers):
    said, tables, drawn = answers.why("roter stern himmel", "auto", "style")
    assert "German" in said
    assert tables.count("<table") == 2
    assert "18 captions, coloured by style" in drawn
    assert answers.weight_map("roter stern himmel", "auto", "style") == drawn
    assert "36 captions, coloured by language" in answers.weight_map("roter stern himmel", "auto", "language")
    assert "letters" in answers.weight_map("roter stern himmel", "auto", "length")


def test_why_of_a_static_adapter(answers):
    said, tables, drawn = answers.why("modrá ryba", "cs", "style")
    assert "Czech has no such features here" in said
    assert tables == drawn == answers.weight_map("modrá ryba", "cs", "style") == ""


@pytest.mark.parametrize(("text", "language", "told"), [(" ", "de", "empty"), ("stern", "ja", "has no adapter")])
def test_a_question_that_cannot_be_answered_is_a_line(answers, text, language, told):
    for said, *others in (
        answers.search(text, language, 3),
        answers.side_by_side(text, language, "cs", ""),
        answers.why(text, language, "style"),
    ):
        assert 'role="alert"' in said
        assert told in said
        assert not any(others)
