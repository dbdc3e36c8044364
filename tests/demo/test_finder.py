"""Pictures for questions and captions for pictures, against an obvious search; and who speaks."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from ccr_adapters.configuration import HeadConfig
from ccr_adapters.demo.captions import Caption
from ccr_adapters.demo.finder import Finder, Spoken, nearest
from ccr_adapters.errors import CaptionError, ConfigError, LanguageError
from ccr_adapters.modeling import CCRModel
from ccr_adapters.search import Collection


@pytest.fixture(scope="module")
def finder(model, pictures, captions):
    return Finder(model, pictures, captions)


@pytest.mark.parametrize(("language", "column"), [("en", 0), ("de", 1), ("cs", 2), ("fr", 2)])
def test_each_language_finds_its_picture(finder, world, language, column):
    for number in (0, 1, 3, 5):
        found = finder.search(world.scenes[number][column], language, 3)
        assert [each.rank for each in found] == [1, 2, 3]
        assert found[0].id == world.id(number)
        assert found[0].name == world.file(number)
        assert found[0].picture.size == (96, 96)
        scores = [each.score for each in found]
        assert scores == sorted(scores, reverse=True)


def test_what_is_on_a_picture_is_told_in_english(finder, model, pictures):
    assert finder.search("roter stern", "de", 1)[0].alt == "a red star"
    assert Finder(model, pictures).search("roter stern", "de", 1)[0].alt == "red-star.png"


def test_captions_of_a_picture_are_those_that_an_obvious_search_gives(finder, model, captions, folder, world):
    picture = Image.open(folder / world.file(1)).convert("RGB")
    own = [each for each in captions if each.language == "de"]
    vectors = model.encode_text([each.text for each in own], "de").numpy()
    scores = vectors @ model.encode_image(picture, None).numpy()[0]
    best = np.argsort(-scores, kind="stable")[:4]
    found = finder.captions_for(picture, "de", 4)
    assert [each.caption for each in found] == [own[index] for index in best]
    assert [each.score for each in found] == pytest.approx([scores[index] for index in best], abs=1e-5)
    assert found[0].caption.picture == world.file(1)


def test_a_language_of_captions_may_be_spelled_in_any_way(model, pictures, captions, caplog):
    own = [each for each in captions if each.language == "de"]
    spelled = [
        replace(each, language=code) for each, code in zip(own, ("deu", "de-DE", "DE", "de_AT") * 9, strict=False)
    ]
    finder = Finder(model, pictures, [*spelled, Caption("boot", "xx")])
    assert sorted(each.text for each in finder.captions["de"]) == sorted(each.text for each in own)
    assert {each.language for each in finder.captions["de"]} == {"de"}
    assert "1 captions in 'xx' were left out" in caplog.text


def test_a_caption_that_comes_twice_is_told_once(captions):
    import torch

    twice = [captions[0], captions[1], captions[0]]
    found = nearest(twice, torch.tensor([0.1, 0.3, 0.2]), 5)
    assert [(each.caption, round(each.score, 1)) for each in found] == [(captions[1], 0.3), (captions[0], 0.2)]


def test_the_language_of_a_question(finder):
    assert finder.languages == ["de", "cs", "fr", "en"]
    assert finder.spoken("roter stern", "cs") == Spoken("cs")
    found = finder.spoken("roter stern")
    assert (found.code, found.foreign) == ("de", "")
    assert found.sure > 0.3


def test_another_detector_may_be_given(model, pictures):
    def whole(code):
        return Finder(model, pictures, detect=lambda text: (code, 0.9))

    assert whole("cs").spoken("anything") == Spoken("cs", 0.9)
    assert whole("de-AT").spoken("anything") == Spoken("de", 0.9)
    assert whole("deu_Latn").spoken("anything") == Spoken("de", 0.9)
    # a language without an adapter goes to the base, and the page says so
    assert whole("ja").spoken("anything") == Spoken("en", 0.9, "ja")


def test_questions_that_cannot_be_answered(finder):
    with pytest.raises(CaptionError, match="question is empty"):
        finder.spoken("  ")
    with pytest.raises(LanguageError, match="'ja' has no adapter here; there are de, cs, fr, en"):
        finder.spoken("anything", "ja")
    with pytest.raises(LanguageError, match="no captions in 'ja' here; there are some in: en, de, cs, fr"):
        finder.captions_for(Image.new("RGB", (8, 8)), "ja", 3)


def test_a_picture_that_has_gone_is_still_a_result(model, folder, pictures, tmp_path, world):
    # a copy of the index whose source has lost its files
    shutil.copytree(folder.parent, tmp_path / "copy")
    with Collection.open(tmp_path / "copy" / "photos.index") as collection:
        finder = Finder(model, collection)
        record = collection.notes.sources[0]
        assert record.location == str(folder)
        hidden = folder.rename(folder.with_name("elsewhere"))
        try:
            (found,) = finder.search("roter stern", "de", 1)
        finally:
            hidden.rename(folder)
    assert (found.id, found.picture) == (world.id(0), None)


def test_a_language_with_a_space_of_its_own_is_refused(pictures, model):
    other = CCRModel.from_base("tiny_clip")
    tokenizer = model.processor.tokenizer_for("de")
    other.add_language("de", tokenizer=tokenizer, head=HeadConfig(space=8))
    with pytest.raises(LanguageError, match="'de' has a space of its own"):
        Finder(other, pictures)


def test_a_model_without_a_processor_is_refused(tiny_clip, pictures):
    with pytest.raises(ConfigError, match="has no processor"):
        Finder(CCRModel.from_base(tiny_clip()), pictures)
