"""German: endings by article, case and gender, against phrases written by hand."""

from __future__ import annotations

import pytest

from ccr_adapters.data.tiny_world.grammars import grammar_for


@pytest.mark.parametrize(
    ("shape", "nom", "acc", "dat"),
    [
        ("circle", "ein kleiner roter Kreis", "einen kleinen roten Kreis", "einem kleinen roten Kreis"),
        ("flower", "eine kleine rote Blume", "eine kleine rote Blume", "einer kleinen roten Blume"),
        ("square", "ein kleines rotes Quadrat", "ein kleines rotes Quadrat", "einem kleinen roten Quadrat"),
        ("heart", "ein kleines rotes Herz", "ein kleines rotes Herz", "einem kleinen roten Herzen"),
    ],
)
def test_mixed_declension(phrase, shape, nom, acc, dat):
    assert phrase("de", shape, "red", "small") == nom
    assert phrase("de", shape, "red", "small", case="acc") == acc
    assert phrase("de", shape, "red", "small", case="dat") == dat


@pytest.mark.parametrize(
    ("shape", "nom", "dat"),
    [
        ("circle", "großer schwarzer Kreis", "großem schwarzem Kreis"),
        ("flower", "große schwarze Blume", "großer schwarzer Blume"),
        ("house", "großes schwarzes Haus", "großem schwarzem Haus"),
    ],
)
def test_strong_declension_without_article(phrase, shape, nom, dat):
    assert phrase("de", shape, "black", "large", bare=True) == nom
    assert phrase("de", shape, "black", "large", case="dat", bare=True) == dat


@pytest.mark.parametrize(
    ("shape", "nom", "dat"),
    [
        ("house", "zwei kleine weiße Häuser", "zwei kleinen weißen Häusern"),
        ("star", "zwei kleine weiße Sterne", "zwei kleinen weißen Sternen"),
        ("flower", "zwei kleine weiße Blumen", "zwei kleinen weißen Blumen"),
        ("heart", "zwei kleine weiße Herzen", "zwei kleinen weißen Herzen"),
    ],
)
def test_plural(phrase, shape, nom, dat):
    assert phrase("de", shape, "white", "small", count=2) == nom
    assert phrase("de", shape, "white", "small", count=2, case="acc") == nom
    assert phrase("de", shape, "white", "small", count=2, case="dat") == dat


@pytest.mark.parametrize("case", ["nom", "acc", "dat"])
def test_lila_and_rosa_never_change(phrase, case):
    assert " lila Kreis" in phrase("de", "circle", "purple", case=case)
    assert " rosa Blume" in phrase("de", "flower", "pink", case=case)


def test_textures_agree(phrase):
    assert phrase("de", "triangle", "yellow", None, "checked") == "ein kariertes gelbes Dreieck"
    assert phrase("de", "moon", "orange", None, "dotted", case="acc") == "einen gepunkteten orangefarbenen Mond"


def test_what_was_named_takes_the_definite_article(again):
    assert again("de", "house", "red") == "das Haus"
    assert again("de", "flower", "red", case="dat") == "der Blume"
    assert again("de", "fish", "red", case="acc") == "den Fisch"
    assert again("de", "circle", "red", count=3, case="dat") == "den Kreisen"


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("left_of", "links von einem roten Herzen"),
        ("above", "über einem roten Herzen"),
        ("behind", "hinter einem roten Herzen"),
        ("inside", "in einem roten Herzen"),
    ],
)
def test_prepositions_govern_the_dative(place, kind, expected):
    assert place("de", kind, "heart", "red") == expected


def test_every_declension_of_an_adjective():
    from ccr_adapters.data.tiny_world.grammars.german import inflect

    def table(declension, genders):
        return " ".join(inflect("rot", declension, case, g) for case in ("nom", "acc", "dat") for g in genders)

    assert table("strong", "mfnp") == "roter rote rotes rote roten rote rotes rote rotem roter rotem roten"
    assert table("weak", "mfnp") == "rote rote rote roten roten rote rote roten roten roten roten roten"
    assert table("mixed", "mfn") == "roter rote rotes roten rote rotes roten roten roten"


@pytest.mark.parametrize(
    ("style", "expected"),
    [
        (
            "plain",
            "Ein kleiner roter Stern links von einem großen blauen Haus und zwei gestreifte grüne Fische über dem Haus "
            "auf dem Gras.",
        ),
        (
            "terse",
            "Kleiner roter Stern links von großem blauem Haus, zwei gestreifte grüne Fische über Haus, Gras",
        ),
        (
            "wordy",
            "Das Bild zeigt einen kleinen roten Stern, der links von einem großen blauen Haus liegt. Außerdem sieht man "
            "zwei gestreifte grüne Fische, die über dem Haus liegen. Alles spielt sich auf dem Gras ab.",
        ),
        (
            "inverted",
            "Auf dem Gras ist links von einem großen blauen Haus ein kleiner roter Stern und über dem Haus sind zwei "
            "gestreifte grüne Fische.",
        ),
        (
            "existential",
            "Es gibt einen kleinen roten Stern links von einem großen blauen Haus und zwei gestreifte grüne Fische über "
            "dem Haus auf dem Gras.",
        ),
        (
            "passive",
            "Ein kleiner roter Stern wurde auf dem Gras links von einem großen blauen Haus gemalt und zwei gestreifte "
            "grüne Fische wurden über dem Haus gemalt.",
        ),
        (
            "query",
            "Bild mit einem kleinen roten Stern links von einem großen blauen Haus und zwei gestreiften grünen Fischen "
            "über dem Haus auf dem Gras",
        ),
    ],
)
def test_styles(story, style, expected):
    assert grammar_for("de").caption(story, style) == expected
