"""Clips show what their scene says: which way a thing goes, and what hides what."""

from __future__ import annotations

import random
from itertools import islice

import numpy as np
import pytest

from ccr_adapters.data.tiny_world.motion import (
    DIRECTIONS,
    FRAMES,
    OPPOSITE,
    PASSES,
    MovingScene,
    motion_message,
    moving_scene_stream,
    render_clip,
)
from ccr_adapters.data.tiny_world.scenes import Thing

STAR, SQUARE = Thing("star", "red"), Thing("square", "blue", "large")


def red(picture):
    """Where a picture is red. (n, 2) as (x, y)"""
    pixels = np.asarray(picture).astype(int)
    return np.argwhere((pixels[..., 0] > 150) & (pixels[..., 1:].max(axis=2) < 90))[:, ::-1]


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("anchor", [None, SQUARE])
def test_it_moves_that_way(direction, anchor):
    for jitter in range(5):
        passes = "in_front_of" if anchor else None
        scene = MovingScene(STAR, direction, anchor, passes, "snow", jitter)
        centres = np.array([red(picture).mean(0) for picture in render_clip(scene, frames=8)])
        steps = np.diff(centres, axis=0)
        axis = int(DIRECTIONS[direction][0] == 0)
        assert (np.sign(steps[:, axis].round()) == sum(DIRECTIONS[direction])).all()
        assert np.abs(steps[:, 1 - axis]).max() < 1.5  # and no other way
        assert abs(centres[0, axis] - centres[-1, axis]) > 25


def test_seen_backwards_it_is_the_opposite():
    for scene in islice(moving_scene_stream("t"), 0, 20, 2):
        assert scene.reversed().direction == OPPOSITE[scene.direction]
        assert scene.reversed().reversed() == scene
        there = [picture.tobytes() for picture in render_clip(scene, size=32)]
        back = [picture.tobytes() for picture in render_clip(scene.reversed(), size=32)]
        assert len(there) == FRAMES
        assert there == back[::-1] != back


def test_what_is_behind_is_hidden_on_its_way():
    for direction in DIRECTIONS:
        visible = {}
        for passes in PASSES:
            scene = MovingScene(Thing("star", "red", "small"), direction, SQUARE, passes, "snow", 3)
            visible[passes] = [len(red(picture)) for picture in render_clip(scene, frames=9)]
        assert visible["behind"][4] == 0 < visible["behind"][0]
        assert min(visible["in_front_of"]) > 0.7 * max(visible["in_front_of"])


def test_a_sample_of_eight_frames_knows_no_direction():
    middles = (2 * np.arange(8) + 1) * FRAMES // 16
    assert middles.tolist() == (FRAMES - 1 - middles)[::-1].tolist()


def test_pictures_are_of_the_size_asked_for():
    clip = render_clip(MovingScene(STAR, "up"), size=48, frames=3)
    assert [(picture.mode, picture.size) for picture in clip] == [("RGB", (48, 48))] * 3


def test_scenes_come_in_pairs_and_of_every_kind():
    scenes = list(islice(moving_scene_stream("s"), 600))
    assert scenes == list(islice(moving_scene_stream("s"), 600))
    for one, other in zip(scenes[::2], scenes[1::2], strict=True):
        assert other == one.reversed()
        assert other.signature == one.signature
    assert {scene.direction for scene in scenes} == set(DIRECTIONS)
    assert {scene.passes for scene in scenes} == {None, *PASSES}
    assert {scene.mover.count for scene in scenes} == {1, 2}
    assert len({scene.signature for scene in scenes}) > 290
    for scene in scenes:
        assert (scene.anchor is None) == (scene.passes is None)
        if scene.anchor is not None:
            assert (scene.anchor.shape, scene.anchor.colour) != (scene.mover.shape, scene.mover.colour)


def test_a_message_is_true_and_always_says_where():
    for index, scene in enumerate(islice(moving_scene_stream("m"), 200)):
        message = motion_message(scene, random.Random(index))
        assert message.clauses[0].kind == scene.passes
        things = [scene.mover] if scene.anchor is None else [scene.mover, scene.anchor]
        for mention, thing in zip(message.things, things, strict=True):
            assert (mention.shape, mention.colour, mention.count) == (thing.shape, thing.colour, thing.count)
            assert mention.size in (None, thing.size)
            assert mention.texture in (None, thing.texture)
        assert message.background in (None, scene.background)
