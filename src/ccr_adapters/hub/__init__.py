"""Adapters to and from the Hub: push, pull, list, and what a repository's bytes are made of."""

from __future__ import annotations

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
]
