"""Weights of terms: overlaid on published ones, read strictly."""

from __future__ import annotations

import dataclasses

import pytest

from ccr_adapters.errors import ConfigError
from ccr_adapters.methods import DASD, CL2CMTerms, DASDTerms, Method, NRCCRTerms, TransferTerms


def test_the_published_weights():
    cla, cma = DASD.stages["cla"], DASD.stages["cma"]
    assert dataclasses.asdict(cla) == {
        **dataclasses.asdict(DASDTerms()),
        "alignment": 1.0,
        "consistency": 0.1,
        "adversarial": 0.001,
    }
    assert dataclasses.asdict(cma) == {**dataclasses.asdict(cla), "contrastive": 1.0, "guide": "visual"}
    assert cma.scale == 100.0


def test_values_are_laid_over_the_defaults():
    assert DASDTerms.from_dict({}) == DASDTerms()
    assert DASDTerms.from_dict({}, DASD.stages["cma"]) == DASD.stages["cma"]
    found = DASDTerms.from_dict({"alignment": 0, "bank": 2}, DASD.stages["cma"])
    assert found == dataclasses.replace(DASD.stages["cma"], alignment=0, bank=2)
    assert DASD.stages["cma"].alignment == 1.0


@pytest.mark.parametrize("unknown", ["Alignment", "mse", "weight"])
def test_an_unknown_term_is_named_with_those_that_exist(unknown):
    with pytest.raises(ConfigError, match=f"{unknown}.*alignment, cosine, contrastive"):
        DASDTerms.from_dict({unknown: 1.0, "cosine": 1.0}, DASD.stages["cla"])


def test_all_unknown_terms_are_named_at_once():
    with pytest.raises(ConfigError, match="a, z"):
        DASDTerms.from_dict({"z": 1, "a": 1})


@pytest.mark.parametrize("guide", ["image", None, "Source", ""])
def test_an_unknown_guide(guide):
    with pytest.raises(ConfigError, match="'source' or 'visual'"):
        DASDTerms.from_dict({"guide": guide})


@pytest.mark.parametrize("value", ["1.0", None, True, [1.0], float("nan"), float("inf"), -1.0])
def test_a_weight_that_is_no_weight(value):
    with pytest.raises(ConfigError, match="cosine.*number"):
        DASDTerms.from_dict({"cosine": value})


@pytest.mark.parametrize(
    ("terms", "name", "value", "expected"),
    [
        (DASDTerms, "scale", 0, "more than 0"),
        (DASDTerms, "relational_scale", 0.0, "more than 0"),
        (DASDTerms, "anchor", 5, "at most 1"),
        (TransferTerms, "epsilon", 0, "more than 0"),
        (TransferTerms, "anchor", 1.1, "at most 1"),
        (CL2CMTerms, "temperature", 0, "more than 0"),
        (CL2CMTerms, "mask", 3, "at most 1"),
        (NRCCRTerms, "temperature", 0, "more than 0"),
    ],
)
def test_a_setting_out_of_its_range(terms, name, value, expected):
    with pytest.raises(ConfigError, match=f"`{name}` is {value}; expected {expected}"):
        terms.from_dict({name: value})


def test_terms_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        DASD.stages["cla"].alignment = 2.0


def test_a_method_says_what_it_minimises(bases):
    from ccr_adapters.modeling import CCRModel

    with pytest.raises(TypeError, match="Method does not say"):
        Method(CCRModel.from_base(bases["bert"]), None)()
