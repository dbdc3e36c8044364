"""What the tests of training share: a toy task on a tiny text encoder, whose vectors can be learned by heart."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ccr_adapters.dasd import DASDConfig
from ccr_adapters.methods import DASD, DASDTerms, Method
from ccr_adapters.modeling import CCRModel
from ccr_adapters.processing.collator import TargetCollator
from ccr_adapters.training import CCRTrainer, CCRTrainingArguments

WORDS = ["Hund", "Katze", "Kind", "Frau", "Mann", "Vogel", "Ball", "Baum", "Haus", "Schnee", "rot", "blau", "alt"]
TERMS = DASDTerms(cosine=1.0, contrastive=0.1, consistency=0.1, adversarial=0.01, scale=10.0)
ROWS, PICTURES, WIDTH = 27, 9, 32


class Toy:
    """A task of 27 captions and 9 pictures, and trainers for it.

    Args:
        base: Folder of the text encoder.
    """

    def __init__(self, base: Path) -> None:
        self.base = base
        draw = random.Random(0)
        self.captions = [" ".join(draw.choices(WORDS, k=draw.randint(1, 4))) for _ in range(ROWS)]
        self.data = [{"row": row, "translation": text} for row, text in enumerate(self.captions)]
        noise = np.random.default_rng(0)
        self.source = noise.normal(size=(ROWS, WIDTH)).astype("float32")
        self.visual = noise.normal(size=(PICTURES, WIDTH)).astype("float32")
        self.image_index = np.arange(ROWS) // 3

    def method(self, terms: DASDTerms = TERMS, adapter: DASDConfig | None = None) -> DASD:
        """A method with an untrained language, always with the same weights."""
        torch.manual_seed(3)
        model = CCRModel.from_base(self.base)
        model.add_language("de", adapter or DASDConfig(r=4, condition_dim=16, generator_rank=4))
        model.trainable("de")
        return DASD(model, "de", terms)

    def collator(self, model: CCRModel) -> TargetCollator:
        """The collator, with the vectors that the captions must find."""
        return TargetCollator(model.processor, "de", self.visual, self.image_index, source=self.source)

    def trainer(self, output: Path, method: Method | None = None, **values: Any) -> CCRTrainer:
        """A trainer of 3 steps an epoch; `values` are training arguments, or `Trainer`'s own."""
        method = method or self.method()
        own = {key: values.pop(key) for key in ("callbacks", "evaluate_method", "data_collator") if key in values}
        lengths = values.pop("lengths", [len(text.split()) for text in self.captions])
        defaults = {
            "output_dir": str(output),
            "use_cpu": True,
            "per_device_train_batch_size": 8,
            "num_train_epochs": 3,
            "learning_rate": 5e-3,
            "logging_steps": 1,
            "save_strategy": "no",
            "disable_tqdm": True,
        }
        return CCRTrainer(
            method,
            CCRTrainingArguments(**{**defaults, **values}),
            lengths=lengths,
            train_dataset=self.data,
            **{"data_collator": self.collator(method.model), **own},
        )


@pytest.fixture
def toy(bases: dict[str, Path]) -> Toy:
    """The toy task."""
    return Toy(bases["bert"])


@pytest.fixture
def same() -> Callable[[Method, Method], None]:
    """Function that compares what two methods trained, bit for bit."""

    def check(one: Method, other: Method) -> None:
        left, right = one.trainable_state(), other.trainable_state()
        assert left.keys() == right.keys()
        assert [name for name in left if not left[name].equal(right[name])] == []

    return check
