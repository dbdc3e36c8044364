"""What every method is: a model with its objective, whose forward pass gives named terms that add up to the loss."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn

from ccr_adapters.errors import ConfigError
from ccr_adapters.modeling import CCRModel


@dataclass(frozen=True)
class Terms:
    """Weights of the terms of one stage; a term with weight 0 is not computed.

    Args:
        alignment: Mean squared error between the raw target and source vectors.
        cosine: One minus their cosine: the same pull, on vectors of unit length.
        contrastive: InfoNCE between captions and pictures, both ways, negatives from the batch of all processes.
        bank: InfoNCE of captions against all training pictures at once, whose vectors are cached.
        relational: Divergence from the source captions' softmax over all training pictures to the target captions'.
        consistency: L1 between the semantic-related feature and the guide.
        adversarial: The encoder's side of the adversary.
        scale: Inverse temperature of `contrastive` and `bank`.
        relational_scale: Inverse temperature of `relational`.
        guide: What the disentangled features are compared with, `"source"` or `"visual"`.
    """

    alignment: float = 0.0
    cosine: float = 0.0
    contrastive: float = 0.0
    bank: float = 0.0
    relational: float = 0.0
    consistency: float = 0.0
    adversarial: float = 0.0
    scale: float = 100.0
    relational_scale: float = 20.0
    guide: str = "source"

    @classmethod
    def from_dict(cls, values: dict[str, Any], defaults: Terms | None = None) -> Terms:
        """Overlay weights on defaults, refusing a name that is no term."""
        known = {field.name: getattr(defaults, field.name) if defaults else field.default for field in fields(cls)}
        unknown = sorted(set(values) - set(known))
        if unknown:
            raise ConfigError(f"No such term: {', '.join(unknown)}. There are: {', '.join(known)}.")
        for name, value in values.items():
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if name != "guide" and not (number and 0 <= value < math.inf):
                raise ConfigError(f"Term `{name}` is {value!r}; expected a number, 0 or more.")
        merged = cls(**{**known, **values})
        if merged.guide not in ("source", "visual"):
            raise ConfigError(f"`guide` is {merged.guide!r}; expected 'source' or 'visual'.")
        return merged

    def computed(self, *, dynamic: bool) -> list[str]:
        """Names of the terms that are computed, for a dynamic adapter or for any other, which has no features."""
        names = ["alignment", "cosine", "contrastive", "bank", "relational"]
        names += ["consistency", "adversarial"] if dynamic else []
        return [name for name in names if getattr(self, name)]


class Method(nn.Module):
    """A model in training.

    Args:
        model: The model.
        language: Code of the language that is trained; `None` trains the base itself.
    """

    def __init__(self, model: CCRModel, language: str | None) -> None:
        super().__init__()
        self.model = model
        self.language = language

    def forward(self, **batch: Tensor) -> dict[str, Tensor]:
        """Terms of a batch; see the subclasses."""
        raise TypeError(f"{type(self).__name__} does not say what it minimises.")

    def modules_of(self, kind: str) -> list[nn.Module]:
        """Modules of one kind of parameter group: `"vocabulary"` or `"auxiliary"`; the rest are adapters."""
        if kind == "vocabulary" and self.language is not None and self.language in self.model.vocabularies:
            return [self.model.vocabularies[self.language]]
        return []

    def trainable_state(self) -> dict[str, Tensor]:
        """Everything that training changes, for checkpoints: not the frozen base."""
        return {name: parameter.detach() for name, parameter in self.named_parameters() if parameter.requires_grad}

    @torch.no_grad()
    def load_trainable_state(self, state: dict[str, Tensor]) -> None:
        """Put a checkpoint back.

        Raises:
            ConfigError: If it was written by another recipe.
        """
        own = {name: parameter for name, parameter in self.named_parameters() if parameter.requires_grad}
        missing, extra = sorted(set(own) - set(state)), sorted(set(state) - set(own))
        wrong = [name for name in set(own) & set(state) if own[name].shape != state[name].shape]
        if missing or extra or wrong:
            raise ConfigError(
                f"The checkpoint was written by another recipe: {len(missing)} parameters missing, {len(extra)} "
                f"unexpected, {len(wrong)} of another shape ({', '.join((missing + extra + wrong)[:3])}). "
                "Start in an empty output folder, or restore the recipe."
            )
        for name, parameter in own.items():
            parameter.copy_(state[name])
