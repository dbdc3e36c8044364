"""`CCRConfig`: which base a model stands on, and what each of its languages brings along."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any, ClassVar

from transformers import AutoConfig, PreTrainedConfig

from ccr_adapters.errors import ConfigError, first_line

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
        source_sha256: Hash of that table; one that has changed since is refused.
    """

    size: int
    width: int
    projection: bool | None = None
    train: str = "all"
    source: str | None = None
    source_sha256: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.projection, (bool, type(None))):
            raise ConfigError(f"Vocabulary: `projection` is {self.projection!r}; expected true, false or null.")
        if self.train not in ("all", "touched", "none"):
            raise ConfigError(f"Vocabulary: `train` is {self.train!r}; expected 'all', 'touched' or 'none'.")
        if not _is_count(self.size) or not _is_count(self.width):
            raise ConfigError(f"Vocabulary: {self.size} tokens of width {self.width}; both must be positive numbers.")
        for name in ("source", "source_sha256"):
            if not isinstance(getattr(self, name), (str, type(None))):
                raise ConfigError(f"Vocabulary: `{name}` is {getattr(self, name)!r}; expected a text or null.")
        if self.train == "none" and self.source is None:
            raise ConfigError("Vocabulary: an untrained table needs a `source`, the model that its rows come from.")


@dataclass
class HeadConfig:
    """A mapping head: the language's captions and pictures meet in a space of their own (NRCCR).

    Args:
        space: Width of the common space. 1,536 as published (Wang et al. 2022).
        width: Width of the head's states, and of its queries and keys.
        attention_heads: Attention heads of its one layer.
        dropout: Dropout in front of the common space.
        frames: Most frames of a video; 0 maps pictures.
        positions: Most tokens of a caption, in the language or its source; `None`: what the base takes.
        visual_width: Width of the states of frames where it is not `width`; for pictures, of a layer with a ReLU in front
            of the common space, which there is none of by default.
        post_norm: LayerNorm behind the positions and behind the attention, and LayerNorm and ReLU around the entry of
            frames, as in the authors' code.
        read_padding: Pool over padding too, as the authors' code does: vectors then depend on how a batch was padded.
        normalize_visual: Visual vectors come in at length 1. The authors' code takes them as they are.
    """

    space: int = 1536
    width: int = 512
    attention_heads: int = 8
    dropout: float = 0.2
    frames: int = 0
    positions: int | None = None
    visual_width: int | None = None
    post_norm: bool = False
    read_padding: bool = False
    normalize_visual: bool = True

    def __post_init__(self) -> None:
        counts = {"space": self.space, "width": self.width, "attention_heads": self.attention_heads}
        counts |= {} if self.visual_width is None else {"visual_width": self.visual_width}
        for name, value in counts.items():
            if not _is_count(value):
                raise ConfigError(f"Head: `{name}` is {value!r}; expected a number, 1 or more.")
        if self.width % self.attention_heads:
            raise ConfigError(
                f"Head: `width` {self.width} does not divide into {self.attention_heads} attention heads."
            )
        if self.frames and (self.visual_width or self.width) % self.attention_heads:
            raise ConfigError(
                f"Head: `visual_width` {self.visual_width} does not divide into {self.attention_heads} attention heads."
            )
        for name in ("post_norm", "read_padding", "normalize_visual"):
            if not isinstance(getattr(self, name), bool):
                raise ConfigError(f"Head: `{name}` is {getattr(self, name)!r}; expected true or false.")
        if not (self.frames == 0 or _is_count(self.frames)):
            raise ConfigError(f"Head: `frames` is {self.frames!r}; expected the most frames of a video, or 0.")
        if not (self.positions is None or _is_count(self.positions)):
            raise ConfigError(f"Head: `positions` is {self.positions!r}; expected the most tokens of a caption.")
        if isinstance(self.dropout, bool) or not isinstance(self.dropout, (int, float)) or not 0 <= self.dropout < 1:
            raise ConfigError(f"Head: `dropout` is {self.dropout!r}; expected a share, from 0 to below 1.")


@dataclass
class LanguageConfig:
    """What one language adds to the base.

    Args:
        vocabulary: Its own token embedding; `None` when it uses the base's tokenizer.
        max_length: Longest caption in tokens, the end token included.
        folder: Where its files lie, relative to the repository.
        recipe: What it was trained with, for people (method, data, seed).
        head: Its mapping into a space of its own; `None` stays in the base's.
        pad_to: Length to which its captions are padded, where the padding is read (`DASDConfig.sa_all_positions`).
    """

    vocabulary: VocabularyConfig | None = None
    max_length: int = 77
    folder: str = ""
    recipe: dict[str, Any] | None = None
    head: HeadConfig | None = None
    pad_to: int | None = None

    def __post_init__(self) -> None:
        if not (self.pad_to is None or _is_count(self.pad_to)):
            raise ConfigError(f"Language: `pad_to` is {self.pad_to!r}; expected a number of tokens.")
        if not _is_count(self.max_length) or self.max_length < 2:
            raise ConfigError(f"Language: `max_length` is {self.max_length!r}; expected a number of tokens, 2 or more.")
        if not isinstance(self.folder, str):
            raise ConfigError(f"Language: `folder` is {self.folder!r}; expected a path inside the repository.")
        if not isinstance(self.recipe, (dict, type(None))):
            raise ConfigError(f"Language: `recipe` is {self.recipe!r}; expected keys and values, or null.")
        if not isinstance(self.vocabulary, (VocabularyConfig, type(None))):
            raise ConfigError(f"Language: `vocabulary` is {self.vocabulary!r}; expected its keys and values, or null.")
        if not isinstance(self.head, (HeadConfig, type(None))):
            raise ConfigError(f"Language: `head` is {self.head!r}; expected its keys and values, or null.")

    @classmethod
    def from_dict(cls, values: Any) -> LanguageConfig:
        """Build from JSON, refusing keys that are not known."""
        if not isinstance(values, dict):
            raise ConfigError(f"The configuration of a language is {values!r}; expected keys and values.")
        known = {item.name for item in fields(cls)}
        _refuse_unknown(set(values) - known, known, "a language")
        values = dict(values)
        vocabulary = values.get("vocabulary")
        if isinstance(vocabulary, dict):
            allowed = {item.name for item in fields(VocabularyConfig)}
            _refuse_unknown(set(vocabulary) - allowed, allowed, "a vocabulary")
            missing = sorted({"size", "width"} - set(vocabulary))
            if missing:
                raise ConfigError(f"The configuration of a vocabulary lacks {', '.join(missing)}.")
            values["vocabulary"] = VocabularyConfig(**vocabulary)
        head = values.get("head")
        if isinstance(head, dict):
            allowed = {item.name for item in fields(HeadConfig)}
            _refuse_unknown(set(head) - allowed, allowed, "a head")
            values["head"] = HeadConfig(**head)
        return cls(**values)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


# of what transformers writes into every configuration, what is read again
_KEPT = ("model_type", "architectures", "auto_map", "transformers_version", "_name_or_path", "_commit_hash")


def _is_of_transformers(key: str) -> bool:
    """Whether any configuration of transformers may have a key."""
    common = {"auto_map", "name_or_path", "attn_implementation", "torch_dtype", *PreTrainedConfig().to_dict()}
    return key.startswith("_") or key in common


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
        unknown = {key for key in kwargs if not _is_of_transformers(key)}
        _refuse_unknown(unknown, set(self._own), "the model")
        super().__post_init__(**kwargs)
        for name in ("base_model_name_or_path", "base_revision", "base_sha256", "pooling"):
            if not isinstance(getattr(self, name), (str, type(None))):
                raise ConfigError(f"`{name}` is {getattr(self, name)!r}; expected a text or null.")
        if not isinstance(self.base_config, (dict, type(None))):
            raise ConfigError(f"`base_config` is {self.base_config!r}; expected keys and values, or null.")
        if not (self.visual_dim is None or _is_count(self.visual_dim)):
            raise ConfigError(f"`visual_dim` is {self.visual_dim!r}; expected the width of a vector, or null.")
        if not isinstance(self.languages, (dict, type(None))):
            raise ConfigError(f"`languages` is {self.languages!r}; expected one configuration by language code.")
        for code in self.languages or {}:
            # a code becomes the name of a folder, and of a module
            if not code or set(code) & set("./\\"):
                raise ConfigError(f"`languages` names {code!r}, which is no language code.")
        self.languages = {
            code: value if isinstance(value, LanguageConfig) else LanguageConfig.from_dict(value)
            for code, value in (self.languages or {}).items()
        }

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """Build from JSON.

        `AutoModel.from_pretrained(repository, languages=["de"])` passes its arguments through here. transformers would
        write `languages` over the field of that name; it says which ones to load, and is for the model. So is
        `attn_implementation`, which it would keep. What a file says of transformers' own settings is for the base's
        configuration, not for this one, and is left out: how to attend may name code to download.
        """
        config_dict = {key: value for key, value in config_dict.items() if key in _KEPT or not _is_of_transformers(key)}
        asked = {key: kwargs.pop(key) for key in ("languages", "attn_implementation") if key in kwargs}
        found = super().from_dict(config_dict, **kwargs)
        if isinstance(found, tuple):
            config, unused = found
            return config, {**unused, **asked}
        return found

    def described_base(self) -> PreTrainedConfig:
        """The base's configuration, as `base_config` says it.

        Raises:
            ConfigError: If it says nothing, or nothing that transformers knows.
        """
        values = dict(self.base_config or {})
        try:
            found: PreTrainedConfig = AutoConfig.for_model(values.pop("model_type"), **values)
        except KeyError as error:
            raise ConfigError("`base_config` does not say which `model_type` the base is.") from error
        except (TypeError, ValueError) as error:
            raise ConfigError(f"`base_config` is none that transformers knows: {first_line(error)}") from error
        return found

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        values = super().to_dict()
        values["languages"] = {
            code: asdict(value) if isinstance(value, LanguageConfig) else value
            for code, value in (self.languages or {}).items()
        }
        return values
