"""Encoding many captions or pictures: short ones together, results in the order in which they came."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm.auto import tqdm
from transformers import BatchFeature

from ccr_adapters.errors import CaptionError, ConfigError, LanguageError
from ccr_adapters.modeling.interfaces import Encodes
from ccr_adapters.modeling.packing import passes, rows_a_pass
from ccr_adapters.modeling.towers import pooler_output
from ccr_adapters.processing import CCRProcessor
from ccr_adapters.processing.ahead import ahead
from ccr_adapters.processing.captions import check_captions, pad_ids
from ccr_adapters.processing.pictures import as_list, check_pictures

# from here on a bar appears by itself
_LONG_WORK = 2048
# captions that are sorted together, and tokenised while those before them are encoded
_WINDOW = 4096


def processor_of(model: Encodes) -> CCRProcessor:
    """The processor of a model that has one.

    Raises:
        ConfigError: If the model was built from a bare module.
    """
    if model.processor is None:
        raise ConfigError(
            "This model was built from a bare module and has no processor. Pass `processor=` to CCRModel.from_base, or "
            "use get_text_features and get_image_features with tensors."
        )
    return model.processor


def encode_text(
    model: Encodes,
    captions: str | Sequence[str],
    language: str | Sequence[str | None] | None = "active",
    *,
    batch_size: int | None = None,
    show_progress: bool | None = None,
) -> Tensor:
    """Encode captions.

    Args:
        model: The model.
        captions: One or many.
        language: Code of their language, or one code a caption. `"active"` is the model's active language; `None`,
            `"en"` and `"__base__"` are the base.
        batch_size: Most captions a forward pass; `None` takes as many as fit a budget of tokens.
        show_progress: A progress bar; by default from 2,048 captions on.

    Returns:
        L2-normalised vectors in the order of the captions, on the model's device. (N, d)

    Raises:
        CaptionError: If a caption is empty or no text; nothing is encoded then.
        LanguageError: If a language has no adapter; the message lists those there are.
    """
    processor = processor_of(model)
    texts = check_captions([captions] if isinstance(captions, str) else captions)
    if language is None or isinstance(language, str):
        codes = [model.resolve_language(language)] * len(texts)
    else:
        if len(language) != len(texts):
            raise CaptionError(f"{len(language)} languages for {len(texts)} captions; pass one, or one a caption.")
        codes = [model.resolve_language(code) for code in language]
    spaces = {model.space(code): code for code in codes}
    if len(spaces) > 1:
        named = ", ".join(sorted(str(code) for code in spaces.values()))
        raise LanguageError(
            f"These languages do not share a space ({named}): encode their captions one after the other."
        )
    windows = [slice(start, start + _WINDOW) for start in range(0, len(texts), _WINDOW)]

    def tokenised(window: slice) -> list[list[int]]:
        return _token_ids(processor, texts[window], codes[window])

    features: Tensor | None = None
    bar = tqdm(total=len(texts), desc="Captions", unit="captions", disable=not is_long(show_progress, len(texts)))
    # one thread, since the tokenizers have their own; a search asks for one window and needs none
    rows = ahead(tokenised, windows, workers=1) if len(windows) > 1 else map(tokenised, windows)
    with bar:
        for window, ids in zip(windows, rows, strict=True):
            encoded = encode_ids(model, ids, codes[window], batch_size=batch_size, progress=bar.update)
            if features is None:
                features = encoded.new_empty((len(texts), encoded.shape[1]))
            features[window] = encoded
    return (
        torch.empty((0, model.dim_of(next(iter(codes), None))), device=model.device) if features is None else features
    )


def _token_ids(processor: CCRProcessor, texts: Sequence[str], codes: Sequence[str | None]) -> list[list[int]]:
    """Ids of captions, each by the tokenizer of its language."""
    rows: list[list[int]] = [[] for _ in texts]
    for code in dict.fromkeys(codes):
        chosen = [index for index, own in enumerate(codes) if own == code]
        for index, ids in zip(chosen, processor.token_ids([texts[i] for i in chosen], code), strict=True):
            rows[index] = ids
    return rows


def encode_ids(
    model: Encodes,
    rows: Sequence[list[int]],
    codes: Sequence[str | None],
    *,
    batch_size: int | None = None,
    progress: Callable[[int], Any] | None = None,
) -> Tensor:
    """Encode captions that are token ids already, as workers make them ahead of the encoder.

    Args:
        model: The model.
        rows: What `CCRProcessor.token_ids` gives; at least one.
        codes: Language of each, as `CCRModel.resolve_language` gives it; all of one space.
        batch_size: As for `encode_text`.
        progress: Called with the number of captions that were just encoded.

    Returns:
        L2-normalised vectors in the order of the rows, on the model's device. (N, d)
    """
    processor = processor_of(model)
    features: Tensor | None = None
    with torch.inference_mode():
        for batch in passes(model, rows, codes, batch_size):
            encoded = _encode_batch(model, processor, [rows[i] for i in batch], [codes[i] for i in batch])
            if features is None:
                features = encoded.new_empty((len(rows), encoded.shape[1]))
            features[torch.tensor(batch, device=features.device)] = encoded
            if progress is not None:
                progress(len(batch))
    if features is None:
        raise CaptionError("There are no captions to encode.")
    return features


def encode_source(
    model: Encodes,
    captions: str | Sequence[str],
    language: str | None = "active",
    *,
    batch_size: int | None = None,
    show_progress: bool | None = None,
) -> Tensor:
    """Encode captions of the base's own language for the space of a language.

    In the base's space that is the base itself. A language with a head has fine-tuned one network for both, and its
    source captions go through it: queries that were machine-translated into English, for example.

    Args:
        model: The model.
        captions: One or many.
        language: Whose space.
        batch_size: As for `encode_text`.
        show_progress: A progress bar; by default from 2,048 captions on.

    Returns:
        L2-normalised vectors in the order of the captions. (N, d)

    Raises:
        CaptionError: If a caption is empty or no text.
        LanguageError: If the language has no adapter.
    """
    code = model.resolve_language(language)
    if code is None or model.space(code) is None:
        return encode_text(model, captions, None, batch_size=batch_size, show_progress=show_progress)
    processor = processor_of(model)
    texts = check_captions([captions] if isinstance(captions, str) else captions)
    rows = processor.token_ids(texts)
    order = sorted(range(len(rows)), key=lambda index: -len(rows[index]))
    features = torch.empty((len(rows), model.dim_of(code)), device=model.device)
    bar = tqdm(total=len(rows), desc="Captions", unit="captions", disable=not is_long(show_progress, len(rows)))
    with torch.inference_mode(), bar:
        start = 0
        while start < len(order):
            longest = processor.base_max_length if processor.pad_to_max_length else len(rows[order[start]])
            most = rows_a_pass(longest, batch_size, model.device)
            chosen = order[start : start + most]
            start += most
            batch = processor.pad([rows[index] for index in chosen])
            if processor.pad_to_max_length:
                # such a base reads the padding too
                batch.attention_mask.fill_(1)
            ids, mask, ends = (
                part.to(model.device) for part in (batch.input_ids, batch.attention_mask, batch.pooled_at)
            )
            encoded, _, _ = model.target_features(ids, mask, ends, code, source=True)
            features[torch.tensor(chosen, device=features.device)] = F.normalize(encoded.float(), dim=-1)
            bar.update(len(chosen))
    return features


def map_visual(model: Encodes, vectors: Tensor, language: str | None, mask: Tensor | None = None) -> Tensor:
    """Visual vectors of the base in a language's space.

    An index of the base's vectors stays valid whatever languages come: those without a head use it as it is, and for one
    with a head this maps it, without another look at a picture.

    Args:
        model: The model.
        vectors: Pictures (M, d), or frames (M, T, d) for a head that takes them.
        language: Whose space.
        mask: 1 at real frames. (M, T)

    Returns:
        L2-normalised vectors. (M, d')

    Raises:
        ConfigError: If the head takes the base's vectors at their own length, and these have length 1.
    """
    code = model.resolve_language(language)
    if code is None or model.space(code) is None:
        return F.normalize(vectors, dim=-1)
    head: Any = model.heads[code]
    if not head.config.normalize_visual and hasattr(model.base, "get_image_features"):
        _refuse_unit_vectors(vectors, code, mask)
    place = next(head.parameters())
    with torch.inference_mode():
        moved = vectors.to(place.device, place.dtype)
        mapped: Tensor = head.visual(moved, None if mask is None else mask.to(place.device))
    return mapped


def _refuse_unit_vectors(vectors: Tensor, code: str, mask: Tensor | None) -> None:
    """Refuse normalised vectors of a base for a head that reads their length: what they meant is lost."""
    lengths = vectors.detach().float().norm(dim=-1)  # (M,) or (M, T)
    if mask is not None:
        lengths = lengths[mask.to(lengths.device) != 0]
    if lengths.numel() and bool(((lengths - 1).abs() < 1e-3).all()):
        raise ConfigError(
            f"The head of {code!r} reads the base's vectors at their own length, and these are L2-normalised. Encode the "
            f"pictures for it: encode_image(pictures, language={code!r})."
        )


def _encode_batch(model: Encodes, processor: CCRProcessor, rows: list[list[int]], codes: list[str | None]) -> Tensor:
    device = model.device
    first = codes[0]
    if first is None or first not in model.vocabularies:
        batch = processor.pad(rows, first)
        inputs: dict[str, Any] = {"input_ids": batch.input_ids.to(device)}
        if not processor.pad_to_max_length:
            inputs["attention_mask"] = batch.attention_mask.to(device)
        if first is None:
            return F.normalize(model.base_features(**inputs).float(), dim=-1)
    else:
        # padding is masked, and every table has a row 0, while one tokenizer's padding may lie outside another's table
        batch = pad_ids(rows, 0)
        inputs = {"input_ids": batch.input_ids.to(device), "attention_mask": batch.attention_mask.to(device)}
        inputs["pooled_at"] = batch.pooled_at.to(device)
    languages = [code for code in codes if code is not None]
    features, _, _ = model.target_features(
        inputs["input_ids"], inputs.get("attention_mask"), inputs.get("pooled_at"), languages
    )
    return F.normalize(features.float(), dim=-1)


def encode_image(
    model: Encodes,
    pictures: Any,
    language: str | None = "active",
    *,
    batch_size: int = 32,
    show_progress: bool | None = None,
) -> Tensor:
    """Encode pictures with the base's image tower, which no adapter touches.

    Args:
        model: The model.
        pictures: Paths, PIL images, arrays or tensors, one or many.
        language: For whose captions; it makes a difference only for a language with a space of its own.
        batch_size: Pictures a forward pass; a few batches are in memory at once, decoded ahead by threads.
        show_progress: A progress bar; by default from 2,048 pictures on.

    Returns:
        L2-normalised vectors in the order of the pictures, on the model's device. (M, d)

    Raises:
        ImageError: Naming a picture that is missing or unreadable; nothing is encoded then.
    """
    processor = processor_of(model)
    items = as_list(pictures)
    check_pictures(items)
    features: list[Tensor] = []
    bar = tqdm(total=len(items), desc="Pictures", unit="pictures", disable=not is_long(show_progress, len(items)))
    code = model.resolve_language(language)
    batches = [items[start : start + batch_size] for start in range(0, len(items), batch_size)]
    with bar:
        for batch, inputs in zip(batches, ahead(processor.picture_inputs, batches), strict=True):
            features.append(encode_pixels(model, inputs, code))
            bar.update(len(batch))
    return torch.cat(features) if features else torch.empty((0, model.dim_of(code)), device=model.device)


def encode_pixels(model: Encodes, inputs: BatchFeature, language: str | None = "active") -> Tensor:
    """Encode one batch of pictures that are tensors already, as workers make them ahead of the encoder.

    Args:
        model: The model.
        inputs: What `CCRProcessor.picture_inputs` gives.
        language: As in `encode_image`.

    Returns:
        L2-normalised vectors, on the model's device. (B, d)
    """
    code = model.resolve_language(language)
    own = model.space(code)
    as_they_are = own is not None and not model.heads[own].config.normalize_visual  # type: ignore[union-attr]
    with torch.inference_mode():
        vectors = pooler_output(model.get_image_features(**inputs.to(model.device, model.dtype))).float()  # (B, d)
        if not as_they_are:
            vectors = F.normalize(vectors, dim=-1)
        return vectors if own is None else map_visual(model, vectors, code)


def is_long(show_progress: bool | None, count: int) -> bool:
    """Whether a bar appears: where it is asked for, or over long work."""
    return count >= _LONG_WORK if show_progress is None else show_progress
