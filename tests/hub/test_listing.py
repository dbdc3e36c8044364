"""List over HTTP: adapters by the tags of their cards, and a base that finds its languages by them."""

from __future__ import annotations

import logging

import pytest
import torch
from huggingface_hub import constants

from ccr_adapters.errors import AdapterError, HubError, LanguageError
from ccr_adapters.hub import list_adapters, push_adapter
from ccr_adapters.modeling import CCRModel

OWNER, STRANGER = "hf_ownerownerowner", "hf_strangerstranger"


@pytest.fixture
def market(hub, build, bases, contents, tmp_path):
    """A base on the Hub, and four adapters, one of them for another base, one private."""
    hub.add("org/base", contents(bases["clip"]))
    for name, codes, base in (
        ("clip-de", ("de",), "org/base"),
        ("clip-many", ("cs", "zh"), "org/base"),
        ("other-de", ("de",), "somebody/else"),
        ("secret-sw", ("sw",), "org/base"),
    ):
        model = build(*codes)
        model.config.base_model_name_or_path = base
        model.save_pretrained(tmp_path / name, evidence={"training": {"method": "mla"}} if name == "clip-de" else None)
        push_adapter(tmp_path / name, f"org/{name}", token=OWNER, private=name.startswith("secret"))
    hub.repositories["org/clip-many"].downloads = 7
    hub.add("org/cats", {"README.md": b"---\nlanguage: de\ntags: [cats]\n---\n"})
    hub.seen.clear()
    return hub


def names(found):
    return [each.repo_id for each in found]


def test_adapters_are_found_by_base_and_language(market):
    assert names(list_adapters()) == ["org/clip-many", "org/clip-de", "org/other-de"]
    assert names(list_adapters("org/base")) == ["org/clip-many", "org/clip-de"]
    assert names(list_adapters(language="de")) == ["org/clip-de", "org/other-de"]
    assert names(list_adapters("org/base", "zh")) == ["org/clip-many"]
    assert names(list_adapters("org/base", "sw")) == []
    assert names(list_adapters("org/base", "sw", token=OWNER)) == ["org/secret-sw"]
    assert names(list_adapters(author="nobody")) == []
    assert names(list_adapters(limit=1)) == ["org/clip-many"]


def test_what_is_told_of_each(market):
    many, de, _ = list_adapters()
    assert (many.languages, many.base, many.method, many.downloads) == (("cs", "zh"), "org/base", "dasd", 7)
    assert (de.method, de.private, de.modified) == ("mla", False, "2025-01-02")


def test_a_long_list_has_several_pages(market):
    market.page = 1
    assert len(list_adapters()) == 3
    assert len(market.requests("GET", "/api/models")) == 3


def test_a_hub_that_does_not_answer(market, monkeypatch, quick_retries):
    market.misbehave("GET", "/api/models", "status", 503)
    with pytest.raises(HubError, match="The Hub answered 503 for 'the list of adapters'"):
        list_adapters()
    market.faults.clear()
    with pytest.raises(HubError, match="No access to 'the list of adapters'") as caught:
        list_adapters(token="hf_unknownunknown")
    assert "unknownunknown" not in str(caught.value)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(HubError, match="since HF_HUB_OFFLINE is set. Unset it"):
        list_adapters()


def test_a_base_with_languages_takes_the_one_adapter_there_is(market, build, english, caplog):
    with caplog.at_level(logging.WARNING):
        model = CCRModel.from_pretrained("org/base", languages=["zh", "de"])
    assert model.languages == ["zh", "de"]
    assert model.active_language == "zh"
    assert not model.training
    assert "'zh' of 'org/base' is taken from 'org/clip-many'" in caplog.text
    expected = build("de").encode_text(english)
    torch.testing.assert_close(model.encode_text(english, "de"), expected, rtol=0, atol=1e-6)
    assert not market.requests("GET", "/cs/")


def test_who_to_trust_is_for_the_user_to_say(market, saved, tmp_path, build):
    model = build("de")
    model.config.base_model_name_or_path = "org/base"
    model.save_pretrained(tmp_path / "second")
    push_adapter(tmp_path / "second", "stranger/clip-de", token=STRANGER)
    message = r"2 adapters teach 'org/base' the language 'de': .*Name one: languages=\{'de': "
    with pytest.raises(LanguageError, match=message):
        CCRModel.from_pretrained("org/base", languages=["de"])
    chosen = {"de": "stranger/clip-de", "cs": "org/clip-many"}
    assert CCRModel.from_pretrained("org/base", languages=chosen).languages == ["de", "cs"]
    with pytest.raises(LanguageError, match="No adapter on the Hub teaches 'org/base' the language 'fr'"):
        CCRModel.from_pretrained("org/base", languages="fr")
    with pytest.raises(AdapterError, match="'org/clip-de' is an adapter repository; `languages` then lists codes"):
        CCRModel.from_pretrained("org/clip-de", languages=chosen)


def test_an_adapter_that_only_claims_the_base_is_refused(market, saved):
    with pytest.raises(AdapterError, match="other weights"):
        CCRModel.from_pretrained("tiny_clip", languages={"de": "org/clip-de"})


def test_a_base_without_languages_is_a_model_of_english_alone(market):
    assert CCRModel.from_pretrained("org/base").languages == []
