"""The data set: columns, determinism, held-out scenes, and that captions point out their pictures."""

from __future__ import annotations

import random
import time

import pytest
from datasets import Image

from ccr_adapters.data.tiny_world.build import build_tiny_world, describe, sample_scenes
from ccr_adapters.data.tiny_world.grammars import LANGUAGES
from ccr_adapters.errors import ConfigError, LanguageError

SMALL = {"train": 40, "validation": 10, "test": 20}


@pytest.fixture(scope="module")
def world():
    return build_tiny_world("de", **SMALL)


def raw(rows):
    """The picture files' bytes."""
    return [cell["bytes"] for cell in rows.cast_column("image", Image(decode=False))["image"]]


def test_columns(world):
    assert {split: len(rows) for split, rows in world.items()} == SMALL
    common = ["image_id", "image", "language", "caption", "translation"]
    assert world["train"].column_names == [*common, "back_translation"]
    assert world["validation"].column_names == world["test"].column_names == [*common, "target_caption"]
    row = world["train"][0]
    assert (row["image_id"], row["language"]) == ("tiny-train-00000", "de")
    assert isinstance(row["caption"], str)
    assert isinstance(row["translation"], str)
    assert row["image"].size == (64, 64)
    row = world["test"][3]
    for column in ("caption", "translation", "target_caption"):
        assert len(row[column]) == len(set(row[column])) == 2


def test_ids_are_unique(world):
    ids = [image_id for rows in world.values() for image_id in rows["image_id"]]
    assert len(set(ids)) == len(ids)


def test_the_seed_decides_everything(world):
    same, other = build_tiny_world("de", **SMALL), build_tiny_world("de", **SMALL, seed=1)
    for split, rows in world.items():
        assert raw(rows) == raw(same[split])
        assert rows.remove_columns("image").to_dict() == same[split].remove_columns("image").to_dict()
        assert raw(rows) != raw(other[split])


@pytest.mark.parametrize("language", [language for language in LANGUAGES if language != "de"])
def test_pictures_and_english_do_not_depend_on_the_language(world, language):
    there = build_tiny_world(language, **SMALL)
    for split, rows in world.items():
        assert raw(rows) == raw(there[split])
        assert rows["caption"][:] == there[split]["caption"][:]
        assert rows["translation"][:] != there[split]["translation"][:]


def test_noise_touches_translations_alone(world):
    clean = build_tiny_world("de", **SMALL, noise=0.0)
    assert raw(clean["train"]) == raw(world["train"])
    assert clean["test"]["target_caption"][:] == world["test"]["target_caption"][:]
    differing = sum(a != b for a, b in zip(clean["train"]["translation"], world["train"]["translation"], strict=True))
    assert 0.5 < differing / SMALL["train"] < 1


def test_test_scenes_are_held_out_and_do_not_depend_on_the_sizes():
    scenes = sample_scenes(train=3000, validation=200, test=300)
    seen = {split: {scene.signature for scene in rows} for split, rows in scenes.items()}
    assert not seen["test"] & (seen["train"] | seen["validation"])
    assert not seen["validation"] & seen["train"]
    assert len(seen["test"]) == 300
    assert sample_scenes(train=5, validation=4000, test=200)["test"] == scenes["test"][:200]


def test_captions_of_a_picture_differ_in_style():
    scene = sample_scenes(train=1, validation=0, test=0)["train"][0]
    for seed in range(20):
        captions = [text for _, text in describe(scene, "en", random.Random(seed), number=6)]
        # The marks of the passive and of the wordy style, each of which comes once among the six.
        assert sum(" been " in caption for caption in captions) == 1
        assert (
            sum(
                any(word in caption for word in (" image ", " picture shows", "n this picture")) for caption in captions
            )
            == 1
        )


def test_captions_point_out_their_picture_among_a_thousand():
    """An ideal reader, who knows what each caption says, is right nearly always."""
    scenes = sample_scenes(train=0, validation=0, test=1000)["test"]
    by_thing = {}
    for index, scene in enumerate(scenes):
        for thing in scene.things:
            by_thing.setdefault((thing.shape, thing.colour, thing.count), set()).add(index)
    expected = 0.0
    for index, scene in enumerate(scenes):
        [(message, _)] = describe(scene, "en", random.Random(index))
        fitting = set.intersection(*(by_thing[t.shape, t.colour, t.count] for t in message.things))
        fitting = {i for i in fitting if fits(message, scenes[i])}
        assert index in fitting
        expected += 1 / len(fitting)
    assert expected / 1000 > 0.95


def fits(message, scene):
    """Whether sizes, textures and background of a message are those of a scene."""
    things = {(thing.shape, thing.colour): thing for thing in scene.things}
    return message.background in (None, scene.background) and all(
        told.size in (None, things[told.shape, told.colour].size)
        and told.texture in (None, things[told.shape, told.colour].texture)
        for told in message.things
    )


def test_it_is_made_in_seconds():
    start = time.process_time()
    build_tiny_world("de", train=1000, validation=0, test=0)
    assert time.process_time() - start < 2.5  # 8,000 in 20 seconds


def test_larger_pictures():
    rows = build_tiny_world("sw", train=1, validation=0, test=0, image_size=96)["train"]
    assert rows[0]["image"].size == (96, 96)


def test_it_survives_saving(world, tmp_path):
    world.save_to_disk(tmp_path)
    loaded = type(world).load_from_disk(tmp_path)
    assert raw(loaded["test"]) == raw(world["test"])


def test_bad_arguments_are_refused():
    with pytest.raises(LanguageError, match="'yo'.*de, fr, cs, zh, sw"):
        build_tiny_world("yo")
    with pytest.raises(LanguageError, match="English is the source"):
        build_tiny_world("en")
    with pytest.raises(ConfigError, match="noise=-0.1"):
        build_tiny_world("de", noise=-0.1)
    with pytest.raises(ConfigError, match="train=-1"):
        build_tiny_world("de", train=-1)


def test_back_translations_are_english_of_the_same_content():
    quiet = build_tiny_world("de", train=40, validation=1, test=1, noise=0.0)["train"]
    noisy = build_tiny_world("de", train=40, validation=1, test=1, noise=0.4)["train"]
    words = {word for caption in quiet["caption"] for word in caption.lower().rstrip(".").split()}
    shared = [len(set(back.lower().rstrip(".").split()) & words) for back in quiet["back_translation"]]
    assert min(shared) >= 2
    assert quiet["caption"] == noisy["caption"]
    assert sum(a != b for a, b in zip(quiet["back_translation"], noisy["back_translation"], strict=True)) > 30
