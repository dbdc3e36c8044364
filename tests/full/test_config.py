"""The configuration: a sentence for a value that cannot work, and a round trip through a file."""

from __future__ import annotations

import copy
import json
import pickle

import pytest
from peft import PeftConfig, PeftType
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING, PEFT_TYPE_TO_PREFIX_MAPPING, PEFT_TYPE_TO_TUNER_MAPPING

from ccr_adapters.full import FullConfig, FullModel
from ccr_adapters.full.register import full_peft_type, register_full


def test_by_default_all_blocks_and_the_head_train():
    config = FullConfig()
    assert config.layers_to_transform is None
    assert config.head is True
    assert config.target_modules is None


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"head": "yes"}, "`head` is 'yes'; expected True or False"),
        ({"layers_to_transform": [0, -1]}, r"`layers_to_transform` is \[0, -1\]; expected indices"),
        ({"layers_to_transform": -1}, "`layers_to_transform` is -1"),
        ({"layers_to_transform": True}, "`layers_to_transform` is True"),
        ({"layers_to_transform": ["1"]}, r"`layers_to_transform` is \['1'\]"),
        ({"layers_to_transform": "1"}, "`layers_to_transform` is '1'"),
        ({"layers_to_transform": [1], "target_modules": ["layers.1"]}, "not both"),
    ],
)
def test_a_value_that_cannot_work_is_named(values, named):
    with pytest.raises(ValueError, match=named):
        FullConfig(**values)


def test_an_unknown_key_is_refused():
    with pytest.raises(TypeError, match="layers"):
        FullConfig(layers=[1])


def test_peft_knows_the_method_by_its_name():
    member = PeftType("FULL")
    assert PEFT_TYPE_TO_CONFIG_MAPPING[member] is FullConfig
    assert PEFT_TYPE_TO_TUNER_MAPPING[member] is FullModel
    assert PEFT_TYPE_TO_PREFIX_MAPPING[member] == "full_"
    members = list(PeftType)
    register_full(FullConfig, FullModel)
    assert full_peft_type() is member is PeftType.FULL
    assert list(PeftType) == members
    assert members.count("FULL") == 1


@pytest.mark.parametrize(
    "values",
    [
        {"layers_to_transform": [1, 2], "head": False, "exclude_modules": ["text_projection"]},
        {"target_modules": ["encoder.layer.1", "encoder.layer.0"], "modules_to_save": ["pooler"]},
    ],
)
def test_the_configuration_survives_a_round_trip(values, tmp_path):
    config = FullConfig(**values)
    config.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "adapter_config.json").read_text(encoding="utf-8"))["peft_type"] == "FULL"
    loaded = PeftConfig.from_pretrained(tmp_path)
    assert type(loaded) is FullConfig
    assert loaded == config
    assert pickle.loads(pickle.dumps(config)) == copy.deepcopy(config) == config
