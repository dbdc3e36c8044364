"""`CCRModel`: a frozen dual encoder, a small module per language beside it, and one way to encode with any of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AutoModel, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.utils.generic import ModelOutput

from ccr_adapters.configuration import CCRConfig
from ccr_adapters.dasd import BASE, Condition, DASDLayer, find_text_encoder
from ccr_adapters.dasd.anatomy import width_of
from ccr_adapters.dasd.condition import ARGUMENT
from ccr_adapters.errors import ConfigError, ImageError, LanguageError
from ccr_adapters.modeling.auto_language import AUTO, resolve_auto
from ccr_adapters.modeling.chunks import encode_in_chunks, map_in_chunks, splits
from ccr_adapters.modeling.encoding import encode_image, encode_source, encode_text, map_visual
from ccr_adapters.modeling.encoding_video import encode_frames, encode_video
from ccr_adapters.modeling.fingerprint import weights_sha256
from ccr_adapters.modeling.host import LanguageHost
from ccr_adapters.modeling.language_files import fetch_language, load_language
from ccr_adapters.modeling.persistence import load_languages, load_model, save_model
from ccr_adapters.modeling.shelf import Place
from ccr_adapters.modeling.towers import TextTower, pooler_output
from ccr_adapters.modeling.upload import Pushed, push_model
from ccr_adapters.processing import CCRProcessor
from ccr_adapters.processing.bases import resolve_base
from ccr_adapters.processing.captions import check_captions, end_token_id, pad_token_id
from ccr_adapters.processing.language_id import MIN_CONFIDENCE


@dataclass
class CCROutput(ModelOutput):
    """What `CCRModel.forward` returns; the fields are those of transformers' dual encoders."""

    loss: Tensor | None = None
    logits_per_image: Tensor | None = None
    logits_per_text: Tensor | None = None
    text_embeds: Tensor | None = None
    image_embeds: Tensor | None = None


class CCRModel(LanguageHost):
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

    _rows_at_once: int | None = None

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
        """
        if isinstance(base, PreTrainedModel):
            module, name = base, getattr(base, "name_or_path", "") or None
        else:
            name = str(base)
            # left to itself transformers takes the precision of the file, and float16 cannot be trained in
            kwargs.setdefault("dtype", torch.float32)
            module = AutoModel.from_pretrained(resolve_base(name), revision=revision or "main", **kwargs)
        if processor is None and name:
            hub = {key: kwargs[key] for key in ("token", "cache_dir", "local_files_only") if key in kwargs}
            processor = CCRProcessor.for_base(resolve_base(name), module.config, revision=revision or "main", **hub)
        dual = hasattr(module, "get_text_features")
        encoder = find_text_encoder(module)
        config = CCRConfig(
            base_model_name_or_path=name,
            base_revision=revision,
            base_config=_plain(module.config),
            pooling=None if dual else (pooling or "mean"),
            visual_dim=None if dual else (visual_dim or width_of(encoder.config)),
        )
        return cls(config, module, processor)

    # ------------------------------------------------------------------------------------------------- features

    def _tower(self) -> TextTower:
        return TextTower(self.base, find_text_encoder(self.base), self.config.pooling)

    @contextmanager
    def in_chunks(self, rows: int | None) -> Iterator[None]:
        """Encode `rows` rows at a time where gradients are wanted: memory for those, gradients of all (GradCache).

        Costs a second forward pass, which the backward pass makes. See [`ccr_adapters.modeling.chunks`].
        """
        before, self._rows_at_once = self._rows_at_once, rows
        try:
            yield
        finally:
            self._rows_at_once = before

    def base_features(self, **inputs: Any) -> Tensor:
        """Features of the base, as if no adapter were there; not normalised. (B, d)"""
        with self.shelf.using(self, []):
            if splits(self._rows_at_once, len(inputs["input_ids"])):
                return map_in_chunks(self._base_rows, self._rows_at_once, inputs)  # type: ignore[arg-type]
            return self._base_rows(**inputs)

    def _base_rows(self, **inputs: Any) -> Tensor:
        if not any(isinstance(layer, DASDLayer) for layer in self._tuner_layers()):
            with self._others(None):
                return self._tower().source(**inputs)
        condition = Condition(adapter_names=[BASE] * len(inputs["input_ids"]))
        features = self._tower().source(**inputs, **{ARGUMENT: condition})
        self._check_met(condition)
        return features

    def _check_met(self, condition: Condition) -> None:
        """Refuse a base whose blocks were never told whose adapter each row meets."""
        if not condition.met and any(isinstance(layer, DASDLayer) for layer in self._tuner_layers()):
            raise ConfigError(
                f"The text encoder of a {type(self.base).__name__} does not hand keywords on to its blocks, so dynamic "
                "adapters cannot work in it. Say in `ccr_adapters.dasd.families.ANATOMIES` which module does (`carrier=`), or "
                "use another method (LoRA)."
            )

    def embed_tokens(self, input_ids: Tensor, code: str | None) -> Tensor:
        """Token states of a language, from its own table or the base's. (B, L) -> (B, L, w)"""
        if code is not None and code in self.vocabularies:
            return self.vocabularies[code](input_ids)
        return find_text_encoder(self.base).token_embedding(input_ids)

    def target_features(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None,
        pooled_at: Tensor | None,
        language: str | Sequence[str],
        *,
        source: bool = False,
        keep_states: bool = True,
    ) -> tuple[Tensor, Tensor, Condition]:
        """Encode captions with their adapters.

        Args:
            input_ids: Ids of each language's own tokenizer. (B, L)
            attention_mask: 1 at real tokens; `None` takes all tokens as real, in a causal encoder those up to the end
                token. (B, L)
            pooled_at: Position of each end token. (B,)
            language: One for all rows, or one a row.
            source: The captions are in the base's language, with its ids, for a network that reads both (NRCCR).
            keep_states: `False` where the token states are not needed; chunks are then lighter, and give none.

        Returns:
            Features (B, d), not normalised, or those of the language's own space, which are; last token states
            (B, L, w); and the pass's condition, which holds the disentangled features of dynamic adapters.
        """
        with self.shelf.using(self, self._known_among(language)):
            spoken = language if isinstance(language, str) else next(iter(language), BASE)
            own = self.space(spoken) is not None
            given = (input_ids, attention_mask, pooled_at, language, source)
            features, last, condition = self._adapted(*given, keep_states=keep_states or own)
            if own:
                mask = condition.attention_mask
                real = torch.ones_like(input_ids) if mask is None else mask
                features = self.heads[spoken].text(last, real)  # type: ignore[operator]
        return features, last, condition

    def token_states(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None,
        pooled_at: Tensor | None,
        language: str | Sequence[str],
        *,
        source: bool = False,
    ) -> Tensor:
        """Last token states of captions with their adapters; arguments as in `target_features`. -> (B, L, w)"""
        return self._adapted(input_ids, attention_mask, pooled_at, language, source)[1]

    def _adapted(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None,
        pooled_at: Tensor | None,
        language: str | Sequence[str],
        source: bool,
        *,
        keep_states: bool = True,
    ) -> tuple[Tensor, Tensor, Condition]:
        """Captions through the text tower with their adapters, to the base's space, in chunks where that is asked for."""
        given = (input_ids, attention_mask, pooled_at, language, source)
        with self.shelf.using(self, self._known_among(language)):
            if splits(self._rows_at_once, len(input_ids)):
                rows: Any = self._rows_at_once
                return encode_in_chunks(self._adapted_rows, rows, *given, keep_states)
            return self._adapted_rows(*given)

    def _known_among(self, language: str | Sequence[str]) -> set[str]:
        """Languages of some rows, without the base, networks that only train, and those that are refused later."""
        return ({language} if isinstance(language, str) else set(language)).intersection(self.languages)

    def _adapted_rows(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None,
        pooled_at: Tensor | None,
        language: str | Sequence[str],
        source: bool,
    ) -> tuple[Tensor, Tensor, Condition]:
        tower = self._tower()
        codes = [language] * len(input_ids) if isinstance(language, str) else list(language)
        names = sorted(set(codes))
        for name in names:
            if name != BASE and name not in self.auxiliary:
                self.known_language(name)
        if len(codes) != len(input_ids):
            raise LanguageError(f"{len(codes)} languages for {len(input_ids)} captions; pass one, or one a caption.")
        if len(names) > 1 and not self.mixes_languages():
            raise LanguageError(f"These adapters take one language a pass, not {', '.join(names)}. Split the batch.")
        if pooled_at is None:
            pooled_at = self._end_positions(input_ids, attention_mask, tower, [BASE] * len(codes) if source else codes)
        if attention_mask is None and tower.family == "eos":
            # what stands behind the end token is padding
            attention_mask = (torch.arange(input_ids.shape[1], device=input_ids.device) <= pooled_at[:, None]).long()
        if not source:
            input_ids, attention_mask = self._padded(input_ids, attention_mask, codes)
        if len(names) == 1:
            states = self.embed_tokens(input_ids, None if source else names[0])
        else:
            states = input_ids.new_zeros((*input_ids.shape, tower.encoder.token_width), dtype=self.base.dtype)
            for name in names:
                rows = torch.tensor([i for i, code in enumerate(codes) if code == name], device=input_ids.device)
                states = states.index_copy(0, rows, self.embed_tokens(input_ids[rows], name).to(states.dtype))
        states = states.to(self.base.dtype)
        condition = Condition(input_ids, attention_mask, codes, pooled_at)
        others = names[0] if len(names) == 1 and names[0] != BASE else None
        # a causal encoder's end token sees nothing behind it, so padding needs no mask there, and attention runs faster
        mask = None if tower.family == "eos" else attention_mask
        with self._others(others):
            features, last = tower(states, mask, pooled_at, condition)
        self._check_met(condition)
        return features, last, condition

    def _padded(self, ids: Tensor, mask: Tensor | None, codes: list[str]) -> tuple[Tensor, Tensor | None]:
        """Captions at the length that a language wants, its own padding token behind them where it reads it. (B, L')"""
        wanted = {code: getattr(self.config.languages.get(code), "pad_to", None) for code in set(codes)}
        lengths = [length for length in wanted.values() if length is not None]
        if not lengths:
            return ids, mask
        mask = torch.ones_like(ids) if mask is None else mask
        more = max(0, max(lengths) - ids.shape[1])
        # every table has a row 0
        ids, mask = F.pad(ids, (0, more)), F.pad(mask, (0, more))
        tokens = [0 if wanted[code] is None else self._pad_token(code) for code in codes]
        reads = ids.new_tensor([wanted[code] is not None for code in codes]).bool().unsqueeze(1)  # (B, 1)
        return torch.where((mask == 0) & reads, ids.new_tensor(tokens).unsqueeze(1), ids), mask

    def _pad_token(self, code: str) -> int:
        return 0 if self.processor is None else pad_token_id(self.processor.tokenizer_for(code))

    def _end_positions(
        self, input_ids: Tensor, attention_mask: Tensor | None, tower: TextTower, codes: list[str]
    ) -> Tensor:
        if attention_mask is not None and tower.family != "last":
            return attention_mask.sum(dim=1) - 1
        last = input_ids.new_full((len(input_ids),), input_ids.shape[1] - 1)
        if tower.family != "eos":
            return last
        own = [self._end_token(code, tower) for code in codes]
        found = input_ids == input_ids.new_tensor(own).unsqueeze(1)  # (B, L)
        return torch.where(found.any(dim=1), found.int().argmax(dim=1), last)

    def _end_token(self, code: str, tower: TextTower) -> int:
        if self.processor is not None:
            return end_token_id(self.processor.tokenizer_for(None if code == BASE else code))
        adapter = getattr(self.base, "peft_config", {}).get(code)
        return getattr(adapter, "pooling_token_id", None) or tower.encoder.config.eos_token_id

    def get_text_features(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        pooled_at: Tensor | None = None,
        language: str | Sequence[str | None] | None = "active",
        **kwargs: Any,
    ) -> BaseModelOutputWithPooling:
        """Text features as transformers gives them: not normalised, in `pooler_output`. (B, d)"""
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
        if splits(self._rows_at_once, len(pixel_values)):
            inputs = {"pixel_values": pixel_values, **kwargs}
            return BaseModelOutputWithPooling(
                pooler_output=map_in_chunks(self._image_rows, self._rows_at_once, inputs)  # type: ignore[arg-type]
            )
        with self._others(None):
            output = self.base.get_image_features(pixel_values=pixel_values, **kwargs)
        return output if not isinstance(output, Tensor) else BaseModelOutputWithPooling(pooler_output=output)

    def _image_rows(self, **inputs: Any) -> Tensor:
        with self._others(None):
            return pooler_output(self.base.get_image_features(**inputs))

    def get_video_features(self, pixel_values: Tensor, **kwargs: Any) -> BaseModelOutputWithPooling:
        """Video features of a base that has them (X-CLIP), in `pooler_output`. (B, T, 3, H, W) -> (B, d)"""
        if not hasattr(self.base, "get_video_features"):
            raise ImageError("This base has no video tower; encode frames as pictures, or pass precomputed vectors.")
        with self._others(None):
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
        batch_size: int = 64,
        show_progress: bool | None = None,
        min_confidence: float = MIN_CONFIDENCE,
    ) -> Tensor:
        """Encode captions; see [`ccr_adapters.modeling.encoding.encode_text`]. -> (N, d), L2-normalised

        `language="auto"` recognises the language of each caption; those recognised with less than `min_confidence` go to the
        base (see [`ccr_adapters.modeling.auto_language.resolve_auto`]).
        """
        if language == AUTO:
            captions = check_captions([captions] if isinstance(captions, str) else captions)
            language = resolve_auto(self, captions, min_confidence)
        with self._using(language):
            return encode_text(self, captions, language, batch_size=batch_size, show_progress=show_progress)

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

    def save_pretrained(self, save_directory: str | Path, *args: Any, **kwargs: Any) -> None:  # type: ignore[override]
        """Write an adapter repository; see [`ccr_adapters.modeling.persistence.save_model`]."""
        save_model(self, save_directory, *args, **kwargs)

    def push_to_hub(self, repo_id: str, **kwargs: Any) -> Pushed:  # type: ignore[override]
        """Upload an adapter repository in one commit; see [`ccr_adapters.modeling.upload.push_model`]."""
        return push_model(self, repo_id, **kwargs)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, *args: Any, **kwargs: Any) -> CCRModel:  # type: ignore[override]
        """Load an adapter repository with its base; see [`ccr_adapters.modeling.persistence.load_model`]."""
        model: CCRModel = load_model(cls, pretrained_model_name_or_path, *args, **kwargs)
        return model

    def load_language(self, folder: str | Path, code: str | None = None, **kwargs: Any) -> list[str]:
        """Add the languages of another adapter repository for the same base; returns their codes.

        `lazy=True` leaves them where they are until they are asked for.
        """
        return load_languages(self, folder, code, **kwargs)

    def fetch_language(self, code: str, place: Place) -> Path:
        """Download what a language needs; returns the folder that its paths start from."""
        return fetch_language(code, place)

    def put_language(self, code: str, place: Place, folder: Path) -> None:
        """Load a language that was fetched."""
        load_language(self, code, place.language, folder)

    def base_sha256(self) -> str:
        """Hash of the base's weights."""
        return weights_sha256(self.base)


def _plain(config: Any) -> dict[str, Any]:
    """A base's configuration as JSON values, without traces of the machine that it came from."""
    values = config.to_dict()
    for key in ("_name_or_path", "transformers_version", "architectures", "dtype"):
        values.pop(key, None)
    return values


__all__ = ["CCRModel", "CCROutput"]
