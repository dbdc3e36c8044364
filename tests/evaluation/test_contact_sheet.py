"""The contact sheet: what must be seen on it, found by its colours."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import ExifTags, Image

from ccr_adapters.errors import EvaluationError
from ccr_adapters.evaluation import ResultBlock, contact_sheet

GREEN = (22, 163, 74)
COLOURS = ["red", "blue", "yellow", "purple", "orange"]
QUERIES = ["Ein großes rotes Dreieck über dem grünen Kreis", "dva žluté čtverce"]


def pictures(rows: int = 2) -> list[list[Image.Image]]:
    return [[Image.new("RGB", (32, 32), colour) for colour in COLOURS] for _ in range(rows)]


def marks(*right: tuple[int, int]) -> list[list[bool]]:
    return [[(row, place) in right for place in range(5)] for row in range(2)]


def pixels(path, colour: tuple[int, int, int]) -> np.ndarray:
    """Rows and columns of all pixels of one colour (n, 2)."""
    return np.argwhere((np.asarray(Image.open(path)) == colour).all(axis=-1))


def test_each_picture_is_there_in_order(tmp_path):
    path = contact_sheet(QUERIES, pictures(), path=tmp_path / "a" / "sheet.png")
    lefts = [pixels(path, Image.new("RGB", (1, 1), colour).getpixel((0, 0)))[:, 1].min() for colour in COLOURS]
    assert lefts == sorted(lefts)
    assert np.ptp(np.diff(lefts)) <= 2
    assert len(pixels(path, GREEN)) == 0


def test_the_right_picture_is_framed_and_only_it(tmp_path):
    plain = contact_sheet(QUERIES, pictures(), path=tmp_path / "plain.png")
    red, yellow = (pixels(plain, colour) for colour in ((255, 0, 0), (255, 255, 0)))
    path = contact_sheet(QUERIES, pictures(), marks=marks((0, 2)), path=tmp_path / "sheet.png")
    green = pixels(path, GREEN)
    tile = pixels(path, (255, 255, 0))
    first_row = tile[tile[:, 0] < tile[:, 0].mean()]
    top, left = first_row.min(axis=0)
    bottom, right = first_row.max(axis=0)
    near = green[(green[:, 0] > top - 60) & (green[:, 0] < bottom + 14)]
    assert near[:, 1].min() == pytest.approx(left - 10, abs=3)
    assert near[:, 1].max() >= right + 4
    # The frame lies outside the picture; only the tick covers a corner of it.
    assert len(first_row) > 0.95 * len(yellow) / 2
    assert len(pixels(path, (255, 0, 0))) == len(red)


def test_before_and_after_stand_side_by_side(tmp_path):
    alone = contact_sheet(QUERIES, pictures(), path=tmp_path / "alone.png")
    path = contact_sheet(
        QUERIES,
        pictures(),
        marks=marks((0, 0), (1, 0)),
        scores=[[0.9, 0.8, 0.7, 0.6, 0.5]] * 2,
        heading="after",
        before=ResultBlock(pictures(), marks((1, 4)), heading="before"),
        glosses=["A big red triangle above the green circle", ""],
        title="Title",
        subtitle="Subtitle",
        path=tmp_path / "both.png",
    )
    assert Image.open(path).width > 1.6 * Image.open(alone).width
    red = pixels(path, (255, 0, 0))
    assert len(red) == pytest.approx(2 * len(pixels(alone, (255, 0, 0))), rel=0.1)
    # One tick in the half before, two after.
    middle = (red[:, 1].min() + red[:, 1].max()) / 2
    green = pixels(path, GREEN)
    before, after = (green[:, 1] < middle).sum(), (green[:, 1] > middle).sum()
    assert after > 1.5 * before > 0


def test_the_paper_has_room_for_long_text_and_long_titles(tmp_path):
    long = "sehr " * 60 + "langes Wort"
    short = contact_sheet(["kurz"], pictures(1), title="T", path=tmp_path / "short.png")
    path = contact_sheet([long], pictures(1), title=long, subtitle=long, glosses=[long], path=tmp_path / "long.png")
    assert Image.open(path).height > Image.open(short).height
    assert Image.open(path).width == Image.open(short).width
    border = np.asarray(Image.open(path))[:, -60:]
    assert (border == 255).all()


def test_the_same_results_give_the_same_picture(tmp_path):
    paths = [contact_sheet(QUERIES, pictures(), path=tmp_path / name, marks=marks()) for name in ("a.png", "b.png")]
    assert paths[0].read_bytes() == paths[1].read_bytes()


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "LA", "1", "CMYK"])
def test_pictures_of_every_mode_are_drawn(tmp_path, mode):
    image = Image.new("RGB", (50, 20), "white").convert(mode)
    contact_sheet(["a"], [[image]], path=tmp_path / "sheet.png")


def test_what_is_transparent_becomes_white(tmp_path):
    clear = Image.new("RGBA", (40, 40), (0, 0, 0, 0))
    path = contact_sheet([""], [[clear]], path=tmp_path / "sheet.png")
    assert len(pixels(path, (0, 0, 0))) == 0


def test_pictures_of_phones_stand_upright(tmp_path):
    image = Image.new("RGB", (40, 40), "red")
    image.paste("blue", (0, 0, 40, 20))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 3
    image.save(tmp_path / "phone.jpg", quality=100, exif=exif)
    turned = Image.open(tmp_path / "phone.jpg")
    path = contact_sheet([""], [[turned]], path=tmp_path / "sheet.png")
    red, blue = (pixels(path, colour)[:, 0].mean() for colour in ((254, 0, 0), (0, 0, 254)))
    assert red < blue


def test_rows_may_have_fewer_pictures(tmp_path):
    rows = [pictures()[0], pictures()[0][:2]]
    contact_sheet(QUERIES, rows, marks=[[True] * 5, [False] * 2], path=tmp_path / "sheet.png")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"queries": []}, "at least one query"),
        ({"queries": ["only one"]}, "1 queries and pictures for 2"),
        ({"images_for_query": [[], []]}, "2 queries and pictures for 0"),
        ({"marks": [[True] * 5]}, "marks must have one value for each picture"),
        ({"scores": [[0.1] * 5, [0.1] * 4]}, "scores must have one value for each picture"),
        ({"glosses": ["one"]}, "2 queries and 1 glosses"),
        ({"before": ResultBlock(pictures(1))}, "2 queries and pictures for 1"),
    ],
)
def test_numbers_that_do_not_fit_are_named_before_anything_is_drawn(tmp_path, change, message):
    arguments = {"queries": QUERIES, "images_for_query": pictures()} | change
    path = tmp_path / "sheet.png"
    with pytest.raises(EvaluationError, match=message):
        contact_sheet(**arguments, path=path)
    assert not path.exists()
