"""Frame features of videos: stacked with a mask, thinned evenly where there are too many, or averaged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ccr_adapters.errors import DataError


def stack_frames(videos: Sequence[Any], most: int) -> tuple[Tensor, Tensor]:
    """Pad the frames of some videos to the longest.

    Args:
        videos: Features of each video's frames, of any number. (T_i, d)
        most: Most frames of a video; of more, as many are taken at even distances.

    Returns:
        Frames (B, T, d), and a mask that is 1 at real ones (B, T).

    Raises:
        DataError: If a video has no frames, or features of another width.
    """
    rows = [even(checked(video, index), most) for index, video in enumerate(videos)]
    widths = {row.shape[1] for row in rows}
    if len(widths) > 1:
        raise DataError(f"Frame features of different widths in one batch: {', '.join(map(str, sorted(widths)))}.")
    length = max(len(row) for row in rows)
    frames = torch.zeros(len(rows), length, widths.pop())
    mask = torch.zeros(len(rows), length, dtype=torch.long)
    for index, row in enumerate(rows):
        frames[index, : len(row)] = torch.from_numpy(row)
        mask[index, : len(row)] = 1
    return frames, mask


def mean_frames(videos: Sequence[Any], *, unit: bool = True) -> np.ndarray:
    """One vector a video: the mean of its frames, for what compares pictures.

    Args:
        videos: Features of each video's frames. (T_i, d)
        unit: Bring the frames to length 1 first. Without, the mean is for a head that reads the length of vectors.

    Returns:
        The means. (M, d)

    Raises:
        DataError: If a video has no frames.
    """
    found = []
    for index in range(len(videos)):
        frames = checked(videos[index], index)
        lengths = np.linalg.norm(frames, axis=1, keepdims=True) if unit else 1.0
        found.append((frames / np.maximum(lengths, 1e-12)).mean(0))
    return np.stack(found).astype(np.float32)


def even(frames: np.ndarray, most: int) -> np.ndarray:
    """At most so many frames, at even distances, in order. (T, d) -> (min(T, most), d)"""
    if len(frames) <= most:
        return frames
    # the middle of each of `most` equal spans
    return frames[((np.arange(most) + 0.5) * len(frames) / most).astype(int)]


def checked(video: Any, index: int) -> np.ndarray:
    """Features of one video's frames as float32. (T, d)"""
    frames = np.array(video, dtype=np.float32)
    if frames.ndim != 2 or not len(frames):
        raise DataError(f"Video {index} has features of shape {frames.shape}; expected frames (T, d), at least one.")
    return frames
