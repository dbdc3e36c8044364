"""Clips on the disk: real video files that play what was drawn, and splits that share no content."""

from __future__ import annotations

import json

import av
import numpy as np
import pytest
from PIL import Image

from ccr_adapters.data.tiny_world import build_moving_world, render_clip, write_video
from ccr_adapters.data.tiny_world.clips import sample_moving_scenes
from ccr_adapters.data.tiny_world.motion import OPPOSITE
from ccr_adapters.errors import ConfigError, DataError, LanguageError

SIZES = {"train": 6, "validation": 2, "test": 4}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A small world in German, and its folder."""
    folder = tmp_path_factory.mktemp("world")
    return build_moving_world(folder, "de", **SIZES, image_size=32, frames=8), folder


def test_the_files_play_what_was_drawn(world):
    data, _ = world
    scenes = sample_moving_scenes(**SIZES)
    for split, rows in data.items():
        for row, scene in zip(rows, scenes[split], strict=True):
            with av.open(row["video"]) as file:
                stream = file.streams.video[0]
                assert (stream.width, stream.height, float(stream.average_rate)) == (32, 32, 8.0)
                frames = [frame.to_ndarray(format="rgb24") for frame in file.decode(stream)]
            drawn = [np.asarray(picture) for picture in render_clip(scene, size=32, frames=8)]
            assert len(frames) == 8
            assert np.abs(np.stack(frames).astype(int) - np.stack(drawn)).mean() < 8


def test_columns_and_files_say_the_same(world):
    data, folder = world
    common = ["image_id", "video", "direction", "language", "caption", "translation"]
    assert data["train"].column_names == [*common, "back_translation"]
    assert data["test"].column_names == data["validation"].column_names == [*common, "target_caption"]
    for split, size in SIZES.items():
        lines = (folder / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()
        rows = [json.loads(line) for line in lines]
        assert len(rows) == size
        assert [{**row, "video": str(folder / row["video"])} for row in rows] == list(data[split])
    assert all(len(row["caption"]) == len(row["target_caption"]) == 2 for row in data["test"])


def test_pairs_differ_by_their_direction_alone(world):
    data, _ = world
    for rows in data.values():
        directions = rows["direction"][:]
        assert directions[1::2] == [OPPOSITE[each] for each in directions[::2]]
    captions = [text for row in data["test"] for text in row["target_caption"]]
    assert len(set(captions)) == len(captions)


def test_no_split_shows_what_another_was_tested_on():
    scenes = sample_moving_scenes(train=400, validation=40, test=41, seed=3)
    assert {split: len(rows) for split, rows in scenes.items()} == {"train": 400, "validation": 40, "test": 41}
    seen = {split: {scene.signature for scene in rows} for split, rows in scenes.items()}
    assert not seen["test"] & (seen["validation"] | seen["train"])
    assert not seen["validation"] & seen["train"]
    assert len(seen["test"]) == 21  # each of them once, but for the pairs
    assert len(seen["validation"]) == 20


def test_a_language_changes_neither_clips_nor_english(world, tmp_path):
    data, folder = world
    other = build_moving_world(tmp_path, "sw", **SIZES, image_size=32, frames=8)
    assert other["train"]["caption"][:] == data["train"]["caption"][:]
    assert other["test"]["caption"][:] == data["test"]["caption"][:]
    assert other["train"]["translation"][:] != data["train"]["translation"][:]
    name = "train/moving-train-00003.mp4"
    assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()


def test_what_cannot_be_is_refused(tmp_path):
    with pytest.raises(LanguageError, match="'en'"):
        build_moving_world(tmp_path, "en")
    with pytest.raises(ConfigError, match="noise"):
        build_moving_world(tmp_path, "de", noise=2)
    with pytest.raises(ConfigError, match="even"):
        build_moving_world(tmp_path, "de", image_size=33)
    with pytest.raises(ConfigError, match="train=-1"):
        build_moving_world(tmp_path, "de", train=-1)
    assert list(tmp_path.iterdir()) == []


def test_a_video_needs_pictures_of_one_even_size(tmp_path):
    picture = Image.new("RGB", (32, 32))
    for pictures in ([], [picture, Image.new("RGB", (34, 32))], [Image.new("RGB", (31, 32))]):
        with pytest.raises(DataError, match="one size"):
            write_video(tmp_path / "clip.mp4", pictures)
    with pytest.raises(DataError, match="cannot be written"):
        write_video(tmp_path / "nowhere" / "clip.mp4", [picture])
    assert write_video(tmp_path / "clip.mkv", [picture, picture]) in ("libx264", "mpeg4")
