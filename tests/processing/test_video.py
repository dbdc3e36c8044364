"""Frames of real files, made here with PyAV: the right ones by the clock, upright, and no file that is silently wrong."""

from __future__ import annotations

import gc
import struct
from fractions import Fraction

import av
import numpy as np
import pytest
import torch
from PIL import Image

from ccr_adapters.errors import VideoError
from ccr_adapters.processing.video import (
    _measured_end,
    _Reader,
    as_videos,
    check_videos,
    pictures_of,
    sample_frames,
    stream_frames,
)

SIZE = (48, 32)


def shade(number, total):
    """A picture that says which frame it is, with a white corner at the top left."""
    pixels = np.full((SIZE[1], SIZE[0], 3), 20 + 180 * number // max(total - 1, 1), np.uint8)
    pixels[:8, :8] = 255
    return pixels


def write(path, total=30, *, codec="libx264", rate=10, group=12, times=None, sound=0.0, **container):
    """A clip; `times` in milliseconds makes its rate variable, `sound` adds so many seconds of silence."""
    with av.open(str(path), "w", **container) as file:
        stream = file.add_stream(codec, rate=rate)
        stream.width, stream.height = SIZE
        stream.pix_fmt = "rgb8" if codec == "gif" else "yuv420p"
        stream.codec_context.gop_size = group
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
            total = len(times)
        voice = file.add_stream("aac", rate=8000) if sound else None
        for number in range(total):
            frame = av.VideoFrame.from_ndarray(shade(number, total), format="rgb24").reformat(format=stream.pix_fmt)
            if times is not None:
                frame.pts, frame.time_base = times[number], Fraction(1, 1000)
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
        if voice is not None:
            for start in range(0, int(8000 * sound), 1024):
                quiet = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
                quiet.sample_rate, quiet.pts = 8000, start
                file.mux(voice.encode(quiet))
            file.mux(voice.encode())
    return path


def every_frame(path):
    """The slow way: all frames, as (seconds, seconds on the screen, pixels)."""
    with av.open(str(path)) as file:
        base = file.streams.video[0].time_base
        return [(f.pts * base, f.duration * base, np.asarray(f.to_image())) for f in file.decode(video=0)]


def oracle(path, count):
    """What is on the screen at the centres of equal parts, among all frames."""
    frames = every_frame(path)
    start, end = frames[0][0], max(time + length for time, length, _ in frames)
    moments = [start + (end - start) * Fraction(2 * part + 1, 2 * count) for part in range(count)]
    return [[pixels for time, _, pixels in frames if time <= moment][-1] for moment in moments]


FORMATS = {
    "mp4": {},
    "mkv": {},
    "webm": {"codec": "libvpx-vp9"},
    "avi": {"codec": "mpeg4"},
    "mov": {"codec": "mpeg4", "group": 1},
    "ts": {"codec": "libx264", "group": 100},
    "gif": {"codec": "gif"},
}


@pytest.mark.parametrize("suffix", FORMATS)
def test_frames_are_those_on_the_screen(suffix, tmp_path):
    path = write(tmp_path / f"clip.{suffix}", **FORMATS[suffix])
    for count in (1, 2, 7, 30, 41):
        found = sample_frames(path, count)
        assert len(found) == count
        for picture, expected in zip(found, oracle(path, count), strict=True):
            assert (picture.mode, picture.size) == ("RGB", SIZE)
            assert np.array_equal(np.asarray(picture), expected)


@pytest.mark.parametrize("group", [1, 3, 10, 200])
@pytest.mark.parametrize("total", [1, 2, 3, 97])
def test_however_far_apart_key_frames_are(group, total, tmp_path):
    path = write(tmp_path / "clip.mp4", total, group=group)
    for count in (1, 5, 13):
        for picture, expected in zip(sample_frames(path, count), oracle(path, count), strict=True):
            assert np.array_equal(np.asarray(picture), expected)


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_a_variable_rate_is_read_by_the_clock(suffix, tmp_path):
    # half of the clip is one still, and the rest hurries by
    path = write(tmp_path / f"clip.{suffix}", times=[0, 100, 200, 300, 1400, 1500, 1550, 1600, 1900, 2000])
    for count in (2, 5, 16):
        for picture, expected in zip(sample_frames(path, count), oracle(path, count), strict=True):
            assert np.array_equal(np.asarray(picture), expected)
    still = every_frame(path)[3][2]
    assert sum(np.array_equal(np.asarray(picture), still) for picture in sample_frames(path, 100)) > 40


def test_sound_that_goes_on_makes_no_video_longer(tmp_path):
    for suffix in ("mkv", "mp4"):
        path = write(tmp_path / f"clip.{suffix}", sound=9.0)
        for picture, expected in zip(sample_frames(path, 6), oracle(path, 6), strict=True):
            assert np.array_equal(np.asarray(picture), expected)


@pytest.mark.parametrize("turn", [0, 90, 180, 270])
def test_a_video_stands_as_the_telephone_was_held(turn, tmp_path):
    path = write(tmp_path / "clip.mp4", 4)
    data = bytearray(path.read_bytes())
    # the display matrix of a track header: 36 bytes, 48 behind the name of the box
    place = data.index(b"tkhd") + 4 + 40
    cos, sin = {0: (1, 0), 90: (0, 1), 180: (-1, 0), 270: (0, -1)}[turn]  # clockwise, as players show it
    one = 1 << 16
    data[place : place + 36] = struct.pack(">9i", cos * one, sin * one, 0, -sin * one, cos * one, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    upright = np.asarray(sample_frames(path, 1)[0])
    assert upright.shape[:2] == (SIZE[::-1] if turn % 180 == 0 else SIZE)
    corners = {0: upright[:4, :4], 90: upright[:4, -4:], 180: upright[-4:, -4:], 270: upright[-4:, :4]}
    assert max(corners, key=lambda name: corners[name].mean()) == turn


def test_long_videos_come_in_chunks_that_do_not_pile_up(tmp_path):
    path = write(tmp_path / "long.mp4", 1200, rate=1, group=250)  # twenty minutes
    expected = oracle(path, 90)
    gc.collect()
    before = sum(type(each) is Image.Image for each in gc.get_objects())
    lengths, row = [], 0
    for chunk in stream_frames(path, 90, chunk=7):
        assert sum(type(each) is Image.Image for each in gc.get_objects()) <= before + 16
        for picture in chunk:
            assert np.array_equal(np.asarray(picture), expected[row])
            row += 1
        lengths.append(len(chunk))
        del chunk, picture
    assert lengths == [7] * 12 + [6]


class Counted:
    """A container that counts the frames that it decodes."""

    def __init__(self, container):
        self.container, self.decoded = container, 0

    def decode(self, stream):
        for frame in self.container.decode(stream):
            self.decoded += 1
            yield frame

    def seek(self, *args, **kwargs):
        self.container.seek(*args, **kwargs)


@pytest.mark.parametrize(("group", "count", "most"), [(50, 4, 210), (1, 10, 60), (3000, 10, 2600), (100, 200, 2600)])
def test_what_lies_between_is_not_decoded(group, count, most, tmp_path):
    """2,000 frames: few of them where leaps help, and hardly more than all where they do not."""
    path = write(tmp_path / "long.mp4", 2000, group=group, codec="mpeg4")
    with av.open(str(path)) as container:
        counted = Counted(container)
        reader = _Reader(path, counted, container.streams.video[0])
        assert len(list(reader.at_centres(count, _measured_end(path)))) == count
    assert counted.decoded <= most


# ------------------------------------------------------------------------------------------------------------- bad files


def test_a_file_that_is_none_is_named(tmp_path):
    empty, text, missing = tmp_path / "empty.mp4", tmp_path / "text.mp4", tmp_path / "missing.mp4"
    empty.touch()
    text.write_text("no video at all")
    for path in (empty, text):
        with pytest.raises(VideoError, match=f"{path.name}' cannot be read"):
            sample_frames(path, 4)
    with pytest.raises(VideoError, match=r"missing\.mp4' is missing"):
        sample_frames(missing, 4)
    with pytest.raises(VideoError, match="missing"):
        sample_frames(tmp_path, 4)


def test_sound_alone_is_no_video(tmp_path):
    path = tmp_path / "song.mp4"
    with av.open(str(path), "w") as file:
        voice = file.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 8000
        file.mux(voice.encode(frame))
        file.mux(voice.encode())
    with pytest.raises(VideoError, match=r"song\.mp4' has no video stream; it holds audio"):
        sample_frames(path, 4)


CUTS = [(suffix, share) for suffix in ("mp4", "mkv", "avi") for share in (0.1, 0.3, 0.6, 0.9)]


@pytest.mark.parametrize(("suffix", "share"), CUTS[:-1])  # the last tenth of an AVI is its index alone
def test_a_truncated_file_is_named(suffix, share, tmp_path):
    options = {"movflags": "faststart"} if suffix == "mp4" else {}
    kind = {"codec": "mpeg4"} if suffix == "avi" else {}
    path = write(tmp_path / f"cut.{suffix}", 100, container_options=options, **kind)
    whole = path.read_bytes()
    assert sample_frames(path, 4)
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(VideoError, match=rf"cut\.{suffix}'.*(cut short|no frame)"):
        sample_frames(path, 4)


def test_an_mp4_without_its_index_is_named(tmp_path):
    path = write(tmp_path / "cut.mp4", 30)
    path.write_bytes(path.read_bytes()[:-400])
    with pytest.raises(VideoError, match=r"cut\.mp4' cannot be read"):
        sample_frames(path, 4)


def test_zero_frames_are_named(tmp_path):
    path = tmp_path / "none.mkv"
    with av.open(str(path), "w") as file:
        stream = file.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        file.start_encoding()
    with pytest.raises(VideoError, match=r"none\.mkv'"):
        sample_frames(path, 4)


def test_a_stream_without_a_clock_is_named(tmp_path):
    path = write(tmp_path / "raw.h264")
    with pytest.raises(VideoError, match=r"raw\.h264' has no frame with a timestamp"):
        sample_frames(path, 4)


def test_nothing_is_asked_for(tmp_path):
    path = write(tmp_path / "clip.mp4")
    for count, chunk in ((0, 1), (1, 0), (-2, 3)):
        with pytest.raises(VideoError, match="1 or more"):
            next(stream_frames(path, count, chunk=chunk))


# ------------------------------------------------------------------------------------------------- other kinds of videos


def test_one_video_or_many():
    picture, frames, features = Image.new("RGB", (4, 4)), np.zeros((3, 4, 4, 3), np.uint8), torch.zeros(5, 7)
    for one in ("a.mp4", frames, features, [picture, picture]):
        assert len(as_videos(one)) == 1
    for many in (["a.mp4", "b.mp4"], [frames, features], [[picture], [picture]], np.stack([frames, frames])):
        assert len(as_videos(many)) == 2
    assert as_videos(name for name in ("a", "b", "c")) == ["a", "b", "c"]
    assert as_videos([]) == []


@pytest.mark.parametrize("total", [1, 2, 5, 8, 9, 30])
def test_frames_in_memory_are_thinned_evenly(total):
    frames = list(range(total))  # stand for pictures
    found = list(pictures_of(frames, 8))
    assert len(found) == min(total, 8)
    assert found == sorted(set(found))
    expected = [frames[int((part + 0.5) * total / 8)] for part in range(8)]
    assert list(pictures_of(frames, 8, exactly=True)) == expected
    assert total < 8 or found == expected


def test_bad_videos_are_named_before_any_work(tmp_path):
    good = write(tmp_path / "clip.mp4")
    frames = np.zeros((3, 4, 4, 3), np.uint8)
    check_videos(
        [good, str(good), frames, np.zeros((3, 7)), torch.zeros(2, 3, 4, 4), [frames[0], Image.new("L", (3, 3))]]
    )
    (tmp_path / "bad.mp4").write_bytes(b"bad")
    bad = {
        "bad.mp4' cannot be read": tmp_path / "bad.mp4",
        "Video 1 has shape": np.zeros(4),
        "shape \\(0, 4\\)": np.zeros((0, 4)),
        "Video 1 is an empty list": [],
        "Video 1 is a int": 3,
        "Video 1: Picture 0 is missing": ["nowhere.png"],
        "Video 1: Picture 1 has shape": [frames[0], frames],
    }
    for message, video in bad.items():
        with pytest.raises(VideoError, match=message):
            check_videos([good, video])
