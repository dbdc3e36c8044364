"""Encoding many videos: frames of several share a pass of the image tower, and are pooled by mean or by a language's head."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm.auto import tqdm

from ccr_adapters.errors import ImageError, VideoError
from ccr_adapters.modeling.encoding import is_long, map_visual, processor_of
from ccr_adapters.modeling.interfaces import Encodes
from ccr_adapters.modeling.towers import pooler_output
from ccr_adapters.processing.frames import mean_frames, stack_frames
from ccr_adapters.processing.pictures import load_picture
from ccr_adapters.processing.video import as_videos, check_videos, is_features, pictures_of

T = TypeVar("T")

# frames of a video, where neither the base nor a head says another number
FRAMES = 8
# videos whose frames a head attends to together
_POOLED = 64


class EncodesVideos(Encodes, Protocol):
    """A model that also turns frames into vectors."""

    config: Any

    def get_video_features(self, pixel_values: Tensor, **kwargs: Any) -> Any:
        """Features of clips, of a base that has them."""


def encode_video(
    model: EncodesVideos,
    videos: Any,
    language: str | None = "active",
    *,
    frames: int | None = None,
    batch_size: int = 32,
    show_progress: bool | None = None,
) -> Tensor:
    """Encode videos: frames by the base's image tower, then one vector of them.

    A language whose head attends to frames (NRCCR's temporal layer) pools them by it, in its own space. For all others it
    is the mean of the frames at unit length, which does not know their order. A base that reads clips itself (X-CLIP)
    pools files and frames in its own way.

    Args:
        model: The model.
        videos: One or many: paths, frames (T, H, W, 3), lists of pictures, or features of frames (T, d) of any length, of
            the width of the base's vectors.
        language: For whose captions; it makes a difference only for a language with a space of its own.
        frames: Frames of a file or of a longer list, at even distances; by default as many as the language's head or the
            base was built for, else 8.
        batch_size: Frames a forward pass, of several videos; only so many are in memory at once.
        show_progress: A progress bar; by default from 2,048 videos on.

    Returns:
        L2-normalised vectors in the order of the videos, on the model's device. (N, d)

    Raises:
        VideoError: Naming a video that is missing, cut short or cannot be decoded. Files that cannot be opened at all are
            found before anything is encoded.
        ImageError: If the base has no tower for what came.
    """
    code = model.resolve_language(language)
    own = model.space(code)
    most = int(model.heads[own].config.frames) if own is not None else 0  # type: ignore[union-attr, arg-type]
    unit = own is None or bool(model.heads[own].config.normalize_visual)  # type: ignore[union-attr]
    found = []
    # a base that reads clips has a number of its own, whatever a head has places for
    count = frames if hasattr(model.base, "get_video_features") else _frames_of(frames, most)
    rows = frame_vectors(
        model, videos, frames=count, batch_size=batch_size, show_progress=show_progress, normalize=unit
    )
    while group := list(islice(rows, _POOLED)):
        if most:
            stacked, mask = stack_frames(group, most)
            found.append(map_visual(model, stacked, own, mask))  # (n, d')
        else:
            found.append(map_visual(model, torch.from_numpy(mean_frames(group, unit=unit)), own))
    if not found:
        return torch.empty((0, model.dim_of(code)))
    return torch.cat([vectors.float() for vectors in found]).to(model.device)


def encode_frames(
    model: EncodesVideos,
    videos: Any,
    *,
    frames: int | None = None,
    batch_size: int = 32,
    show_progress: bool | None = None,
) -> list[np.ndarray]:
    """Vectors of the frames of videos by the base, for training on (`Corpus.videos`), or to be kept beside an index.

    Args:
        model: The model.
        videos: As in `encode_video`.
        frames: Most frames of a video; 8 by default.
        batch_size: Frames a forward pass.
        show_progress: A progress bar; by default from 2,048 videos on.

    Returns:
        L2-normalised vectors of each video's frames, on the CPU; a clip of X-CLIP has one. Features come back as they are.
        (T_i, d) each

    Raises:
        VideoError: Naming a video that cannot be read.
        ImageError: If the base has no tower for what came.
    """
    return list(frame_vectors(model, videos, frames=frames, batch_size=batch_size, show_progress=show_progress))


def frame_vectors(
    model: EncodesVideos,
    videos: Any,
    *,
    frames: int | None = None,
    batch_size: int = 32,
    show_progress: bool | None = None,
    normalize: bool = True,
) -> Iterator[np.ndarray]:
    """The same one video after the other, each as soon as its last frame is encoded.

    Args:
        model: The model.
        videos: As in `encode_video`.
        frames: Most frames of a video; 8 by default.
        batch_size: Frames a forward pass.
        show_progress: A progress bar; by default from 2,048 videos on.
        normalize: At length 1; otherwise as the image tower gives them, for a head that reads their lengths.

    Yields:
        Vectors of a video's frames, on the CPU. (T_i, d)

    Raises:
        VideoError: Naming a video that cannot be read.
        ImageError: If the base has no tower for what came.
    """
    if batch_size < 1 or (frames is not None and frames < 1):
        raise VideoError(f"`frames` is {frames}, `batch_size` {batch_size}; both must be 1 or more.")
    items = as_videos(videos)
    if isinstance(items, (list, tuple)):  # others come from a disk: each is looked at when it comes
        check_videos(items)
        _check_tower(model, items)
    clips = hasattr(model.base, "get_video_features")
    encode = _clips if clips else _frames
    rows = encode(model, _checked(model, items), frames, batch_size, normalize)
    yield from tqdm(
        rows, desc="Videos", unit="videos", total=len(items), disable=not is_long(show_progress, len(items))
    )


def frames_asked(model: EncodesVideos, language: str | None) -> int | None:
    """How many frames of a video a language looks at; `None` where the base decides.

    Args:
        model: The model.
        language: The language.
    """
    own = model.space(language)
    if own is None or hasattr(model.base, "get_video_features"):
        return None
    head = model.language_config(own).head
    return None if head is None else head.frames or None


def _frames_of(asked: int | None, most: int) -> int | None:
    """How many frames to take, for a head that has places for so many."""
    return most or asked if asked is None else min(asked, most or asked)


def _checked(model: EncodesVideos, items: Any) -> Iterator[Any]:
    """The videos, each looked at where that has not been done."""
    for row in range(len(items)):
        video = items[row]
        if not isinstance(items, (list, tuple)):
            check_videos([video], row)
            _check_tower(model, [video], row)
        yield video


def _check_tower(model: EncodesVideos, videos: Iterable[Any], first: int = 0) -> None:
    """Refuse pictures where nothing sees them, and features of another width than the base's vectors."""
    sees = hasattr(model.base, "get_image_features") or hasattr(model.base, "get_video_features")
    width = model.config.visual_dim or model.embedding_dim
    for row, video in enumerate(videos, first):
        if not is_features(video):
            if not sees:
                raise ImageError(
                    f"Video {row}: this base has no tower that sees. Pass features of frames (T, {width})."
                )
        elif video.shape[1] != width:
            raise VideoError(f"Video {row} has features of width {video.shape[1]}; this model takes {width}.")


def _features(video: Any) -> np.ndarray:
    """Features as they came: whoever pools them knows whether their length means anything. (T, d)"""
    if isinstance(video, Tensor):
        video = video.detach().float().cpu().numpy()
    # a copy, in order: an array may be read-only, or a view that torch does not take
    return np.array(video, dtype=np.float32)


def _frames(
    model: EncodesVideos, videos: Iterator[Any], frames: int | None, batch_size: int, unit: bool
) -> Iterator[np.ndarray]:
    """Frames of several videos share a pass of the image tower."""
    waiting: list[list[np.ndarray]] = []  # vectors of the videos whose turn has not come yet
    left: list[int] = []  # frames of each that are still in the batch

    def every() -> Iterator[tuple[int, Any]]:
        """Frames with the number of their video; nothing stands for one that comes as features."""
        for number, video in enumerate(videos):
            ready = is_features(video)
            waiting.append([_features(video)] if ready else [])
            left.append(1)  # not whole before its last frame has been taken
            for picture in [None] if ready else pictures_of(video, frames or FRAMES):
                left[number] += 1
                yield number, picture
            left[number] -= 1

    done, pictures = 0, every()
    while True:
        batch = list(islice(pictures, batch_size))
        seen = [(number, picture) for number, picture in batch if picture is not None]
        vectors = _pass(model, [picture for _, picture in seen], unit) if seen else ()
        for (number, _), vector in zip(seen, vectors, strict=True):
            waiting[number].append(vector[None])
        for number, _ in batch:
            left[number] -= 1
        while done < len(waiting) and not left[done]:
            yield np.concatenate(waiting[done])
            waiting[done] = []
            done += 1
        if len(batch) < batch_size:
            return


def _pass(model: EncodesVideos, pictures: list[Any], unit: bool) -> np.ndarray:
    """Pictures through the image tower. (n, d)"""
    with torch.inference_mode():
        inputs = processor_of(model).picture_inputs(pictures).to(model.device, model.dtype)
        return _to_numpy(pooler_output(model.get_image_features(**inputs)), unit)


def _to_numpy(vectors: Tensor, unit: bool) -> np.ndarray:
    vectors = F.normalize(vectors.float(), dim=-1) if unit else vectors.float()
    found: np.ndarray = vectors.cpu().numpy()
    return found


def _clips(
    model: EncodesVideos, videos: Iterator[Any], frames: int | None, batch_size: int, unit: bool
) -> Iterator[np.ndarray]:
    """Clips of a base that reads them; they all have the number of frames that it was built for. (1, d) each"""
    length = int(getattr(model.base.config.vision_config, "num_frames", FRAMES))
    if frames is not None and frames != length:
        raise VideoError(f"This base reads clips of {length} frames, not of {frames}. Leave `frames` out.")
    while group := list(islice(videos, max(1, batch_size // length))):
        clips = [list(pictures_of(video, length, exactly=True)) for video in group if not is_features(video)]
        vectors = iter(_clip_pass(model, clips, length, unit)) if clips else iter(())
        yield from (_features(video) if is_features(video) else next(vectors)[None] for video in group)


def _clip_pass(model: EncodesVideos, clips: list[list[Any]], length: int, unit: bool) -> np.ndarray:
    """Clips through the video tower. (n, d)"""
    processor: Any = processor_of(model).image_processor
    pictures = [load_picture(picture) for clip in clips for picture in clip]
    # an image processor stacks them one by one, one for videos as a single clip
    pixels = processor(pictures, return_tensors="pt")["pixel_values"]
    pixels = pixels.reshape(len(clips), length, *pixels.shape[-3:]).to(model.device, model.dtype)  # (n, T, 3, H, W)
    with torch.inference_mode():
        return _to_numpy(pooler_output(model.get_video_features(pixels)), unit)


__all__ = ["encode_frames", "encode_video", "frame_vectors", "frames_asked"]
