"""What the tests of the adapter share: every kind of encoder, adapters that are no longer the identity."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

TEXT_ENCODERS = ["tiny_clip_text", "tiny_siglip_text", "tiny_bert", "tiny_xlmr"]
DUAL_ENCODERS = ["tiny_clip", "tiny_siglip"]


@pytest.fixture(params=TEXT_ENCODERS)
def text_encoder(request) -> Callable[[], nn.Module]:
    """Factory of a text encoder, one kind after the other."""
    return request.getfixturevalue(request.param)


@pytest.fixture(params=TEXT_ENCODERS + DUAL_ENCODERS)
def encoder(request) -> Callable[[], nn.Module]:
    """Factory of a text encoder or of a whole dual encoder."""
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="session")
def stir() -> Callable[..., nn.Module]:
    """Function that changes all adapter weights, so that a silent re-initialisation shows."""

    def change(model: nn.Module, seed: int = 1, scale: float = 0.1) -> nn.Module:
        generator = torch.Generator().manual_seed(seed)
        for name, parameter in model.named_parameters():
            if "dasd_" in name:
                parameter.data += scale * torch.randn(parameter.shape, generator=generator)
        return model

    return change


@pytest.fixture(scope="session")
def states() -> Callable[..., Tensor]:
    """Function that runs captions through any of the encoders, adapted or not, and returns their token states."""

    def run(model: nn.Module, batch: dict[str, Tensor], **kwargs) -> Tensor:
        inner = model.get_base_model() if hasattr(model, "get_base_model") else model
        if hasattr(inner, "vision_model"):
            # a whole dual encoder: the text tower's states, with a picture to keep the other tower company
            pixels = torch.ones(1, 3, 16, 16)
            return model(**batch, pixel_values=pixels, **kwargs).text_model_output.last_hidden_state
        return model(**batch, **kwargs).last_hidden_state

    return run
