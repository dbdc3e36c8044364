"""Scenes of the tiny world in which a thing moves: past a still one, in front of it or behind it, in one of four directions.

A clip of the opposite direction holds the same frames in reversed order. What averages frames cannot tell the two apart.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace

from PIL import Image

from .backgrounds import VARIANTS, background
from .message import Clause, Mention, Message
from .renderer import CANVAS, MARGIN, PALETTE, SUPERSAMPLING, Placed, draw, radius_of, shade
from .scenes import BACKGROUNDS, COLOURS, SHAPES, TEXTURES, Thing

DIRECTIONS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
OPPOSITE = {"left": "right", "right": "left", "up": "down", "down": "up"}
PASSES = ("in_front_of", "behind")
# an odd multiple of 8: a sample of 8 frames then lies in the middle of the clip, and is the same seen from its end
FRAMES = 24


@dataclass(frozen=True)
class MovingScene:
    """The content of one clip.

    Attributes:
        mover: what moves; one thing, or a group.
        direction: one of `DIRECTIONS`.
        anchor: the still thing that it moves past, or None.
        passes: one of `PASSES`, or None just where there is no anchor.
        background: one of `BACKGROUNDS`.
        jitter: seed of what no caption tells: exact places, tilts and shades.
    """

    mover: Thing
    direction: str
    anchor: Thing | None = None
    passes: str | None = None
    background: str = "sky"
    jitter: int = 0

    @property
    def signature(self) -> tuple[object, ...]:
        """What a caption can tell, but for which of the two opposite directions it is."""
        axis = min(self.direction, OPPOSITE[self.direction])
        return (self.mover, self.anchor, self.passes, self.background, axis)

    def reversed(self) -> MovingScene:
        """The same, seen backwards in time."""
        return replace(self, direction=OPPOSITE[self.direction])


def sample_moving_scene(rng: random.Random) -> MovingScene:
    """Draw a scene whose motion is legible on 64 x 64 pixels.

    Args:
        rng: the source of all randomness.

    Returns:
        A scene with a still thing in five of six cases, which is then larger than what moves.
    """
    shapes, colours = rng.sample(SHAPES, 2), rng.sample(COLOURS, 2)
    texture = rng.choices(TEXTURES, (4, 2, 2, 2))[0]
    group = rng.random() < 0.2
    count, size = (2, "small") if group else (1, rng.choice(("small", "medium")))
    mover = Thing(shapes[0], colours[0], size, texture, count)
    anchor = Thing(shapes[1], colours[1], "large") if rng.random() < 5 / 6 else None
    passes = rng.choice(PASSES) if anchor else None
    direction = rng.choice(tuple(DIRECTIONS))
    return MovingScene(mover, direction, anchor, passes, rng.choice(BACKGROUNDS), rng.getrandbits(32))


def moving_scene_stream(name: str) -> Iterator[MovingScene]:
    """Draw scenes without end, each followed by its reversal.

    Args:
        name: the seed; the same name gives the same scenes on every machine.

    Yields:
        Scenes, in which a signature may come again.
    """
    rng = random.Random(name)
    while True:
        scene = sample_moving_scene(rng)
        yield scene
        yield scene.reversed()


def motion_message(scene: MovingScene, rng: random.Random) -> Message:
    """Choose what one person would say about the things of a clip; its motion is always told.

    Args:
        scene: the clip's content.
        rng: the source of all randomness.

    Returns:
        A message whose only clause says where the mover is.
    """
    things = [thing for thing in (scene.mover, scene.anchor) if thing is not None]
    mentions = []
    for thing in things:
        size = thing.size if thing.size != "medium" and rng.random() < 0.8 else None
        texture = thing.texture if thing.texture != "plain" and rng.random() < 0.85 else None
        mentions.append(Mention(thing.shape, thing.colour, size, texture, thing.count))
    clause = Clause(0, scene.passes, 1) if scene.anchor is not None else Clause(0)
    return Message(tuple(mentions), (clause,), scene.background if rng.random() < 0.8 else None)


def render_clip(scene: MovingScene, *, size: int = 64, frames: int = FRAMES) -> list[Image.Image]:
    """Draw the frames of a clip.

    Args:
        scene: what to draw; the same scene gives the same pictures, byte for byte.
        size: width and height in pixels.
        frames: how many.

    Returns:
        RGB pictures of `size` x `size`. Those of `scene.reversed()` are the same in reversed order.
    """
    rng = random.Random(scene.jitter)
    still = background(scene.background, rng.randrange(VARIANTS), size * SUPERSAMPLING)
    tilts = [math.radians(rng.uniform(-9, 9)) for _ in range(2)]
    colour = shade(PALETTE[scene.mover.colour], rng)
    mover = Placed(scene.mover, radius_of(scene.mover, rng))
    across = int(DIRECTIONS[scene.direction][0] == 0)  # the axis of the path: 0 from side to side, 1 up and down
    room = [MARGIN + half for half in mover.half]
    # the place on the other axis stays; past an anchor it is the anchor's
    beside = rng.uniform(room[1 - across], CANVAS - room[1 - across])
    anchor: Placed | None = None
    if scene.anchor is not None:
        anchor = Placed(scene.anchor, radius_of(scene.anchor, rng))
        anchor.x, anchor.y = (CANVAS / 2 + rng.uniform(-4, 4) for _ in range(2))
        beside = (anchor.x if across else anchor.y) + rng.uniform(-2, 2)
        anchor_colour = shade(PALETTE[scene.anchor.colour], rng)

    found = []
    for number in range(frames):
        share = (number + 0.5) / frames
        if sum(DIRECTIONS[scene.direction]) < 0:
            share = 1 - share
        along = room[across] + share * (CANVAS - 2 * room[across])
        mover.x, mover.y = (beside, along) if across else (along, beside)
        picture = still.copy()
        if anchor is not None and scene.passes == "in_front_of":
            draw(picture, anchor, tilts[1], anchor_colour)
        draw(picture, mover, tilts[0], colour)
        if anchor is not None and scene.passes == "behind":
            draw(picture, anchor, tilts[1], anchor_colour)
        found.append(picture.reduce(SUPERSAMPLING))
    return found
