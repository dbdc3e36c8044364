"""Which models are scored, and what each is called: bases that adapters keep beside them are told apart by their weights."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest

from ccr_adapters.cli.entrants import Entrant, before_of, find_entrants
from ccr_adapters.configuration import CCRConfig, LanguageConfig
from ccr_adapters.errors import LanguageError


@pytest.fixture
def adapter(tmp_path):
    """Function that makes the configuration of an adapter whose base lies in a folder of its own."""

    def make(run, base, sha256):
        folder = tmp_path / run / "adapter"
        folder.mkdir(parents=True)
        (folder / base).mkdir(exist_ok=True)
        languages = {"de": LanguageConfig(None, 12)}
        CCRConfig(base_model_name_or_path=base, base_sha256=sha256, languages=languages).save_pretrained(folder)
        return str(folder)

    return make


@pytest.mark.parametrize("base", ["../base", "base"])
def test_bases_of_one_name_and_other_weights_are_both_scored(base, adapter):
    places = [adapter(run, base, sha256 * 64) for run, sha256 in (("a", "1"), ("b", "2"), ("c", "2"))]
    entrants = find_entrants(places)
    assert [entrant.label for entrant in entrants] == ["a", "b", "c"]
    found = before_of(entrants)
    assert {label: entrant.label for label, entrant in found.items()} == {"a": "base-11111111", "b": "base-22222222"}
    assert found["b"].base_fingerprint == "2" * 64
    # alone it is called the same, so what was scored is found again, and nothing else is overwritten
    assert before_of(find_entrants(places[2:]))["c"].label == "base-22222222"


def test_a_base_that_is_scored_itself_is_not_scored_twice(adapter, bases, tmp_path, monkeypatch):
    shutil.copytree(bases["clip"], tmp_path / "models/clip")
    monkeypatch.chdir(tmp_path)
    place = adapter("a", "../../models/clip", "1" * 64)
    entrants = find_entrants(["models/clip", place])
    assert before_of(entrants) == {}
    assert [entrant.base for entrant in entrants] == ["clip", "clip"]
    assert before_of(find_entrants([place]))["a"].label == "clip-11111111"


def test_a_base_that_has_a_name_keeps_it(adapter, bases):
    place = adapter("a", "base", "1" * 64)
    config = CCRConfig.from_pretrained(place)
    for name, called in (
        ("openai/clip-vit-base-patch32", "openai/clip-vit-base-patch32"),
        (str(bases["clip"]), "clip"),
    ):
        config.base_model_name_or_path = name
        config.save_pretrained(place)
        assert before_of(find_entrants([place]))["a"].label == called


def test_adapters_are_called_after_their_runs(adapter):
    places = [adapter(run, "base", "1" * 64) for run in ("cs/training", "de/training", "fr")]
    assert [entrant.label for entrant in find_entrants(places)] == ["cs", "de", "fr"]


def test_a_language_under_another_of_its_codes():
    norwegian = Entrant("p", "mine", "base", True, ("nb", "tl", "de"), "", "")
    asked = {"nb": "nb", "no": "nb", "nob_Latn": "nb", "fil": "tl", "tl": "tl", "deu_Latn": "de", "sv": None}
    assert {language: norwegian.speaks(language) for language in asked} == asked
    with pytest.raises(LanguageError, match="'mine' has nb and nn; which of them is 'no'"):
        replace(norwegian, languages=("nb", "nn")).speaks("no")
    assert replace(norwegian, languages=("nb", "nn")).speaks("nn") == "nn"
