"""A language folded into copies of the base's modules: what is left of peft is the dynamic blocks alone."""

from __future__ import annotations

from typing import Any

from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn

from ccr_adapters.dasd import DASDLayer
from ccr_adapters.errors import ExportError
from ccr_adapters.full import FullLayer


def fold(module: nn.Module, code: str | None) -> bool:
    """Put one language into a module for good: linear maps merged, fine-tuned copies taken, other languages removed.

    Args:
        module: A copy of modules of the base; changed in place.
        code: The language; `None` leaves the plain base.

    Returns:
        Whether blocks with an adapter of ours remain, whose cores are made for each caption.

    Raises:
        ExportError: If the language's method has no weights that could be merged.
    """
    folded: dict[int, nn.Module] = {}
    # a part can lie in two places: the pooling head inside the text module, and first among the maps
    for name, layer in list(module.named_modules(remove_duplicate=False)):
        if isinstance(layer, BaseTunerLayer):
            if id(layer) not in folded:
                folded[id(layer)] = _folded(layer, code)
            parent, _, child = name.rpartition(".")
            setattr(module.get_submodule(parent), child, folded[id(layer)])
    return any(isinstance(layer, DASDLayer) for layer in folded.values())


def _folded(layer: Any, code: str | None) -> nn.Module:
    base: nn.Module = layer.get_base_layer()
    there = code is not None and any(code in getattr(layer, name) for name in layer.adapter_layer_names)
    if code is None or not there:
        return base
    if isinstance(layer, FullLayer):
        return layer.unload_and_optionally_merge_module(True, adapter_names=[code])
    if isinstance(layer, DASDLayer):
        layer._disable_adapters = False
        layer.set_adapter([code])
        for other in set(layer.dasd_settings) - {code}:
            layer.delete_adapter(other)
        return layer
    try:
        layer.merge(safe_merge=True, adapter_names=[code])
    except (NotImplementedError, ValueError) as error:
        raise ExportError(
            f"The adapter of {code!r} cannot be merged into a {type(base).__name__} ({error}), so it cannot be exported. Encode "
            "with CCRModel.encode_text."
        ) from error
    return base
