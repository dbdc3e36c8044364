"""`export.json`: what an exported folder holds, for whoever runs it, with this package or without."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ccr_adapters.errors import ExportError
from ccr_adapters.export.captions import CaptionSettings
from ccr_adapters.export.pictures import PictureSettings

FILE = "export.json"
TOKENIZER = "tokenizer.json"
FORMAT = 1


@dataclass(frozen=True)
class TowerFile:
    """One exported tower.

    Args:
        file: Its file in the folder.
        sha256: Hash of the file.
        precision: `"float32"` or `"int8"`.
        opset: Version of ONNX's operators.
        inputs: Axes of each input by its name; a word is an axis of any size.
        outputs: Axes of each output.
        pooling: Which state stands for a caption; what the graph does with it, it does inside.
        captions: How captions become ids, for the text tower.
        pictures: How pictures become pixels, for the image tower.
        parity: How far the vectors are from the model's.
    """

    file: str
    sha256: str
    precision: str
    opset: int
    inputs: dict[str, list[str | int]]
    outputs: dict[str, list[str | int]]
    pooling: str | None = None
    captions: CaptionSettings | None = None
    pictures: PictureSettings | None = None
    parity: dict[str, float] | None = None


@dataclass(frozen=True)
class Manifest:
    """What `export.json` says.

    Args:
        base: The base that was exported.
        base_sha256: Hash of its weights.
        language: Code of the language; `None` for the base's own.
        space: Whose space the vectors live in: a language's own, or the base's (`None`).
        towers: `"text"` and `"image"`.
        library: Version of this package that wrote it.
        format: Version of this file.
    """

    base: str | None
    base_sha256: str
    language: str | None
    space: str | None
    towers: dict[str, TowerFile] = field(default_factory=dict)
    library: str = ""
    format: int = FORMAT

    def write(self, folder: Path) -> None:
        """Write `export.json` into a folder."""
        (folder / FILE).write_text(json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """Read it.

        Raises:
            ExportError: If it is missing, broken, or of a newer format.
        """
        path = folder / FILE
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            if values["format"] != FORMAT:
                raise ExportError(
                    f"'{path}' has format {values['format']!r}; this version reads {FORMAT}. Export again."
                )
            towers = {name: _tower(tower) for name, tower in values.pop("towers").items()}
            return cls(**values, towers=towers)
        except FileNotFoundError as error:
            raise ExportError(
                f"'{FILE}' is missing in '{folder}'. Write the folder with `ccr-adapters export --format onnx`."
            ) from error
        except (UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
            raise ExportError(f"'{path}' is broken ({type(error).__name__}: {error}). Export again.") from error


def _tower(values: dict[str, Any]) -> TowerFile:
    values = dict(values)
    if values["captions"] is not None:
        values["captions"] = CaptionSettings(**values["captions"])
    if values["pictures"] is not None:
        pictures: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in values["pictures"].items()
        }
        values["pictures"] = PictureSettings(**pictures)
    name = values["file"]
    if Path(name).name != name:
        raise ExportError(f"'{FILE}' points outside its folder: {name!r}.")
    return TowerFile(**values)


def sha256(path: Path) -> str:
    """Hash of a tower's file, and of the weights beside it where it is too large to hold them."""
    digest = hashlib.sha256()
    for part in (path, path.with_name(f"{path.name}.data")):
        if part.is_file():
            with part.open("rb") as file:
                while piece := file.read(1 << 20):
                    digest.update(piece)
    return digest.hexdigest()
