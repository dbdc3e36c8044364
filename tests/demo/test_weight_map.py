"""The map of generated weights: a picture without letters, and its legend."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from ccr_adapters.demo.captions import Caption
from ccr_adapters.demo.reasons import Plane
from ccr_adapters.demo.weight_map import OTHER, draw_map


def plane_of(captions):
    points = np.random.default_rng(0).normal(size=(len(captions), 2))
    return Plane(captions, points, np.zeros(2), 0.5)


def pixels_of(drawn):
    return np.asarray(Image.open(io.BytesIO(drawn.png)).convert("RGBA"))


@pytest.mark.parametrize("by", ["style", "language", "length"])
def test_dots_and_a_star_on_nothing(by):
    captions = [Caption("x" * (1 + number), ("de", "fr")[number % 2], ("a", "b")[number % 2]) for number in range(40)]
    drawn = draw_map(plane_of(captions), by)
    pixels = pixels_of(drawn)
    assert (pixels[..., 3] == 0).mean() > 0.5  # the page shines through
    red = (pixels[..., 0] > 200) & (pixels[..., 1] < 60) & (pixels[..., 2] < 60) & (pixels[..., 3] > 0)
    assert red.sum() > 300  # the star
    assert (drawn.captions, drawn.share) == (40, 0.5)
    assert drawn.scale == ((1, 40) if by == "length" else None)
    assert [name for name, _ in drawn.legend] == {"style": ["a", "b"], "language": ["French", "German"]}.get(by, [])


def test_the_colours_of_the_legend_are_those_of_the_dots():
    captions = [Caption("x", "de", "a")] * 30 + [Caption("x", "de", "b")] * 20
    drawn = draw_map(plane_of(captions), "style")
    opaque = pixels_of(drawn)
    for _, colour in drawn.legend:
        wanted = np.array([int(colour[at : at + 2], 16) for at in (1, 3, 5)])
        assert (np.abs(opaque[..., :3].astype(int) - wanted).max(axis=-1) < 12).any()


def test_the_rarest_styles_share_grey_and_so_do_captions_without():
    captions = [Caption("x", "de", f"style {number}") for number in range(9) for _ in range(20 - number)]
    legend = dict(draw_map(plane_of([*captions, Caption("x", "de")]), "style").legend)
    assert list(legend)[:2] == ["style 0", "style 1"]
    assert legend["style 8"] == legend["no style known"] == OTHER
    assert len(set(legend.values())) == 7
