"""Pictures as encoders see them: the same by every way that they take to one."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from ccr_adapters.export.pictures import _opened
from ccr_adapters.pixels import as_rgb
from ccr_adapters.processing.pictures import load_picture
from ccr_adapters.search.decoding import decode

HALF = np.zeros((24, 32, 3), dtype=np.uint8)
HALF[:12] = 255


def saved(image, kind="PNG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def sideways(orientation):
    """As a phone saves it: the pixels as the sensor has them, and how to turn them."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    return saved(Image.fromarray(HALF), exif=exif)


CASES = {
    "plain": saved(Image.fromarray(HALF)),
    **{f"turned {orientation}": sideways(orientation) for orientation in range(1, 9)},
    "transparent": saved(Image.fromarray(np.dstack([HALF, HALF[..., :1]]))),
    "a transparent colour": saved(Image.fromarray(HALF).convert("P"), transparency=0),
    "16 bits": saved(Image.fromarray(np.linspace(0, 60000, 24 * 32).reshape(24, 32).astype(np.uint16))),
    "grey": saved(Image.fromarray(HALF[..., 0])),
    "an animation": saved(Image.fromarray(HALF), "GIF", save_all=True, append_images=[Image.new("RGB", (32, 24))]),
}


@pytest.mark.parametrize("case", CASES)
def test_every_way_to_an_encoder_shows_the_same(case, tmp_path):
    content = CASES[case]
    (tmp_path / "picture").write_bytes(content)
    expected = np.asarray(decode(content))
    assert expected.shape[-1] == 3
    ways = {
        "a path": load_picture(tmp_path / "picture"),
        "an open picture": load_picture(Image.open(io.BytesIO(content))),
        "an export": _opened(tmp_path / "picture", 0),
        "an export of an open one": _opened(Image.open(io.BytesIO(content)), 0),
    }
    for way, picture in ways.items():
        assert picture.mode == "RGB", way
        assert np.array_equal(np.asarray(picture), expected), way


@pytest.mark.parametrize(("orientation", "white"), [(1, "top"), (3, "bottom"), (6, "right"), (8, "left")])
def test_a_photo_stands_as_the_camera_was_held(orientation, white, tmp_path):
    (tmp_path / "photo.png").write_bytes(sideways(orientation))
    pixels = np.asarray(load_picture(tmp_path / "photo.png"))[..., 0]
    height, width = pixels.shape
    sides = {
        "top": pixels[: height // 2],
        "bottom": pixels[height // 2 :],
        "left": pixels[:, : width // 2],
        "right": pixels[:, width // 2 :],
    }
    assert [side for side, found in sides.items() if found.min() == 255] == [white]


def test_nothing_is_copied_where_nothing_is_to_do():
    picture = Image.fromarray(HALF)
    assert as_rgb(picture) is picture


def test_what_is_transparent_lies_on_white_and_16_bits_are_not_cut_off():
    assert np.asarray(as_rgb(Image.new("RGBA", (2, 2), (0, 0, 0, 0)))).min() == 255
    deep = Image.fromarray(np.array([[0, 30000], [45000, 60000]], dtype=np.uint16))
    assert np.asarray(as_rgb(deep))[..., 0].tolist() == [[0, 127], [191, 255]]
