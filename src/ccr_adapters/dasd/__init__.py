"""DASD as a PEFT method: importing this package registers it, so that every verb of peft knows the adapter."""

from __future__ import annotations

from ccr_adapters.dasd.anatomy import TextEncoder, find_text_encoder
from ccr_adapters.dasd.condition import BASE, Condition, Features
from ccr_adapters.dasd.config import DASDConfig
from ccr_adapters.dasd.layer import DASDLayer
from ccr_adapters.dasd.model import DASDModel
from ccr_adapters.dasd.register import register_dasd

register_dasd(DASDConfig, DASDModel)

__all__ = [
    "BASE",
    "Condition",
    "DASDConfig",
    "DASDLayer",
    "DASDModel",
    "Features",
    "TextEncoder",
    "find_text_encoder",
]
