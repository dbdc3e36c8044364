"""What the rooms of a model need of each other: files of this folder meet the model as this, and never import it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from peft import PeftConfig
from torch import Tensor, nn

from ccr_adapters.configuration import LanguageConfig
from ccr_adapters.dasd import Condition
from ccr_adapters.modeling.shelf import Place, Shelf
from ccr_adapters.processing import CCRProcessor


class Encodes(Protocol):
    """A model that turns ids and pixels into vectors."""

    base: Any
    vocabularies: nn.ModuleDict
    heads: nn.ModuleDict
    processor: CCRProcessor | None

    @property
    def device(self) -> torch.device:
        """Where the weights are."""

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the weights."""

    @property
    def embedding_dim(self) -> int:
        """Width of the shared space."""

    def resolve_language(self, code: str | None) -> str | None:
        """The language that a code means; `None` for the base."""

    def mixes_languages(self) -> bool:
        """Whether rows of several languages can share a pass."""

    def space(self, code: str | None) -> str | None:
        """Whose space the vectors of a language live in."""

    def language_config(self, code: str) -> LanguageConfig:
        """What a language adds to the base."""

    def dim_of(self, code: str | None) -> int:
        """Width of that space."""

    def base_features(self, **inputs: Tensor) -> Tensor:
        """Features of the base, untouched by adapters."""

    def target_features(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None,
        pooled_at: Tensor | None,
        language: str | Sequence[str],
        *,
        source: bool = False,
    ) -> tuple[Tensor, Tensor, Condition]:
        """Features of captions with their adapters."""

    def get_image_features(self, pixel_values: Tensor, **kwargs: Any) -> Any:
        """Features of pictures."""


class HoldsLanguages(Protocol):
    """A model whose languages can be written and read."""

    base: Any
    base_folder: Path | None
    base_frozen: bool
    config: Any
    shelf: Shelf
    verified_sha256: str | None
    vocabularies: nn.ModuleDict
    heads: nn.ModuleDict
    processor: CCRProcessor | None

    @property
    def languages(self) -> list[str]:
        """Codes of the languages."""

    @property
    def loaded_languages(self) -> list[str]:
        """Codes of those in memory."""

    def known_language(self, code: str) -> str:
        """The code, if it has an adapter."""

    def language_config(self, code: str) -> LanguageConfig:
        """What a language adds to the base."""

    def check_new_language(self, code: str) -> None:
        """Refuse a code that is taken or reserved."""

    def inject(self, adapter: PeftConfig, code: str, device: str | None = None) -> None:
        """Put an untrained adapter into the base."""

    def build_head(self, config: Any) -> nn.Module:
        """An untrained head for this base."""

    def delete_language(self, code: str) -> None:
        """Remove a language."""

    def take_language(self, code: str) -> None:
        """Unload a language."""

    def may_leave(self, code: str) -> bool:
        """Whether nothing would be lost if it were unloaded."""

    def put_language(self, code: str, place: Place) -> None:
        """Load a language that was fetched."""

    def set_language(self, code: str | None) -> None:
        """Choose the active language."""

    def base_sha256(self) -> str:
        """Hash of the base's weights."""
