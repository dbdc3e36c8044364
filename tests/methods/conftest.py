"""What the tests of methods share: models with a language that is no longer the identity, and batches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ccr_adapters.dasd import DASDConfig
from ccr_adapters.modeling import CCRModel
from ccr_adapters.processing.collator import TargetCollator


@pytest.fixture
def build(bases) -> Callable[..., CCRModel]:
    """Function that builds a model with a trained-like German adapter."""

    def make(family: str = "bert", **values: Any) -> CCRModel:
        torch.manual_seed(5)
        model = CCRModel.from_base(bases[family])
        dynamic = {} if values.get("mode") == "static" else {"condition_dim": 16, "generator_rank": 4}
        model.add_language("de", DASDConfig(r=4, init_weights=False, **dynamic, **values))
        model.trainable("de")
        return model

    return make


@pytest.fixture
def captions(german) -> list[str]:
    """Six German captions that the bases' tokenizer need not cut."""
    return [" ".join(text.split()[: 1 + row % 3]) for row, text in enumerate(german)]


@pytest.fixture
def batch(captions, english) -> Callable[..., dict[str, Tensor]]:
    """Function that makes a training batch for a model: six German captions of four pictures."""

    def make(model: CCRModel, *roles: str) -> dict[str, Tensor]:
        noise = np.random.default_rng(1)
        width = model.embedding_dim
        source = noise.normal(size=(6, width)).astype("float32")
        visual = noise.normal(size=(4, width)).astype("float32")
        shows = np.array([0, 0, 1, 2, 3, 3])
        collate = TargetCollator(model.processor, "de", visual, shows, source=None if roles else source, roles=roles)
        rows = [
            {"row": row, "translation": text, "caption": english[row], "back_translation": english[row - 1]}
            for row, text in enumerate(captions)
        ]
        return collate(rows)

    return make
