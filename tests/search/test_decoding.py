"""Pictures as people have them: turned, animated, transparent, deep, huge, broken."""

from __future__ import annotations

import io
import struct
import threading
import zlib

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from ccr_adapters.errors import ImageError
from ccr_adapters.search import decoding
from ccr_adapters.search.decoding import decode, facts


def saved(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


@pytest.fixture
def half():
    """Red above, blue below; wider than high."""
    image = Image.new("RGB", (40, 20), "blue")
    image.paste("red", (0, 0, 40, 10))
    return image


def test_a_picture_is_turned_as_its_exif_says(half):
    exif = Image.Exif()
    exif[0x0112] = 6
    found = decode(saved(half, "PNG", exif=exif))
    assert found.size == (20, 40)
    assert found.getpixel((18, 20)) == (255, 0, 0)
    assert found.getpixel((1, 20)) == (0, 0, 255)


def test_broken_exif_does_not_hide_the_picture(half):
    assert decode(saved(half, "JPEG", exif=b"Exif\x00\x00MM\x00*\xff\xff\xff\xff")).size == (40, 20)


def test_of_an_animation_the_first_frame_counts(half):
    content = saved(half, "GIF", save_all=True, append_images=[Image.new("RGB", (40, 20), "green")], duration=100)
    assert decode(content).getpixel((0, 0)) == (255, 0, 0)


def test_what_is_transparent_is_white():
    layer = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    layer.putpixel((0, 0), (9, 8, 7, 255))
    for content in (saved(layer, "PNG"), saved(layer.quantize(4), "PNG"), saved(layer.convert("LA"), "PNG")):
        assert decode(content).getpixel((3, 3)) == (255, 255, 255)
    assert decode(saved(layer, "PNG")).getpixel((0, 0)) == (9, 8, 7)


def test_sixteen_bits_keep_their_shades():
    ramp = np.linspace(0, 65535, 64, dtype=np.uint16).reshape(8, 8)
    found = np.asarray(decode(saved(Image.fromarray(ramp), "PNG")))[..., 0]
    assert np.abs(found.astype(int) - ramp // 257).max() <= 1


def test_a_large_jpeg_is_decoded_smaller_and_looks_the_same():
    noise = np.random.default_rng(0).integers(0, 255, (25, 40, 3), dtype=np.uint8)
    image = Image.fromarray(noise).resize((4000, 2500), Image.Resampling.BICUBIC)
    found = decode(saved(image, "JPEG", quality=95))
    assert min(found.size) == 1250
    small = [np.asarray(each.resize((224, 224), Image.Resampling.BICUBIC)).astype(int) for each in (found, image)]
    assert np.abs(small[0] - small[1]).mean() < 3


def huge_png(width, height):
    """A header that claims a size, with next to nothing behind it."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "no picture of a known format"),
        (b"<svg></svg>", "no picture of a known format"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "no picture of a known format"),
        (huge_png(20_000, 10_000), "200000000 pixels"),
    ],
)
def test_what_is_no_picture_is_refused_with_the_reason(content, reason):
    with pytest.raises(ImageError, match=reason):
        decode(content)
    assert facts(content) == {}


def test_any_damage_is_an_image_error(half):
    rng = np.random.default_rng(0)
    noisy = Image.fromarray(rng.integers(0, 255, (64, 64, 3), dtype=np.uint8))
    refused = 0
    for kind in ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF"):
        content = saved(noisy, kind)
        for _ in range(25):
            broken = bytearray(content[: rng.integers(1, len(content))])
            broken[rng.integers(len(broken))] ^= 255
            try:
                assert decode(bytes(broken)).mode == "RGB"
            except ImageError:
                refused += 1
    assert refused > 50


def test_when_it_was_taken(half):
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9003] = "2021:05:03 10:11:12"
    assert facts(saved(half, "JPEG", exif=exif)) == {"taken": "2021-05-03T10:11:12", "year": 2021}
    exif.get_ifd(0x8769)[0x9003] = "0000:00:00 00:00:00"
    assert facts(saved(half, "JPEG", exif=exif)) == {}
    assert facts(saved(half, "JPEG")) == {}


def test_a_png_that_says_nothing_is_not_decoded_to_see(half, monkeypatch):
    exif = Image.Exif()
    exif[0x010F] = "a maker"
    exif.get_ifd(0x8769)[0x9003] = "2021:05:03 10:11:12"
    assert facts(saved(half, "PNG", exif=exif))["year"] == 2021
    plain = saved(half, "PNG")
    monkeypatch.setattr(PngImageFile, "load", lambda image: pytest.fail("decoded"))
    assert facts(plain) == {}


def test_large_pictures_wait_for_each_other_for_their_exif_too(half, monkeypatch):
    exif = Image.Exif()
    exif[0x010F] = "a maker"
    exif.get_ifd(0x8769)[0x9003] = "2021:05:03 10:11:12"
    content = saved(half, "PNG", exif=exif)
    monkeypatch.setattr(decoding, "_LARGE", 1)
    with decoding._one_large:
        waiting = threading.Thread(target=facts, args=(content,))
        waiting.start()
        waiting.join(0.2)
        assert waiting.is_alive()
    waiting.join(10)
    assert not waiting.is_alive()
