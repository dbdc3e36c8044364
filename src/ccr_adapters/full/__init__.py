"""Full fine-tuning as a PEFT method: importing this package registers it, so that every verb of peft knows it."""

from __future__ import annotations

from ccr_adapters.full.config import FullConfig
from ccr_adapters.full.layer import FullLayer
from ccr_adapters.full.model import FullModel
from ccr_adapters.full.register import register_full

register_full(FullConfig, FullModel)

__all__ = ["FullConfig", "FullLayer", "FullModel"]
