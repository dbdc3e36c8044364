"""French: agreement, elision, contraction and the place of adjectives, against phrases written by hand."""

from __future__ import annotations

import pytest

from ccr_adapters.data.tiny_world.grammars import grammar_for


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("star", "green", "small"), "une petite étoile verte"),
        (("circle", "green", "large"), "un grand cercle vert"),
        (("house", "white", "large"), "une grande maison blanche"),
        (("flower", "purple"), "une fleur violette"),
        (("fish", "orange", None, "striped"), "un poisson orange rayé"),
        (("cross", "orange", None, "striped"), "une croix orange rayée"),
        (("heart", "pink", None, "dotted"), "un cœur rose à pois"),
        (("house", "white", "small", "striped", 2), "deux petites maisons blanches rayées"),
        (("ring", "blue", "small", None, 3), "trois petits anneaux bleus"),
        (("cross", "black", "small", "checked", 2), "deux petites croix noires à carreaux"),
        (("circle", "orange", None, None, 2), "deux cercles orange"),
    ],
)
def test_agreement(phrase, arguments, expected):
    assert phrase("fr", *arguments) == expected


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("left_of", "star", "red"), "à gauche d'une étoile rouge"),
        (("right_of", "circle", "red"), "à droite d'un cercle rouge"),
        (("above", "fish", "red", None, 2), "au-dessus de deux poissons rouges"),
        (("behind", "house", "blue", "large"), "derrière une grande maison bleue"),
    ],
)
def test_elision(place, arguments, expected):
    assert place("fr", *arguments) == expected


def test_what_was_named_takes_the_definite_article(again):
    assert again("fr", "circle", "red") == "le cercle"
    assert again("fr", "house", "red") == "la maison"
    assert again("fr", "star", "red") == "l'étoile"
    assert again("fr", "ring", "red") == "l'anneau"
    assert again("fr", "heart", "red", count=2) == "les cœurs"


def test_contraction():
    from ccr_adapters.data.tiny_world.grammars.french import contract

    assert contract("à gauche de le cercle") == "à gauche du cercle"
    assert contract("au-dessus de les cercles") == "au-dessus des cercles"
    assert contract("à droite de l'étoile") == "à droite de l'étoile"
    assert contract("à droite de une étoile") == "à droite d'une étoile"


@pytest.mark.parametrize(
    ("style", "expected"),
    [
        (
            "plain",
            "Une petite étoile rouge à gauche d'une grande maison bleue et deux poissons verts rayés au-dessus de la "
            "maison sur l'herbe.",
        ),
        (
            "terse",
            "Petite étoile rouge à gauche d'une grande maison bleue, deux poissons verts rayés au-dessus de la maison, "
            "herbe",
        ),
        (
            "wordy",
            "L'image montre une petite étoile rouge qui se trouve à gauche d'une grande maison bleue. On voit aussi deux "
            "poissons verts rayés qui se trouvent au-dessus de la maison. Toute la scène se passe sur l'herbe.",
        ),
        (
            "inverted",
            "Sur l'herbe, à gauche d'une grande maison bleue se trouve une petite étoile rouge et au-dessus de la maison "
            "se trouvent deux poissons verts rayés.",
        ),
        (
            "passive",
            "Une petite étoile rouge a été dessinée à gauche d'une grande maison bleue sur l'herbe et deux poissons verts "
            "rayés ont été dessinés au-dessus de la maison.",
        ),
    ],
)
def test_styles(story, style, expected):
    assert grammar_for("fr").caption(story, style) == expected
