"""A hash of a base model's weights: an adapter is worth nothing on any other."""

from __future__ import annotations

import hashlib

import torch
from torch import nn


def weights_sha256(model: nn.Module) -> str:
    """Hash all parameters of a model, adapters left out.

    Values are rounded to bfloat16 first, so that a base gives the same hash whether it was loaded in float32 or in
    bfloat16; names are those that the parameters had before any block was wrapped.

    Args:
        model: The base, bare or already adapted.

    Returns:
        64 hexadecimal digits.
    """
    digest = hashlib.sha256()
    # peft's containers begin with the method's prefix; whatever stands inside a wrapper beside `base_layer` is adapter
    wrappers = {name for name, module in model.named_modules() if hasattr(module, "base_layer")}
    named = []
    for name, parameter in model.named_parameters():
        inside = [wrapper for wrapper in wrappers if name.startswith(f"{wrapper}.")]
        if all(name.startswith(f"{wrapper}.base_layer.") for wrapper in inside):
            named.append((name.replace(".base_layer.", "."), parameter))
    for name, parameter in sorted(named, key=lambda pair: pair[0]):
        digest.update(f"{name}{tuple(parameter.shape)}".encode())
        digest.update(parameter.detach().to("cpu", torch.bfloat16).contiguous().view(torch.int16).numpy().tobytes())
    return digest.hexdigest()
