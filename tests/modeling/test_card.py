"""The card of an adapter repository: valid front matter, and no number that no file holds."""

from __future__ import annotations

import re

import pytest
import yaml
from huggingface_hub import ModelCard
from peft import LoraConfig

from ccr_adapters.configuration import HeadConfig, VocabularyConfig
from ccr_adapters.dasd import DASDConfig
from ccr_adapters.full import FullConfig
from ccr_adapters.modeling import CCRModel
from ccr_adapters.modeling.card import count_parameters, render_card, results_table

EVIDENCE = {
    "repository": "org/dasd-clip-de",
    "datasets": ["multi30k"],
    "training": {"pairs": 29000, "data": "Multi30K", "noise": "20% of words", "seed": 1, "translator": 'a: "b"'},
    "metrics": {"test/de": {"dataset": "multi30k", "t2i_r@1": 41.25, "ok": True}, "empty": {"dataset": "x"}},
    "table": [{"captions": "test/de", "sum of recalls": 321.04}, {"captions": "test/en", "sum of recalls": 400.0}],
}


def card(model, folder, **evidence):
    model.save_pretrained(folder, evidence=evidence)
    text = (folder / "README.md").read_text(encoding="utf-8")
    return text, yaml.safe_load(text.split("---")[1])


def test_the_front_matter_is_what_the_hub_reads(build, bases, tmp_path):
    text, data = card(build("clip", "de", "cs"), tmp_path, **EVIDENCE)
    assert data["base_model"] == str(bases["clip"])
    assert data["base_model_relation"] == "adapter"
    assert data["library_name"] == "peft"
    assert sorted(data["language"]) == ["cs", "de"]
    assert data["license"] == "unknown"
    [entry] = data["model-index"]
    assert entry["results"][0]["metrics"] == [{"type": "recall", "name": "text to image R@1", "value": 41.25}]
    assert len(entry["results"]) == 1
    ModelCard(text).data.to_yaml()


def test_the_text_says_what_was_measured(build, tmp_path):
    model = build("clip", "de")
    text, _ = card(model, tmp_path, **EVIDENCE)
    for expected in ("29,000", "20% of words", "| test/de | 321.0 |", "org/dasd-clip-de", 'a: "b"', "r = 4"):
        assert expected in text
    trained = sum(p.numel() for name, p in model.named_parameters() if "dasd_" in name)
    assert f"{trained:,}" in text
    assert count_parameters(tmp_path / "adapter_model.safetensors") == trained
    assert "$" not in text


def test_peft_alone_is_named_only_where_it_loads_all_of_a_language(build, tmp_path):
    """A vocabulary is not peft's: an adapter that has one loads without an error there, and gives other vectors."""
    text, _ = card(build("clip", "de"), tmp_path / "tokens of the base")
    assert "PeftModel.from_pretrained" in text
    model = build("clip", "de")
    model.config.languages["de"].vocabulary = VocabularyConfig(size=10, width=8)
    assert "PeftModel" not in render_card(model.config, ["de"], tmp_path / "tokens of the base", EVIDENCE)


def test_a_language_with_a_space_of_its_own_does_not_claim_the_bases(build, bases, tmp_path):
    text, _ = card(build("clip", "de"), tmp_path / "shared")
    assert "stay valid" in " ".join(text.split())
    model = CCRModel.from_base(bases["clip"])
    model.add_language("de", DASDConfig(r=4, generator_rank=4), head=HeadConfig(space=8, width=8, attention_heads=2))
    text, _ = card(model, tmp_path / "own")
    assert "a space of their own" in text
    assert "stay valid" not in " ".join(text.split())
    assert 'encode_image(["photo.jpg"], language="de")' in text


def test_what_was_not_measured_is_not_claimed(build, tmp_path):
    text, data = card(build("bert", "de"), tmp_path)
    assert data["model-index"] == []
    assert "not recorded" in text
    assert "No evaluation was recorded" in text


def test_nobody_is_said_to_have_translated_where_no_recipe_names_a_translator(build, tmp_path):
    human = {**EVIDENCE, "training": {"pairs": 5, "data": "x", "license": "cc-by-4.0"}}
    text, _ = card(build("bert", "de"), tmp_path / "human", **human)
    assert "translated" not in text.split("| machine translation | not recorded |")[0]
    assert "No caption in the target language" not in text
    assert "translator's" not in text
    assert "| licence of the data | cc-by-4.0 |" in text
    text, _ = card(build("bert", "de"), tmp_path / "machine", **EVIDENCE)
    assert "No caption in the target language" in text
    assert "translator's" in text


@pytest.mark.parametrize(
    ("adapter", "method", "cited"),
    [
        (DASDConfig(r=4, generator_rank=4), "dasd", ["cai2025dasd"]),
        (DASDConfig(r=4, generator_rank=4), "transfer", ["cai2025dasd"]),
        (DASDConfig(r=4, generator_rank=4), "cl2cm", ["cai2025dasd", "wang2024cl2cm"]),
        (DASDConfig(r=4, mode="static"), "mla", ["zhang2022mla"]),
        (LoraConfig(r=2), "dasd", ["hu2022lora", "cai2025dasd"]),
        (FullConfig(), "nrccr", ["wang2022nrccr"]),
        (FullConfig(), "full", []),
    ],
)
def test_a_card_cites_what_was_used_and_warns_of_what_it_is(adapter, method, cited, bases, tmp_path):
    model = CCRModel.from_base(bases["clip"])
    model.add_language("de", adapter)
    text, _ = card(model, tmp_path, training={"method": method})
    assert re.findall(r"@\w+\{(\w+),", text) == cited
    assert ("## Citation" in text) == bool(cited)
    dynamic = isinstance(adapter, DASDConfig) and adapter.mode == "dynamic"
    assert ("Dynamic weights depend on the caption" in text) == dynamic
    assert "\n\n\n" not in text.split("## Limits")[1]


@pytest.mark.parametrize("value", ["yes: no", '"', "a\nb: c", "{x}", "$y ${z}", "#"])
def test_odd_values_do_not_break_the_front_matter(value, build, tmp_path):
    _, data = card(build("bert", "de"), tmp_path, license=value, title=value, datasets=[value])
    assert data["license"] == value
    assert data["datasets"] == [value]


def test_a_table_takes_its_columns_from_its_first_row():
    assert results_table([{"a": 1.25, "b": "x"}, {"a": 2.0}]).splitlines() == [
        "| a | b |",
        "|---|---|",
        "| 1.2 | x |",
        "| 2.0 |  |",
    ]
