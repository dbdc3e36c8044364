"""What a caption says about a scene, before any language: some details left out, relations told from either side."""

from __future__ import annotations

import random
from dataclasses import dataclass

from .scenes import CONVERSE, Relation, Scene, Thing


@dataclass(frozen=True)
class Mention:
    """A thing as far as a caption tells of it.

    Attributes:
        shape: one of `scenes.SHAPES`.
        colour: one of `scenes.COLOURS`.
        size: 'small' or 'large', or None where it is not told.
        texture: 'striped', 'dotted' or 'checked', or None where it is not told.
        count: 1, 2 or 3.
    """

    shape: str
    colour: str
    size: str | None = None
    texture: str | None = None
    count: int = 1


@dataclass(frozen=True)
class Clause:
    """A statement: the thing `subject` is there, or is `kind` the thing `anchor`.

    Attributes:
        subject: index into `Message.things`.
        kind: one of `scenes.RELATIONS` or 'behind', or None.
        anchor: index into `Message.things`, None just where `kind` is.
    """

    subject: int
    kind: str | None = None
    anchor: int | None = None


@dataclass(frozen=True)
class Message:
    """The content of one caption, which every grammar can put into words.

    Attributes:
        things: what is told of each thing.
        clauses: the statements in order; together they name every thing.
        background: one of `scenes.BACKGROUNDS`, or None where it is not told.
    """

    things: tuple[Mention, ...]
    clauses: tuple[Clause, ...]
    background: str | None = None


def sample_message(scene: Scene, rng: random.Random) -> Message:
    """Choose what one person would say about a picture.

    The fewer things there are, the more is told of them: a caption should point out its picture among a thousand.

    Args:
        scene: the picture's content.
        rng: the source of all randomness.

    Returns:
        A message that is true of the scene.
    """
    alone = len(scene.things) == 1
    number = len(scene.things) - (len(scene.things) > 2 and rng.random() < 0.15)
    things = tuple(_mention(thing, rng, keep=0.95 if alone else 0.8) for thing in scene.things[:number])
    clauses = _clauses([relation for relation in scene.relations if relation.subject < number], rng)
    background = scene.background if rng.random() < (0.95 if alone else 0.7) else None
    return Message(things, clauses, background)


def _mention(thing: Thing, rng: random.Random, *, keep: float) -> Mention:
    size = thing.size if thing.size != "medium" and rng.random() < keep else None
    texture = thing.texture if thing.texture != "plain" and rng.random() < keep + 0.05 else None
    return Mention(thing.shape, thing.colour, size, texture, thing.count)


def _clauses(relations: list[Relation], rng: random.Random) -> tuple[Clause, ...]:
    """Tell each relation, or leave it out and only name the thing; the first now and then from the other side."""
    clauses: list[Clause] = []
    for relation in relations:
        anchor_named = any(clause.anchor is not None for clause in clauses)
        if rng.random() < 0.1:
            clauses.append(Clause(relation.subject))
        elif relation.kind in CONVERSE and not anchor_named and rng.random() < 0.3:
            # Only as long as the anchor is new: 'and the house is right of a fish' would tell of the house once more.
            clauses.append(Clause(relation.anchor, CONVERSE[relation.kind], relation.subject))
        else:
            clauses.append(Clause(relation.subject, relation.kind, relation.anchor))
    if not any(0 in (clause.subject, clause.anchor) for clause in clauses):
        clauses.insert(0, Clause(0))
    return tuple(clauses)
