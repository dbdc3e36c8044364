"""Scenes: what may stand together, and that a name always draws the same ones."""

from __future__ import annotations

from itertools import islice

from ccr_adapters.data.tiny_world.scenes import (
    BACKGROUNDS,
    COLOURS,
    HOLDERS,
    RELATIONS,
    SHAPES,
    SIZES,
    TEXTURES,
    Scene,
    Thing,
    scene_stream,
)

SCENES = list(islice(scene_stream("test"), 2000))


def test_a_name_draws_the_same_scenes_and_another_name_others():
    assert list(islice(scene_stream("test"), 50)) == SCENES[:50]
    assert list(islice(scene_stream("other"), 50)) != SCENES[:50]


def test_shapes_and_colours_differ_within_a_scene():
    for scene in SCENES:
        assert len({thing.shape for thing in scene.things}) == len(scene.things)
        assert len({thing.colour for thing in scene.things}) == len(scene.things)


def test_every_thing_but_the_first_has_one_place_of_its_own():
    for scene in SCENES:
        assert [relation.subject for relation in scene.relations] == list(range(1, len(scene.things)))
        assert len({relation.kind for relation in scene.relations}) == len(scene.relations)


def test_what_overlaps_can_be_seen():
    overlapping = [(s, r) for s in SCENES for r in s.relations if r.kind in ("inside", "in_front_of")]
    assert len(overlapping) > 100
    for scene, relation in overlapping:
        subject, anchor = scene.things[relation.subject], scene.things[relation.anchor]
        assert (subject.size, subject.count) == ("small", 1)
        assert (anchor.size, anchor.texture, anchor.count) == ("large", "plain", 1)
        assert relation.kind != "inside" or anchor.shape in HOLDERS


def test_everything_comes_up():
    things = [thing for scene in SCENES for thing in scene.things]
    assert {thing.shape for thing in things} == set(SHAPES)
    assert {thing.colour for thing in things} == set(COLOURS)
    assert {thing.size for thing in things} == set(SIZES)
    assert {thing.texture for thing in things} == set(TEXTURES)
    assert {thing.count for thing in things} == {1, 2, 3}
    assert {relation.kind for scene in SCENES for relation in scene.relations} == set(RELATIONS)
    assert {scene.background for scene in SCENES} == set(BACKGROUNDS)
    assert {len(scene.things) for scene in SCENES} == {1, 2, 3, 4}


def test_the_signature_leaves_out_the_jitter_alone():
    thing = Thing("star", "red")
    assert Scene((thing,), (), "sky", 1).signature == Scene((thing,), (), "sky", 2).signature
    assert Scene((thing,), (), "sky", 1).signature != Scene((thing,), (), "sea", 1).signature
