"""The module of sentence-transformers that encodes with a `CCRModel`.

Its import path is written into saved folders (`modules.json`), so it must not move.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch.nn.functional as F
from torch import Tensor

from ccr_adapters.errors import LanguageError
from ccr_adapters.extras import require
from ccr_adapters.modeling import CCRModel
from ccr_adapters.modeling.encoding import processor_of
from ccr_adapters.modeling.towers import pooler_output

if TYPE_CHECKING:
    from typing_extensions import Self


_modules = require("sentence_transformers.base.modules", extra="sentence-transformers")


class CCRModule(_modules.InputModule):  # type: ignore[name-defined]
    """Strings and pictures to vectors of one language.

    Args:
        model: The model; it is held, not copied.
        language: Code of the language; `None` is the base.
    """

    config_file_name: ClassVar[str] = "sentence_ccr_config.json"
    config_keys: ClassVar[list[str]] = ["language"]

    def __init__(self, model: CCRModel, language: str | None) -> None:
        super().__init__()
        self.model = model
        self.language = language
        self._processor = processor_of(model)

    @property
    def modalities(self) -> list[Any]:
        """What `encode` takes."""
        return [name for name in self.model.modalities if name != "video"]

    @property
    def tokenizer(self) -> Any:
        """The language's tokenizer."""
        return self._processor.tokenizer_for(self.language)

    @property
    def max_seq_length(self) -> int:
        """Longest caption in tokens."""
        longest = self._processor.base_max_length
        return min(longest, self._processor.languages.get(str(self.language), (None, longest))[1])

    def get_embedding_dimension(self) -> int:
        """Width of the vectors."""
        return self.model.dim_of(self.language)

    def preprocess(self, inputs: Sequence[Any], prompt: str | None = None, **kwargs: Any) -> dict[str, Any]:
        """Captions to ids, pictures to pixels; one kind at a time."""
        if inputs and not isinstance(inputs[0], str):
            return dict(self._processor(images=list(inputs)))
        texts = [f"{prompt or ''}{text}" for text in inputs]
        with self.model.shelf.using(self.model, [] if self.language is None else [self.language]):
            return dict(self._processor(text=texts, language=self.language))

    def forward(self, features: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """Add `sentence_embedding`. (B, d), L2-normalised"""
        names = ("input_ids", "attention_mask", "pooled_at", "pixel_values", "pixel_attention_mask", "spatial_shapes")
        inputs: dict[str, Tensor] = {name: features[name] for name in names if name in features}
        if "input_ids" in inputs:
            vectors = pooler_output(self.model.get_text_features(**inputs, language=self.language))
        else:
            inputs["pixel_values"] = inputs["pixel_values"].to(self.model.dtype)
            vectors = pooler_output(self.model.get_image_features(**inputs))
            own = self.model.space(self.language)
            if own is not None:
                with self.model.shelf.using(self.model, [own]):
                    vectors = self.model.heads[own].visual(vectors)  # type: ignore[operator]
        features["sentence_embedding"] = F.normalize(vectors.float(), dim=-1)
        return features

    def save(self, output_path: str, *args: Any, **kwargs: Any) -> None:
        """Write the adapter repository; the base stays where it is.

        Raises:
            LanguageError: If the language is the base's own, of which nothing is to be written.
        """
        if self.language is None:
            raise LanguageError(
                "The base without a language has no adapter to save. sentence-transformers reads the base itself: "
                f"SentenceTransformer({self.model.config.base_model_name_or_path!r})."
            )
        self.model.save_pretrained(output_path, language=self.language)
        self.save_config(output_path)

    @classmethod
    def load(
        cls,
        model_name_or_path: str,
        subfolder: str = "",
        token: bool | str | None = None,
        cache_folder: str | None = None,
        revision: str | None = None,
        local_files_only: bool = False,
        **kwargs: Any,
    ) -> Self:
        """Read the adapter repository with its base, as sentence-transformers asks for it."""
        hub: dict[str, Any] = {"token": token, "cache_folder": cache_folder, "revision": revision}
        config = cls.load_config(model_name_or_path, subfolder=subfolder, local_files_only=local_files_only, **hub)
        given = {"token": token, "cache_dir": cache_folder, "revision": revision}
        arguments: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
        if Path(model_name_or_path).is_dir():
            arguments.pop("revision", None)
        if subfolder:
            arguments["subfolder"] = subfolder
        model = CCRModel.from_pretrained(model_name_or_path, local_files_only=local_files_only, **arguments)
        return cls(model, config["language"])
