"""What the tests of exports share: models of every kind of base and adapter, with weights that are not the identity."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig
from PIL import Image

from ccr_adapters.configuration import HeadConfig, VocabularyConfig
from ccr_adapters.dasd import DASDConfig
from ccr_adapters.full import FullConfig
from ccr_adapters.modeling import CCRModel

SMALL = {"r": 4, "generator_rank": 4, "init_weights": False}
HEAD = {"space": 20, "width": 16, "attention_heads": 2}
VOCABULARY = 120

# what a language brings: its adapter, and whether it has a tokenizer of its own
KINDS: dict[str, tuple[Callable[[], Any], dict[str, Any]]] = {
    "dynamic": (lambda: DASDConfig(**SMALL), {}),
    "dynamic, published": (lambda: DASDConfig(r=4, generator_rank=None, init_weights=False), {"own": "all"}),
    "upper blocks": (lambda: DASDConfig(**SMALL, layers_to_transform=[1, 2]), {"own": "all"}),
    "one core": (lambda: DASDConfig(**SMALL, condition_on="nothing"), {}),
    "static": (lambda: DASDConfig(mode="static", r=4, init_weights=False), {"own": "touched"}),
    "LoRA": (lambda: LoraConfig(r=4, init_lora_weights=False), {}),
    "LoRA, own tokens": (lambda: LoraConfig(r=4, init_lora_weights=False), {"own": "all"}),
    "full": (lambda: FullConfig(), {}),
    "head": (lambda: DASDConfig(**SMALL), {"own": "all", "head": HEAD}),
    "head, padding": (lambda: DASDConfig(**SMALL), {"head": {**HEAD, "read_padding": True}}),
    "padding read": (lambda: DASDConfig(**SMALL, sa_all_positions=True), {"own": "all", "pad_to": 24}),
}


@pytest.fixture(scope="session")
def make(bases, german_tokenizer) -> Callable[..., CCRModel]:
    """Function that builds a model with a language `de` of some kind, and another one beside it."""

    def build(family: str, kind: str = "dynamic") -> CCRModel:
        torch.manual_seed(3)
        adapter, values = KINDS[kind]
        parts: dict[str, Any] = {}
        if "own" in values:
            touched = range(4, 80) if values["own"] == "touched" else None
            vocabulary = VocabularyConfig(VOCABULARY, 20, train=values["own"])
            parts = {"tokenizer": german_tokenizer, "vocabulary": vocabulary, "touched": touched}
        if "head" in values:
            parts["head"] = HeadConfig(**values["head"])
        model = CCRModel.from_base(bases[family])
        model.add_language("cs", adapter())
        model.add_language("de", adapter(), **parts)
        model.config.languages["de"].pad_to = values.get("pad_to")
        for name, parameter in model.named_parameters():
            if "full_copy" in name:
                parameter.data += 0.1 * torch.randn_like(parameter)
        return model.eval()

    return build


@pytest.fixture(scope="session")
def captions(german) -> list[str]:
    """Captions of all lengths: a word, sentences, and one that is longer than any base takes."""
    return ["Hund", *german, " ".join(german)]


@pytest.fixture(scope="session")
def pictures() -> list[Image.Image]:
    """Pictures of several sizes and modes."""
    noise = np.random.default_rng(0).integers(0, 255, (40, 30, 3), dtype=np.uint8)
    found = [Image.fromarray(noise), Image.new("RGB", (16, 16), "red"), Image.fromarray(noise[:20]).convert("L")]
    return [*found, Image.new("RGBA", (9, 30), (0, 80, 200, 128))]
