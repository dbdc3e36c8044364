"""Everything that touches peft's registry, in one place.

peft 0.21 has no public way in for a method that is not its own: `register_peft_method` accepts only names that are
already members of the `PeftType` enum. So a member is added to the enum first, and then the official function is
called. Relied upon, and guarded by `tests/dasd/test_register.py`:

1. `PeftType` is a `str` enum whose look-up tables are `_member_map_` and `_value2member_map_`;
2. `register_peft_method` fills peft's four mappings, which every other verb of peft reads;
3. `PeftConfig.peft_type` is compared and serialised as a string.

A plain string instead of a member passes through peft, but `transformers.PreTrainedModel.load_adapter` reads
`peft_type.value`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from peft.utils import PeftType, register_peft_method

if TYPE_CHECKING:
    from peft.config import PeftConfig
    from peft.tuners.tuners_utils import BaseTuner

NAME = "dasd"
PREFIX = "dasd_"


def add_peft_type(name: str) -> PeftType:
    """Return the enum member of a method, adding it on the first call.

    Args:
        name: The method's name; the member's is in capitals.
    """
    name = name.upper()
    if name not in PeftType.__members__:
        member = str.__new__(PeftType, name)
        member._name_ = name
        member._value_ = name
        # from Python 3.12 on `PeftType.DASD` is a class attribute; the two tables serve iteration and `PeftType("DASD")`
        setattr(PeftType, name, member)
        PeftType._member_names_.append(name)
        PeftType._member_map_[name] = member
        PeftType._value2member_map_[name] = member
    return PeftType(name)


def register_method(name: str, prefix: str, config_cls: type[PeftConfig], model_cls: type[BaseTuner]) -> None:
    """Make peft know a method; calling it again changes nothing.

    Args:
        name: The method's name, in lower case.
        prefix: What the names of its containers begin with.
        config_cls: Its configuration.
        model_cls: Its tuner.
    """
    if add_peft_type(name) not in PEFT_TYPE_TO_CONFIG_MAPPING:
        register_peft_method(name=name, config_cls=config_cls, model_cls=model_cls, prefix=prefix)


def dasd_peft_type() -> PeftType:
    """Return the enum member `PeftType.DASD`, adding it on the first call."""
    return add_peft_type(NAME)


def register_dasd(config_cls: type[PeftConfig], model_cls: type[BaseTuner]) -> None:
    """Make peft know DASD; calling it again changes nothing."""
    register_method(NAME, PREFIX, config_cls, model_cls)
