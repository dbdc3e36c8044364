"""Shared by the tests of benchmarks: pictures on disk that can be told apart, and text files as their authors write them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

COLOURS = ["red", "green", "blue", "white", "black", "yellow"]


@pytest.fixture
def pictures(tmp_path: Path) -> Callable[..., Path]:
    """`pictures("a.jpg", "val2014/b.jpg")` makes a folder of pictures, each of another colour."""

    def make(*names: str) -> Path:
        folder = tmp_path / "pictures"
        for number, name in enumerate(names):
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (16, 16), COLOURS[number % len(COLOURS)]).save(path)
        return folder

    return make


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """`write("folder/name.txt", "a line", "another")` writes lines below `official/` and returns that folder."""

    def lines(name: str, *texts: str, end: str = "\n", last: bool = True) -> Path:
        path = tmp_path / "official" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes((end.join(texts) + (end if last else "")).encode("utf-8"))
        return tmp_path / "official"

    return lines


@pytest.fixture
def bigfile(tmp_path: Path) -> Callable[..., Path]:
    """`bigfile(["a", "b"], array)` writes feature.bin, id.txt and shape.txt."""

    def make(ids: list[str], vectors: np.ndarray, name: str = "features") -> Path:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        np.asarray(vectors, dtype="<f4").tofile(folder / "feature.bin")
        (folder / "id.txt").write_text(" ".join(ids), encoding="latin-1")
        (folder / "shape.txt").write_text(f"{vectors.shape[0]} {vectors.shape[1]}\n", encoding="utf-8")
        return folder

    return make
