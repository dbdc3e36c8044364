"""Pictures from wherever they come, with the unreadable one named before any work."""

from __future__ import annotations

import io
import struct
import subprocess
import warnings
import zlib

import numpy as np
import pytest
import torch
from PIL import EpsImagePlugin, Image, UnidentifiedImageError

from ccr_adapters.errors import ImageError
from ccr_adapters.processing.pictures import as_list, check_pictures, load_picture

PIXELS = np.random.default_rng(0).integers(0, 255, (64, 48, 3), dtype=np.uint8)


def encoded(kind: str, **options) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(PIXELS).save(stream, kind, **options)
    return stream.getvalue()


def test_one_or_many():
    picture = Image.fromarray(PIXELS)
    assert as_list("a.png") == ["a.png"]
    assert as_list(picture) == [picture]
    assert as_list(["a.png", picture]) == ["a.png", picture]
    assert len(as_list(PIXELS)) == 1
    assert len(as_list(np.stack([PIXELS] * 3))) == 3
    assert len(as_list(torch.zeros(2, 3, 4, 4))) == 2
    assert as_list(iter(["a.png"])) == ["a.png"]
    assert as_list([]) == []


def test_good_pictures_pass(tmp_path):
    for kind in ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF"):
        (tmp_path / kind).write_bytes(encoded(kind))
    paths = sorted(tmp_path.iterdir())
    check_pictures([*paths, *map(str, paths), Image.fromarray(PIXELS), PIXELS, torch.from_numpy(PIXELS)])
    for path in paths:
        picture = load_picture(path)
        assert (picture.mode, picture.size) == ("RGB", (48, 64))


def test_modes_become_rgb(tmp_path):
    for mode in ("L", "RGBA", "P", "CMYK", "1", "I"):
        picture = Image.fromarray(PIXELS).convert(mode)
        assert load_picture(picture).mode == "RGB"
        picture.save(tmp_path / f"{mode}.tiff")
        check_pictures([tmp_path / f"{mode}.tiff"])
        assert load_picture(tmp_path / f"{mode}.tiff").mode == "RGB"
    assert load_picture(PIXELS) is PIXELS


def bomb() -> bytes:
    """A PNG of a few bytes that claims to be 60,000 pixels wide and high."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 99)) + chunk(b"IEND", b"")


BROKEN = {
    "empty": b"",
    "text": b"this is no picture",
    "truncated JPEG": encoded("JPEG")[:-200],
    "half a JPEG": encoded("JPEG", quality=90)[:2000],
    "progressive JPEG": encoded("JPEG", progressive=True)[:1500],
    "truncated PNG": encoded("PNG")[:-4000],
    "PNG with a wrong sum": encoded("PNG")[:60] + b"\0\0" + encoded("PNG")[62:],
    "truncated GIF": encoded("GIF")[:700],
    "truncated WEBP": encoded("WEBP")[:300],
    "truncated BMP": encoded("BMP")[:2000],
    "bomb": bomb(),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_file_among_good_ones_is_named(case, tmp_path):
    good, bad = tmp_path / "good.png", tmp_path / "bad one.jpg"
    good.write_bytes(encoded("PNG"))
    bad.write_bytes(BROKEN[case])
    with pytest.raises(ImageError, match=r"Picture 1 cannot be read: '.*bad one\.jpg' \(.*nothing was encoded"):
        check_pictures([good, bad, good])


def test_what_is_no_picture_is_named(tmp_path):
    with pytest.raises(ImageError, match=r"Picture 0 is missing: '.*gone\.jpg'. Check the path"):
        check_pictures([tmp_path / "gone.jpg"])
    with pytest.raises(ImageError, match="Picture 0 cannot be read"):
        check_pictures([tmp_path])
    for wrong, message in (
        (None, "is a NoneType"),
        (7, "is a int"),
        (b"x", "is a bytes"),
        (np.zeros((4, 4)), r"has shape \(4, 4\)"),
        (torch.zeros(1, 3, 4, 4), r"has shape \(1, 3, 4, 4\)"),
    ):
        with pytest.raises(ImageError, match=f"Picture 1 {message}"):
            check_pictures([PIXELS, wrong])


def test_postscript_in_disguise_starts_no_program(tmp_path, monkeypatch):
    """Pillow's reader of EPS would run Ghostscript on the file, whatever its ending says."""
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", "/bin/false")
    monkeypatch.setattr(subprocess, "check_call", lambda *_, **__: pytest.fail("a program was started"))
    path = tmp_path / "a.jpg"
    path.write_bytes(encoded("EPS"))
    with pytest.raises(ImageError, match="cannot identify image file"):
        check_pictures([path])
    with pytest.raises(UnidentifiedImageError):
        load_picture(path)


def test_a_picture_that_was_opened_but_not_read_is_named_too(tmp_path):
    path = tmp_path / "bad.jpg"
    path.write_bytes(BROKEN["half a JPEG"])
    with Image.open(path) as picture, pytest.raises(ImageError, match=r"bad\.jpg' cannot be read"):
        load_picture(picture)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF"])
def test_no_damage_escapes_as_another_error(kind, tmp_path):
    content, generator = encoded(kind), np.random.default_rng(1)
    path = tmp_path / "damaged"
    refused = 0
    for _ in range(120):
        damaged = bytearray(content[: generator.integers(1, len(content))] if generator.random() < 0.3 else content)
        for _ in range(generator.integers(0, 5)):
            damaged[generator.integers(0, min(200, len(damaged)))] = generator.integers(0, 256)
        path.write_bytes(bytes(damaged))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of some damage that it can live with
            try:
                check_pictures([path])
            except ImageError:
                refused += 1
            else:
                load_picture(path)  # what passed can be read
    assert refused > 10
