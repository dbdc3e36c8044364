"""The leak check of `evaluate`: the images a model was trained on, and what a score may be called."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ccr_adapters.cli.question_sets import gallery_object
from ccr_adapters.data.benchmarks import find_overlap, hash_pictures
from ccr_adapters.data.retrieval_set import Column, RetrievalSet
from ccr_adapters.errors import DataError
from ccr_adapters.translation import load_rows

ZERO_SHOT = "zero-shot"
UNKNOWN = "not checked"
_COLUMNS = ("image_id", "image", "file_name", "filename", "image_path", "path", "cocoid", "id")
_PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")
_COCO_KEYS = ("file_name", "filename", "cocoid", "id", "imgid")
# of Karpathy's COCO: what is left of the validation images goes into training
_TRAINING = ("train", "restval")
# ids that the loader of a copy without ids makes up
_NUMBERED = re.compile(r"row-\d+")


@dataclass(frozen=True)
class TrainingImages:
    """What a model was trained on.

    Attributes:
        ids: Ids, file names or paths.
        hashes: Of their pictures, if they are compared too.
        name: Where the list is from.
    """

    ids: list[str]
    hashes: np.ndarray | None
    name: str


def read_training_images(path: Path, *, hashes: bool = False) -> TrainingImages:
    """Read the ids of training images.

    Args:
        path: A text file with an id a line, a JSON list or object of captions by id, annotations of COCO
            or Karpathy's splits (of those what is trained on), a table (jsonl, csv, parquet) or a folder that `datasets` saved
            with a column of ids, or a folder of pictures.
        hashes: Hash the pictures too, so that copies under other names are found.

    Raises:
        DataError: If there are no ids, or no pictures where they are to be hashed.
        ImageError: If a picture cannot be read.
    """
    if path.is_dir() and not _is_saved(path):
        files = sorted(file for file in path.rglob("*") if file.suffix.lower() in _PICTURES)
        ids, pictures = [str(file.relative_to(path)) for file in files], files
    else:
        ids, pictures = _ids_of(path)
    if not ids:
        raise DataError(f"'{path}' names no training image.")
    if hashes and pictures is None:
        raise DataError(f"--hashes compares pictures, and '{path}' has none: name a folder of the training pictures.")
    return TrainingImages(ids, hash_pictures(pictures) if hashes and pictures is not None else None, path.name)


def _is_saved(path: Path) -> bool:
    return (path / "dataset_dict.json").is_file() or (path / "state.json").is_file()


def _ids_of(path: Path) -> tuple[list[str], Any]:
    """Ids, and pictures where there are."""
    if not path.exists():
        raise DataError(f"There is no list of training images '{path}'.")
    if path.suffix == ".txt":
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"'{path}' cannot be read: {error}.") from error
        return [line.strip() for line in lines if line.strip()], None
    if path.suffix == ".json":
        return _json_ids(path), None
    rows = load_rows(path)
    name = next((column for column in _COLUMNS if column in rows.column_names), None)
    if name is None:
        raise DataError(f"'{path}' has no column of image ids ({', '.join(_COLUMNS)}).")
    if not isinstance(rows[:1][name][0] if len(rows) else "", (str, int)):
        raise DataError(f"'{path}': '{name}' holds pictures, not ids; add a column 'image_id'.")
    kept = {str(value): row for row, value in enumerate(rows[name])}  # one row a picture
    decoded = "image" in rows.column_names and type(rows.features["image"]).__name__ == "Image"
    pictures = Column(rows.select(kept.values()), "image") if decoded else None
    return list(kept), pictures


def _json_ids(path: Path) -> list[str]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"'{path}' is no JSON that can be read: {error}.") from error
    if isinstance(values, dict) and isinstance(values.get("images"), list):
        ids = _coco_ids(path, values["images"])
    elif isinstance(values, dict):
        captions = all(isinstance(each, (str, int, list)) for each in values.values())
        ids = list(values) if captions else []
    else:
        ids = [str(name) for name in values if isinstance(name, (str, int))] if isinstance(values, list) else []
    if not ids:
        raise DataError(
            f"'{path}' is no JSON list of image ids, no object with captions by id, and none with `images` as COCO has them."
        )
    return ids


def _coco_ids(path: Path, images: list[Any]) -> list[str]:
    """Images of an annotation file of COCO, or of one by Karpathy and Fei-Fei (2015) those of its training splits."""
    rows = [row for row in images if isinstance(row, dict)]
    if any("split" in row for row in rows):
        rows = [row for row in rows if row.get("split") in _TRAINING]
    found = [next((row[key] for key in _COCO_KEYS if row.get(key) not in (None, "")), None) for row in rows]
    if None in found:
        raise DataError(f"'{path}' has images without any of {', '.join(_COCO_KEYS)}.")
    return [str(name) for name in found]


class LeakCheck:
    """Compares test sets with the training images; each gallery is hashed once.

    Args:
        training: The training images; `None` if they were not named.
    """

    def __init__(self, training: TrainingImages | None) -> None:
        self.training = training
        self._hashed: dict[int, np.ndarray] = {}

    def facts(self, questions: RetrievalSet) -> dict[str, Any]:
        """What a score on a set may be called, and why.

        Args:
            questions: The set.

        Returns:
            `setting` (`zero-shot`, `leaked (...)` or `not checked`), `report`, one sentence, and `overlap`, with every leaked
            image named.

        Raises:
            DataError: If pictures are to be compared, and the set has none.
        """
        if self.training is None:
            return unchecked("The training images were not named (--trained-on).")
        hashes = self.training.hashes
        if hashes is None and all(_NUMBERED.fullmatch(name) for name in questions.image_ids):
            return unchecked(f"This copy of {questions.name} has no image ids; compare the pictures (--hashes).")
        found = find_overlap(
            self.training.ids,
            questions.image_ids,
            train_hashes=hashes,
            test_hashes=None if hashes is None else self._hashes(questions),
        )
        return {
            "setting": found.setting(ZERO_SHOT),
            "report": found.report(),
            "training": self.training.name,
            "overlap": found.to_dict(),
        }

    def _hashes(self, questions: RetrievalSet) -> np.ndarray:
        if questions.pictures is None:
            raise DataError(f"--hashes compares pictures, and {questions.name} comes with features or videos.")
        gallery = gallery_object(questions)
        if id(gallery) not in self._hashed:
            self._hashed[id(gallery)] = hash_pictures(gallery)
        return self._hashed[id(gallery)]


def unchecked(why: str) -> dict[str, Any]:
    """The facts of a score of which nobody knows whether its images were trained on."""
    return {"setting": UNKNOWN, "report": why, "overlap": None}
