"""Frozen targets, encoded once: vectors of source captions and pictures, in files named after what made them."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from ccr_adapters.modeling import CCRModel
from ccr_adapters.modeling.towers import pooler_output

logger = logging.getLogger(__name__)


def fingerprint(parts: Iterable[Any]) -> str:
    """A short hash of anything that prints stably."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part if isinstance(part, bytes) else json.dumps(part, sort_keys=True, default=str).encode())
        digest.update(b"\0")
    return digest.hexdigest()[:16]


def _content(picture: Any) -> Any:
    """What tells a picture from others: its values, or its file as it stands now."""
    if isinstance(picture, (str, Path)):
        found = Path(picture).stat()
        return [str(picture), found.st_size, found.st_mtime_ns]
    if isinstance(picture, Tensor):
        picture = picture.cpu().numpy()
    values = np.asarray(picture)
    return repr((values.shape, values.dtype.str)).encode() + values.tobytes()


class TargetCache:
    """Arrays on disk, by content: data, weights of the base and preprocessing together name the file.

    Args:
        folder: Where the files lie.
        model: The model whose base encodes.
    """

    def __init__(self, folder: str | Path, model: CCRModel) -> None:
        self.folder = Path(folder)
        self.model = model
        self._base = model.base_sha256()

    def source(self, captions: Sequence[str], *, batch_size: int = 128) -> np.ndarray:
        """Vectors of source captions by the frozen base, not normalised. (N, d), memory-mapped"""
        processor = self.model.processor
        # how a text encoder without a projection pools is no part of its weights
        how = [self._base, self.model.config.pooling, processor.base_max_length]  # type: ignore[union-attr]
        key = fingerprint(["source", *how, *captions])
        return self._array(key, len(captions), lambda out: self._encode_source(captions, out, batch_size))

    def visual(self, pictures: Sequence[Any], ids: Sequence[str], *, batch_size: int = 64) -> np.ndarray:
        """Vectors of pictures by the frozen base, not normalised. (M, d), memory-mapped

        Args:
            pictures: Pictures by index.
            ids: Their ids; a picture is taken for the same when its id and its data set's fingerprint are, or, without a
                data set, its own content.
            batch_size: Pictures a forward pass.
        """
        processor = self.model.processor
        described = str(getattr(processor.image_processor, "to_dict", dict)())  # type: ignore[union-attr]
        data = getattr(getattr(pictures, "rows", None), "_fingerprint", None)
        if data is None:
            data = fingerprint(_content(pictures[index]) for index in range(len(pictures)))
        key = fingerprint(["visual", self._base, described, data, *ids])
        return self._array(key, len(pictures), lambda out: self._encode_visual(pictures, out, batch_size))

    def _array(self, key: str, rows: int, fill: Callable[[np.ndarray], None]) -> np.ndarray:
        path = self.folder / f"{key}.npy"
        if not path.is_file():
            self.folder.mkdir(parents=True, exist_ok=True)
            # each process writes its own file; the last rename wins, with the same bytes
            aside = path.with_suffix(f".{os.getpid()}.tmp")
            array = np.lib.format.open_memmap(
                aside, mode="w+", dtype=np.float32, shape=(rows, self.model.embedding_dim)
            )
            try:
                fill(array)
                array.flush()
                os.replace(aside, path)
            finally:
                aside.unlink(missing_ok=True)
        return np.load(path, mmap_mode="r")

    @torch.inference_mode()
    def _encode_source(self, captions: Sequence[str], out: np.ndarray, batch_size: int) -> None:
        processor, device = self.model.processor, self.model.device
        rows = processor.token_ids(captions)  # type: ignore[union-attr]
        order = sorted(range(len(rows)), key=lambda index: -len(rows[index]))
        for start in tqdm(range(0, len(order), batch_size), desc="Source captions", unit="batch", leave=False):
            chosen = order[start : start + batch_size]
            batch = processor.pad([rows[index] for index in chosen])  # type: ignore[union-attr]
            inputs: dict[str, Tensor] = {"input_ids": batch.input_ids.to(device)}
            if not processor.pad_to_max_length:  # type: ignore[union-attr]
                inputs["attention_mask"] = batch.attention_mask.to(device)
            out[chosen] = self.model.base_features(**inputs).float().cpu().numpy()

    @torch.inference_mode()
    def _encode_visual(self, pictures: Sequence[Any], out: np.ndarray, batch_size: int) -> None:
        model = self.model
        for start in tqdm(range(0, len(pictures), batch_size), desc="Pictures", unit="batch", leave=False):
            chosen = pictures[start : start + batch_size]
            inputs = model.processor.picture_inputs(chosen).to(model.device, model.dtype)  # type: ignore[union-attr]
            features = pooler_output(model.get_image_features(**inputs))
            out[start : start + len(chosen)] = features.float().cpu().numpy()
