"""What the tests of the model share: models on real folders, with adapters that are no longer the identity."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from ccr_adapters.dasd import DASDConfig
from ccr_adapters.modeling import CCRModel


@pytest.fixture(scope="session")
def stir() -> Callable[..., nn.Module]:
    """Function that changes all weights of the languages, so that a silent re-initialisation shows."""

    def change(model: nn.Module, seed: int = 1, scale: float = 0.05) -> nn.Module:
        generator = torch.Generator().manual_seed(seed)
        for name, parameter in model.named_parameters():
            trained_row = name.startswith("vocabularies") and (parameter.requires_grad or "table" not in name)
            if "dasd_" in name or "lora_" in name or trained_row:
                parameter.data += scale * torch.randn(parameter.shape, generator=generator)
        return model

    return change


@pytest.fixture(params=["clip", "siglip", "bert"])
def family(request) -> str:
    """One kind of base after the other."""
    return request.param


@pytest.fixture
def build(bases, stir) -> Callable[..., CCRModel]:
    """Function that builds a model on a base, with changed dynamic languages that share its tokenizer."""

    def make(family: str, *codes: str, **values: Any) -> CCRModel:
        model = CCRModel.from_base(bases[family])
        for code in codes:
            model.add_language(code, DASDConfig(r=4, generator_rank=4, **values))
        return stir(model)

    return make


@pytest.fixture(scope="session")
def pictures() -> list[Image.Image]:
    """Pictures of several sizes and modes."""
    noise = np.random.default_rng(0).integers(0, 255, (40, 30, 3), dtype=np.uint8)
    found = [Image.fromarray(noise), Image.new("RGB", (16, 16), "red"), Image.fromarray(noise[:20]).convert("L")]
    return [*found, Image.new("RGBA", (9, 30), (0, 80, 200, 128))]
