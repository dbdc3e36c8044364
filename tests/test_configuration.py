"""The configurations: round trips, and a sentence for a key that is not known or a value that cannot work."""

from __future__ import annotations

import copy
import json
import pickle

import pytest
from transformers import AutoConfig

from ccr_adapters.configuration import CCRConfig, LanguageConfig, VocabularyConfig
from ccr_adapters.errors import ConfigError


@pytest.fixture
def config() -> CCRConfig:
    """A configuration with every field set."""
    return CCRConfig(
        base_model_name_or_path="org/base",
        base_revision="abc",
        base_sha256="0" * 64,
        base_config={"model_type": "bert", "hidden_size": 32},
        pooling="mean",
        visual_dim=24,
        languages={
            "de": LanguageConfig(VocabularyConfig(100, 32, train="touched"), 24, "de", {"data": "toy"}),
            "cs": {"vocabulary": None, "max_length": 12, "folder": "cs"},
        },
    )


def test_a_round_trip_through_a_file(config, tmp_path):
    config.save_pretrained(tmp_path)
    written = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    assert written["model_type"] == "ccr"
    assert written["languages"]["de"]["vocabulary"]["train"] == "touched"
    for loaded in (CCRConfig.from_pretrained(tmp_path), AutoConfig.from_pretrained(tmp_path)):
        assert type(loaded) is CCRConfig
        expected, found = config.to_dict(), loaded.to_dict()
        assert {key for key in expected if expected[key] != found[key]} <= {"_name_or_path", "transformers_version"}
        assert loaded.languages == config.languages
        assert isinstance(loaded.languages["cs"], LanguageConfig)


def test_copies_are_equal_and_apart(config):
    for twin in (copy.deepcopy(config), pickle.loads(pickle.dumps(config)), CCRConfig(**config.to_dict())):
        assert twin.languages == config.languages
        twin.languages.pop("de")
        assert "de" in config.languages


def test_two_configurations_do_not_share_their_languages():
    first, second = CCRConfig(), CCRConfig()
    first.languages["de"] = LanguageConfig()
    assert second.languages == {}


@pytest.mark.parametrize("key", ["langauges", "base_sha", "rank"])
def test_an_unknown_key_of_the_model_is_named(key, config, tmp_path):
    with pytest.raises(
        ConfigError, match=rf"Unknown key in the configuration of the model: {key}\. Known: .*languages"
    ):
        CCRConfig(**{key: 1})
    config.save_pretrained(tmp_path)
    values = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    (tmp_path / "config.json").write_text(json.dumps({**values, key: 1}), encoding="utf-8")
    for load in (CCRConfig.from_pretrained, AutoConfig.from_pretrained):
        with pytest.raises(ConfigError, match=key):
            load(tmp_path)


def test_unknown_keys_below_are_named():
    with pytest.raises(ConfigError, match="configuration of a language: max_len, vocab"):
        CCRConfig(languages={"de": {"max_len": 3, "vocab": {}}})
    with pytest.raises(ConfigError, match="configuration of a vocabulary: rows.*Known: .*width"):
        LanguageConfig.from_dict({"vocabulary": {"size": 3, "width": 4, "rows": 5}})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"size": 10, "width": 4, "train": "some"}, "`train` is 'some'; expected 'all', 'touched' or 'none'"),
        ({"size": 0, "width": 4}, "0 tokens of width 4"),
        ({"size": 3, "width": -1}, "3 tokens of width -1"),
        ({"size": 3, "width": 4, "train": "none"}, "needs a `source`"),
        ({"size": "many", "width": 4}, "many"),
        ({"size": 3.5, "width": 4}, "3.5"),
    ],
)
def test_a_vocabulary_that_cannot_be_is_refused(values, message):
    with pytest.raises(ConfigError, match=message):
        VocabularyConfig(**values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"max_length": 1}, "`max_length` is 1"),
        ({"max_length": "long"}, "`max_length` is 'long'"),
        ({"max_length": True}, "`max_length` is True"),
        ({"pad_to": 0}, "`pad_to` is 0"),
        ({"pad_to": True}, "`pad_to` is True"),
        ({"folder": 3}, "`folder` is 3"),
        ({"folder": None}, "`folder` is None"),
        ({"vocabulary": [100, 32]}, "`vocabulary` is "),
        ({"vocabulary": {"width": 32}}, "size"),
    ],
)
def test_a_language_that_cannot_be_is_refused(values, message):
    with pytest.raises(ConfigError, match=message):
        LanguageConfig.from_dict(values)


@pytest.mark.parametrize("languages", [["de"], "de", {"de": None}, {"de": "mBERT"}])
def test_languages_are_a_mapping_of_mappings(languages):
    with pytest.raises(ConfigError, match="languages|language"):
        CCRConfig(languages=languages)
