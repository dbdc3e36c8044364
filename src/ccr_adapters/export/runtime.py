"""An exported folder at work: captions and pictures to vectors by onnxruntime, without torch or transformers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tokenizers import Tokenizer

from ccr_adapters.errors import ExportError
from ccr_adapters.export.manifest import TOKENIZER, Manifest, TowerFile, sha256
from ccr_adapters.extras import require

Vectors = NDArray[np.float32]

# a batch ends where captions get shorter than this share of its longest, if it has so many rows already
_LIKE_LENGTH = 0.8
_SMALLEST_BATCH = 8


class OnnxEncoder:
    """The towers of an exported folder; see `from_folder`.

    Args:
        folder: The folder.
        manifest: What it holds.
        sessions: An onnxruntime session for each tower.

    Example:
        >>> encoder = OnnxEncoder.from_folder("exports/de")  # doctest: +SKIP
        >>> encoder.encode_text(["Ein Hund"]) @ encoder.encode_image(["dog.jpg"]).T  # doctest: +SKIP
    """

    def __init__(self, folder: Path, manifest: Manifest, sessions: dict[str, Any]) -> None:
        self.folder = folder
        self.manifest = manifest
        self._sessions = sessions
        self._tokenizer: Tokenizer | None = None
        if "text" in sessions:
            self._tokenizer = _tokenizer(folder / TOKENIZER)

    @classmethod
    def from_folder(
        cls, folder: str | Path, *, threads: int | None = None, providers: Sequence[str] | None = None
    ) -> OnnxEncoder:
        """Open a folder that `ccr-adapters export --format onnx` wrote.

        Args:
            folder: The folder.
            threads: Threads of one call; by default as many as there are cores.
            providers: Where to run, in onnxruntime's names; by default the CPU.

        Raises:
            ExportError: If a file is missing, or is not the one that was written.
            MissingExtraError: If onnxruntime is not installed.
        """
        place = Path(folder)
        manifest = Manifest.read(place)
        runtime = require("onnxruntime", extra="export")
        options = runtime.SessionOptions()
        if threads is not None:
            options.intra_op_num_threads = threads
        sessions = {}
        for name, tower in manifest.towers.items():
            path = _checked(place / tower.file, tower)
            sessions[name] = runtime.InferenceSession(
                str(path), options, providers=list(providers or ["CPUExecutionProvider"])
            )
        return cls(place, manifest, sessions)

    @property
    def language(self) -> str | None:
        """The language of the captions; `None` is the base's own."""
        return self.manifest.language

    def encode_text(self, captions: str | Sequence[str], *, batch_size: int = 64) -> Vectors:
        """Encode captions of the folder's language.

        Args:
            captions: One or many.
            batch_size: Captions a pass.

        Returns:
            L2-normalised vectors in the order of the captions. (N, d)

        Raises:
            CaptionError: If a caption is empty or no text.
            ExportError: If the folder has no text tower.
        """
        tower = self._tower("text")
        settings = tower.captions
        if settings is None or self._tokenizer is None:
            raise ExportError(f"'{self.folder}' does not say how captions become ids. Export again.")
        rows = settings.ids([captions] if isinstance(captions, str) else captions, self._tokenizer)
        found: Vectors = np.empty((len(rows), self._width(tower)), dtype=np.float32)
        for chosen in _batches([len(row) for row in rows], batch_size):
            found[chosen] = self._run("text", settings.pad([rows[index] for index in chosen]))
        return found

    def encode_image(self, pictures: Any, *, batch_size: int = 32) -> Vectors:
        """Encode pictures.

        Args:
            pictures: Paths, PIL images, or arrays (H, W, 3) of bytes; one or many.
            batch_size: Pictures a pass; only so many are in memory at once.

        Returns:
            L2-normalised vectors in the order of the pictures. (M, d)

        Raises:
            ExportError: If the folder has no image tower.
            ImageError: Naming a picture that cannot be read.
        """
        tower = self._tower("image")
        if tower.pictures is None:
            raise ExportError(f"'{self.folder}' does not say how pictures become pixels. Export again.")
        one = isinstance(pictures, (str, Path, Image.Image)) or getattr(pictures, "ndim", 4) == 3
        items = [pictures] if one else list(pictures)
        found: Vectors = np.empty((len(items), self._width(tower)), dtype=np.float32)
        for start in range(0, len(items), batch_size):
            batch = tower.pictures.pixels(items[start : start + batch_size])
            found[start : start + batch_size] = self._run("image", {"pixel_values": batch})
        return found

    def _tower(self, name: str) -> TowerFile:
        if name not in self._sessions:
            raise ExportError(
                f"'{self.folder}' has no {name} tower; it has {', '.join(sorted(self._sessions)) or 'none'}. Export it with "
                f"`--tower {name}` or `--tower both`."
            )
        return self.manifest.towers[name]

    def _run(self, name: str, inputs: dict[str, NDArray[Any]]) -> Vectors:
        vectors: Vectors = self._sessions[name].run(None, inputs)[0]
        return vectors

    @staticmethod
    def _width(tower: TowerFile) -> int:
        return int(next(iter(tower.outputs.values()))[-1])


def _batches(lengths: list[int], batch_size: int) -> Iterator[list[int]]:
    """Rows of like length together, so that little of the work is padding.

    The cuts are those of `CCRModel.encode_text` with this `batch_size`: some converted adapters read the padding of a batch.
    """
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        spread = bool(batch) and lengths[index] < _LIKE_LENGTH * lengths[batch[0]]
        if len(batch) == batch_size or (spread and len(batch) >= _SMALLEST_BATCH):
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def _checked(path: Path, tower: TowerFile) -> Path:
    """A tower's file, if it is the one that was written."""
    if not path.is_file():
        raise ExportError(f"'{path.name}' is missing in '{path.parent}'. Copy the whole folder, or export again.")
    if sha256(path) != tower.sha256:
        raise ExportError(f"'{path}' is not the file that was exported: it is cut short or changed. Copy it again.")
    return path


def _tokenizer(path: Path) -> Tokenizer:
    try:
        tokenizer = Tokenizer.from_buffer(path.read_bytes())
    except FileNotFoundError as error:
        raise ExportError(
            f"'{path.name}' is missing in '{path.parent}'. Copy the whole folder, or export again."
        ) from error
    except ValueError as error:
        raise ExportError(f"'{path}' is no tokenizer ({error}). Copy it again, or export again.") from error
    # the files of some bases ask for both, and what is cut must keep its end token
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer
