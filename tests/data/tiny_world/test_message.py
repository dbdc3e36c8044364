"""Messages: all that a caption says is true, and enough of it is said."""

from __future__ import annotations

import random
from itertools import islice

from ccr_adapters.data.tiny_world.message import Clause, sample_message
from ccr_adapters.data.tiny_world.scenes import CONVERSE, Relation, scene_stream

PAIRS = [(scene, sample_message(scene, random.Random(i))) for i, scene in enumerate(islice(scene_stream("m"), 1500))]


def test_what_is_told_of_a_thing_is_true():
    for scene, message in PAIRS:
        for thing, mention in zip(scene.things, message.things, strict=False):
            assert (mention.shape, mention.colour, mention.count) == (thing.shape, thing.colour, thing.count)
            assert mention.size in (None, thing.size)
            assert mention.size != "medium"
            assert mention.texture in (None, thing.texture)
            assert mention.texture != "plain"
        assert message.background in (None, scene.background)


def test_relations_are_true_from_whichever_side():
    converse = 0
    for scene, message in PAIRS:
        for clause in message.clauses:
            if clause.kind is None:
                assert clause.anchor is None
                continue
            seen = Relation(clause.subject, clause.kind, clause.anchor)
            if seen not in scene.relations:
                assert Relation(clause.anchor, CONVERSE[clause.kind], clause.subject) in scene.relations
                converse += 1
    assert converse > 50


def test_every_thing_is_named_and_a_subject_is_always_new():
    for _, message in PAIRS:
        named: list[int] = []
        for clause in message.clauses:
            assert clause.subject not in named
            named += [clause.subject] if clause.anchor is None else [clause.subject, clause.anchor]
        assert set(named) == set(range(len(message.things)))


def test_details_are_left_out_sometimes_but_mostly_told():
    sizes = [m.size for s, ms in PAIRS for t, m in zip(s.things, ms.things, strict=False) if t.size != "medium"]
    assert 0.7 < sum(size is not None for size in sizes) / len(sizes) < 0.95
    backgrounds = [message.background for _, message in PAIRS]
    assert 0.6 < sum(background is not None for background in backgrounds) / len(backgrounds) < 0.9
    assert any(len(message.things) < len(scene.things) for scene, message in PAIRS)
    assert any(clause == Clause(1) for _, message in PAIRS for clause in message.clauses)
