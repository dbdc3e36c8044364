"""Captions of motion: sentences that a speaker would write, verbs and pronouns that agree, the case that a place asks for."""

from __future__ import annotations

import random
import re
from itertools import islice

import pytest

from ccr_adapters.data.tiny_world.grammars import LANGUAGES, Voice
from ccr_adapters.data.tiny_world.message import Clause, Mention, Message
from ccr_adapters.data.tiny_world.motion import DIRECTIONS, PASSES, motion_message, moving_scene_stream
from ccr_adapters.data.tiny_world.motion_captions import describe_motion, motion_caption, translate_motion
from ccr_adapters.data.tiny_world.motion_grammars import MOTION_STYLES
from ccr_adapters.errors import ConfigError, LanguageError

ALL = ("en", *LANGUAGES)
STAR = Message((Mention("star", "red", "small"), Mention("house", "blue", "large")), (Clause(0, "behind", 1),), "grass")
FISH = Message((Mention("fish", "green", None, None, 2), Mention("circle", "red")), (Clause(0, "in_front_of", 1),))
FLOWER = Message((Mention("flower", "yellow"),), (Clause(0),))
SCENES = list(islice(moving_scene_stream("g"), 200))

SENTENCES = {
    "en": (
        "A small red star moves to the left behind a large blue house on the grass.",
        "Two green fish move up in front of a red circle.",
        "The video shows a yellow flower that moves to the right.",
        "Behind a large blue house, a small red star moves down on the grass.",
    ),
    "de": (
        "Ein kleiner roter Stern bewegt sich auf dem Gras hinter einem großen blauen Haus nach links.",
        "Zwei grüne Fische bewegen sich vor einem roten Kreis nach oben.",
        "Das Video zeigt eine gelbe Blume, die sich nach rechts bewegt.",
        "Hinter einem großen blauen Haus bewegt sich ein kleiner roter Stern auf dem Gras nach unten.",
    ),
    "fr": (
        "Une petite étoile rouge se déplace vers la gauche derrière une grande maison bleue sur l'herbe.",
        "Deux poissons verts se déplacent vers le haut devant un cercle rouge.",
        "La vidéo montre une fleur jaune qui se déplace vers la droite.",
        "Derrière une grande maison bleue, une petite étoile rouge se déplace vers le bas sur l'herbe.",
    ),
    "cs": (
        "Malá červená hvězda se pohybuje doleva za velkým modrým domem na trávě.",
        "Dvě zelené ryby se pohybují nahoru před červeným kruhem.",
        "Video ukazuje žlutou květinu, která se pohybuje doprava.",
        "Za velkým modrým domem se pohybuje dolů na trávě malá červená hvězda.",
    ),
    "zh": (
        "一颗红色的小星星在一座蓝色的大房子的后面向左移动，在草地上。",
        "两条绿色的鱼在一个红色的圆形的前面向上移动。",
        "这段视频里有一朵黄色的花，它向右移动。",
        "草地上，一座蓝色的大房子的后面有一颗红色的小星星向下移动。",
    ),
    "sw": (
        "Nyota ndogo nyekundu inasogea kushoto nyuma ya nyumba kubwa ya buluu kwenye nyasi.",
        "Samaki wawili wa kijani wanasogea juu mbele ya duara jekundu.",
        "Video inaonyesha ua la njano ambalo linasogea kulia.",
        "Nyuma ya nyumba kubwa ya buluu, nyota ndogo nyekundu inasogea chini kwenye nyasi.",
    ),
}
TOLD = (
    (STAR, "left", "declarative"),
    (FISH, "up", "declarative"),
    (FLOWER, "right", "wordy"),
    (STAR, "down", "inverted"),
)


@pytest.mark.parametrize("language", ALL)
def test_what_a_speaker_would_write(language):
    for (message, direction, style), expected in zip(TOLD, SENTENCES[language], strict=True):
        assert motion_caption(message, direction, language, style) == expected


def test_german_relative_clauses_agree():
    cases = {
        "star": "Das Video zeigt einen roten Stern, der sich nach links bewegt.",
        "house": "Das Video zeigt ein rotes Haus, das sich nach links bewegt.",
        "flower": "Das Video zeigt eine rote Blume, die sich nach links bewegt.",
    }
    for shape, expected in cases.items():
        message = Message((Mention(shape, "red"),), (Clause(0),))
        assert motion_caption(message, "left", "de", "wordy") == expected
    several = Message((Mention("star", "red", None, None, 3),), (Clause(0),))
    assert (
        motion_caption(several, "left", "de", "wordy")
        == "Das Video zeigt drei rote Sterne, die sich nach links bewegen."
    )


def test_czech_cases_and_agreement():
    message = Message((Mention("heart", "red"), Mention("fish", "blue")), (Clause(0, "in_front_of", 1),))
    assert motion_caption(message, "up", "cs", "declarative") == "Červené srdce se pohybuje nahoru před modrou rybou."
    assert motion_caption(message, "up", "cs", "wordy").startswith(
        "Video ukazuje červené srdce, které se pohybuje nahoru"
    )
    several = Message((Mention("heart", "red", None, None, 2),), (Clause(0),))
    assert motion_caption(several, "up", "cs", "wordy") == "Video ukazuje dvě červená srdce, která se pohybují nahoru."


def test_swahili_verbs_follow_the_class_of_the_noun():
    prefixes = {"star": "i", "square": "u", "flower": "li", "fish": "a"}
    for shape, prefix in prefixes.items():
        message = Message((Mention(shape, "red"),), (Clause(0),))
        assert f" {prefix}nasogea " in motion_caption(message, "up", "sw", "declarative")
        assert re.search(rf" amba\w+ {prefix}nasogea ", motion_caption(message, "up", "sw", "wordy"))


@pytest.mark.parametrize("language", ALL)
@pytest.mark.parametrize("style", MOTION_STYLES)
def test_the_motion_is_always_told(language, style):
    """Of one scene, no two directions and no two ways to pass are told alike, with any words."""
    for seed in range(30):
        told = set()
        for direction in DIRECTIONS:
            for kind in PASSES:
                message = Message(STAR.things, (Clause(0, kind, 1),), "snow")
                voice = Voice(random.Random(seed), variety=0.5)
                told.add(motion_caption(message, direction, language, style, voice))
        assert len(told) == 8


@pytest.mark.parametrize("language", ALL)
def test_captions_are_clean_text_and_vary(language):
    rng, seen = random.Random(0), set()
    for scene in SCENES:
        for style in MOTION_STYLES:
            message = motion_message(scene, rng)
            caption = motion_caption(message, scene.direction, language, style, Voice(rng, variety=0.5))
            assert caption == caption.strip()
            assert not re.search(r"  |None|[{}]|,,|\.\.| [,.]| ,|，，|，。|(move|glide|slide)s? right\b", caption), (
                caption
            )
            assert caption[0] == caption[0].upper()
            assert caption.endswith("。" if language == "zh" else ".")
            assert (" " in caption) == (language != "zh")
            seen.add(caption)
    assert len(seen) > 550
    told = {motion_caption(FISH, "left", language, "declarative", Voice(random.Random(i), 0.5)) for i in range(60)}
    assert len(told) > 8


def test_people_choose_different_styles():
    captions = [text for _, text in describe_motion(SCENES[0], "de", random.Random(0), number=3)]
    assert len(set(captions)) == 3
    assert captions == [text for _, text in describe_motion(SCENES[0], "de", random.Random(0), number=3)]


@pytest.mark.parametrize("language", ALL)
def test_a_translation_has_one_style_and_noise(language):
    clean = translate_motion(STAR, "left", language, seed=1)
    assert clean == translate_motion(STAR, "left", language, seed=1)
    spoilt = {translate_motion(STAR, "left", language, noise=0.5, seed=seed) for seed in range(10)}
    assert clean not in spoilt
    assert len(spoilt) == 10
    assert all(translate_motion(FLOWER, "up", language, noise=1.0, seed=seed) for seed in range(10))


def test_a_translator_confuses_directions_too():
    left = re.compile(r"\bleft")
    told = [translate_motion(FLOWER, "right", "en", noise=0.9, seed=seed) for seed in range(200)]
    assert any(left.search(text) for text in told)


def test_what_there_is_not_is_refused():
    with pytest.raises(LanguageError, match="'xx'"):
        motion_caption(STAR, "left", "xx", "wordy")
    with pytest.raises(ConfigError, match="'poem'.*declarative, wordy, inverted"):
        motion_caption(STAR, "left", "de", "poem")
