"""Galleries of `evaluate`: what a base sees is encoded once, whatever languages and models look at it, and mapped for each."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm.auto import tqdm

from ccr_adapters.cli.question_sets import gallery_object
from ccr_adapters.data.retrieval_set import RetrievalSet
from ccr_adapters.errors import ConfigError
from ccr_adapters.modeling import CCRModel
from ccr_adapters.modeling.encoding_video import frame_vectors, frames_asked
from ccr_adapters.modeling.towers import pooler_output
from ccr_adapters.processing.ahead import ahead
from ccr_adapters.processing.frames import mean_frames, stack_frames
from ccr_adapters.processing.video import is_features

_BATCH = 32  # pictures of a forward pass, as in `encode_image`
_POOLED = 64  # videos whose frames a head attends to together


class Galleries:
    """Keeps the vectors of galleries by base and by gallery.

    They are kept as the image tower gives them: a language's head may read their lengths.
    """

    def __init__(self) -> None:
        self._held: dict[tuple[str, int, int], Any] = {}

    def vectors(self, model: CCRModel, sha256: str, questions: RetrievalSet, code: str | None) -> Tensor:
        """The gallery in the space of a language.

        Args:
            model: The model.
            sha256: Hash of its base.
            questions: The set.
            code: The language; `None` for the base.

        Returns:
            L2-normalised vectors on the CPU. (M, d')

        Raises:
            ConfigError: If the base does not see what the gallery shows.
        """
        if questions.videos is not None:
            return self._videos(model, sha256, questions, code)
        key = (sha256 + _preprocessing(model), id(gallery_object(questions)), 0)
        if key not in self._held:
            self._held[key] = _raw_vectors(model, questions)
        raw: Tensor = self._held[key]
        return _mapped(model, raw, code)

    def _videos(self, model: CCRModel, sha256: str, questions: RetrievalSet, code: str | None) -> Tensor:
        own = model.space(code)
        most = 0 if own is None else int(model.heads[own].config.frames)  # type: ignore[union-attr, arg-type]
        videos: Any = questions.videos
        if len(videos) and not is_features(videos[0]):
            key = (sha256 + _preprocessing(model), id(videos), most)
            if key not in self._held:
                count, bar = frames_asked(model, own), len(videos) >= 64
                encoded = frame_vectors(model, videos, frames=count, show_progress=bar, normalize=False)
                self._held[key] = list(encoded)
            videos = self._held[key]
        if not most:
            return _mapped(model, torch.from_numpy(mean_frames(videos, unit=not _reads_lengths(model, own))), code)
        found = []
        for start in range(0, len(videos), _POOLED):
            rows = [videos[index] for index in range(start, min(start + _POOLED, len(videos)))]
            frames, mask = stack_frames(rows, most)
            found.append(model.map_visual(frames, own, mask).float().cpu())  # (n, d')
        return torch.cat(found)


def _mapped(model: CCRModel, raw: Tensor, code: str | None) -> Tensor:
    """Vectors of the base in a language's space. (M, d) -> (M, d')"""
    own = model.space(code)
    unit = F.normalize(raw, dim=-1)
    if own is None:
        return unit
    width = model.config.visual_dim or model.embedding_dim
    if raw.shape[1] != width:
        raise ConfigError(f"The gallery is {raw.shape[1]} wide, and the head of {own!r} takes vectors of {width}.")
    return model.map_visual(raw if _reads_lengths(model, own) else unit, own).float().cpu()


def _reads_lengths(model: CCRModel, own: str | None) -> bool:
    """Whether a language's head takes vectors at the length that the image tower gives them."""
    return own is not None and not model.heads[own].config.normalize_visual  # type: ignore[union-attr]


def _raw_vectors(model: CCRModel, questions: RetrievalSet) -> Tensor:
    """What the image tower gives for each picture, at its own length, or the features that came. (M, d)"""
    if questions.visual is not None:
        return torch.from_numpy(np.asarray(questions.visual, dtype=np.float32))
    pictures: Any = questions.pictures
    if "image" not in model.modalities or model.processor is None:
        raise ConfigError(
            f"{questions.name} shows pictures, and this base has no image tower: give features of the pictures (--features)."
        )
    found = []
    bar = tqdm(total=len(pictures), desc=f"Pictures of {questions.name}", unit="pictures", disable=None, leave=False)
    with torch.inference_mode(), bar:
        starts, prepare = range(0, len(pictures), _BATCH), model.processor.picture_inputs
        for inputs in ahead(lambda start: prepare(pictures[start : start + _BATCH]), starts):
            found.append(pooler_output(model.get_image_features(**inputs.to(model.device, model.dtype))).float().cpu())
            bar.update(len(found[-1]))
    return torch.cat(found)


def _preprocessing(model: CCRModel) -> str:
    """What one base may do with pictures otherwise than another with the same weights."""
    seen = getattr(model.processor, "image_processor", None)
    return "" if seen is None else json.dumps(seen.to_dict(), sort_keys=True, default=str)
