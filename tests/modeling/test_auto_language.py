"""`language="auto"`: each caption with the adapter of its language, or the base where that is not sure."""

from __future__ import annotations

import logging

import pytest
import torch

from ccr_adapters.errors import CaptionError, LanguageError
from ccr_adapters.modeling import CCRModel
from ccr_adapters.modeling.auto_language import resolve_auto

CZECH = ["Pes běží hlubokým sněhem v lese", "Dva muži sedí na červené lavičce v parku"]
ITALIAN = "Un cane corre nella neve"


@pytest.fixture
def model(build):
    """A model of German and Czech."""
    return build("clip", "de", "cs")


def test_each_caption_meets_the_adapter_of_its_language(model, english, german):
    captions = [german[0], english[3], CZECH[0], german[4], CZECH[1], english[5]]
    codes = ["de", None, "cs", "de", "cs", None]
    assert resolve_auto(model, captions) == codes
    found = model.encode_text(captions, "auto")
    torch.testing.assert_close(found, model.encode_text(captions, codes), rtol=0, atol=1e-6)
    assert model.encode_text(german[0], language="auto").shape == (1, 24)


def test_what_is_not_recognised_goes_to_the_base_and_is_told_once(model, german, caplog):
    with caplog.at_level(logging.WARNING):
        assert resolve_auto(model, [ITALIAN, german[0], "123", ITALIAN]) == [None, "de", None, None]
    (record,) = caplog.records
    assert "3 of 4 captions were not recognised as cs, de, en (confidence below 0.3)" in record.getMessage()
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        found = model.encode_text(german, "auto", min_confidence=1.1)
    assert len([record for record in caplog.records if "recognised" in record.getMessage()]) == 1
    torch.testing.assert_close(found, model.encode_text(german, None), rtol=0, atol=1e-6)


def test_a_lazy_model_loads_what_it_hears(model, german, tmp_path):
    model.save_pretrained(tmp_path)
    lazy = CCRModel.from_pretrained(tmp_path, lazy=True)
    lazy.encode_text(german, "auto")
    assert lazy.loaded_languages == ["de"]


def test_bad_input(model, bases):
    with pytest.raises(CaptionError, match="Caption 1 is empty"):
        model.encode_text(["ein Hund", " "], "auto")
    assert model.encode_text([], "auto").shape == (0, 24)
    with pytest.raises(LanguageError, match="'auto' cannot be added"):
        model.add_language("auto")
    assert resolve_auto(CCRModel.from_base(bases["clip"]), ["A dog runs through the snow"]) == [None]
