"""Czech: adjectives, numerals and prepositions, against phrases written by hand."""

from __future__ import annotations

import pytest

from ccr_adapters.data.tiny_world.grammars import grammar_for
from ccr_adapters.data.tiny_world.grammars.czech import vocalise


@pytest.mark.parametrize(
    ("shape", "forms"),
    [
        (
            "circle",
            "malý červený kruh, malého červeného kruhu, malý červený kruh, malém červeném kruhu, malým červeným kruhem",
        ),
        (
            "star",
            "malá červená hvězda, malé červené hvězdy, malou červenou hvězdu, malé červené hvězdě, malou červenou hvězdou",
        ),
        (
            "heart",
            "malé červené srdce, malého červeného srdce, malé červené srdce, malém červeném srdci, malým červeným srdcem",
        ),
    ],
)
def test_singular(phrase, shape, forms):
    cases = ("nom", "gen", "acc", "loc", "ins")
    assert ", ".join(phrase("cs", shape, "red", "small", case=case) for case in cases) == forms


@pytest.mark.parametrize(
    ("shape", "count", "nom", "gen", "ins"),
    [
        ("circle", 2, "dva bílé kruhy", "dvou bílých kruhů", "dvěma bílými kruhy"),
        ("star", 2, "dvě bílé hvězdy", "dvou bílých hvězd", "dvěma bílými hvězdami"),
        ("heart", 2, "dvě bílá srdce", "dvou bílých srdcí", "dvěma bílými srdci"),
        ("house", 3, "tři bílé domy", "tří bílých domů", "třemi bílými domy"),
        ("fish", 3, "tři bílé ryby", "tří bílých ryb", "třemi bílými rybami"),
    ],
)
def test_numerals(phrase, shape, count, nom, gen, ins):
    assert phrase("cs", shape, "white", count=count) == nom
    assert phrase("cs", shape, "white", count=count, case="acc") == nom
    assert phrase("cs", shape, "white", count=count, case="gen") == gen
    assert phrase("cs", shape, "white", count=count, case="ins") == ins


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("left_of", "house", "blue", "large"), "nalevo od velkého modrého domu"),
        (("above", "star", "yellow"), "nad žlutou hvězdou"),
        (("below", "fish", "green", None, 2), "pod dvěma zelenými rybami"),
        (("in_front_of", "heart", "black"), "před černým srdcem"),
        (("behind", "flower", "white"), "za bílou květinou"),
        (("inside", "square", "pink"), "uvnitř růžového čtverce"),
    ],
)
def test_prepositions_govern_their_cases(place, arguments, expected):
    assert place("cs", *arguments) == expected


@pytest.mark.parametrize(
    ("preposition", "phrase", "expected"),
    [
        ("s", "malou rybou", "s malou rybou"),
        ("s", "zelenou rybou", "se zelenou rybou"),
        ("s", "dvěma rybami", "se dvěma rybami"),
        ("s", "třemi rybami", "se třemi rybami"),
        ("v", "malém kruhu", "v malém kruhu"),
        ("v", "velkém kruhu", "ve velkém kruhu"),
        ("v", "fialovém kruhu", "ve fialovém kruhu"),
        ("v", "čtverci", "ve čtverci"),
        ("v", "červeném čtverci", "v červeném čtverci"),
        ("před", "velkým kruhem", "před velkým kruhem"),
    ],
)
def test_vocalisation(preposition, phrase, expected):
    assert vocalise(preposition, phrase) == expected


@pytest.mark.parametrize(
    ("style", "expected"),
    [
        (
            "plain",
            "Malá červená hvězda nalevo od velkého modrého domu a dvě pruhované zelené ryby nad domem na trávě.",
        ),
        (
            "wordy",
            "Obrázek ukazuje malou červenou hvězdu, která je nalevo od velkého modrého domu. Dále vidíme dvě pruhované "
            "zelené ryby, které jsou nad domem. Vše se odehrává na trávě.",
        ),
        (
            "inverted",
            "Na trávě je nalevo od velkého modrého domu malá červená hvězda a nad domem jsou dvě pruhované zelené ryby.",
        ),
        (
            "passive",
            "Malá červená hvězda byla na trávě namalována nalevo od velkého modrého domu a dvě pruhované zelené ryby byly "
            "namalovány nad domem.",
        ),
        (
            "query",
            "Obrázek s malou červenou hvězdou nalevo od velkého modrého domu a dvěma pruhovanými zelenými rybami nad domem "
            "na trávě",
        ),
    ],
)
def test_styles(story, style, expected):
    assert grammar_for("cs").caption(story, style) == expected


@pytest.mark.parametrize(
    ("shape", "count", "verb"),
    [
        ("circle", 1, "byl namalován"),
        ("star", 1, "byla namalována"),
        ("heart", 1, "bylo namalováno"),
        ("circle", 2, "byly namalovány"),
        ("star", 2, "byly namalovány"),
        ("heart", 2, "byla namalována"),
    ],
)
def test_past_participles_agree(shape, count, verb):
    from ccr_adapters.data.tiny_world.message import Clause, Mention, Message

    message = Message((Mention(shape, "red", None, None, count),), (Clause(0),))
    assert grammar_for("cs").caption(message, "passive").endswith(f" {verb}.")
