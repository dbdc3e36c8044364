"""Languages in memory: loaded on first use, those not used for longest make room, and nothing is lost or disturbed."""

from __future__ import annotations

import copy
import threading
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModel

from ccr_adapters.configuration import HeadConfig
from ccr_adapters.dasd import DASDConfig
from ccr_adapters.errors import AdapterError, ConfigError, LanguageError
from ccr_adapters.modeling import CCRModel
from ccr_adapters.modeling.shelf import Place, Shelf

CODES = ["de", "cs", "fr", "sw"]


def same(found, expected):
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@pytest.fixture
def folder(build, german_tokenizer, stir, tmp_path):
    """A repository of four languages; `sw` has a vocabulary of its own."""
    model = build("clip", "de", "cs", "fr")
    model.add_language("sw", DASDConfig(r=4, generator_rank=4), tokenizer=german_tokenizer)
    stir(model, seed=2).save_pretrained(tmp_path / "all")
    return tmp_path / "all"


@pytest.fixture
def expected(folder, english):
    """Vectors of each language, from a model that has all of them."""
    model = CCRModel.from_pretrained(folder)
    return {code: model.encode_text(english, code) for code in (*CODES, None)}


def test_a_lazy_model_loads_a_language_when_it_is_used(folder, expected, english):
    model = CCRModel.from_pretrained(folder, lazy=True)
    assert sorted(model.languages) == sorted(CODES)
    assert model.loaded_languages == []
    model.set_language("cs")
    assert model.loaded_languages == []
    same(model.encode_text(english, None), expected[None])
    assert model.loaded_languages == []
    same(model.encode_text(english), expected["cs"])
    assert model.loaded_languages == ["cs"]
    same(model.encode_text(english[:2], ["sw", "cs"])[0], expected["sw"][0])
    assert sorted(model.loaded_languages) == ["cs", "sw"]
    with pytest.raises(LanguageError, match="'zh' has no adapter. Loaded: cs, de, fr, sw"):
        model.encode_text(english, "zh")
    with pytest.raises(LanguageError, match="Caption 1: Language 'zh' has no adapter"):
        model.encode_text(english[:3], ["de", "zh", None])


def test_the_language_not_used_for_longest_makes_room(folder, expected, english):
    model = CCRModel.from_pretrained(folder, max_languages=2)
    assert len(model.loaded_languages) == 2
    for code, there in (("de", None), ("cs", {"de", "cs"}), ("de", {"de", "cs"}), ("fr", {"de", "fr"})):
        same(model.encode_text(english, code), expected[code])
        assert there is None or set(model.loaded_languages) == there
    assert sorted(model.languages) == sorted(CODES)
    assert "cs" not in model.processor.languages
    assert not [name for name, _ in model.named_parameters() if ".cs." in name]
    assert not [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    same(model.encode_text(english, "cs"), expected["cs"])
    model.max_languages = 1
    assert model.loaded_languages == ["cs"]
    model.max_languages = None
    for code in CODES:
        model.encode_text(english[:1], code)
    assert sorted(model.loaded_languages) == sorted(CODES)


def test_a_batch_may_hold_more_languages_than_the_bound(folder, expected, english):
    model = CCRModel.from_pretrained(folder, max_languages=1)
    found = model.encode_text(english, ["de", "cs", "fr", "sw", None, "de"])
    for row, code in enumerate(["de", "cs", "fr", "sw", None, "de"]):
        same(found[row], expected[code][row])
    assert len(model.loaded_languages) == 1


def test_the_active_language_stays_active_when_it_makes_room(folder, expected, english):
    model = CCRModel.from_pretrained(folder, max_languages=1)
    model.set_language("sw")
    model.encode_text(english, "sw")
    model.encode_text(english, "de")
    assert model.loaded_languages == ["de"]
    assert model.active_language == "sw"
    same(model.encode_text(english), expected["sw"])


def test_what_was_trained_or_added_here_never_leaves(folder, english, stir):
    model = CCRModel.from_pretrained(folder, max_languages=1)
    model.add_language("zh", DASDConfig(r=4, generator_rank=4))
    stir(model)
    mine = model.encode_text(english, "zh")
    model.trainable("cs")
    model.requires_grad_(False)
    with torch.no_grad():
        next(p for name, p in model.named_parameters() if "bottleneck.cs" in name).add_(0.1)
    trained = model.encode_text(english, "cs")
    for code in ("de", "fr", "sw"):
        model.encode_text(english, code)
    assert set(model.loaded_languages) == {"zh", "cs"}
    same(model.encode_text(english, "zh"), mine)
    same(model.encode_text(english, "cs"), trained)
    model.max_languages = 3
    model.encode_text(english, "de")
    model.requires_grad_(True)  # somebody trains without saying so
    model.max_languages = 1
    assert set(model.loaded_languages) == {"zh", "cs", "de"}


def test_saving_writes_all_languages(folder, expected, english, tmp_path):
    model = CCRModel.from_pretrained(folder, max_languages=1)
    model.save_pretrained(tmp_path / "again")
    assert len(model.loaded_languages) == 1
    again = CCRModel.from_pretrained(tmp_path / "again")
    for code in CODES:
        same(again.encode_text(english, code), expected[code])


def test_a_language_that_is_deleted_is_gone(folder, english):
    model = CCRModel.from_pretrained(folder, lazy=True)
    model.encode_text(english, "de")
    for code in ("de", "cs"):
        model.delete_language(code)
        with pytest.raises(LanguageError, match=f"'{code}' has no adapter"):
            model.encode_text(english, code)
    assert sorted(model.languages) == ["fr", "sw"]
    assert model.active_language in ("fr", "sw")
    with pytest.raises(LanguageError, match="'fr' is already there"):
        model.add_language("fr")
    with pytest.raises(LanguageError, match="'fr' is already there"):
        model.load_language(folder, "fr")
    assert model.load_language(folder, "de", lazy=True) == ["de"]
    assert "de" not in model.loaded_languages


def test_a_language_that_broke_meanwhile_is_told_and_the_others_go_on(folder, expected, english):
    model = CCRModel.from_pretrained(folder, lazy=True)
    weights = folder / "de/adapter_model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-5])
    with pytest.raises(AdapterError, match="truncated"):
        model.encode_text(english, "de")
    same(model.encode_text(english, "cs"), expected["cs"])
    weights.write_bytes(content)
    same(model.encode_text(english, "de"), expected["de"])


def test_a_language_costs_its_own_weights_and_nothing_else(folder, english):
    model = CCRModel.from_pretrained(folder, lazy=True)
    base = {name: p.data_ptr() for name, p in model.base.named_parameters()}
    for code in ("de", "sw"):
        before = {p.data_ptr(): p.numel() for p in model.parameters()}
        model.encode_text(english, code)
        after = {p.data_ptr(): p.numel() for p in model.parameters()}
        files = (folder / code).glob("*.safetensors")
        own = sum(tensor.numel() for file in files for tensor in load_file(file).values())
        assert sum(after.values()) - sum(before.values()) == own
        assert before.items() <= after.items()
    there = {name.replace(".base_layer.", "."): p.data_ptr() for name, p in model.base.named_parameters()}
    assert base.items() <= there.items()


def test_threads_get_their_own_language_whatever_leaves(folder, expected, english):
    model = CCRModel.from_pretrained(folder, max_languages=1)

    def work(number):
        for step in range(6):
            code = [*CODES, None][(number * 7 + step * 3) % 5]
            same(model.encode_text(english, code), expected[code])

    with ThreadPoolExecutor(6) as pool:
        for done in [pool.submit(work, number) for number in range(6)]:
            done.result(timeout=60)
    assert len(model.loaded_languages) == 1
    assert not model.shelf._passes


@dataclass
class Slow(Place):
    """A place from which nothing comes until the gate opens."""

    gate: threading.Event = field(default_factory=threading.Event)

    def fetch(self, code):
        assert self.gate.wait(20)
        return super().fetch(code)


@dataclass
class Counted(Place):
    """A place that counts how often something was looked for."""

    times: int = 0

    def fetch(self, code):
        self.times += self.folder is None
        return super().fetch(code)


def test_files_that_are_here_are_not_fetched_again_unless_they_are_broken(folder, expected, english):
    model = CCRModel.from_pretrained(folder, lazy=True, max_languages=1)
    place = model.shelf.places["de"]
    place = model.shelf.places["de"] = Counted(place.name, place.language, place.hub, place.subfolder)
    for code in ("de", "cs", "de"):
        same(model.encode_text(english, code), expected[code])
    assert place.times == 1
    weights = folder / "de/adapter_model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-5])
    model.encode_text(english, "cs")
    with pytest.raises(AdapterError, match="truncated"):
        model.encode_text(english, "de")
    weights.write_bytes(content)
    same(model.encode_text(english, "de"), expected["de"])
    assert place.times == 2


def slowed(model, code):
    """Open the gate, and the language comes."""
    place = model.shelf.places[code]
    slow = model.shelf.places[code] = Slow(place.name, place.language, place.hub, place.subfolder)
    return slow.gate


def test_a_download_holds_up_nobody_else(folder, expected, english):
    model = CCRModel.from_pretrained(folder, max_languages=2, lazy=True)
    gate = slowed(model, "de")
    with ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(model.encode_text, english, "de") for _ in range(2)]
        for code in ("cs", "fr", None, "sw"):
            same(model.encode_text(english, code), expected[code])
        assert not any(each.done() for each in waiting)
        gate.set()
        for each in waiting:
            same(each.result(20), expected["de"])
    assert set(model.loaded_languages) == {"de", "sw"}


def test_a_language_deleted_while_it_is_downloaded_stays_deleted(folder, english):
    model = CCRModel.from_pretrained(folder, lazy=True)
    gate = slowed(model, "de")
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(model.encode_text, english, "de")
        model.encode_text(english, "cs")
        model.delete_language("de")
        gate.set()
        with pytest.raises(LanguageError, match="'de' is gone"):
            waiting.result(20)
    assert model.loaded_languages == ["cs"]


def test_room_is_made_before_a_language_comes(folder, expected, english):
    class Watched(CCRModel):
        most = 0

        def put_language(self, code, place):
            super().put_language(code, place)
            self.most = max(self.most, len(self.loaded_languages))

    model = Watched.from_pretrained(folder, max_languages=2)
    for code in (*CODES, *CODES):
        same(model.encode_text(english, code), expected[code])
    assert model.most == 2
    model.encode_text(english[:3], ["de", "cs", "fr"])
    assert (model.most, len(model.loaded_languages)) == (3, 2)


def test_who_loads_waits_for_who_encodes_and_not_for_himself(folder):
    model, order = CCRModel.from_pretrained(folder, lazy=True), []
    inside, go = threading.Event(), threading.Event()

    def encode():
        with model.shelf.using(model, ["de"]):
            inside.set()
            go.wait(20)
            with model.shelf.using(model, ["de"]):  # a call inside a call does not wait for the loader
                order.append("encoded")

    def load():
        with model.shelf.using(model, ["cs"]):
            order.append("loaded")

    threads = [threading.Thread(target=encode)]
    threads[0].start()
    assert inside.wait(20)
    threads.append(threading.Thread(target=load))
    threads[1].start()
    threads[1].join(0.2)
    assert order == []
    go.set()
    for thread in threads:
        thread.join(20)
    assert order == ["encoded", "loaded"]


def test_who_loads_waits_for_who_encodes_pictures(folder):
    model = CCRModel.from_pretrained(folder, lazy=True)
    inside, go = threading.Event(), threading.Event()

    def linger(*_):
        inside.set()
        go.wait(20)

    model.base.vision_model.register_forward_pre_hook(linger)
    with ThreadPoolExecutor(2) as pool:
        encoding = pool.submit(model.get_image_features, torch.zeros(1, 3, 16, 16))
        assert inside.wait(20)
        loading = pool.submit(model.shelf.load, model, "cs")
        assert not wait([loading], 0.2).done
        go.set()
        loading.result(20)
        encoding.result(20)


def test_a_head_is_known_before_it_is_loaded(bases, stir, english, tmp_path):
    model = CCRModel.from_base(bases["clip"])
    head = HeadConfig(space=40, width=16, attention_heads=2)
    model.add_language("de", DASDConfig(r=4, generator_rank=4), head=head)
    stir(model).save_pretrained(tmp_path)
    lazy = CCRModel.from_pretrained(tmp_path, lazy=True)
    assert lazy.space("de") == "de"
    assert lazy.dim_of("de") == 40
    assert lazy.loaded_languages == []
    vectors = torch.nn.functional.normalize(torch.randn(3, 24), dim=-1)
    same(lazy.map_visual(vectors, "de"), model.map_visual(vectors, "de"))
    assert lazy.loaded_languages == ["de"]


def test_a_head_stays_while_its_captions_are_read(bases, stir, english, tmp_path):
    model = CCRModel.from_base(bases["clip"])
    head = HeadConfig(space=40, width=16, attention_heads=2)
    model.add_language("de", DASDConfig(r=4, generator_rank=4), head=head)
    stir(model).eval().save_pretrained(tmp_path)
    inputs = dict(model.processor(english, language="de"))
    expected = model.get_text_features(**inputs, language="de").pooler_output
    lazy = CCRModel.from_pretrained(tmp_path, max_languages=1, lazy=True)
    lazy.add_language("cs", DASDConfig(r=4, generator_rank=4))  # it cannot leave, so that German must each time
    same(lazy.get_text_features(**inputs, language="de").pooler_output, expected)
    vectors = torch.randn(3, 24)
    scores = lazy(**inputs, visual_embeds=vectors, language="de").logits_per_text
    same(scores, model(**inputs, visual_embeds=vectors, language="de").logits_per_text)
    assert lazy.loaded_languages == ["cs"]


def test_the_auto_class_takes_the_bound_too(folder, expected, english):
    model = AutoModel.from_pretrained(folder, languages=["de", "fr"], lazy=True, max_languages=1)
    for code in ("de", "fr"):
        same(model.encode_text(english, code), expected[code])
    assert model.loaded_languages == ["fr"]
    assert model.languages == ["fr", "de"]


def test_a_copy_has_a_shelf_of_its_own(folder, expected, english):
    model = CCRModel.from_pretrained(folder, max_languages=1)
    other = copy.deepcopy(model)
    other.encode_text(english, "fr")
    model.encode_text(english, "cs")
    assert (other.loaded_languages, model.loaded_languages) == (["fr"], ["cs"])
    assert other.max_languages == 1
    same(other.encode_text(english, "de"), expected["de"])


@pytest.mark.parametrize("most", [0, -1, True, "3"])
def test_a_bound_that_is_none(most):
    with pytest.raises(ConfigError, match="`max_languages` is .*expected a number, 1 or more, or None"):
        Shelf(most)
