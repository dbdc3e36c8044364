"""What the tests of full fine-tuning share: every kind of encoder, copies that are no longer those of the base."""

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
    """Function that changes all copies, so that a silent re-initialisation shows."""

    def change(model: nn.Module, seed: int = 1, scale: float = 0.1) -> nn.Module:
        generator = torch.Generator().manual_seed(seed)
        for name, parameter in model.named_parameters():
            if ".full_copy." in name:
                parameter.data += scale * torch.randn(parameter.shape, generator=generator)
        return model

    return change


@pytest.fixture(scope="session")
def embed() -> Callable[..., Tensor]:
    """Function that runs captions through any of the encoders, adapted or not: token states and, if any, embeddings."""

    def run(model: nn.Module, batch: dict[str, Tensor], **kwargs) -> Tensor:
        inner = model.get_base_model() if hasattr(model, "get_base_model") else model
        if hasattr(inner, "vision_model"):
            # a whole dual encoder, with a picture to keep the other tower company
            output = model(**batch, pixel_values=torch.ones(1, 3, 16, 16), **kwargs)
            found = [output.text_model_output.last_hidden_state, output.text_embeds]
        else:
            output = model(**batch, **kwargs)
            pooled = getattr(output, "text_embeds", None)
            found = [output.last_hidden_state, output.pooler_output if pooled is None else pooled]
        return torch.cat([each.flatten() for each in found])

    return run
