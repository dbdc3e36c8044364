"""Swahili: noun-class concord, against phrases written by hand."""

from __future__ import annotations

import pytest

from ccr_adapters.data.tiny_world.grammars import grammar_for
from ccr_adapters.data.tiny_world.grammars.swahili import agree
from ccr_adapters.data.tiny_world.message import Clause, Mention, Message


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("fish", "red", "small", "striped"), "samaki mdogo mwekundu mwenye mistari"),
        (("fish", "red", "small", "striped", 2), "samaki wadogo wekundu wawili wenye mistari"),
        (("square", "black", "large", "dotted"), "mraba mkubwa mweusi wenye madoa"),
        (("square", "black", "small", "dotted", 3), "miraba midogo myeusi mitatu yenye madoa"),
        (("circle", "white", "large", "checked"), "duara kubwa jeupe lenye mirabaraba"),
        (("circle", "white", "small", "checked", 2), "maduara madogo meupe mawili yenye mirabaraba"),
        (("star", "green", "small", "striped"), "nyota ndogo ya kijani yenye mistari"),
        (("star", "green", "small", "striped", 2), "nyota ndogo mbili za kijani zenye mistari"),
        (("flower", "yellow", "small"), "ua dogo la njano"),
        (("moon", "blue", None, None, 3), "miezi mitatu ya buluu"),
        (("house", "red", "large"), "nyumba kubwa nyekundu"),
        (("fish", "purple"), "samaki wa zambarau"),
    ],
)
def test_concord(phrase, arguments, expected):
    assert phrase("sw", *arguments) == expected


def test_class_seven_and_eight():
    assert [agree(stem, 7) for stem in ("-dogo", "-kubwa", "-ekundu", "-eupe", "-eusi")] == [
        "kidogo", "kikubwa", "chekundu", "cheupe", "cheusi",
    ]  # fmt: skip
    assert [agree(stem, 8) for stem in ("-dogo sana", "-eusi", "-wili", "-tatu")] == [
        "vidogo sana", "vyeusi", "viwili", "vitatu",
    ]  # fmt: skip


def test_what_was_named_is_pointed_at(again):
    assert again("sw", "house", "red") == "nyumba hiyo"
    assert again("sw", "circle", "red") == "duara hilo"
    assert again("sw", "fish", "red") == "samaki huyo"
    assert again("sw", "circle", "red", count=2) == "maduara hayo"
    assert again("sw", "star", "red", count=2) == "nyota hizo"


@pytest.mark.parametrize(
    ("shape", "count", "verb"),
    [
        ("fish", 1, "amechorwa"),
        ("fish", 2, "wamechorwa"),
        ("square", 1, "umechorwa"),
        ("square", 2, "imechorwa"),
        ("circle", 1, "limechorwa"),
        ("circle", 2, "yamechorwa"),
        ("star", 1, "imechorwa"),
        ("star", 2, "zimechorwa"),
    ],
)
def test_verbs_agree(shape, count, verb):
    message = Message((Mention(shape, "red", None, None, count),), (Clause(0),))
    assert grammar_for("sw").caption(message, "passive").endswith(f" {verb}.")


@pytest.mark.parametrize(
    ("style", "expected"),
    [
        (
            "plain",
            "Nyota ndogo nyekundu upande wa kushoto wa nyumba kubwa ya buluu na samaki wawili wa kijani wenye mistari juu "
            "ya nyumba hiyo kwenye nyasi.",
        ),
        (
            "wordy",
            "Kwenye nyasi, picha inaonyesha nyota ndogo nyekundu ambayo iko upande wa kushoto wa nyumba kubwa ya buluu. "
            "Pia kuna samaki wawili wa kijani wenye mistari ambao wako juu ya nyumba hiyo.",
        ),
        (
            "inverted",
            "Kwenye nyasi, upande wa kushoto wa nyumba kubwa ya buluu kuna nyota ndogo nyekundu na juu ya nyumba hiyo kuna "
            "samaki wawili wa kijani wenye mistari.",
        ),
    ],
)
def test_styles(story, style, expected):
    assert grammar_for("sw").caption(story, style) == expected
