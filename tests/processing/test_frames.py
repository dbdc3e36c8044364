"""Frames of videos: nothing lost, nothing invented, evenly thinned."""

from __future__ import annotations

import numpy as np
import pytest

from ccr_adapters.errors import DataError
from ccr_adapters.processing.frames import even, mean_frames, stack_frames

VIDEOS = [np.arange(6.0).reshape(3, 2), np.full((1, 2), 7.0), np.arange(20.0).reshape(10, 2)]


def test_shorter_videos_are_padded_and_masked():
    frames, mask = stack_frames(VIDEOS, 10)
    assert frames.shape == (3, 10, 2)
    assert mask.sum(1).tolist() == [3, 1, 10]
    for row, video in enumerate(VIDEOS):
        assert np.array_equal(frames[row, : len(video)].numpy(), video)
        assert not frames[row, len(video) :].any()


def test_longer_ones_are_thinned_evenly():
    frames, mask = stack_frames(VIDEOS, 4)
    assert mask.sum(1).tolist() == [3, 1, 4]
    assert frames[2, :, 0].tolist() == [2.0, 6.0, 12.0, 16.0]  # frames 1, 3, 6 and 8 of 10
    for count in range(1, 40):
        kept = even(np.arange(count, dtype=float)[:, None], 7)[:, 0]
        assert len(kept) == min(count, 7)
        assert (np.diff(kept) > 0).all()


def test_the_mean_is_of_frames_at_unit_length():
    found = mean_frames([np.array([[3.0, 0.0], [0.0, 0.5]]), np.array([[0.0, 9.0]])])
    assert found.tolist() == [[0.5, 0.5], [0.0, 1.0]]
    found = mean_frames([np.array([[3.0, 0.0], [0.0, 0.5]]), np.array([[0.0, 9.0]])], unit=False)
    assert found.tolist() == [[1.5, 0.25], [0.0, 9.0]]


@pytest.mark.parametrize("video", [np.zeros((0, 2)), np.zeros(4), np.zeros((2, 2, 2))])
def test_what_is_no_video_is_named(video):
    with pytest.raises(DataError, match="Video 1 .*shape"):
        stack_frames([VIDEOS[0], video], 4)
    with pytest.raises(DataError, match="different widths"):
        stack_frames([VIDEOS[0], np.zeros((2, 3))], 4)
