"""Frozen targets, encoded once: vectors of source captions, pictures and frames, in files named after what made them."""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Image
from torch import Tensor
from tqdm.auto import tqdm

from ccr_adapters.modeling import CCRModel
from ccr_adapters.modeling.encoding_video import frame_vectors
from ccr_adapters.modeling.memory import in_halves
from ccr_adapters.modeling.towers import pooler_output
from ccr_adapters.pixels import VERSION as PIXELS
from ccr_adapters.processing.ahead import ahead

logger = logging.getLogger(__name__)

_STALE = 24 * 3600  # seconds


def fingerprint(parts: Iterable[Any]) -> str:
    """A short hash of anything that prints stably."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part if isinstance(part, bytes) else json.dumps(part, sort_keys=True, default=str).encode())
        digest.update(b"\0")
    return digest.hexdigest()[:16]


def _reserve(path: Path) -> None:
    """Take a sparse file's room on the disk now: a map that outgrows the disk ends the process without a word.

    Raises:
        OSError: If there is no room.
    """
    if not hasattr(os, "posix_fallocate"):
        return
    with path.open("r+b") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise
            # a file system that cannot promise room
            logger.debug("No room is reserved for '%s': %s", path, error)


def _aside(path: Path) -> Path:
    """A file to write in, of this process alone: others on other machines may have its number."""
    return path.with_suffix(f".{os.getpid()}-{uuid.uuid4().hex[:8]}.tmp")


def _sweep(folder: Path) -> None:
    """Remove what processes that were killed left half written, a day ago or earlier."""
    for left in folder.glob("*.tmp"):
        with suppress(OSError):
            if time.time() - left.stat().st_mtime > _STALE:
                left.unlink()


def _files_of(pictures: Any) -> list[Any]:
    """Size and time of change of the files that a column of pictures only names; none where it holds the pictures."""
    rows, column = getattr(pictures, "rows", None), getattr(pictures, "name", None)
    if rows is None or not isinstance(getattr(rows, "features", {}).get(column), Image) or not len(rows):
        return []
    compute: Any = import_module("pyarrow.compute")  # comes with datasets
    # the stored table itself: selecting rows of it would copy the pictures that lie inside
    paths: list[str | None] = []
    for chunk in rows.data.column(column).chunks:
        paths += compute.if_else(compute.is_null(chunk.field("bytes")), chunk.field("path"), None).to_pylist()
    if rows._indices is not None:
        paths = [paths[index] for index in rows._indices.column(0).to_pylist()]
    return [None if path is None else _file(path) for path in paths]


def _file(path: str) -> Any:
    """A file as it stands now; an address, or a member of an archive, by its name."""
    try:
        return _content(path)
    except OSError:
        return path


def _content(picture: Any) -> Any:
    """What tells a picture from others: its values, or its file as it stands now."""
    if isinstance(picture, (str, Path)):
        found = Path(picture).stat()
        return [str(picture), found.st_size, found.st_mtime_ns]
    if isinstance(picture, Tensor):
        picture = picture.cpu().numpy()
    values = np.asarray(picture)
    return repr((values.shape, values.dtype.str)).encode() + values.tobytes()


class FrameVectors:
    """Frames of videos in one file, mapped into memory; indexed as a list of videos.

    Args:
        path: The file; beside it lies a JSON with the width and how many frames each video has.

    Raises:
        ValueError: If the file is shorter or longer than that.
    """

    def __init__(self, path: Path) -> None:
        sizes = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        self.starts = np.concatenate([[0], np.cumsum(sizes["lengths"], dtype=np.int64)])
        shape = (int(self.starts[-1]), sizes["width"])
        if path.stat().st_size != 4 * shape[0] * shape[1]:
            raise ValueError(f"{path.stat().st_size} bytes; expected {4 * shape[0] * shape[1]}")
        self.array = np.memmap(path, "<f4", "r", shape=shape) if shape[0] else np.empty(shape, "<f4")

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, index: int) -> np.ndarray:
        if not -len(self) <= index < len(self):
            raise IndexError(f"Video {index} of {len(self)}.")
        index %= len(self)
        return self.array[self.starts[index] : self.starts[index + 1]]  # (T, d)


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
        self._how = [str(model.dtype), model.config.pooling]  # neither is part of the weights

    def source(self, captions: Sequence[str], *, batch_size: int = 128) -> np.ndarray:
        """Vectors of source captions by the frozen base, not normalised. (N, d), memory-mapped"""
        processor = self.model.processor
        lengths = np.zeros(len(captions), dtype=np.int32)

        def parts() -> Iterator[Any]:
            yield from ("source", self._base, *self._how, processor.pad_to_max_length)  # type: ignore[union-attr]
            # ids, not captions: they have the tokenizer and its settings in them
            for row, ids in enumerate(processor.token_rows(captions)):  # type: ignore[union-attr]
                lengths[row] = len(ids)
                yield ids

        key = fingerprint(parts())
        return self._array(key, len(captions), lambda out: self._encode_source(captions, lengths, out, batch_size))

    def visual(self, pictures: Sequence[Any], ids: Sequence[str], *, batch_size: int = 64) -> np.ndarray:
        """Vectors of pictures by the frozen base, not normalised. (M, d), memory-mapped

        Args:
            pictures: Pictures by index.
            ids: Their ids; a picture is taken for the same when its id and its data set's fingerprint are, and, where the
                data set names files, their sizes and times of change; without a data set, its own content.
            batch_size: Pictures a forward pass.
        """
        processor = self.model.processor
        described = str(getattr(processor.image_processor, "to_dict", dict)())  # type: ignore[union-attr]
        data = getattr(getattr(pictures, "rows", None), "_fingerprint", None)
        if data is None:
            data = fingerprint(_content(pictures[index]) for index in range(len(pictures)))
        seen = [described, PIXELS]
        key = fingerprint(["visual", self._base, *self._how, *seen, data, *_files_of(pictures), *ids])
        return self._array(key, len(pictures), lambda out: self._encode_visual(pictures, out, batch_size))

    def frames(self, videos: Sequence[Any], frames: int | None = None, *, batch_size: int = 64) -> FrameVectors:
        """Vectors of the frames of videos by the frozen base, not normalised. (T_i, d) each, memory-mapped

        Args:
            videos: Videos by index: paths, or frames (T, H, W, 3). A file is taken for the same while its size and its
                time of change are.
            frames: Most frames of a video; by default as many as `encode_frames` takes.
            batch_size: Frames a forward pass.

        Raises:
            VideoError: Naming a video that cannot be read; nothing is kept then.
        """
        described = str(getattr(self.model.processor.image_processor, "to_dict", dict)())  # type: ignore[union-attr]
        contents = [_content(videos[index]) for index in range(len(videos))]
        key = fingerprint(["frames", self._base, *self._how, described, frames, *contents])
        path = self.folder / f"{key}.frames"
        if path.with_suffix(".json").is_file():
            with suppress(ValueError, KeyError, FileNotFoundError):
                return FrameVectors(path)
            self._broken(path)
        if not path.with_suffix(".json").is_file():
            self._make_folder()
            aside = _aside(path)
            try:
                lengths = self._write_frames(videos, frames, aside, batch_size)
                os.replace(aside, path)
                # written last: where there is a list of lengths, all frames are there
                aside.write_text(json.dumps({"width": self.model.embedding_dim, "lengths": lengths}), encoding="utf-8")
                os.replace(aside, path.with_suffix(".json"))
            finally:
                aside.unlink(missing_ok=True)
        return FrameVectors(path)

    def _write_frames(self, videos: Sequence[Any], frames: int | None, path: Path, batch_size: int) -> list[int]:
        """Append the frames of one video after the other; returns how many each has."""
        lengths = []
        with path.open("wb") as file:
            rows = frame_vectors(
                self.model, videos, frames=frames, batch_size=batch_size, show_progress=True, normalize=False
            )
            for vectors in rows:
                lengths.append(len(vectors))
                file.write(np.ascontiguousarray(vectors, dtype="<f4").tobytes())
        return lengths

    def _make_folder(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        _sweep(self.folder)

    def _broken(self, path: Path) -> None:
        """Say that a file is not whole, and take it away."""
        logger.warning("The cache '%s' is not whole, as after a full disk; it is made again.", path)
        path.with_suffix(".json").unlink(missing_ok=True)
        path.unlink(missing_ok=True)

    def _array(self, key: str, rows: int, fill: Callable[[np.ndarray], None]) -> np.ndarray:
        path = self.folder / f"{key}.npy"
        shape = (rows, self.model.embedding_dim)
        if path.is_file():
            with suppress(ValueError, EOFError):
                found: np.ndarray = np.load(path, mmap_mode="r")
                if found.shape == shape:
                    return found
            self._broken(path)
        self._make_folder()
        # each process writes its own file; the last rename wins, with the same bytes
        aside = _aside(path)
        try:
            array = np.lib.format.open_memmap(aside, mode="w+", dtype=np.float32, shape=shape)
            _reserve(aside)
            fill(array)
            array.flush()
            os.replace(aside, path)
        finally:
            aside.unlink(missing_ok=True)
        made: np.ndarray = np.load(path, mmap_mode="r")
        return made

    @torch.inference_mode()
    def _encode_source(self, captions: Sequence[str], lengths: np.ndarray, out: np.ndarray, batch_size: int) -> None:
        processor, device = self.model.processor, self.model.device
        order = np.argsort(-lengths, kind="stable").tolist()

        def encode(chosen: list[int]) -> np.ndarray:
            batch = processor.pad(processor.token_ids([captions[index] for index in chosen]))  # type: ignore[union-attr]
            inputs: dict[str, Tensor] = {"input_ids": batch.input_ids.to(device)}
            if not processor.pad_to_max_length:  # type: ignore[union-attr]
                inputs["attention_mask"] = batch.attention_mask.to(device)
            found: np.ndarray = self.model.base_features(**inputs).float().cpu().numpy()
            return found

        for start in tqdm(range(0, len(order), batch_size), desc="Source captions", unit="batch", leave=False):
            chosen = order[start : start + batch_size]
            out[chosen] = in_halves(encode, chosen)

    @torch.inference_mode()
    def _encode_visual(self, pictures: Sequence[Any], out: np.ndarray, batch_size: int) -> None:
        model, processor = self.model, self.model.processor
        starts = range(0, len(pictures), batch_size)
        prepared = ahead(lambda start: processor.picture_inputs(pictures[start : start + batch_size]), starts)  # type: ignore[union-attr]

        def encode(inputs: dict[str, Tensor]) -> np.ndarray:
            moved = {
                name: value.to(model.device, model.dtype if value.is_floating_point() else None)
                for name, value in inputs.items()
            }
            found: np.ndarray = pooler_output(model.get_image_features(**moved)).float().cpu().numpy()
            return found

        for start, inputs in zip(tqdm(starts, desc="Pictures", unit="batch", leave=False), prepared, strict=True):
            features = in_halves(encode, dict(inputs))
            out[start : start + len(features)] = features
