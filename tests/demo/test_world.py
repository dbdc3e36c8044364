"""The tiny world as a gallery: pictures once, captions of one content in all languages, questions that have an answer."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from ccr_adapters.data.tiny_world import LANGUAGES, render, sample_scenes
from ccr_adapters.data.tiny_world.grammars import STYLES
from ccr_adapters.demo.gallery import open_world
from ccr_adapters.demo.names import name_of
from ccr_adapters.demo.world import picture_name, world_captions, world_questions, world_scenes, write_pictures


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    return write_pictures(tmp_path_factory.mktemp("world") / "pictures", 4)


def test_the_pictures_are_test_scenes(few):
    assert world_scenes(4) == sample_scenes(train=50, validation=20, test=30)["test"][:4]
    assert sorted(path.name for path in few.iterdir()) == [picture_name(index) for index in range(4)]
    shown = np.asarray(Image.open(few / picture_name(2)))
    np.testing.assert_array_equal(shown, np.asarray(render(world_scenes(4)[2], size=256)))


def test_pictures_that_are_there_are_left_alone(few):
    times = [path.stat().st_mtime_ns for path in sorted(few.iterdir())]
    assert write_pictures(few, 4) == few
    assert [path.stat().st_mtime_ns for path in sorted(few.iterdir())] == times


def test_an_interrupted_rendering_leaves_nothing(tmp_path, monkeypatch):
    calls = []

    def stopped(scene, *, size):
        calls.append(scene)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return render(scene, size=size)

    monkeypatch.setattr("ccr_adapters.demo.world.render", stopped)
    with pytest.raises(KeyboardInterrupt):
        write_pictures(tmp_path / "pictures", 4)
    assert list(tmp_path.iterdir()) == []


def test_a_caption_a_picture_and_language():
    found = world_captions(["de", "yo", "zh"], 5)
    assert [(each.language, each.picture) for each in found] == [
        (code, picture_name(index)) for index in range(5) for code in ("en", "de", "zh")
    ]
    assert {each.style for each in found} <= set(STYLES)
    assert [each.style for each in found[::3]] == [each.style for each in found[1::3]]
    assert found == world_captions(["de", "yo", "zh"], 5)


def test_questions_in_every_language():
    questions = world_questions([*LANGUAGES, "yo"])
    assert list(questions) == [*LANGUAGES, "en"]
    assert questions["de"][0] == "Ein großes blaues Haus bei Nacht"
    assert all(len(texts) == 3 for texts in questions.values())


def test_each_question_has_a_picture():
    scenes = world_scenes()
    wanted = [("house", "blue", "night"), ("fish", "black", "sand"), ("ring", "pink", "wall")]
    for shape, colour, background in wanted:
        fitting = [s for s in scenes if [(t.shape, t.colour) for t in s.things] == [(shape, colour)]]
        assert background in [scene.background for scene in fitting]


def test_the_gallery_is_indexed_once(model, tmp_path):
    with open_world(model, tmp_path, 4) as collection:
        assert len(collection.index) == 4
        (hits,) = collection.search(collection.index.vectors(["tiny_world_4/scene-001.png"]).popitem()[1][None], 1)
        assert hits[0].id == "tiny_world_4/scene-001.png"
        assert collection.picture(hits[0]).size == (256, 256)
    report = next(tmp_path.glob("*.index"))
    saved = (report / "skipped.jsonl").stat().st_mtime_ns
    before = sorted(path.name for path in report.iterdir())
    with open_world(model, tmp_path, 4) as collection:
        assert len(collection.index) == 4
    assert sorted(path.name for path in report.iterdir()) == before
    assert (report / "skipped.jsonl").stat().st_mtime_ns >= saved


def test_a_gallery_that_has_moved_is_found_where_it_is(model, tmp_path):
    open_world(model, tmp_path / "here", 4).close()
    (tmp_path / "here").rename(tmp_path / "there")
    with open_world(model, tmp_path / "there", 4) as collection:
        assert len(collection.index) == 4
        (hits,) = collection.search(np.ones((1, model.embedding_dim), np.float32), 1)
        assert collection.picture(hits[0]).size == (256, 256)


@pytest.mark.parametrize(
    ("code", "name"), [("de", "German"), ("zh", "Chinese"), ("pt-BR", "Portuguese (pt-BR)"), ("qqq", "qqq")]
)
def test_names_of_languages(code, name):
    assert name_of(code) == name
