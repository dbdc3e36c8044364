"""The renderer: the pixels show what the scene says."""

from __future__ import annotations

import random
from itertools import islice

import numpy as np
import pytest

from ccr_adapters.data.tiny_world.backgrounds import VARIANTS, background
from ccr_adapters.data.tiny_world.renderer import CANVAS, PALETTE, _layout, render
from ccr_adapters.data.tiny_world.scenes import BACKGROUNDS, COLOURS, SHAPES, Relation, Scene, Thing, scene_stream
from ccr_adapters.data.tiny_world.shapes import unit_shape

SCENES = list(islice(scene_stream("r"), 400))


def centre_of(picture, colour):
    """Mean position of the pixels near a colour, in 64ths."""
    pixels = np.asarray(picture).astype(int)
    near = np.abs(pixels - PALETTE[colour]).sum(axis=2) < 60
    rows, columns = np.nonzero(near)
    return columns.mean() * 64 / picture.width, rows.mean() * 64 / picture.height


def test_the_same_scene_gives_the_same_bytes():
    for scene in SCENES[:20]:
        assert render(scene).tobytes() == render(scene).tobytes()


def test_jitter_moves_things():
    things = (Thing("star", "red"),)
    assert render(Scene(things, (), "sky", 1)).tobytes() != render(Scene(things, (), "sky", 2)).tobytes()


@pytest.mark.parametrize("size", [32, 64, 200])
def test_any_size(size):
    picture = render(SCENES[0], size=size)
    assert (picture.size, picture.mode) == ((size, size), "RGB")


@pytest.mark.parametrize("kind", ["left_of", "right_of", "above", "below"])
def test_a_relation_is_where_it_says(kind):
    things = (Thing("square", "red"), Thing("circle", "black"))
    for jitter in range(10):
        picture = render(Scene(things, (Relation(1, kind, 0),), "snow", jitter))
        (x0, y0), (x1, y1) = centre_of(picture, "red"), centre_of(picture, "black")
        distance = {"left_of": x0 - x1, "right_of": x1 - x0, "above": y0 - y1, "below": y1 - y0}[kind]
        aside = abs(y1 - y0) if kind in ("left_of", "right_of") else abs(x1 - x0)
        assert distance > 10
        assert aside < 5


def test_inside_is_in_the_middle_and_in_front_covers():
    things = (Thing("circle", "red", "large"), Thing("square", "black", "small"))
    alone = np.asarray(render(Scene(things[:1], (), "snow", 3))).astype(int)
    red = np.abs(alone - PALETTE["red"]).sum(axis=2) < 60
    for kind, low, high in (("inside", 0, 3), ("in_front_of", 4, 14)):
        picture = render(Scene(things, (Relation(1, kind, 0),), "snow", 3))
        (x0, y0), (x1, y1) = centre_of(picture, "red"), centre_of(picture, "black")
        assert low <= np.hypot(x1 - x0, y1 - y0) < high
        pixels = np.asarray(picture).astype(int)
        assert (np.abs(pixels - PALETTE["red"]).sum(axis=2) < 60).sum() < 0.95 * red.sum()


def test_nothing_leaves_the_canvas_and_only_what_should_overlap_does():
    for scene in SCENES:
        placed = _layout(scene, random.Random(scene.jitter))
        for item in placed:
            for position, half in ((item.x, item.half[0]), (item.y, item.half[1])):
                assert half - 0.01 <= position <= CANVAS - half + 0.01
        meant = {(r.anchor, r.subject) for r in scene.relations if r.kind in ("inside", "in_front_of")}
        for i, first in enumerate(placed):
            for j, second in enumerate(placed[i + 1 :], start=i + 1):
                if (i, j) not in meant:
                    assert not first.overlaps(second, 0.0), scene


def test_what_is_inside_stays_inside():
    inside = [(scene, r) for scene in SCENES for r in scene.relations if r.kind == "inside"]
    assert inside
    for scene, relation in inside:
        placed = _layout(scene, random.Random(scene.jitter))
        item, anchor = placed[relation.subject], placed[relation.anchor]
        assert np.hypot(item.x - anchor.x, item.y - anchor.y) + item.radius < 0.55 * anchor.radius


def test_sizes_differ_in_area():
    areas = {}
    for size in ("small", "medium", "large"):
        pixels = np.asarray(render(Scene((Thing("circle", "red", size),), (), "snow", 5))).astype(int)
        areas[size] = (np.abs(pixels - PALETTE["red"]).sum(axis=2) < 60).sum()
    assert 1.5 * areas["small"] < areas["medium"]
    assert 1.5 * areas["medium"] < areas["large"]


@pytest.mark.parametrize("texture", ["striped", "dotted", "checked"])
def test_textures_show(texture):
    plain, textured = (
        np.asarray(render(Scene((Thing("square", "blue", "large", name),), (), "sand", 4))).astype(int)
        for name in ("plain", texture)
    )
    share = (np.abs(plain - textured).sum(axis=2) > 60).mean()
    assert 0.02 < share < 0.15


def test_every_colour_stands_out_from_every_background():
    for name in BACKGROUNDS:
        pixels = np.asarray(background(name, 0, 64)).reshape(-1, 3).astype(float)
        mean = pixels.mean(axis=0)
        for colour in COLOURS:
            thing = np.asarray(render(Scene((Thing("ring", colour, "large"),), (), name, 0))).astype(float)
            assert np.abs(thing - mean).sum(axis=2).max() > 100, (colour, name)


@pytest.mark.parametrize("name", SHAPES)
def test_shapes_fill_their_frame_and_differ(name):
    outline = unit_shape(name).outline
    assert np.abs(outline).max() <= 1.1
    assert np.ptp(outline, axis=0).min() > 1.0
    others = [unit_shape(other).outline for other in SHAPES if other != name]
    assert not any(outline.shape == other.shape and np.allclose(outline, other) for other in others)


def test_background_variants_differ():
    pictures = {background("sky", variant, 64).tobytes() for variant in range(VARIANTS)}
    assert len(pictures) == VARIANTS
