"""Test images in the training data are found by id and by looks, and the label of their score says so."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageFilter

from ccr_adapters.data.benchmarks import (
    difference_hash,
    find_overlap,
    hash_pictures,
    known_overlaps,
    normalise_image_id,
)
from ccr_adapters.data.benchmarks.hashes import distances, is_flat, near_pairs
from ccr_adapters.errors import DataError, ImageError
from ccr_adapters.pixels import as_rgb


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("COCO_train2014_000000123456.jpg", "123456"),
        ("COCO_val2014_000000123456", "123456"),
        ("images/val2014/COCO_val2014_000000123456.jpg", "123456"),
        ("000000123456.jpg", "123456"),
        ("val2017_000000123456.png", "123456"),
        ("COCO_train2014_000000123456#0", "123456"),
        ("COCO_train2014_000000123456.jpg#enc#0 he/she runs", "123456"),
        (123456, "123456"),
        ("123456", "123456"),
        ("1007129816.jpg", "1007129816"),
        ("flickr30k-images\\1007129816.JPG", "1007129816"),
        ("1000268201_693b08cb0e.jpg", "1000268201"),
        ("22439193117_4183a49ec2", "22439193117"),
        ("97105139_4183a49e.jpg", "97105139"),
        ("1141718391_2312451209_b.jpg", "1141718391"),  # a secret may have no letter
        ("12_00001000.jpg", "12_00001000"),
        ("20230101_00001000.jpg", "20230101_00001000"),
        ("000000000012_0000001000.jpg", "000000000012_0000001000"),
        ("3_9f8b7c6d.jpg", "3_9f8b7c6d"),
        ("0063a24eb6d5ee55", "0063a24eb6d5ee55"),
        ("Ptf_2VRj-V0_000122_000132", "Ptf_2VRj-V0_000122_000132"),
        ("a.b-c_000001_000011.mp4", "a.b-c_000001_000011"),
        ("wit-test_3", "wit-test_3"),
        ("000", "0"),
        ("video7010", "video7010"),
    ],
)
def test_spellings_of_one_image(name, key):
    assert normalise_image_id(name) == key


def test_an_overlap_is_named():
    train = ["COCO_train2014_000000000009.jpg", "COCO_train2014_000000000009.jpg", 25, "1000268201_693b08cb0e.jpg"]
    test = ["COCO_val2014_000000000042.jpg", "train2014/COCO_train2014_000000000025.jpg", "1000268201.jpg", "9"]
    found = find_overlap(train, test)
    assert found.ids == [
        ("train2014/COCO_train2014_000000000025.jpg", "25"),
        ("1000268201.jpg", "1000268201_693b08cb0e.jpg"),
        ("9", "COCO_train2014_000000000009.jpg"),
    ]
    assert (found.test_images, found.train_images) == (4, 3)
    assert found.is_leak
    assert "3 of 4 test images are among the 3 training images (3 by id, 0 by looks): train2014/" in found.report()
    assert json.loads(json.dumps(found.to_dict()))["leaked"] == [pair[0] for pair in found.ids]


def test_images_count_by_their_own_names():
    """What one number stands for in two albums is two images, and both are named."""
    train, test = [f"12_{number:08d}.jpg" for number in range(10)], [f"12_{number:08d}.jpg" for number in range(8, 18)]
    found = find_overlap(train, test)
    assert (found.train_images, found.test_images) == (10, 10)
    assert found.ids == [("12_00000008.jpg", "12_00000008.jpg"), ("12_00000009.jpg", "12_00000009.jpg")]
    found = find_overlap(["0.jpg#0", "0.jpg#1"], ["a/0.jpg#0", "a/0.jpg#1", "b/0.jpg#0"])
    assert (found.train_images, found.test_images) == (1, 2)
    assert found.leaked == ["a/0.jpg#0", "b/0.jpg#0"]


def test_a_leaked_score_is_never_zero_shot():
    leaked = find_overlap(["1.jpg"], ["1.jpg", "2.jpg"])
    for claimed in ("zero-shot", "zero-shot (CC300K)"):
        assert "zero-shot" not in leaked.setting(claimed)
    assert leaked.setting() == "leaked (1 of 2 test images were in the training data)"
    clean = find_overlap(["3.jpg"], ["1.jpg", "2.jpg"])
    assert clean.setting() == "zero-shot"
    assert clean.setting("fine-tuned") == "fine-tuned"
    assert clean.report() == "No overlap by id: 2 test and 1 training images."


def scene(seed, size=(160, 120)):
    noise = np.random.default_rng(seed).integers(0, 255, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)


def test_a_picture_keeps_its_hash_when_it_is_scaled_and_compressed(tmp_path):
    for seed in range(8):
        picture = scene(seed, (640, 480))
        picture.save(tmp_path / "x.jpg", quality=60)
        copies = [tmp_path / "x.jpg", picture.resize((200, 150)), picture.filter(ImageFilter.GaussianBlur(3))]
        hashes = hash_pictures([picture, *copies])
        assert distances(np.repeat(hashes[:1], 3), hashes[1:]).max() <= 4
    others = hash_pictures([scene(seed) for seed in range(20)])
    assert near_pairs(others, others).tolist() == [[k, k] for k in range(20)]


@pytest.mark.parametrize("kind", ["exif", "16 bits", "transparent"])
def test_a_picture_has_the_hash_of_what_an_encoder_sees(tmp_path, kind):
    """As a file and as `datasets` or the Hub give it: upright, in eight bits, on white."""
    path = tmp_path / ("x.jpg" if kind == "exif" else "x.png")
    picture = scene(0, (640, 480))
    if kind == "exif":
        turned = Image.Exif()
        turned[ExifTags.Base.Orientation] = 6
        picture.save(path, exif=turned, quality=95)
    elif kind == "16 bits":
        Image.fromarray(np.asarray(picture.convert("L")).astype(np.uint16) * 257).save(path)
    else:
        alpha = Image.new("L", picture.size, 255)
        alpha.paste(0, (0, 0, 320, 480))
        picture.putalpha(alpha)
        picture.save(path)
    with Image.open(path) as opened:
        seen = as_rgb(opened)
        hashes = hash_pictures([path, opened.copy(), seen])
    assert distances(hashes[:2], np.repeat(hashes[2:], 2)).max() <= 1
    assert not is_flat(hashes).any()


def test_a_hash_by_hand():
    cells = np.zeros((8, 9), dtype=np.uint8)
    cells[0, 1] = 200  # brighter than its left neighbour: the first bit; the next is darker again
    cells[7, 8] = 100  # the last bit
    assert difference_hash(Image.fromarray(cells)) == np.uint64((1 << 63) | 1)
    assert difference_hash(Image.new("RGB", (50, 50), "red")) == 0


def test_near_pairs_equal_the_slow_way():
    rng = np.random.default_rng(0)
    left = rng.integers(0, 2**63, 120, dtype=np.uint64)
    right = rng.integers(0, 2**63, 90, dtype=np.uint64)
    for row in range(40):  # copies that differ in 0 to 7 bits, anywhere
        flips = rng.choice(64, row % 8, replace=False)
        right[row] = left[row] ^ np.bitwise_or.reduce(
            np.array([1 << int(bit) for bit in flips], dtype=np.uint64), initial=0
        )
    right[80:] = 0  # equal ones on both sides
    left[110:] = 0
    for most in range(5):
        slow = [
            [a, b]
            for a, own in enumerate(left.tolist())
            for b, other in enumerate(right.tolist())
            if bin(own ^ other).count("1") <= most
        ]
        assert near_pairs(left, right, most).tolist() == slow
        assert len(slow) >= 5 * (most + 1)
    assert near_pairs(left, right[:0]).shape == (0, 2)
    with pytest.raises(ValueError, match="at most 4"):
        near_pairs(left, right, 5)


def test_an_overlap_by_looks(tmp_path):
    names = [f"{seed}.jpg" for seed in range(4)]
    for seed, name in enumerate(names):
        scene(seed).save(tmp_path / name)
    train = hash_pictures([tmp_path / name for name in names])
    test = hash_pictures([scene(9), scene(2).resize((80, 60)), Image.new("RGB", (9, 9), "blue")])
    found = find_overlap(names, ["x.png", "renamed.png", "flat.png"], train_hashes=train, test_hashes=test)
    assert found.alike == [("renamed.png", "2.jpg")]
    assert found.ids == []
    assert found.flat == 1
    assert found.leaked == ["renamed.png"]
    assert "(0 by id, 1 by looks): renamed.png" in found.report()
    nothing = find_overlap(names[:1], ["x.png"], train_hashes=train[:1], test_hashes=test[:1])
    assert nothing.report().startswith("No overlap by id and by looks")


def test_flat_pictures_say_nothing():
    assert is_flat(np.array([0, 0b1011, 2**64 - 1, 0xFFFF], dtype=np.uint64)).tolist() == [True, True, True, False]
    gradient = np.tile(np.arange(90, dtype=np.uint8), (80, 1))
    assert is_flat(hash_pictures([Image.fromarray(gradient)])).all()


def test_hashes_that_do_not_fit():
    hashes = np.zeros(2, dtype=np.uint64)
    with pytest.raises(DataError, match="one side has none"):
        find_overlap(["a", "b"], ["c"], train_hashes=hashes)
    with pytest.raises(DataError, match="1 test ids, and 2 hashes"):
        find_overlap(["a", "b"], ["c"], train_hashes=hashes, test_hashes=hashes)


def test_what_cannot_be_hashed(tmp_path):
    (tmp_path / "x.jpg").write_bytes(b"hello")
    for name in ("x.jpg", "none.jpg"):
        with pytest.raises(ImageError, match=rf"{name}' cannot be hashed"):
            difference_hash(tmp_path / name)


def test_known_overlaps():
    assert [(known.training, known.images) for known in known_overlaps("coco-cn")] == [
        ("COCO train2014", 583),
        ("COCO val2014", 417),
    ]
    assert known_overlaps("xm3600") == ()
    with pytest.raises(DataError, match="no benchmark"):
        known_overlaps("nothing")
