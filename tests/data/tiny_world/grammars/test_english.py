"""English: articles, plurals and the styles, against captions written by hand."""

from __future__ import annotations

import pytest

from ccr_adapters.data.tiny_world.grammars import grammar_for


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("star", "red", "small", "striped"), "a small striped red star"),
        (("fish", "orange"), "an orange fish"),
        (("fish", "orange", None, None, 2), "two orange fish"),
        (("cross", "white", "small", "dotted", 3), "three small dotted white crosses"),
    ],
)
def test_phrases(phrase, arguments, expected):
    assert phrase("en", *arguments) == expected


@pytest.mark.parametrize(
    ("style", "expected"),
    [
        (
            "plain",
            "A small red star to the left of a large blue house and two striped green fish above the house on the grass.",
        ),
        (
            "terse",
            "Small red star to the left of large blue house, two striped green fish above house, grass",
        ),
        (
            "wordy",
            "The picture shows a small red star that is to the left of a large blue house. There are also two striped green "
            "fish that are above the house. Everything is on the grass.",
        ),
        (
            "inverted",
            "On the grass to the left of a large blue house is a small red star and above the house are two striped green "
            "fish.",
        ),
        (
            "existential",
            "There is a small red star to the left of a large blue house and two striped green fish above the house on the "
            "grass.",
        ),
        (
            "passive",
            "A small red star has been drawn to the left of a large blue house and two striped green fish have been drawn "
            "above the house on the grass.",
        ),
        (
            "query",
            "Picture of a small red star to the left of a large blue house and two striped green fish above the house on "
            "the grass",
        ),
    ],
)
def test_styles(story, style, expected):
    assert grammar_for("en").caption(story, style) == expected
