"""Videos in a collection: a frame every so many seconds, each a picture with a time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from ccr_adapters.errors import SearchIndexError

VIDEOS = frozenset(
    (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".wmv", ".flv", ".3gp", ".ogv", ".mts", ".m2ts")
)
# frames are named by hundredths of a second
SHORTEST = 0.02
_FRAGMENT = "#t="


def sampling(path: Path, every: float) -> tuple[int, float]:
    """How many frames to take of a video.

    Args:
        path: The file.
        every: Seconds between two.

    Returns:
        The number, at least one, and the length in seconds.

    Raises:
        VideoError: If it is no video, or cut short.
        MissingExtraError: If PyAV is not installed.
    """
    # heavy: torch comes with it
    from ccr_adapters.processing.video import shown_seconds

    length = shown_seconds(path)
    return max(1, round(length / every)), length


def frame_times(count: int, length: float) -> list[float]:
    """The centres of equal parts, which is where frames are taken.

    Args:
        count: Number of parts.
        length: Seconds.

    Returns:
        Seconds, to a hundredth.
    """
    return [round((2 * part + 1) * length / (2 * count), 2) for part in range(count)]


def frame_id(clip: str, seconds: float) -> str:
    """Name of a frame: that of the video and a media fragment, `holiday.mp4#t=12.5`.

    Args:
        clip: Name of the video.
        seconds: When.

    Returns:
        The name.
    """
    text = f"{seconds:.2f}".rstrip("0").rstrip(".")
    return f"{clip}{_FRAGMENT}{text}"


def clip_of(name: str) -> str:
    """Name of the video that a frame is of.

    Args:
        name: Name of the frame.

    Returns:
        The name without its fragment.
    """
    return name.rpartition(_FRAGMENT)[0]


def frames(path: Path, count: int) -> Iterator[Image.Image]:
    """The frames at the centres of equal parts of a video, a few in memory at a time.

    Args:
        path: The file.
        count: How many.

    Yields:
        RGB pictures, in order.

    Raises:
        VideoError: If it cannot be decoded.
    """
    from ccr_adapters.processing.video import stream_frames

    for chunk in stream_frames(path, count):
        yield from chunk


def frame_at(path: Path, seconds: float) -> Image.Image:
    """The frame that is on the screen at a moment, to be shown.

    Args:
        path: The file.
        seconds: The moment.

    Returns:
        An RGB picture.

    Raises:
        SearchIndexError: If there is none.
        VideoError: If it cannot be decoded.
    """
    from ccr_adapters.processing.video import opened_video

    with opened_video(path) as (container, stream):
        start = stream.start_time or 0
        container.seek(start + int(seconds / stream.time_base), stream=stream)
        shown = None
        for frame in container.decode(stream):
            if shown is not None and frame.pts is not None and (frame.pts - start) * stream.time_base > seconds:
                break
            shown = frame
    if shown is None:
        raise SearchIndexError(f"'{path}' shows nothing at {seconds:g} s. Was it replaced? Index again.")
    # telephones store how they were held
    picture: Image.Image = shown.to_image().rotate(round(shown.rotation / 90) * 90, expand=True)
    return picture
