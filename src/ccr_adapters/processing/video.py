"""Frames of video files, sampled evenly in time by PyAV: what stands on the screen in the middle of equal parts.

Frames are chosen by their timestamps, so a variable frame rate is no matter, and a still that stays for half of a clip is
half of its sample. One decoded frame is held at a time; only chosen ones become pictures.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeAlias, Union

import numpy as np
from PIL import Image
from torch import Tensor

from ccr_adapters.errors import ImageError, VideoError
from ccr_adapters.extras import require
from ccr_adapters.processing.pictures import check_pictures

Video: TypeAlias = Union[str, Path, np.ndarray, Tensor, Sequence[Any]]  # noqa: UP007 - evaluated on Python 3.10

# a file may end so much before the length that it declares, or two frames: writers round
_SLACK = Fraction(2, 100)
_UPRIGHT = {
    90: Image.Transpose.ROTATE_90,
    180: Image.Transpose.ROTATE_180,
    270: Image.Transpose.ROTATE_270,
}


# ------------------------------------------------------------------------------------------------------------ one file


def sample_frames(path: str | Path, count: int) -> list[Image.Image]:
    """Frames at the centres of equal parts of a video, upright.

    Args:
        path: The file.
        count: How many. A video with fewer frames shows some of them more than once.

    Returns:
        So many RGB pictures, in order.

    Raises:
        VideoError: Naming the file, if it is missing, cut short, without a video stream, or cannot be decoded.
    """
    return [picture for chunk in stream_frames(path, count) for picture in chunk]


def stream_frames(path: str | Path, count: int, *, chunk: int = 16) -> Iterator[list[Image.Image]]:
    """The same a few at a time, for samples that do not fit the memory: every second of an hour, for example.

    Args:
        path: The file.
        count: How many in all.
        chunk: How many at once.

    Yields:
        Up to `chunk` RGB pictures; the next ones are decoded when they are asked for.

    Raises:
        VideoError: As in `sample_frames`.
    """
    if count < 1 or chunk < 1:
        raise VideoError(f"{count} frames in chunks of {chunk} were asked for; both must be 1 or more.")
    end = _measured_end(path)
    found: list[Image.Image] = []
    before: tuple[Any, Image.Image] | None = None
    with opened_video(path) as (container, stream):
        for frame in _Reader(path, container, stream).at_centres(count, end):
            # a frame that stays on the screen is converted once
            before = before if before is not None and before[0] is frame else (frame, _upright(frame))
            found.append(before[1])
            if len(found) == chunk:
                yield found
                found = []
        if found:
            yield found


def shown_seconds(path: str | Path) -> float:
    """How long a video's pictures last: the time that `sample_frames` and `stream_frames` divide into equal parts.

    Args:
        path: The file.

    Returns:
        Seconds from the first frame to the end of the last one; its sound may last longer.

    Raises:
        VideoError: As in `sample_frames`.
    """
    end = _measured_end(path)
    with opened_video(path) as (_, stream):
        return float((end - (stream.start_time or 0)) * stream.time_base)


@contextmanager
def opened_video(path: str | Path) -> Iterator[tuple[Any, Any]]:
    """A container and its video stream, which is no cover; whatever PyAV raises meanwhile names the file.

    Raises:
        VideoError: If it is missing, without a video stream, or cannot be read.
    """
    av: Any = require("av", extra="video")
    if not Path(path).is_file():
        raise VideoError(f"The video '{path}' is missing. Check the path.")
    try:
        with av.open(str(path)) as container:
            # the cover of a song is a video stream too
            cover = av.stream.Disposition.attached_pic
            stream = next((each for each in container.streams.video if not each.disposition & cover), None)
            if stream is None:
                kinds = ", ".join(sorted({each.type for each in container.streams})) or "nothing"
                raise VideoError(f"'{path}' has no video stream; it holds {kinds}. Leave it out.")
            yield container, stream
    except av.FFmpegError as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise VideoError(
            f"The video '{path}' cannot be read ({reason}). Replace the file or leave it out; it may be cut short."
        ) from error


def _measured_end(path: str | Path) -> int:
    """Where a video ends, in ticks of its stream, by its last packets, which are not decoded.

    What a header says is no measure: Matroska gives the longest stream's length, the sound's for example, and MP4 may
    leave out the last frame of a variable rate.
    """
    with opened_video(path) as (container, stream):
        base, start = stream.time_base, stream.start_time or 0
        length = stream.duration or 0
        if not length and container.duration:
            length = int(Fraction(container.duration, 1_000_000) / base)
        # the own stream's length speaks of that stream, the container's of all
        judged = {stream.index} if stream.duration else {each.index for each in container.streams}
        frame = 1 / (stream.average_rate or Fraction(25)) / base
        own, last = _last_packets(container, stream, judged, start + length)
    if own is None or last is None:
        with opened_video(path) as (container, stream):  # the leap found nothing: from the beginning
            own, last = _last_packets(container, stream, judged, None)
    if own is None or last is None:
        raise VideoError(f"'{path}' has no frame with a timestamp. Write it anew as MP4 or Matroska, or leave it out.")
    if last < start + length - max(_SLACK * length, 2 * frame):
        raise VideoError(
            f"'{path}' ends after {float((last - start) * base):.1f} s and says that it is {float(length * base):.1f} s long: "
            "it is cut short. Fetch it again or leave it out."
        )
    return own


def _last_packets(
    container: Any, stream: Any, judged: set[int], near: int | None
) -> tuple[int | None, Fraction | None]:
    """Latest end of a packet of a stream, and of any of several, both in ticks of the first.

    Args:
        container: The open file.
        stream: The video stream.
        judged: Streams that together last as long as the file says, by index.
        near: Where the end should be, to seek there; `None` looks at all packets.
    """
    own: int | None = None
    last: Fraction | None = None
    if near:
        container.seek(near, stream=stream)
    for packet in container.demux([each for each in container.streams if each.index in judged | {stream.index}]):
        if packet.pts is None:
            continue
        end = packet.pts + (packet.duration or 0)
        if packet.stream.index == stream.index:
            own = end if own is None else max(end, own)
        if packet.stream.index in judged:
            ticks = Fraction(end) * packet.time_base / stream.time_base
            last = ticks if last is None else max(ticks, last)
    return own, last


class _Reader:
    """Walks through the frames of an open file, and leaps ahead where that saves decoding."""

    def __init__(self, path: str | Path, container: Any, stream: Any) -> None:
        self.path = path
        self.container = container
        self.stream = stream
        self.frames: Iterator[Any] = container.decode(stream)
        # a leap is tried over more ticks than this; one that only leads back to where it began makes it longer
        self.patience: float = 0

    def at_centres(self, count: int, end: int) -> Iterator[Any]:
        """The frame that is shown at the centre of each of so many equal parts; the same again, if it stays."""
        coming = next(self.frames, None)
        if coming is None:
            raise VideoError(f"'{self.path}' has no frame that can be decoded. Replace the file or leave it out.")
        start = self.ticks(coming)
        end = max(end, start + 1)
        shown = coming
        for part in range(count):
            moment = start + Fraction(2 * part + 1, 2 * count) * (end - start)
            if coming is not None and moment - self.ticks(coming) > self.patience:
                coming = self.leap(moment, coming)
            while coming is not None and self.ticks(coming) <= moment:
                shown, coming = coming, next(self.frames, None)
            yield shown

    def leap(self, moment: Fraction, coming: Any) -> Any:
        """The first frame of the last key frame's group before a moment; the one at hand, if that is no use."""
        here = self.ticks(coming)
        self.container.seek(int(moment), stream=self.stream)
        self.frames = self.container.decode(self.stream)
        landed = next(self.frames, None)
        if landed is None or self.ticks(landed) > moment:
            # a wrong index: from the beginning, and without leaps
            self.patience = float("inf")
            self.container.seek(0)
            self.frames = self.container.decode(self.stream)
            return next(self.frames, None)
        if self.ticks(landed) <= here:
            # groups are longer than such leaps; what was decoded is decoded once more, and leaps get rarer
            self.patience = float(2 * (moment - here))
        return landed

    def ticks(self, frame: Any) -> int:
        """When a frame appears."""
        ticks: int | None = frame.pts if frame.pts is not None else frame.dts
        if ticks is None:
            raise VideoError(f"'{self.path}' has frames without a timestamp. Write it anew as MP4 or Matroska.")
        return ticks


def _upright(frame: Any) -> Image.Image:
    """A frame as it is meant to be seen: telephones store how they were held."""
    picture: Image.Image = frame.to_image()
    turn = round(frame.rotation / 90) * 90 % 360
    return picture.transpose(_UPRIGHT[turn]) if turn else picture


# ------------------------------------------------------------------------------------------------------- any kind of video


def as_videos(videos: Any) -> Any:
    """One video or many, as a sequence: a path, frames (T, H, W, 3), features (T, d) or a list of pictures are one."""
    if isinstance(videos, (str, Path)):
        return [videos]
    if isinstance(videos, (np.ndarray, Tensor)):
        return [videos] if videos.ndim in (2, 4) else list(videos)
    if not (hasattr(videos, "__getitem__") and hasattr(videos, "__len__")):
        videos = list(videos)
    return [videos] if len(videos) and isinstance(videos[0], Image.Image) else videos


def is_file(video: Any) -> bool:
    """Whether a video is a path."""
    return isinstance(video, (str, Path))


def is_features(video: Any) -> bool:
    """Whether a video comes as features of its frames. (T, d)"""
    return isinstance(video, (np.ndarray, Tensor)) and video.ndim == 2


def check_videos(videos: Iterable[Any], first: int = 0) -> None:
    """Open every file and look at every shape before the first frame is encoded; nothing is decoded here.

    Args:
        videos: Some videos.
        first: Number of the first of them, for messages.

    Raises:
        VideoError: Naming the first video that is missing, no video, or of an unknown kind.
    """
    for row, video in enumerate(videos, first):
        if is_file(video):
            with opened_video(video):
                pass
        elif isinstance(video, (np.ndarray, Tensor)):
            if video.ndim not in (2, 4) or not len(video):
                raise VideoError(
                    f"Video {row} has shape {tuple(video.shape)}; expected frames (T, H, W, 3) or features (T, d), T at least 1."
                )
        elif isinstance(video, (list, tuple)) and len(video):
            try:
                check_pictures(video)
            except ImageError as error:
                raise VideoError(f"Video {row}: {error}") from error
        else:
            what = "an empty list" if isinstance(video, (list, tuple)) else f"a {type(video).__name__}"
            raise VideoError(f"Video {row} is {what}; expected a path, frames, or features of frames.")


def pictures_of(video: Any, count: int, *, exactly: bool = False) -> Iterator[Any]:
    """Frames of a video that is a file or frames, as pictures.

    Args:
        video: A path, frames (T, H, W, 3), or a list of pictures.
        count: Most frames; of more, as many are taken at even distances.
        exactly: Take so many even of fewer frames, some of them more than once. A file always gives so many.

    Yields:
        The pictures, in order.
    """
    if is_file(video):
        for chunk in stream_frames(video, count):
            yield from chunk
        return
    total = len(video)
    parts = count if exactly else min(count, total)
    for part in range(parts):
        yield video[(2 * part + 1) * total // (2 * parts)]  # the middle of each part
