"""`CCRModel`: a frozen dual encoder, a small module per language beside it, and one way to encode with any of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.utils.generic import ModelOutput

from ccr_adapters.configuration import CCRConfig
from ccr_adapters.dasd import BASE, find_text_encoder
from ccr_adapters.dasd.anatomy import width_of
from ccr_adapters.errors import AdapterError, ConfigError, ImageError, LanguageError, first_line
from ccr_adapters.modeling.auto_language import AUTO, resolve_auto
from ccr_adapters.modeling.chunks import map_in_chunks, splits
from ccr_adapters.modeling.encoding import encode_ids, encode_image, encode_source, encode_text, map_visual
from ccr_adapters.modeling.encoding_video import encode_frames, encode_video
from ccr_adapters.modeling.loading import load_base
from ccr_adapters.modeling.passes import CaptionPasses
from ccr_adapters.modeling.persistence import load_languages, load_model, save_model
from ccr_adapters.modeling.towers import pooler_output
from ccr_adapters.modeling.upload import Pushed, push_model
from ccr_adapters.modeling.warm_start import start_from
from ccr_adapters.processing import CCRProcessor
from ccr_adapters.processing.bases import TINY_CLIP, resolve_base
from ccr_adapters.processing.captions import check_captions
from ccr_adapters.processing.language_id import MIN_CONFIDENCE


@dataclass
class CCROutput(ModelOutput):
    """What `CCRModel.forward` returns; the fields are those of transformers' dual encoders."""

    loss: Tensor | None = None
    logits_per_image: Tensor | None = None
    logits_per_text: Tensor | None = None
    text_embeds: Tensor | None = None
    image_embeds: Tensor | None = None


class CCRModel(CaptionPasses):
    """A dual encoder that understands more languages than it was trained on.

    Build one with [`CCRModel.from_base`] and [`CCRModel.add_language`], or load an adapter repository with
    [`CCRModel.from_pretrained`].

    Args:
        config: The configuration.
        base: The base model; `None` builds it from the configuration with random weights.
        processor: Its processor, for `encode_text` and `encode_image`.

    Example:
        >>> model = CCRModel.from_pretrained("org/dasd-clip-de")  # doctest: +SKIP
        >>> model.similarity(model.encode_text(["Ein Hund"]), model.encode_image(["dog.jpg"]))  # doctest: +SKIP
    """

    # --------------------------------------------------------------------------------------------------- building

    @classmethod
    def from_base(
        cls,
        base: str | Path | PreTrainedModel,
        *,
        processor: CCRProcessor | None = None,
        pooling: str | None = None,
        visual_dim: int | None = None,
        revision: str | None = None,
        **kwargs: Any,
    ) -> CCRModel:
        """Start from a dual encoder, or from a text encoder whose visual vectors are precomputed.

        Args:
            base: Repository, folder, or a model of transformers.
            processor: The processor; `None` loads it from where the base comes from.
            pooling: For a text encoder alone: `"mean"` (default) or `"first"`.
            visual_dim: For a text encoder alone: width of the visual vectors; default its own width.
            revision: Revision of a repository.
            kwargs: Passed to `AutoModel.from_pretrained` (`dtype`, by default float32, `token`, `local_files_only`, ...).

        Raises:
            AdapterError: If the base cannot be loaded, or its files lack weights.
            ConfigError: If its captions cannot be followed, or `pooling` is given for one that has its own.
        """
        if isinstance(base, PreTrainedModel):
            module, name = base, getattr(base, "name_or_path", "") or None
        else:
            name = str(base)
            # left to itself transformers takes the precision of the file, and float16 cannot be trained in
            kwargs = {"dtype": torch.float32} | kwargs
            try:
                module = load_base(resolve_base(name), revision=revision or "main", **kwargs)
            except (OSError, ValueError) as error:
                raise AdapterError(f"The base '{name}' cannot be loaded ({first_line(error)}).") from error
        if processor is None and name:
            hub = {key: kwargs[key] for key in ("token", "cache_dir", "local_files_only") if key in kwargs}
            processor = CCRProcessor.for_base(resolve_base(name), module.config, revision=revision or "main", **hub)
        dual = hasattr(module, "get_text_features")
        encoder = find_text_encoder(module)
        if dual and (pooling or visual_dim):
            raise ConfigError("`pooling` and `visual_dim` are for a text encoder alone; this base has its own.")
        config = CCRConfig(
            base_model_name_or_path=name,
            base_revision=revision,
            base_config=_plain(module.config),
            pooling=None if dual else (pooling or "mean"),
            visual_dim=None if dual else (visual_dim or width_of(encoder.config)),
        )
        model = cls(config, module, processor)
        if name and name != TINY_CLIP and not Path(name).is_absolute() and Path(name).is_dir():
            # a path from here, which would lead elsewhere from an adapter's folder
            model.base_folder = Path(name).resolve()
        return model

    # ------------------------------------------------------------------------------------------------- features

    def get_text_features(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        pooled_at: Tensor | None = None,
        language: str | Sequence[str | None] | None = "active",
        **kwargs: Any,
    ) -> BaseModelOutputWithPooling:
        """Text features as transformers gives them: not normalised, in `pooler_output`. (B, d)

        Without `language` the ids are taken for those of the active one's tokens, and `CCRProcessor` makes the base's unless
        it is told otherwise: name the language in both.
        """
        code: str | list[str] | None
        if language is None or isinstance(language, str):
            code = self.resolve_language(language)
        else:
            code = [self.resolve_language(each) or BASE for each in language]
        if code is None:
            inputs = {"input_ids": input_ids, **kwargs}
            if attention_mask is not None:
                inputs["attention_mask"] = attention_mask
            return BaseModelOutputWithPooling(pooler_output=self.base_features(**inputs))
        features, last, _ = self.target_features(input_ids, attention_mask, pooled_at, code)
        return BaseModelOutputWithPooling(last_hidden_state=last, pooler_output=features)

    def get_image_features(self, pixel_values: Tensor, **kwargs: Any) -> BaseModelOutputWithPooling:
        """Image features of the base, untouched by any adapter, in `pooler_output`. (B, d)"""
        if not hasattr(self.base, "get_image_features"):
            sees = (
                "It encodes videos: encode_video(...)." if "video" in self.modalities else "Pass precomputed vectors."
            )
            raise ImageError(f"This base has no image tower for pictures. {sees}")
        inputs = {"pixel_values": pixel_values, **kwargs}
        with self.shelf.using(self, []):
            if splits(self._rows_at_once, len(pixel_values)):
                output = map_in_chunks(self._image_rows, self._rows_at_once, inputs)  # type: ignore[arg-type]
            else:
                with self._seeing():
                    output = self.base.get_image_features(**inputs)
        return output if not isinstance(output, Tensor) else BaseModelOutputWithPooling(pooler_output=output)

    def _image_rows(self, **inputs: Any) -> Tensor:
        with self._seeing():
            return pooler_output(self.base.get_image_features(**inputs))

    def get_video_features(self, pixel_values: Tensor, **kwargs: Any) -> BaseModelOutputWithPooling:
        """Video features of a base that has them (X-CLIP), in `pooler_output`. (B, T, 3, H, W) -> (B, d)"""
        if not hasattr(self.base, "get_video_features"):
            raise ImageError("This base has no video tower; encode frames as pictures, or pass precomputed vectors.")
        with self.shelf.using(self, []), self._seeing():
            output = self.base.get_video_features(pixel_values=pixel_values, **kwargs)
        return output if not isinstance(output, Tensor) else BaseModelOutputWithPooling(pooler_output=output)

    def forward(
        self,
        input_ids: Tensor | None = None,
        pixel_values: Tensor | None = None,
        attention_mask: Tensor | None = None,
        pooled_at: Tensor | None = None,
        visual_embeds: Tensor | None = None,
        language: str | Sequence[str] | None = "active",
        return_loss: bool | None = None,
        **kwargs: Any,
    ) -> CCROutput:
        """Score captions against pictures, as transformers' dual encoders do, in the space of the captions' language.

        One side alone gives its vectors, which is what the pipelines for feature extraction ask for.

        Args:
            input_ids: Ids of the captions. (B, L)
            pixel_values: Pictures. (M, 3, H, W)
            attention_mask: 1 at real tokens. (B, L)
            pooled_at: Position of each end token. (B,)
            visual_embeds: Visual vectors instead of pictures. (M, d)
            language: Language of the captions; by default the active one.
            return_loss: Also return the base family's contrastive loss over the batch.
            kwargs: `pixel_attention_mask` and `spatial_shapes`, for an image tower that reads them (SigLIP 2 at native
                resolution); all else is ignored, as transformers' data collators pass more than is needed.
        """
        sides = (input_ids is not None) + (pixel_values is not None or visual_embeds is not None)
        if sides == 0 or (sides == 1 and return_loss) or (pixel_values is not None and visual_embeds is not None):
            raise ConfigError(
                "Pass `input_ids`, and either `pixel_values` or `visual_embeds`; one side alone gives its vectors, but no loss."
            )
        text = visual = None
        if input_ids is not None:
            features = self.get_text_features(input_ids, attention_mask, pooled_at, language)
            text = F.normalize(pooler_output(features), dim=-1)
        if pixel_values is not None:
            shapes = {name: kwargs[name] for name in ("pixel_attention_mask", "spatial_shapes") if name in kwargs}
            visual_embeds = pooler_output(self.get_image_features(pixel_values, **shapes))
        if visual_embeds is not None:
            visual = self._in_space(visual_embeds, language)
        if text is None or visual is None:
            return CCROutput(text_embeds=text, image_embeds=visual)
        logits = text @ visual.t().to(text.dtype) * self.logit_scale
        bias = getattr(self.base, "logit_bias", None)
        if bias is not None:
            logits = logits + bias
        loss = None
        if return_loss:
            if bias is not None:  # SigLIP: every pair is a yes-or-no question
                signs = 2 * torch.eye(len(logits), device=logits.device) - 1
                loss = -F.logsigmoid(signs * logits).sum(dim=-1).mean()
            else:
                labels = torch.arange(len(logits), device=logits.device)
                loss = (F.cross_entropy(logits, labels) + F.cross_entropy(logits.t(), labels)) / 2
        return CCROutput(
            loss=loss,
            logits_per_image=logits.t(),
            logits_per_text=logits,
            text_embeds=text,
            image_embeds=visual,
        )

    def _in_space(self, vectors: Tensor, language: str | Sequence[str] | None) -> Tensor:
        """Visual vectors in the space of captions' language, L2-normalised. (M, d) -> (M, d')"""
        spoken = self.resolve_language(language) if language is None or isinstance(language, str) else None
        if spoken is None or self.space(spoken) is None:
            return F.normalize(vectors, dim=-1)
        with self._using(spoken):
            mapped: Tensor = self.heads[spoken].visual(vectors)  # type: ignore[operator]
        return mapped

    @property
    def logit_scale(self) -> Tensor:
        """Factor between cosine and logit: the base's, or 100."""
        scale = getattr(self.base, "logit_scale", None)
        return torch.tensor(100.0) if scale is None else scale.exp()

    @staticmethod
    def similarity(text: Tensor, visual: Tensor) -> Tensor:
        """Cosine similarity of every caption with every picture. (N, d), (M, d) -> (N, M)"""
        if text.shape[-1] != visual.shape[-1]:
            raise ConfigError(
                f"Captions of width {text.shape[-1]}, pictures of width {visual.shape[-1]}. A language with a space of its own "
                "needs its pictures there: encode_image(pictures, language=code), or map_visual(vectors, code)."
            )
        return F.normalize(text, dim=-1) @ F.normalize(visual, dim=-1).t()

    # -------------------------------------------------------------------------------------------- encode and files

    def encode_text(
        self,
        captions: str | Sequence[str],
        language: str | Sequence[str | None] | None = "active",
        *,
        batch_size: int | None = None,
        show_progress: bool | None = None,
        min_confidence: float = MIN_CONFIDENCE,
    ) -> Tensor:
        """Encode captions; see [`ccr_adapters.modeling.encoding.encode_text`]. -> (N, d), L2-normalised

        `language="auto"` recognises the language of each caption; those recognised with less than `min_confidence` go to the
        base (see [`ccr_adapters.modeling.auto_language.resolve_auto`]).
        """
        if isinstance(language, str) and language == AUTO:
            captions = check_captions([captions] if isinstance(captions, str) else captions)
            language = resolve_auto(self, captions, min_confidence)
        with self._using(language):
            return encode_text(self, captions, language, batch_size=batch_size, show_progress=show_progress)

    def encode_ids(
        self, rows: Sequence[list[int]], language: str | None = "active", *, batch_size: int | None = None
    ) -> Tensor:
        """Encode captions that are token ids already; see the function of that name. -> (N, d), L2-normalised"""
        with self._using(language):
            code = self.resolve_language(language)
            return encode_ids(self, rows, [code] * len(rows), batch_size=batch_size)

    @contextmanager
    def _using(self, language: str | Sequence[str | None] | None) -> Iterator[None]:
        """Have the languages of some captions in memory."""
        single = language is None or isinstance(language, str)
        codes = [self.resolve_language(language)] if single else [*map(self._spoken, language, count())]  # type: ignore[arg-type]
        with self.shelf.using(self, [code for code in codes if code is not None]):
            yield

    def _spoken(self, code: str | None, row: int) -> str | None:
        try:
            return self.resolve_language(code)
        except LanguageError as error:
            raise LanguageError(f"Caption {row}: {error}") from error

    def encode_source(self, captions: str | Sequence[str], language: str | None = "active", **kwargs: Any) -> Tensor:
        """Encode captions of the base's own language for a language's space; see the function of that name. -> (N, d)"""
        with self._using(language):
            return encode_source(self, captions, language, **kwargs)

    def encode_image(
        self,
        pictures: Any,
        language: str | None = "active",
        *,
        batch_size: int = 32,
        show_progress: bool | None = None,
    ) -> Tensor:
        """Encode pictures; see [`ccr_adapters.modeling.encoding.encode_image`]. -> (M, d), L2-normalised"""
        with self._using(language):
            return encode_image(self, pictures, language, batch_size=batch_size, show_progress=show_progress)

    def encode_video(
        self,
        videos: Any,
        language: str | None = "active",
        *,
        frames: int | None = None,
        batch_size: int = 32,
        show_progress: bool | None = None,
    ) -> Tensor:
        """Encode videos; see [`ccr_adapters.modeling.encoding_video.encode_video`]. -> (N, d), L2-normalised"""
        with self._using(language):
            return encode_video(
                self, videos, language, frames=frames, batch_size=batch_size, show_progress=show_progress
            )

    def encode_frames(self, videos: Any, **kwargs: Any) -> list[np.ndarray]:
        """Vectors of the frames of videos by the base, to train on; see the function of that name. -> (T_i, d) each"""
        return encode_frames(self, videos, **kwargs)

    def map_visual(self, vectors: Tensor, language: str | None = "active", mask: Tensor | None = None) -> Tensor:
        """Visual vectors of the base in a language's space, as they are unless it has its own. (M, d) -> (M, d')"""
        with self._using(language):
            return map_visual(self, vectors, language, mask)

    def start_from(self, name: str | Path, code: str, language: str | None = None, **kwargs: Any) -> int:
        """Give a new language the weights of a trained one, and the rows of the tokens that both vocabularies have.

        Args:
            name: Repository or folder of the trained adapter, on the same base.
            code: The new language, of this model.
            language: Which language of the adapter, where it has several.
            kwargs: `revision`, `token`, `cache_dir`, `local_files_only`.

        Returns:
            How many tokens are in both vocabularies.

        Raises:
            AdapterError: If the adapter is of another kind or shape, or its base is another one.
        """
        return start_from(self, name, code, language, **kwargs)

    def save_pretrained(  # type: ignore[override]
        self,
        save_directory: str | Path,
        *,
        language: str | None = None,
        dtype: torch.dtype | str | None = None,
        row_tolerance: float | None = None,
        evidence: dict[str, Any] | None = None,
        push_to_hub: bool = False,
        **kwargs: Any,
    ) -> None:
        """Write an adapter repository: everything that the languages need but the base.

        Args:
            save_directory: The folder. One language lies at its top, several get a folder each.
            language: Only this one; default all.
            dtype: Precision of the written weights; default as they are. `"float16"` halves the download.
            row_tolerance: Of a vocabulary with a `source`, write only rows with a value further from it than this.
            evidence: What was measured, for the card.
            push_to_hub: Upload what was written, with `repo_id=` and the other arguments of `push_to_hub`.
            kwargs: Those arguments.

        Raises:
            ConfigError: If `dtype` is no precision that weights can be written in, the hash of the base was lost to float16, or
                the tokenizer of a vocabulary is not there.
            LanguageError: If there is no such language, or none at all.
            TypeError: If an argument has another name.
        """
        save_model(
            self,
            save_directory,
            language=language,
            dtype=dtype,
            row_tolerance=row_tolerance,
            evidence=evidence,
            push_to_hub=push_to_hub,
            **kwargs,
        )

    def push_to_hub(self, repo_id: str, **kwargs: Any) -> Pushed:  # type: ignore[override]
        """Upload an adapter repository in one commit.

        Args:
            repo_id: Repository, `org/name`; made if it is not there.
            kwargs: What is written: `language`, `dtype`, `row_tolerance`, `evidence`, as for `save_pretrained`. How it is
                uploaded: `private`, `token`, `revision`, `commit_message`, `replace`.

        Returns:
            Where it is now, and what was added and removed.

        Raises:
            HubError: If the repository cannot be written, or holds something else.
        """
        return push_model(self, repo_id, **kwargs)

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        languages: Iterable[str] | Mapping[str, str] | None = None,
        base: str | Path | PreTrainedModel | None = None,
        processor: CCRProcessor | None = None,
        dtype: torch.dtype | str | None = None,
        attn_implementation: str | None = None,
        device_map: str | torch.device | None = None,
        subfolder: str | None = None,
        lazy: bool = False,
        max_languages: int | None = None,
        **kwargs: Any,
    ) -> CCRModel:
        """Load an adapter repository together with its base.

        Args:
            pretrained_model_name_or_path: Repository or folder; or a base, alone or with the `languages` that it shall learn.
            languages: Only these; only their files are downloaded. On a base: codes, each from the one adapter repository
                that the Hub lists for it, or named (`{"de": "org/dasd-clip-de"}`).
            base: The base as a model, or another place to load it from; it must have the same weights.
            processor: The base's processor; by default it is loaded from where the base is named to be.
            dtype: Precision of the base; default float32.
            attn_implementation: Attention of the base, as transformers names it (`"sdpa"`, `"eager"`).
            device_map: A device for the whole model (`"cuda"`); `"auto"` is the accelerator if there is one.
            subfolder: Folder inside the repository.
            lazy: Load (and download) each language when it is first used.
            max_languages: Most languages in memory at a time; the one not used for longest makes room. `None`: no bound.
            kwargs: `revision`, `token`, `cache_dir`, `local_files_only`, `force_download`.

        Raises:
            AdapterError: If a file is missing, truncated or tampered with, or the base has other weights.
            HubError: If a repository cannot be downloaded.
            LanguageError: If a language is not there.
            TypeError: If an argument has another name.
        """
        model: CCRModel = load_model(
            cls,
            pretrained_model_name_or_path,
            languages=languages,
            base=base,
            processor=processor,
            dtype=dtype,
            attn_implementation=attn_implementation,
            device_map=device_map,
            subfolder=subfolder,
            lazy=lazy,
            max_languages=max_languages,
            **kwargs,
        )
        return model

    def load_language(
        self, folder: str | Path, code: str | None = None, *, lazy: bool = False, **kwargs: Any
    ) -> list[str]:
        """Add the languages of another adapter repository for the same base.

        Args:
            folder: Repository or folder.
            code: Only this language; default all of them.
            lazy: Leave them where they are until they are asked for.
            kwargs: `revision`, `token`, `cache_dir`, `local_files_only`, `force_download`.

        Returns:
            Their codes.

        Raises:
            AdapterError: If a file is missing, truncated or tampered with, or the base has other weights.
            HubError: If the repository cannot be downloaded.
            LanguageError: If the language is not there, or the model has it already.
        """
        return load_languages(self, folder, code, lazy=lazy, **kwargs)


def _plain(config: Any) -> dict[str, Any]:
    """A base's configuration as JSON values, without traces of the machine that it came from."""
    values = config.to_dict()
    for key in ("_name_or_path", "transformers_version", "architectures", "dtype"):
        values.pop(key, None)
    return values


__all__ = ["CCRModel", "CCROutput"]
