"""The name under which peft knows the method; how a name is made known stands in `ccr_adapters.dasd.register`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ccr_adapters.dasd.register import add_peft_type, register_method

if TYPE_CHECKING:
    from peft.config import PeftConfig
    from peft.tuners.tuners_utils import BaseTuner
    from peft.utils import PeftType

NAME = "full"
PREFIX = "full_"


def full_peft_type() -> PeftType:
    """Return the enum member `PeftType.FULL`, adding it on the first call."""
    return add_peft_type(NAME)


def register_full(config_cls: type[PeftConfig], model_cls: type[BaseTuner]) -> None:
    """Make peft know the method; calling it again changes nothing."""
    register_method(NAME, PREFIX, config_cls, model_cls)
