"""Adapters to and from the Hub: push, pull, list, what a repository's bytes are made of, and others' checkpoints."""

from __future__ import annotations

from ccr_adapters.hub.conversion import Converted
from ccr_adapters.hub.convert import convert_checkpoint
from ccr_adapters.hub.info import AdapterInfo, adapter_info
from ccr_adapters.hub.listing import Listed, list_adapters
from ccr_adapters.hub.pull import pull_adapter
from ccr_adapters.hub.push import push_adapter
from ccr_adapters.modeling.upload import Pushed

__all__ = [
    "push_adapter",
    "Pushed",
    "pull_adapter",
    "list_adapters",
    "Listed",
    "adapter_info",
    "AdapterInfo",
    "convert_checkpoint",
    "Converted",
]
