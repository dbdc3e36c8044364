"""A language in the shape of open_clip: `(model, transform, tokenizer)`, as benchmarks and search tools take it.

open_clip is not imported. Its users call `encode_text(tokens)`, `encode_image(pixels)`, `logit_scale.exp()`,
`transform(picture)` and `tokenizer(captions)`, and so may do with these.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from ccr_adapters.modeling import CCRModel
from ccr_adapters.modeling.encoding import processor_of
from ccr_adapters.modeling.towers import pooler_output
from ccr_adapters.processing import CCRProcessor
from ccr_adapters.processing.captions import end_token_id, pad_ids, pad_token_id


class OpenClipTokenizer:
    """Captions to ids of one length.

    Args:
        model: The model.
        language: The language.
    """

    def __init__(self, model: CCRModel, language: str | None) -> None:
        self._model, self._language = model, language
        with self._loaded() as processor:
            tokenizer = processor.tokenizer_for(language)
            self.end_id = end_token_id(tokenizer)
            self.pad_id = pad_token_id(tokenizer)
            self.reads_padding = processor.reads_padding(language)
            self.context_length = processor.base_max_length

    @contextmanager
    def _loaded(self) -> Iterator[CCRProcessor]:
        """The processor, with the language in it: a model may have given it away for others."""
        with self._model.shelf.using(self._model, [] if self._language is None else [self._language]):
            yield processor_of(self._model)

    def __call__(self, texts: str | Sequence[str], context_length: int | None = None) -> Tensor:
        """Ids with the end token, padded, cut to the length. -> (B, L)

        Raises:
            CaptionError: If a caption is empty or no text.
        """
        length = context_length or self.context_length
        with self._loaded() as processor:
            rows = processor.token_ids([texts] if isinstance(texts, str) else texts, self._language)
        rows = [row if len(row) <= length else [*row[: length - 1], self.end_id] for row in rows]
        return pad_ids(rows, self.pad_id, length).input_ids

    def mask(self, tokens: Tensor) -> Tensor:
        """1 at real tokens: those up to the end token. (B, L) -> (B, L)"""
        ends = tokens == self.end_id  # (B, L)
        return ((ends.long().cumsum(dim=1) - ends.long()) == 0).long()


class OpenClipForm(nn.Module):
    """A model with one language, called as open_clip's models are.

    Args:
        model: The model; it is held, not copied.
        language: The language; `None` is the base.
    """

    def __init__(self, model: CCRModel, language: str | None) -> None:
        super().__init__()
        self.model = model
        self.language = language
        self.tokenizer = OpenClipTokenizer(model, language)
        self.context_length = self.tokenizer.context_length

    @property
    def logit_scale(self) -> Tensor:
        """Logarithm of the factor between cosine and logit."""
        return self.model.logit_scale.log()

    @property
    def logit_bias(self) -> Tensor | None:
        """What is added to logits by bases that were trained with a sigmoid."""
        return getattr(self.model.base, "logit_bias", None)

    def encode_text(self, text: Tensor, normalize: bool = False) -> Tensor:
        """Encode the tokenizer's ids. (B, L) -> (B, d)"""
        inputs = {"input_ids": text}
        if not self.tokenizer.reads_padding:
            mask = self.tokenizer.mask(text)
            lengths = mask.sum(dim=1)
            # all tokens from here on are padding, which costs time and changes nothing
            longest = int(lengths.max())
            inputs = {"input_ids": text[:, :longest], "attention_mask": mask[:, :longest], "pooled_at": lengths - 1}
        features = pooler_output(self.model.get_text_features(**inputs, language=self.language))
        return F.normalize(features, dim=-1) if normalize else features

    def encode_image(self, image: Tensor, normalize: bool = False) -> Tensor:
        """Encode the transform's pixels. (B, 3, H, W) -> (B, d)"""
        features = pooler_output(self.model.get_image_features(image))
        own = self.model.space(self.language)
        if own is not None:
            with self.model.shelf.using(self.model, [own]):
                features = self.model.heads[own].visual(features)  # type: ignore[operator]
        return F.normalize(features, dim=-1) if normalize else features

    def forward(self, image: Tensor | None = None, text: Tensor | None = None) -> tuple[Any, ...]:
        """Normalised vectors of pictures and captions, and the factor between cosine and logit."""
        pictures = None if image is None else self.encode_image(image, normalize=True)
        captions = None if text is None else self.encode_text(text, normalize=True)
        return pictures, captions, self.logit_scale.exp()


class OpenClipTransform:
    """A picture to pixels, by the base's image processor.

    Args:
        model: The model.
    """

    def __init__(self, model: CCRModel) -> None:
        self._processor = processor_of(model)

    def __call__(self, picture: Any) -> Tensor:
        """A PIL image, path or array to what the image tower takes. -> (3, H, W)

        Raises:
            ImageError: If the picture cannot be read, or the base has no image tower.
        """
        pixels: Tensor = self._processor.picture_inputs([picture])["pixel_values"][0]
        return pixels


def open_clip_form(
    model: CCRModel, language: str | None = "active"
) -> tuple[OpenClipForm, OpenClipTransform, OpenClipTokenizer]:
    """What `open_clip.create_model_and_transforms` and `open_clip.get_tokenizer` give, for one language.

    Args:
        model: The model.
        language: The language; `None` is the base, `"active"` the model's active one.

    Returns:
        The model, the transform of one picture, and the tokenizer.

    Raises:
        LanguageError: If there is no such language.

    Example:
        >>> model, transform, tokenizer = open_clip_form(ccr, "de")  # doctest: +SKIP
        >>> model.encode_text(tokenizer(["Ein Hund"]), normalize=True)  # doctest: +SKIP
    """
    form = OpenClipForm(model, model.resolve_language(language))
    return form.eval(), OpenClipTransform(model), form.tokenizer


__all__ = ["OpenClipForm", "OpenClipTokenizer", "OpenClipTransform", "open_clip_form"]
