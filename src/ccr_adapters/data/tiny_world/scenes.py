"""What a picture of the tiny world holds: things, their relations and a background, as plain frozen dataclasses."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

SHAPES = (
    "circle", "square", "triangle", "star", "heart", "diamond", "cross", "ring", "moon", "flower", "house", "fish",
)  # fmt: skip
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "white", "black")
SIZES = ("small", "medium", "large")
TEXTURES = ("plain", "striped", "dotted", "checked")
RELATIONS = ("left_of", "right_of", "above", "below", "in_front_of", "inside")
BACKGROUNDS = ("sky", "grass", "sand", "night", "sunset", "sea", "snow", "wall")

# 'A left of B' can be told as 'B right of A'; 'inside' has no short converse in most languages, so it has none here.
CONVERSE = {
    "left_of": "right_of",
    "right_of": "left_of",
    "above": "below",
    "below": "above",
    "in_front_of": "behind",
    "behind": "in_front_of",
}

# Shapes wide enough in the middle to hold another thing.
HOLDERS = ("circle", "square", "heart", "diamond", "ring")

_SIDES = ("left_of", "right_of", "above", "below")
_THING_COUNTS, _THING_WEIGHTS = (1, 2, 3, 4), (15, 45, 28, 12)


@dataclass(frozen=True)
class Thing:
    """One thing of a scene, or a group of two or three equal small ones.

    Attributes:
        shape: one of `SHAPES`.
        colour: one of `COLOURS`.
        size: one of `SIZES`; a group is always small.
        texture: one of `TEXTURES`.
        count: 1, or 2 or 3 for a group.
    """

    shape: str
    colour: str
    size: str = "medium"
    texture: str = "plain"
    count: int = 1


@dataclass(frozen=True)
class Relation:
    """Where a thing is: `things[subject]` is `kind` (one of `RELATIONS`) `things[anchor]`."""

    subject: int
    kind: str
    anchor: int


@dataclass(frozen=True)
class Scene:
    """The content of one picture.

    Attributes:
        things: one to four things of different shapes and colours; the first is the anchor of all relations.
        relations: one for each thing but the first.
        background: one of `BACKGROUNDS`.
        jitter: seed of what no caption tells: exact places, tilts and shades.
    """

    things: tuple[Thing, ...]
    relations: tuple[Relation, ...]
    background: str
    jitter: int = 0

    @property
    def signature(self) -> tuple[object, ...]:
        """All that a caption can tell; two scenes of one signature differ only in `jitter`."""
        return (self.things, self.relations, self.background)


def sample_scene(rng: random.Random) -> Scene:
    """Draw a scene that can be drawn legibly on 64 x 64 pixels.

    Args:
        rng: the source of all randomness.

    Returns:
        A scene of one to four things, whose shapes and colours all differ.
    """
    number = rng.choices(_THING_COUNTS, _THING_WEIGHTS)[0]
    shapes, colours = rng.sample(SHAPES, number), rng.sample(COLOURS, number)
    kinds = rng.sample(_SIDES, number - 1)
    anchor = _sample_thing(rng, shapes[0], colours[0], crowded=number > 2)
    if number > 1 and rng.random() < 0.3:
        # One thing may overlap the anchor, which must then be big, single and plain for both to be seen.
        kinds[0] = "inside" if anchor.shape in HOLDERS and rng.random() < 0.6 else "in_front_of"
        anchor = Thing(anchor.shape, anchor.colour, "large", "plain")
    things, relations = [anchor], []
    for index, kind in enumerate(kinds, start=1):
        thing = _sample_thing(rng, shapes[index], colours[index], crowded=number > 2)
        if kind in ("in_front_of", "inside"):
            thing = Thing(thing.shape, thing.colour, "small", thing.texture)
        things.append(thing)
        relations.append(Relation(index, kind, 0))
    return Scene(tuple(things), tuple(relations), rng.choice(BACKGROUNDS), rng.getrandbits(32))


def scene_stream(name: str) -> Iterator[Scene]:
    """Draw scenes without end.

    Args:
        name: the seed; the same name gives the same scenes on every machine.

    Yields:
        Scenes, in which a signature may come twice.
    """
    rng = random.Random(name)
    while True:
        yield sample_scene(rng)


def _sample_thing(rng: random.Random, shape: str, colour: str, *, crowded: bool) -> Thing:
    """Draw size, texture and count; a crowded picture has fewer large things and groups."""
    texture = rng.choices(TEXTURES, (4, 2, 2, 2))[0]
    if rng.random() < (0.08 if crowded else 0.22):
        return Thing(shape, colour, "small", texture, rng.choice((2, 3)))
    size = rng.choices(SIZES, (3, 5, 1) if crowded else (3, 3, 3))[0]
    return Thing(shape, colour, size, texture)
