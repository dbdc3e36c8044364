"""Which files make an adapter repository, and what a save leaves of an earlier one: nothing that loads as another."""

from __future__ import annotations

import json

import pytest

from ccr_adapters.dasd import DASDConfig
from ccr_adapters.errors import AdapterError
from ccr_adapters.modeling import CCRModel
from ccr_adapters.modeling.layout import owner, part_of


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def models(build, german_tokenizer, stir):
    """Models of one language, of one with a vocabulary, and of several."""
    worded = build("clip")
    worded.add_language("de", DASDConfig(r=4), tokenizer=german_tokenizer)
    several = build("clip", "cs", "fr")
    several.add_language("de", DASDConfig(r=4), tokenizer=german_tokenizer)
    return {
        "one": build("clip", "de"),
        "worded": stir(worded),
        "several": stir(several),
        "two": build("clip", "cs", "fr"),
    }


@pytest.mark.parametrize(
    ("first", "second"),
    [(first, second) for second in ("one", "worded", "several") for first in ("one", "worded")]
    + [("several", "several"), ("two", "several")],
)
def test_saving_over_another_save_leaves_what_a_fresh_one_does(first, second, models, english, tmp_path):
    models[first].save_pretrained(tmp_path / "used")
    models[second].save_pretrained(tmp_path / "used")
    models[second].save_pretrained(tmp_path / "fresh")
    assert files(tmp_path / "used") == files(tmp_path / "fresh")
    loaded = CCRModel.from_pretrained(tmp_path / "used")
    assert loaded.languages == sorted(models[second].languages)
    for code in loaded.languages:
        found, expected = loaded.encode_text(english, code), models[second].encode_text(english, code)
        assert (found - expected).abs().max() < 1e-6


def test_a_language_alone_does_not_push_others_out_of_a_folder(models, english, tmp_path):
    models["several"].save_pretrained(tmp_path)
    before = {name: (tmp_path / name).read_bytes() for name in files(tmp_path)}
    lazy = CCRModel.from_pretrained(tmp_path, max_languages=1)
    for model, left in ((models["several"], "cs, fr"), (models["one"], "cs, fr"), (lazy, "cs, fr")):
        with pytest.raises(AdapterError, match=f"holds {left} too.*Save into another folder"):
            model.save_pretrained(tmp_path, language="de")
    assert {name: (tmp_path / name).read_bytes() for name in files(tmp_path)} == before
    (tmp_path / "config.json").write_text("{", encoding="utf-8")  # the model knows where it loads them from
    with pytest.raises(AdapterError, match="holds cs, fr too"):
        lazy.save_pretrained(tmp_path, language="de")


def test_a_language_that_a_save_moved_is_found_again(build, english, tmp_path):
    for code in ("de", "fr"):
        build("clip", code).save_pretrained(tmp_path / code)
    model = CCRModel.from_pretrained(tmp_path / "de", max_languages=1)
    model.load_language(tmp_path / "fr")
    expected = {code: model.encode_text(english, code) for code in ("de", "fr")}
    with pytest.raises(AdapterError, match="holds de too"):
        model.save_pretrained(tmp_path / "de", language="fr")
    model.save_pretrained(tmp_path / "de")
    for code in ("de", "fr", "de"):
        assert (model.encode_text(english, code) - expected[code]).abs().max() < 1e-6


def test_no_adapter_is_left_at_the_top(models, tmp_path):
    models["worded"].save_pretrained(tmp_path)
    models["several"].save_pretrained(tmp_path)
    assert [name for name in files(tmp_path) if "/" not in name] == ["README.md", "config.json"]


def test_what_is_not_of_an_adapter_stays(models, tmp_path):
    for name in ("tokenizer.json", "notes.md", "other/adapter_config.json", "de/notes.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("{}", encoding="utf-8")
    (tmp_path / "config.json").write_text(json.dumps({"languages": {"cs": {"folder": "../.."}}}), encoding="utf-8")
    models["several"].save_pretrained(tmp_path)
    (tmp_path / "config.json").unlink()
    models["one"].save_pretrained(tmp_path)
    assert {"notes.md", "other/adapter_config.json", "de/notes.md"} <= set(files(tmp_path))
    assert "de/adapter_config.json" not in files(tmp_path)


def test_a_save_that_fails_removes_nothing(models, tmp_path):
    models["worded"].save_pretrained(tmp_path)
    before = files(tmp_path)
    with pytest.raises(TypeError):
        models["several"].save_pretrained(tmp_path, evidence={"datasets": {"no", "list"}})
    assert files(tmp_path) == before


@pytest.mark.parametrize(
    ("name", "whose"),
    [
        ("config.json", ""),
        ("README.md", ""),
        ("de/adapter_config.json", "de"),
        ("deep/er/tokenizer.json", "cs"),
        ("adapter_config.json", None),
        ("fr/adapter_config.json", None),
        ("de/README.md", None),
        ("de/evil.py", None),
        ("base/model.safetensors", ""),
        ("base/evil.bin", None),
        ("based/model.safetensors", None),
    ],
)
def test_whose_a_file_is(name, whose):
    assert owner(name, {"de": "de", "cs": "deep/er"}, "base") == whose


def test_parts():
    assert part_of("de/vocabulary.safetensors") == "vocabulary rows"
    assert part_of("zh/tokenizer_config.json") == "tokenizer"
    assert part_of("notes.md") == "other"
