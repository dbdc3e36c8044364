"""`CCRConfig`: which base a model stands on, and what each of its languages brings along."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any, ClassVar

from transformers import PreTrainedConfig

from ccr_adapters.errors import ConfigError

BASE_LANGUAGES = frozenset({"en", "__base__"})
"""Names that mean the base itself, without an adapter (as does `None`)."""


@dataclass
class VocabularyConfig:
    """The target language's own token embedding.

    Args:
        size: Number of tokens.
        width: Width of a row, `e`. Rows of another width than the encoder's go through a linear map.
        projection: Put the linear map there even where the widths agree. `None`: only where they differ.
        train: Which rows are trained and saved: `"all"`, `"touched"` (those that the training captions use) or
            `"none"` (the table comes whole from `source`).
        source: Model whose token embedding the table starts from; needed to rebuild untrained rows.
    """

    size: int
    width: int
    projection: bool | None = None
    train: str = "all"
    source: str | None = None

    def __post_init__(self) -> None:
        if self.train not in ("all", "touched", "none"):
            raise ConfigError(f"Vocabulary: `train` is {self.train!r}; expected 'all', 'touched' or 'none'.")
        if self.size < 1 or self.width < 1:
            raise ConfigError(f"Vocabulary: {self.size} tokens of width {self.width}; both must be positive.")
        if self.train == "none" and self.source is None:
            raise ConfigError("Vocabulary: an untrained table needs a `source`, the model that its rows come from.")


@dataclass
class LanguageConfig:
    """What one language adds to the base.

    Args:
        vocabulary: Its own token embedding; `None` when it uses the base's tokenizer.
        max_length: Longest caption in tokens, the end token included.
        folder: Where its files lie, relative to the repository.
        recipe: What it was trained with, for people (method, data, seed).
    """

    vocabulary: VocabularyConfig | None = None
    max_length: int = 77
    folder: str = ""
    recipe: dict[str, Any] | None = None

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> LanguageConfig:
        """Build from JSON, refusing keys that are not known."""
        known = {item.name for item in fields(cls)}
        _refuse_unknown(set(values) - known, known, "a language")
        values = dict(values)
        vocabulary = values.get("vocabulary")
        if isinstance(vocabulary, dict):
            allowed = {item.name for item in fields(VocabularyConfig)}
            _refuse_unknown(set(vocabulary) - allowed, allowed, "a vocabulary")
            values["vocabulary"] = VocabularyConfig(**vocabulary)
        return cls(**values)


def _refuse_unknown(unknown: set[str], known: set[str], what: str) -> None:
    if unknown:
        raise ConfigError(
            f"Unknown key{'s' if len(unknown) > 1 else ''} in the configuration of {what}: {', '.join(sorted(unknown))}. "
            f"Known: {', '.join(sorted(known))}. Check the spelling, or update ccr-adapters if the file is newer."
        )


class CCRConfig(PreTrainedConfig):
    """Configuration of a [`CCRModel`].

    Args:
        base_model_name_or_path: The frozen base: a repository or a folder.
        base_revision: Its revision, where it has one.
        base_sha256: Hash of its weights; a base with others is refused.
        base_config: The base's own configuration, as a dictionary.
        pooling: How a text encoder without an image tower makes one vector of a caption: `"mean"` or `"first"`.
        visual_dim: Width of precomputed visual vectors, for a base without an image tower.
        languages: What each language adds, by its code.

    Raises:
        ConfigError: If a key is not known.
    """

    model_type = "ccr"
    _own: ClassVar[tuple[str, ...]] = (
        "base_model_name_or_path",
        "base_revision",
        "base_sha256",
        "base_config",
        "pooling",
        "visual_dim",
        "languages",
    )

    base_model_name_or_path: str | None = None
    base_revision: str | None = None
    base_sha256: str | None = None
    base_config: dict[str, Any] | None = None
    pooling: str | None = None
    visual_dim: int | None = None
    languages: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self, **kwargs: Any) -> None:
        # what every transformers config may carry beside its own fields
        common = {
            "transformers_version",
            "model_type",
            "auto_map",
            "name_or_path",
            "attn_implementation",
            "torch_dtype",
        }
        unknown = {key for key in kwargs if not key.startswith("_") and key not in common}
        _refuse_unknown(unknown, set(self._own), "the model")
        super().__post_init__(**kwargs)
        self.languages = {
            code: value if isinstance(value, LanguageConfig) else LanguageConfig.from_dict(value)
            for code, value in (self.languages or {}).items()
        }

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        values = super().to_dict()
        values["languages"] = {
            code: asdict(value) if isinstance(value, LanguageConfig) else value
            for code, value in (self.languages or {}).items()
        }
        return values
