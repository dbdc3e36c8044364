"""Frozen targets are encoded once, and a file is never taken for another's."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset, Features
from datasets import Image as ImageFeature
from PIL import Image

from ccr_adapters.dasd import DASDConfig
from ccr_adapters.data.retrieval_set import Column
from ccr_adapters.data.tiny_world import build_moving_world
from ccr_adapters.errors import ConfigError, VideoError
from ccr_adapters.modeling import CCRModel
from ccr_adapters.processing.video import sample_frames
from ccr_adapters.training import TargetCache
from ccr_adapters.training.targets import fingerprint


@pytest.fixture
def model(bases):
    return CCRModel.from_base(bases["clip"])


@pytest.fixture
def passes(model):
    """Counts forward passes of the base."""
    counts = {"text": 0, "image": 0}
    for kind, module in (("text", model.base.text_model), ("image", model.base.vision_model)):
        module.register_forward_hook(lambda *_, kind=kind: counts.update({kind: counts[kind] + 1}))
    return counts


def column(seed=0, rows=5):
    noise = np.random.default_rng(seed)
    images = [Image.fromarray(noise.integers(0, 255, (16, 16, 3), dtype=np.uint8)) for _ in range(rows)]
    return Column(Dataset.from_dict({"image": images}), "image")


IDS = ["a", "b", "c", "d", "e"]


def test_source_vectors_are_those_of_the_base_in_order(model, english, tmp_path):
    found = TargetCache(tmp_path, model).source(english, batch_size=2)
    assert found.dtype == np.float32
    expected = torch.cat([model.get_text_features(**model.processor([text])).pooler_output for text in english])
    np.testing.assert_allclose(found, expected.detach().numpy(), atol=1e-5)
    assert abs(np.linalg.norm(found, axis=1) - 1).max() > 0.01  # not normalised


def test_visual_vectors_are_those_of_the_base_in_order(model, tmp_path):
    pictures = column()
    found = TargetCache(tmp_path, model).visual(pictures, IDS, batch_size=2)
    pixels = model.processor(images=pictures[:])["pixel_values"]
    np.testing.assert_allclose(found, model.get_image_features(pixels).pooler_output.detach().numpy(), atol=1e-5)


def test_a_second_time_nothing_is_encoded(model, passes, english, tmp_path):
    for _ in range(2):
        source = TargetCache(tmp_path, model).source(english)
        visual = TargetCache(tmp_path, model).visual(column(), IDS)
        assert passes == {"text": 1, "image": 1}
    assert isinstance(source, np.memmap)
    assert isinstance(visual, np.memmap)
    assert not source.flags.writeable
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".npy", ".npy"]


def test_an_adapter_changes_neither_vectors_nor_file(model, passes, english, tmp_path):
    TargetCache(tmp_path, model).source(english)
    model.add_language("de", DASDConfig(r=4, init_weights=False))
    model.train()
    TargetCache(tmp_path, model).source(english)
    assert passes["text"] == 1
    fresh = TargetCache(tmp_path / "other", model).source(english)
    np.testing.assert_array_equal(fresh, TargetCache(tmp_path, model).source(english))


@pytest.mark.parametrize("change", ["a caption", "their order", "their borders", "the weights", "the length"])
def test_other_source_content_gets_another_file(change, model, passes, english, tmp_path):
    TargetCache(tmp_path, model).source(english)
    captions = list(english)
    if change == "a caption":
        captions[3] += " now"
    elif change == "their order":
        captions.reverse()
    elif change == "their borders":
        captions[:2] = [captions[0] + " " + captions[1].split()[0], " ".join(captions[1].split()[1:])]
    elif change == "the weights":
        model.base.text_projection.weight.data[0, 0] += 0.5
    else:
        model.processor.base_max_length = 6
    TargetCache(tmp_path, model).source(captions)
    assert passes["text"] == 2
    assert len(list(tmp_path.glob("*.npy"))) == 2


@pytest.mark.parametrize("change", ["the pictures", "their ids", "the weights", "the preprocessing"])
def test_other_visual_content_gets_another_file(change, model, passes, tmp_path):
    TargetCache(tmp_path, model).visual(column(), IDS)
    pictures, ids = column(seed=change == "the pictures"), list(IDS)
    if change == "their ids":
        ids.reverse()
    elif change == "the weights":
        model.base.visual_projection.weight.data[0, 0] += 0.5
    elif change == "the preprocessing":
        model.processor.image_processor.image_mean = [0.1, 0.2, 0.3]
    TargetCache(tmp_path, model).visual(pictures, ids)
    assert passes["image"] == 2


def test_pooling_is_part_of_the_name(bases, english, tmp_path):
    """One cache may serve several recipes over one text encoder."""
    first = TargetCache(tmp_path, CCRModel.from_base(bases["bert"], pooling="first")).source(english)
    mean = TargetCache(tmp_path, CCRModel.from_base(bases["bert"], pooling="mean")).source(english)
    assert len(list(tmp_path.glob("*.npy"))) == 2
    assert abs(np.asarray(first) - np.asarray(mean)).max() > 0.01


def test_pictures_without_a_fingerprint_are_told_apart_by_their_content(model, tmp_path):
    """A plain list has ids, and nothing that says whether they mean the same pictures as yesterday."""
    cache = TargetCache(tmp_path, model)
    one, other = column(seed=1)[:], column(seed=2)[:]
    assert not np.allclose(cache.visual(one, IDS), cache.visual(other, IDS))


def test_killed_half_way_nothing_usable_is_left(model, english, tmp_path):
    def die(*_):
        raise KeyboardInterrupt

    handle = model.base.text_model.register_forward_hook(die)
    with pytest.raises(KeyboardInterrupt):
        TargetCache(tmp_path, model).source(english)
    assert list(tmp_path.iterdir()) == []
    handle.remove()
    (tmp_path / "0123456789abcdef.77.tmp").write_bytes(b"of a process that had no time to clean up")
    found = TargetCache(tmp_path, model).source(english)
    np.testing.assert_array_equal(found, TargetCache(tmp_path / "other", model).source(english))


def test_a_fingerprint_tells_parts_apart():
    assert fingerprint(["ab", "c"]) != fingerprint(["a", "bc"])
    assert fingerprint(["a", None]) != fingerprint(["a", "None"])
    assert fingerprint([{"x": 1, "y": 2}]) == fingerprint([{"y": 2, "x": 1}])
    assert fingerprint([b"\x00\x01"]) == fingerprint([b"\x00\x01"])


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Paths of three short clips."""
    rows = build_moving_world(tmp_path_factory.mktemp("clips"), train=3, validation=0, test=0, image_size=32, frames=8)
    return list(rows["train"]["video"])


def test_frames_are_those_of_the_base_and_are_encoded_once(model, passes, clips, tmp_path):
    found = TargetCache(tmp_path, model).frames(clips, 4)
    seen = passes["image"]
    again = TargetCache(tmp_path, model).frames(clips, 4)
    assert passes["image"] == seen
    assert len(found) == len(again) == 3
    for one, other, path in zip(found, again, clips, strict=True):
        np.testing.assert_array_equal(one, other)
        pictures = sample_frames(path, 4)
        with torch.no_grad():
            expected = model.get_image_features(**model.processor.picture_inputs(pictures)).pooler_output
        np.testing.assert_allclose(one, expected, atol=1e-5)
    assert abs(np.linalg.norm(found[0], axis=1) - 1).max() > 0.01  # not normalised
    with pytest.raises(IndexError):
        found[3]
    assert len(TargetCache(tmp_path, model).frames(clips, 2)[0]) == 2
    assert passes["image"] > seen


def test_a_broken_video_leaves_nothing_behind(model, clips, tmp_path):
    cut = tmp_path / "cut.mp4"
    whole = Path(clips[1]).read_bytes()
    cut.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(VideoError, match=r"cut\.mp4"):
        TargetCache(tmp_path / "targets", model).frames([clips[0], cut], 4)
    assert not list((tmp_path / "targets").glob("*"))


def test_a_picture_that_was_replaced_in_its_file_is_encoded_anew(model, passes, tmp_path):
    def pictures(seed):
        noise = np.random.default_rng(seed)
        files = [str(tmp_path / f"{name}.png") for name in IDS]
        for file in files:
            Image.fromarray(noise.integers(0, 255, (16, 16, 3), dtype=np.uint8)).save(file)
        return Column(Dataset.from_dict({"image": files}).cast_column("image", ImageFeature()), "image")

    cache = TargetCache(tmp_path / "cache", model)
    first, other = pictures(0), pictures(1)
    assert first.rows._fingerprint == other.rows._fingerprint  # it knows the names alone
    before = np.array(cache.visual(pictures(0), IDS))
    assert not np.allclose(before, cache.visual(pictures(1), IDS), atol=1e-3)
    encoded = passes["image"]
    cache.visual(other, IDS)
    assert passes["image"] == encoded


@pytest.mark.parametrize("transform", [False, True])
def test_pictures_in_the_data_and_in_files_may_mix(transform, model, tmp_path):
    file = tmp_path / "a.png"
    pictures = [Image.new("RGB", (16, 16), colour) for colour in ("red", "green", "blue")]
    pictures[0].save(file)
    rows = Dataset.from_dict({"image": [str(file), *pictures[1:]]}, features=Features({"image": ImageFeature()}))
    rows = rows.select([2, 0, 1]).select([1, 2, 0])  # rows by an index, back in the same order
    if transform:
        rows = rows.with_transform(lambda batch: {"image": [picture.convert("L") for picture in batch["image"]]})
    cache, column = TargetCache(tmp_path / "cache", model), Column(rows, "image")
    before = np.array(cache.visual(column, IDS[:3]))
    Image.new("RGB", (16, 16), "white").save(file)
    after = cache.visual(column, IDS[:3])
    assert not np.allclose(before[0], after[0], atol=1e-3)
    np.testing.assert_allclose(before[1:], after[1:], atol=1e-5)


def test_a_cache_that_cannot_be_opened_now_is_not_thrown_away(model, english, tmp_path, monkeypatch):
    cache = TargetCache(tmp_path, model)
    cache.source(english)

    def busy(*_, **__):
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(np, "load", busy)
    with pytest.raises(OSError, match="Too many open files"):
        cache.source(english)
    assert len(list(tmp_path.glob("*.npy"))) == 1


def test_a_file_system_that_promises_no_room_is_used_all_the_same(model, english, tmp_path, monkeypatch):
    def unknown(*_):
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(os, "posix_fallocate", unknown, raising=False)
    assert len(TargetCache(tmp_path, model).source(english)) == len(english)


def test_half_precision_has_a_file_of_its_own(bases, english, tmp_path):
    half, whole = (CCRModel.from_base(bases["clip"]).to(dtype) for dtype in (torch.bfloat16, torch.float32))
    coarse = TargetCache(tmp_path, half).source(english)
    fine = TargetCache(tmp_path, whole).source(english)
    assert not np.array_equal(coarse, fine)
    assert len(list(tmp_path.glob("*.npy"))) == 2


def test_how_captions_are_cut_is_part_of_the_name(bases, english, tmp_path):
    found = [CCRModel.from_base(bases["clip"]) for _ in range(2)]
    found[1].processor.base_max_length = 4
    for each in found:
        TargetCache(tmp_path, each).source(english)
    assert len(list(tmp_path.glob("*.npy"))) == 2


@pytest.mark.parametrize("kept", [0, 60, 200])
def test_a_truncated_file_is_made_again(kept, model, english, tmp_path, caplog):
    cache = TargetCache(tmp_path, model)
    whole = np.array(cache.source(english))
    (path,) = tmp_path.glob("*.npy")
    path.write_bytes(path.read_bytes()[:kept])
    np.testing.assert_array_equal(cache.source(english), whole)
    assert "is made again" in caplog.text


def test_truncated_frames_are_made_again(model, clips, tmp_path, caplog):
    cache = TargetCache(tmp_path, model)
    whole = [np.array(frames) for frames in cache.frames(clips)]
    (path,) = tmp_path.glob("*.frames")
    path.write_bytes(path.read_bytes()[:-8])
    for found, frames in zip(cache.frames(clips), whole, strict=True):
        np.testing.assert_array_equal(found, frames)
    assert "is made again" in caplog.text


def test_no_room_is_an_error_and_nothing_is_left(model, english, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    # a sparse file that outgrows the disk would end the process with SIGBUS
    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    with pytest.raises(OSError, match="No space left"):
        TargetCache(tmp_path, model).source(english)
    assert not list(tmp_path.iterdir())


def test_what_killed_processes_left_is_swept_after_a_day(model, english, tmp_path):
    for name, age in (("old.1.tmp", 2 * 24 * 3600), ("new.2.tmp", 60)):
        (tmp_path / name).write_bytes(b"half")
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    TargetCache(tmp_path, model).source(english)
    assert [path.name for path in tmp_path.glob("*.tmp")] == ["new.2.tmp"]


def test_captions_are_tokenised_a_window_at_a_time(model, english, monkeypatch, tmp_path):
    expected = TargetCache(tmp_path / "whole", model).source(english * 3)
    monkeypatch.setattr("ccr_adapters.processing.processor._WINDOW", 4)
    sizes, tokenised = [], model.processor.token_ids

    def watched(captions, *given):
        sizes.append(len(captions))
        return tokenised(captions, *given)

    monkeypatch.setattr(model.processor, "token_ids", watched)
    cache = TargetCache(tmp_path / "windows", model)
    found = cache.source(english * 3, batch_size=5)
    assert max(sizes) <= 5
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert [path.name for path in (tmp_path / "windows").iterdir()] == [
        path.name for path in (tmp_path / "whole").iterdir()
    ]
    assert model.processor.lengths(english).tolist() == list(map(len, tokenised(english)))


def test_out_of_memory_takes_halves(model, english, monkeypatch, tmp_path, caplog):
    pictures = column()
    source, visual = TargetCache(tmp_path / "enough", model).source(english), None
    visual = TargetCache(tmp_path / "enough", model).visual(pictures, IDS)

    def limited(encode, rows):
        def check(*given, **values):
            if len(next(iter(values.values())) if values else given[0]) > rows:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
            return encode(*given, **values)

        return check

    for name in ("base_features", "get_image_features"):
        monkeypatch.setattr(model, name, limited(getattr(model, name), 2))
    cache = TargetCache(tmp_path / "little", model)
    np.testing.assert_allclose(cache.source(english), source, atol=1e-6)
    np.testing.assert_allclose(cache.visual(pictures, IDS), visual, atol=1e-6)
    assert "its halves are tried" in caplog.text
    monkeypatch.setattr(model, "base_features", limited(model.base_features, 0))
    with pytest.raises(ConfigError, match="not enough memory to encode one row"):
        cache.source([*english, "another"])
    assert not list((tmp_path / "little").glob("*.tmp"))


def test_two_runs_write_into_files_of_their_own(model, english, monkeypatch, tmp_path):
    """Containers that share a folder often have the same process id."""
    names = []
    replace = os.replace

    def watched(one, other):
        names.append(Path(one).name)
        replace(one, other)

    monkeypatch.setattr(os, "replace", watched)
    for _ in range(2):
        found = TargetCache(tmp_path, model).source(english)
        Path(found.filename).unlink()
    assert len(set(names)) == 2
