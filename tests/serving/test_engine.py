"""The engine by itself: many callers get what `encode_text` gives one by one, in whatever languages and order."""

from __future__ import annotations

import asyncio
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from peft import LoraConfig
from PIL import Image

from ccr_adapters.configuration import HeadConfig
from ccr_adapters.errors import (
    AdapterError,
    BusyError,
    CaptionError,
    ConfigError,
    ImageError,
    LanguageError,
)
from ccr_adapters.modeling import CCRModel
from ccr_adapters.modeling.shelf import Place
from ccr_adapters.serving.engine import Engine

GERMAN = ["ein roter Stern", "ein gelbes Herz auf Schnee", "eine blaue Blume", "Haus"]
ENGLISH = ["a red star", "a yellow heart on snow", "a blue flower and a green house", "house"]


@pytest.fixture(scope="module")
def engine(german):
    with Engine.load(["tiny_clip", german], "cpu", max_batch=16, max_wait_ms=20) as engine:
        yield engine


def numbered(folder, german, codes):
    """An adapter repository for each code, each with other weights."""
    places = []
    for number, code in enumerate(codes, 1):
        model = CCRModel.from_pretrained(german)
        model.add_language(code, tokenizer=model.processor.tokenizer_for("de"))
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if f".{code}." in name:
                    parameter.add_(0.02 * number * torch.randn_like(parameter))
        model.save_pretrained(folder / code, language=code)
        places.append(str(folder / code))
    return places


@pytest.fixture(scope="module")
def three(tmp_path_factory, german):
    """Folders of Czech, French and Swahili, made up."""
    return numbered(tmp_path_factory.mktemp("three"), german, ["cs", "fr", "sw"])


def test_many_callers_get_what_one_would(engine, one_by_one):
    batches = []
    engine.on_batch = lambda kind, count, seconds: batches.append(count)
    asked = [([caption], "de") for caption in GERMAN] + [([caption], "en") for caption in ENGLISH]
    asked += [(GERMAN + ENGLISH, ["de"] * 4 + ["en"] * 4), (GERMAN, None), (ENGLISH, "__base__")]
    with ThreadPoolExecutor(32) as callers:
        found = list(callers.map(lambda each: engine.submit_text(*each).result(20), asked * 4))
    engine.on_batch = None
    for (captions, language), vectors in zip(asked * 4, found, strict=True):
        own = [language or "de"] * len(captions) if not isinstance(language, list) else language
        expected = [one_by_one.encode_text([each], code).numpy()[0] for each, code in zip(captions, own, strict=True)]
        assert vectors.dtype == np.float32
        np.testing.assert_allclose(vectors, expected, atol=1e-5)
    assert sum(batches) == sum(len(captions) for captions, _ in asked * 4)
    assert len(batches) < len(asked * 4) / 2, "requests shared passes"
    assert max(batches) <= 16


def test_pictures_are_encoded_as_by_the_model(engine, one_by_one, photos):
    pictures = [photos.picture(index) for index in range(9)]
    expected = one_by_one.encode_image(pictures).numpy()
    waiting = [engine.submit_pictures([each]) for each in pictures] + [engine.submit_pictures(pictures)]
    found = [future.result(20) for future in waiting]
    np.testing.assert_allclose(np.concatenate(found[:-1]), expected, atol=1e-5)
    np.testing.assert_allclose(found[-1], expected, atol=1e-5)


def test_captions_and_pictures_may_come_together(engine, one_by_one, photos):
    async def both():
        return await asyncio.gather(
            *(engine.text([caption], "de") for caption in GERMAN),
            *(engine.image([photos.picture(n)]) for n in range(4)),
        )

    found = asyncio.run(both())
    np.testing.assert_allclose(np.concatenate(found[:4]), one_by_one.encode_text(GERMAN, "de").numpy(), atol=1e-5)
    assert all(vectors.shape == (1, 128) for vectors in found)


@pytest.mark.parametrize(
    ("captions", "language", "error", "told"),
    [
        ([], "de", CaptionError, "There is no caption"),
        (["a", " "], "de", CaptionError, "Caption 1 is empty"),
        (["a", 3], "de", CaptionError, "Caption 1 is a int"),
        (["\ud800x"], "de", CaptionError, "no UTF-8"),
        (["a"], "xx", LanguageError, "There is no language 'xx'. There are: de, en."),
        (["a"], ["de", "en"], LanguageError, "2 languages for 1 captions"),
    ],
)
def test_what_is_wrong_is_said_before_it_shares_a_batch(engine, captions, language, error, told):
    with pytest.raises(error, match=told):
        engine.submit_text(captions, language)


def test_pictures_that_cannot_be_decoded_fail_alone(engine, photos):
    def broken():
        raise ImageError("broken")

    good, bad = engine.submit_pictures([photos.picture(0)]), engine.submit_pictures([photos.picture(1), broken])
    with pytest.raises(ImageError, match="broken"):
        bad.result(20)
    assert good.result(20).shape == (1, 128)
    with pytest.raises(ImageError, match="no picture"):
        engine.submit_pictures([])


def test_languages_come_when_asked_for_and_the_oldest_goes(german, three, one_by_one):
    alone = {code: CCRModel.from_pretrained(place) for code, place in zip(["cs", "fr", "sw"], three, strict=True)}
    with Engine.load(["tiny_clip", german, *three], "cpu", max_languages=2) as engine:
        assert list(engine.languages.known) == ["de", "cs", "fr", "sw"]
        assert engine.languages.loaded == []
        with pytest.raises(LanguageError, match="several languages"):
            engine.submit_text(GERMAN)
        engine.submit_text(GERMAN, "cs").result(20)
        engine.submit_text(GERMAN, "de").result(20)
        engine.submit_text(GERMAN, "cs").result(20)
        assert engine.languages.loaded == ["de", "cs"]
        engine.submit_text(GERMAN, "fr").result(20)
        assert engine.languages.loaded == ["cs", "fr"]
        # more than may be in memory, in one request
        spoken = ["sw", "cs", "de", "fr", "en"]
        found = engine.submit_text([GERMAN[0]] * 5, spoken).result(20)
        assert len(engine.languages.loaded) == 2
    models = {**alone, "de": one_by_one, "en": one_by_one}
    for code, vector in zip(spoken, found, strict=True):
        np.testing.assert_allclose(vector, models[code].encode_text(GERMAN[:1], code).numpy()[0], atol=1e-5)
    assert np.abs(found[0] - found[1]).max() > 1e-3, "the languages differ"


def test_a_language_that_cannot_be_loaded_fails_alone(german, three, tmp_path):
    shutil.copytree(three[0], tmp_path / "cs")
    with Engine.load([german, str(tmp_path / "cs")], "cpu", max_wait_ms=50) as engine:
        (tmp_path / "cs" / "adapter_model.safetensors").write_bytes(b"cut")
        bad, good = engine.submit_text(GERMAN, "cs"), engine.submit_text(GERMAN, "de")
        assert good.result(20).shape == (4, 128)
        with pytest.raises(AdapterError, match="truncated"):
            bad.result(20)
        assert engine.submit_text(GERMAN, "de").result(20).shape == (4, 128)
        shutil.copy(f"{three[0]}/adapter_model.safetensors", tmp_path / "cs")
        assert engine.submit_text(GERMAN, "cs").result(20).shape == (4, 128), "mended, it loads"


def test_a_download_holds_up_nobody_else(german, three, photos):
    @dataclass
    class Slow(Place):
        here = False

        def fetch(self, code):
            assert gate.wait(20)
            return super().fetch(code)

    gate = threading.Event()
    with Engine(CCRModel.from_base("tiny_clip"), [german, three[0]], max_wait_ms=0, workers=1) as engine:
        places = engine.model.shelf.places
        places["cs"] = Slow(places["cs"].name, places["cs"].language)
        waiting = [engine.submit_text(GERMAN, "cs") for _ in range(4)]
        assert engine.submit_text(GERMAN, "de").result(20).shape == (4, 128)
        assert engine.submit_pictures([photos.picture(0)]).result(20).shape == (1, 128)
        assert not any(each.done() for each in waiting)
        gate.set()
        assert [each.result(20).shape for each in waiting] == [(4, 128)] * 4


def test_adapters_that_take_one_language_a_pass_are_split(bases):
    torch.manual_seed(0)
    model = CCRModel.from_base(str(bases["clip"]))
    for code in ("de", "cs"):
        model.add_language(code, LoraConfig(r=4, init_lora_weights=False))
    assert not model.mixes_languages()
    captions = ["a dog runs", "two men sit", "a red bench", "the cat sleeps"]
    spoken = ["de", "cs", "en", "de"]
    expected = [model.encode_text([each], code).numpy()[0] for each, code in zip(captions, spoken, strict=True)]
    with Engine(model, max_wait_ms=50) as engine:
        waiting = [engine.submit_text([each], code) for each, code in zip(captions, spoken, strict=True)]
        found = [future.result(20)[0] for future in waiting]
        np.testing.assert_allclose(found, expected, atol=1e-5)
        np.testing.assert_allclose(engine.submit_text(captions, spoken).result(20), expected, atol=1e-5)


def test_languages_with_a_space_of_their_own_are_kept_apart(german):
    model = CCRModel.from_pretrained(german)
    model.add_language("cs", head=HeadConfig(space=48, width=32, attention_heads=4))
    expected = model.eval().encode_text(["a red star"], "cs").numpy()
    with Engine(model, max_wait_ms=50) as engine:
        assert [engine.languages.space(code) for code in ("de", "cs", None)] == [None, "cs", None]
        own, shared = engine.submit_text(["a red star"], "cs"), engine.submit_text(["ein roter Stern"], "de")
        np.testing.assert_allclose(own.result(20), expected, atol=1e-5)
        assert shared.result(20).shape == (1, 128)
        with pytest.raises(LanguageError, match="do not share a space"):
            engine.submit_text(["a", "b"], ["cs", "de"])


def test_what_does_not_fit_the_base_is_refused_at_the_start(german, bases, tmp_path):
    with pytest.raises(LanguageError, match="'de' is in"):
        Engine.load(["tiny_clip", german, german], "cpu")
    with pytest.raises(AdapterError, match="another base"):
        Engine.load([str(bases["clip"]), german], "cpu")
    with pytest.raises(ConfigError, match="is a base"):
        Engine.load([german, "tiny_clip"], "cpu")
    with pytest.raises(ConfigError, match="No model"):
        Engine.load([])
    model = CCRModel.from_base("tiny_clip")
    model.add_language("cs", LoraConfig(r=4))
    model.save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="cannot stand beside"):
        Engine.load([german, str(tmp_path)], "cpu")


def test_a_base_without_pictures_says_so(bases):
    with Engine.load([str(bases["bert"])], "cpu") as engine:
        assert engine.submit_text(["a dog runs"]).result(20).shape == (1, 32)
        with pytest.raises(ImageError, match="no image tower"):
            engine.submit_pictures([Image.new("RGB", (16, 16))])


def test_too_much_is_refused_and_the_end_answers_what_was_taken(german):
    engine = Engine.load(["tiny_clip", german], "cpu", max_batch=4, max_queue=8)
    gate, entered = threading.Event(), threading.Event()

    def slow():
        entered.set()
        gate.wait(10)
        return Image.new("RGB", (16, 16))

    taken = [engine.submit_pictures([slow] * 4), engine.submit_pictures([slow] * 4)]
    entered.wait(10)
    with pytest.raises(BusyError, match="8 are waiting already, of 8"):
        engine.submit_pictures([slow])
    ending = threading.Thread(target=engine.close)
    ending.start()
    while not engine._closed:
        pass
    with pytest.raises(BusyError, match="shutting down"):
        engine.submit_pictures([slow])
    gate.set()
    ending.join(10)
    assert [future.result(0).shape for future in taken] == [(4, 128)] * 2


def test_a_request_that_takes_too_long_is_given_up(engine):
    gate = threading.Event()

    def slow():
        gate.wait(10)
        return Image.new("RGB", (16, 16))

    async def asked():
        await engine.image([slow], timeout=0.05)

    with pytest.raises(asyncio.TimeoutError):
        asyncio.run(asked())
    gate.set()
    assert engine.submit_text(GERMAN).result(20).shape == (4, 128)
