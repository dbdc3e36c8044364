"""What the method relies on in peft's registry, one test a claim of the docstring of `register.py`."""

from __future__ import annotations

import copy
import json
import pickle
from enum import Enum

import pytest
from peft import PeftConfig, PeftType
from peft.mapping import (
    PEFT_TYPE_TO_CONFIG_MAPPING,
    PEFT_TYPE_TO_MIXED_MODEL_MAPPING,
    PEFT_TYPE_TO_PREFIX_MAPPING,
    PEFT_TYPE_TO_TUNER_MAPPING,
)
from peft.utils import register_peft_method

from ccr_adapters.dasd import DASDConfig, DASDModel
from ccr_adapters.dasd.register import dasd_peft_type, register_dasd


def test_peft_type_is_a_string_enum_with_the_tables_that_are_written_to():
    assert issubclass(PeftType, str)
    assert issubclass(PeftType, Enum)
    assert PeftType._member_map_["LORA"] is PeftType.LORA
    assert PeftType._value2member_map_["LORA"] is PeftType.LORA
    assert "LORA" in PeftType._member_names_


def test_peft_refuses_a_name_that_is_no_member():
    # the day this passes, the enum need not be touched any more
    with pytest.raises(ValueError, match="(?i)unknown|invalid|not"):
        register_peft_method(name="no_such_method", config_cls=DASDConfig, model_cls=DASDModel, prefix="x_")


def test_the_official_function_fills_the_tables_that_the_verbs_read():
    member = PeftType("DASD")
    assert PEFT_TYPE_TO_CONFIG_MAPPING[member] is DASDConfig
    assert PEFT_TYPE_TO_TUNER_MAPPING[member] is DASDModel
    assert PEFT_TYPE_TO_PREFIX_MAPPING[member] == "dasd_"
    assert member not in PEFT_TYPE_TO_MIXED_MODEL_MAPPING


def test_registering_twice_changes_nothing():
    members = list(PeftType)
    before = dict(PEFT_TYPE_TO_CONFIG_MAPPING), dict(PEFT_TYPE_TO_TUNER_MAPPING)
    register_dasd(DASDConfig, DASDModel)
    assert dasd_peft_type() is PeftType("DASD")
    assert list(PeftType) == members
    assert members.count("DASD") == 1
    assert (dict(PEFT_TYPE_TO_CONFIG_MAPPING), dict(PEFT_TYPE_TO_TUNER_MAPPING)) == before


def test_the_member_behaves_like_any_other():
    member = PeftType("DASD")
    assert member is PeftType["DASD"] is PeftType.__members__["DASD"]
    assert isinstance(member, PeftType)
    assert member == "DASD"
    assert (member.name, member.value) == ("DASD", "DASD")  # transformers' load_adapter reads `.value`
    assert {member: 1}["DASD"] == 1
    assert copy.deepcopy(member) is copy.copy(member) is pickle.loads(pickle.dumps(member)) is member
    assert json.loads(json.dumps({"peft_type": member})) == {"peft_type": "DASD"}


def test_peft_finds_the_configuration_by_its_type_alone(tmp_path):
    config = DASDConfig(r=7, target_modules=["encoder.layers.0"])
    config.save_pretrained(tmp_path)
    written = json.loads((tmp_path / "adapter_config.json").read_text(encoding="utf-8"))
    assert written["peft_type"] == "DASD"
    loaded = PeftConfig.from_pretrained(tmp_path)
    assert type(loaded) is DASDConfig
    assert loaded == config
    assert pickle.loads(pickle.dumps(config)) == copy.deepcopy(config) == config
