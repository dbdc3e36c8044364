"""What every method is: a model with its objective, whose forward pass gives named terms that add up to the loss."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn

from ccr_adapters.errors import ConfigError
from ccr_adapters.modeling import CCRModel
from ccr_adapters.objectives import alignment, mean_cosine, uniformity

T = TypeVar("T", bound="Terms")


@dataclass(frozen=True)
class Terms:
    """Weights and settings of one stage; a term with weight 0 is not computed. Each method has its own fields.

    A field of text has its choices in `CHOICES`, with the default first. A number that is no weight has its bounds in
    `RANGES`: more than the first, and at most the second.
    """

    CHOICES: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    RANGES: ClassVar[Mapping[str, tuple[float, float]]] = {}

    @classmethod
    def from_dict(cls: type[T], values: dict[str, Any], defaults: T | None = None) -> T:
        """Overlay weights on defaults, refusing a name that is no term."""
        known = {field.name: getattr(defaults, field.name) if defaults else field.default for field in fields(cls)}
        unknown = sorted(set(values) - set(known))
        if unknown:
            raise ConfigError(f"No such term: {', '.join(unknown)}. There are: {', '.join(known)}.")
        for name, value in values.items():
            if name in cls.CHOICES:
                if value not in cls.CHOICES[name]:
                    choices = " or ".join(repr(choice) for choice in cls.CHOICES[name])
                    raise ConfigError(f"`{name}` is {value!r}; expected {choices}.")
                continue
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not (number and 0 <= value < math.inf):
                raise ConfigError(f"Term `{name}` is {value!r}; expected a number, 0 or more.")
            above, most = cls.RANGES.get(name, (-math.inf, math.inf))
            if not above < value <= most:
                expected = f"at most {most:g}" if value > above else f"more than {above:g}"
                raise ConfigError(f"`{name}` is {value!r}; expected {expected}.")
        return cls(**{**known, **values})


class Method(nn.Module):
    """A model in training.

    A method is one file: its `Terms`, the published weights of its stages, what its batches must hold, and a forward pass.

    Args:
        model: The model.
        language: Code of the language that is trained; `None` trains the base itself.
        terms: Weights of the terms, of the method's `terms_class`.
        visual_bank: Vectors of all training pictures, where the method needs them. (M, d)
    """

    terms_class: ClassVar[type[Terms]] = Terms
    stages: ClassVar[Mapping[str, Terms]] = {}
    """Published weights by the name of the stage."""
    arguments: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    """Published training arguments by the name of the stage, where they are others than `CCRTrainingArguments` has."""
    adapter: ClassVar[Mapping[str, Any]] = {"peft_type": "DASD"}
    """The adapter that a recipe gets when it names none."""
    head: ClassVar[Mapping[str, Any] | None] = None
    """The mapping head that a recipe gets when it names none; `None`: the language stays in the base's space."""

    takes_head: ClassVar[bool] = True
    """Whether the language may live in a space of its own; not where captions are compared with the base's vectors."""

    def __init__(
        self, model: CCRModel, language: str | None, terms: Any = None, visual_bank: Tensor | None = None
    ) -> None:
        super().__init__()
        self.model = model
        self.language = language
        self._observed: dict[str, Tensor] = {}

    # ------------------------------------------------------------------------------------- what a method says of itself

    @classmethod
    def computed(cls, terms: Any, *, dynamic: bool) -> list[str]:
        """Names of the terms that are computed, for a dynamic adapter or for any other, which has no features."""
        weights = {field.name: getattr(terms, field.name) for field in fields(terms)}
        return [name for name, value in weights.items() if name not in {*terms.CHOICES, *terms.RANGES} and value]

    @classmethod
    def needs(cls, terms: Any) -> frozenset[str]:
        """What a batch must hold beside the target captions and the cached vectors.

        `"source_vectors"` are those of the frozen base, cached; `"source"` are the tokens of the source captions, `"back"`
        those of the back-translations; and `"bank"` are the vectors of all training pictures, given to the constructor.
        """
        return frozenset()

    def forward(self, **batch: Tensor) -> dict[str, Tensor]:
        """Terms of a batch; see the subclasses."""
        raise TypeError(f"{type(self).__name__} does not say what it minimises.")

    def modules_of(self, kind: str) -> list[nn.Module]:
        """Modules of one kind of parameter group: `"vocabulary"` or `"auxiliary"`; the rest are adapters."""
        if kind == "vocabulary" and self.language is not None:
            names = [self.language, *self.model.auxiliary]
            return [self.model.vocabularies[name] for name in names if name in self.model.vocabularies]
        return []

    @property
    def leaves_unused(self) -> bool:
        """Whether some trained parameters get no gradient, which several processes have to be told."""
        return False

    def reads_half(self) -> bool:
        """Whether one half of a dynamic adapter's features makes no weights: only a term on it gives it a gradient."""
        return self.model.conditions_on(str(self.language)) in ("related", "agnostic")

    def finish(self) -> None:
        """Remove what served training alone; called when a stage ends."""

    def activation_checkpointing_enable(self, **kwargs: Any) -> None:
        """Compute activations again in the backward pass; `Trainer` calls this, with transformers' own keywords."""
        self.model.activation_checkpointing_enable(**kwargs)

    def gradient_checkpointing_enable(self, **kwargs: Any) -> None:
        """The same, under its older name."""
        self.model.gradient_checkpointing_enable(**kwargs)

    # ------------------------------------------------------------------------------------------------ health of the run

    @torch.no_grad()
    def observe(self, **values: Tensor) -> None:
        """Keep figures of this step for the log."""
        self._observed.update({name: value.detach().float().mean() for name, value in values.items()})

    @torch.no_grad()
    def observe_vectors(self, target: Tensor, visual: Tensor) -> None:
        """Keep the figures that show a collapse: how alike captions are, how near to their pictures, how spread out.

        Args:
            target: Vectors of the target captions. (B, d)
            visual: Vectors of their pictures. (B, d)
        """
        if len(target) > 1:
            self.observe(
                mean_cosine=mean_cosine(target), alignment=alignment(target, visual), uniformity=uniformity(target)
            )

    def observed(self) -> dict[str, float]:
        """The figures of the last step, and the norm of what the generator learned."""
        found = {name: float(value) for name, value in self._observed.items()}
        norms = [p.detach().float().norm() for name, p in self.named_parameters() if "dasd_generator" in name]
        if norms:
            found["generator_norm"] = float(torch.stack(norms).norm())
        return found

    # ------------------------------------------------------------------------------------------------------ checkpoints

    def _trained(self) -> Iterator[tuple[str, Tensor]]:
        """Trained parameters, and the running statistics of a head, which training changes too."""
        for name, parameter in self.named_parameters():
            if parameter.requires_grad:
                yield name, parameter
        heads = {f"model.heads.{name}." for name in (self.language, *self.model.auxiliary) if name}
        for name, buffer in self.named_buffers():
            if name.startswith(tuple(heads)):
                yield name, buffer

    def trainable_state(self) -> dict[str, Tensor]:
        """Everything that training changes, for checkpoints: not the frozen base."""
        return {name: tensor.detach() for name, tensor in self._trained()}

    @torch.no_grad()
    def load_trainable_state(self, state: dict[str, Tensor]) -> None:
        """Put a checkpoint back.

        Raises:
            ConfigError: If it was written by another recipe.
        """
        own = dict(self._trained())
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
