"""A language pushed into a repository that has others: they stay to the byte, and all of them load as one."""

from __future__ import annotations

import json
import shutil
import tempfile

import pytest
import torch
from huggingface_hub import ModelCard

from ccr_adapters.configuration import CCRConfig, LanguageConfig
from ccr_adapters.dasd import DASDConfig
from ccr_adapters.errors import AdapterError
from ccr_adapters.hub import adapter_info, list_adapters, push_adapter
from ccr_adapters.modeling import CCRModel
from ccr_adapters.modeling.merging import merged_card, merged_config

OWNER = "hf_ownerownerowner"
CONFIG, CARD = "config.json", "README.md"


def encoded(model, captions, code):
    return model.encode_text(captions, code)


def same(found, expected):
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


def test_a_language_comes_beside_others(hub, build, english):
    build("de", "zh").push_to_hub("org/clip", token=OWNER)
    repository = hub.repositories["org/clip"]
    before = repository.files()
    newer = build("de", "cs", seed=2)
    pushed = newer.push_to_hub("org/clip", language="cs", token=OWNER)
    after = repository.files()
    shared = {CONFIG, CARD}
    assert {name: after[name] for name in before if name not in shared} == {
        name: content for name, content in before.items() if name not in shared
    }
    assert {name for name in after if name not in before} == {"cs/adapter_config.json", "cs/adapter_model.safetensors"}
    assert pushed.files == 4
    model = CCRModel.from_pretrained("org/clip")
    assert sorted(model.languages) == ["cs", "de", "zh"]
    same(encoded(model, english, "cs"), encoded(newer, english, "cs"))
    same(encoded(model, english, "zh"), encoded(build("de", "zh"), english, "zh"))


def test_a_language_pushed_again_is_replaced_where_it_lies(hub, build, english):
    build("de", "zh").push_to_hub("org/clip", token=OWNER)
    before = hub.repositories["org/clip"].files()
    newer = build("zh", seed=3)
    newer.push_to_hub("org/clip", token=OWNER)
    newer.push_to_hub("org/clip", token=OWNER)
    after = hub.repositories["org/clip"].files()
    assert set(after) == set(before)
    assert after["zh/adapter_model.safetensors"] != before["zh/adapter_model.safetensors"]
    assert after["de/adapter_model.safetensors"] == before["de/adapter_model.safetensors"]
    same(encoded(CCRModel.from_pretrained("org/clip"), english, "zh"), encoded(newer, english, "zh"))
    assert after[CARD].count(b"<!-- ccr-adapters: zh -->") == 1


def test_a_language_at_the_top_stays_there(hub, saved, english):
    push_adapter(saved("zh"), "org/clip", token=OWNER)
    push_adapter(saved("de"), "org/clip", token=OWNER)
    files = hub.repositories["org/clip"].files()
    assert {"adapter_model.safetensors", "tokenizer.json", "de/adapter_model.safetensors"} <= set(files)
    assert json.loads(files[CONFIG])["languages"]["zh"]["folder"] == ""
    model = CCRModel.from_pretrained("org/clip", languages=["de"])
    same(encoded(model, english, "de"), encoded(CCRModel.from_pretrained(saved("de")), english, "de"))
    assert set(adapter_info("org/clip").languages) == {"zh", "de"}


def test_the_card_tells_of_all(hub, saved):
    push_adapter(saved("zh"), "org/clip", token=OWNER)
    push_adapter(saved("de"), "org/clip", token=OWNER)
    card = ModelCard(hub.repositories["org/clip"].files()[CARD].decode())
    assert card.data.language == ["zh", "de"]
    assert card.text.count("## Use") == 2
    for code in ("zh", "de"):
        assert [each.repo_id for each in list_adapters(language=code)] == ["org/clip"]


def test_another_base_is_refused_and_nothing_is_written(hub, saved, bases, tmp_path):
    push_adapter(saved("zh"), "org/clip", token=OWNER)
    before = hub.repositories["org/clip"].files()
    model = CCRModel.from_base(bases["siglip"])
    model.add_language("de", DASDConfig(r=4, generator_rank=4))
    with pytest.raises(AdapterError, match=r"'org/clip' \(zh\) stand on .*clip'.*siglip', and the hash of its weights"):
        model.push_to_hub("org/clip", token=OWNER)
    assert hub.repositories["org/clip"].files() == before


def test_a_base_that_nobody_else_has_goes_along(hub, build, bases, english, tmp_path):
    model = build("de")
    model.config.base_model_name_or_path = "../base"
    (tmp_path / "run").mkdir()
    model.save_pretrained(tmp_path / "run/adapter")
    shutil.copytree(bases["clip"], tmp_path / "run/base")
    loaded = CCRModel.from_pretrained(tmp_path / "run/adapter")
    loaded.push_to_hub("org/whole", token=OWNER)
    shutil.rmtree(tmp_path / "run")
    assert "base/model.safetensors" in hub.repositories["org/whole"].files()
    same(encoded(CCRModel.from_pretrained("org/whole"), english, "de"), encoded(model, english, "de"))


def test_a_base_goes_along_from_a_temporary_folder_that_is_a_link(hub, build, bases, tmp_path, monkeypatch):
    """As on macOS, where `/var` is one."""
    shutil.copytree(bases["clip"], tmp_path / "models/clip")
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    monkeypatch.chdir(tmp_path)
    model = CCRModel.from_base("models/clip")
    model.add_language("de", DASDConfig(r=4, generator_rank=4))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "link"))
    model.push_to_hub("org/whole", token=OWNER)
    files = hub.repositories["org/whole"].files()
    assert json.loads(files[CONFIG])["base_model_name_or_path"] == "base"


def config(sha, **values):
    return CCRConfig(base_model_name_or_path="a/b", base_sha256=sha, languages={"de": LanguageConfig()}, **values)


def test_a_hash_that_is_not_known_is_no_other_base():
    assert merged_config(config(None), config("1" * 64), "a/b").base_sha256 == "1" * 64
    with pytest.raises(AdapterError, match="its pooling differs"):
        merged_config(config(None, pooling="mean"), config(None, pooling="first"), "a/b")


def test_a_card_keeps_no_number_of_a_language_that_was_pushed_again(hub, build):
    def push(*codes, number):
        evidence = {"table": [{"split": "test", "t2i R@1": number}]}
        build(*codes).push_to_hub("org/clip", token=OWNER, evidence=evidence)
        card = hub.repositories["org/clip"].files()[CARD].decode()
        return [number for number in ("11.1", "22.2", "33.3", "44.4", "55.5", "66.6") if number in card], card

    push("de", number=11.1)
    assert push("cs", number=22.2)[0] == ["11.1", "22.2"]
    assert push("de", number=33.3)[0] == ["22.2", "33.3"]
    assert push("fr", "zh", number=44.4)[0] == ["22.2", "33.3", "44.4"]
    assert push("fr", number=55.5)[0] == ["22.2", "33.3", "44.4", "55.5"]  # that of zh too
    found, card = push("zh", number=66.6)
    assert found == ["22.2", "33.3", "55.5", "66.6"]
    assert card.count("<!-- ccr-adapters: end of ") == card.count("## Use") == 4


def test_what_an_owner_wrote_on_a_card_stays():
    text = merged_card("---\na: 1\n---\nfirst of de", "---\nb: 1\n---\ncs", ["cs"], ["de"]) + "\nby hand\n"
    text = merged_card(text, "second of de", ["de"], ["de", "cs"])
    assert "by hand" in text
    assert "second of de" in text
    assert "first" not in text


def test_results_of_the_same_model_are_replaced():
    def card(language, name, value):
        return f"---\nlanguage: {language}\nmodel-index:\n- name: {name}\n  results: [{value}]\n---\n# {name}\n"

    text = merged_card(card("de", "one", 1), card("[cs]", "two", 2), ["cs"])
    text = merged_card(text, card("[cs]", "two", 3), ["cs"])
    front = text.split("---\n")[1]
    assert "- de\n- cs\n" in front
    assert front.count("name: two") == 1
    assert "- 3" in front
    assert "- 2\n" not in front
    assert text.count("# two") == 1


def test_a_broken_card_is_told():
    with pytest.raises(AdapterError, match="card is broken"):
        merged_card("---\na: [\n---\n", "# new", ["de"])
