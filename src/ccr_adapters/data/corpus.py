"""A training corpus: pictures with English captions and their translations, and the sets to choose and to score on."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset, DatasetDict, Image, Value, load_from_disk

from ccr_adapters.data.retrieval_set import VIDEO, Column, Frames, RetrievalSet, Vectors, load_visual, pictures_of
from ccr_adapters.data.tables import KINDS, read_tables, split_files
from ccr_adapters.errors import DataError, ImageError, VideoError

SPLITS = ("train", "validation", "test")
_BLOCK = 10_000
_BYTES = (Value("binary"), Value("large_binary"))
_LOOKED_AT = 4096  # rows of visual vectors: those of another encoder differ in every one

COLUMNS = {
    "image": "image",
    "video": VIDEO,
    "image_id": "image_id",
    "caption": "caption",
    "translation": "translation",
    "back_translation": "back_translation",
    "weight": "weight",
    "target_caption": "target_caption",
}


@dataclass
class Corpus:
    """What one training needs.

    Args:
        rows: One row a pair, with `caption` and `translation`, and where there are `back_translation` and `weight` (how far
            to trust the pair, from 0 to 1: how often it is trained on); memory-mapped by datasets.
        image_index: Which picture each row shows. (N,)
        image_ids: Ids of the pictures. (M,)
        pictures: The pictures by index; `None` when `visual` is given.
        visual: Precomputed visual vectors. (M, d)
        videos: Videos by index, instead of pictures or vectors: paths of files, or features of their frames, (T_i, d) each.
        validation: To choose a checkpoint on.
        test: To score on, by name.
        facts: For cards and summaries: name, translator, noise.
    """

    rows: Dataset
    image_index: np.ndarray
    image_ids: list[str]
    validation: RetrievalSet
    test: dict[str, RetrievalSet]
    pictures: Any | None = None
    visual: np.ndarray | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    videos: Any | None = None

    def __post_init__(self) -> None:
        shown = [each for each in (self.pictures, self.visual, self.videos) if each is not None]
        if len(shown) != 1:
            raise DataError("A corpus has either pictures or precomputed visual vectors (or videos): one of them.")
        gallery = len(shown[0])
        if gallery != len(self.image_ids):
            raise DataError(f"{len(self.image_ids)} image ids for {gallery} pictures.")
        missing = sorted({"caption", "translation"} - set(self.rows.column_names))
        if missing:
            raise DataError(f"The rows lack {', '.join(missing)}; they have {', '.join(self.rows.column_names)}.")
        index = self.image_index
        if len(index) != len(self.rows):
            raise DataError(f"{len(self.rows)} rows, and an `image_index` of {len(index)}.")
        if len(index) and (index.min() < 0 or index.max() >= gallery):
            raise DataError(f"`image_index` points outside the {gallery} pictures.")
        check_pairs(self.rows)
        check_weights(self.rows)

    def pairs_fingerprint(self) -> str:
        """A short hash of the training pairs: all texts and weights, and which picture each row shows."""
        rows = self.rows.with_format(None)
        named = [[str(image_id) for image_id in self.image_ids], sorted(rows.column_names)]
        digest = hashlib.sha256(json.dumps(named).encode())
        digest.update(np.ascontiguousarray(self.image_index, dtype=np.int64).tobytes())
        for block in rows.iter(batch_size=_BLOCK):
            digest.update(json.dumps(block, sort_keys=True, default=str).encode())
        return digest.hexdigest()[:16]

    def vectors_fingerprint(self) -> str | None:
        """A short hash of precomputed visual vectors, by rows here and there; `None` where pictures or video files are read."""
        if self.visual is not None:
            rows: Any = self.visual
        elif self.videos is not None and len(self.videos) and isinstance(self.videos[0], np.ndarray):
            rows = self.videos
        else:
            return None
        digest = hashlib.sha256(str(len(rows)).encode())
        for index in range(0, len(rows), max(1, len(rows) // _LOOKED_AT)):
            digest.update(np.ascontiguousarray(rows[index], dtype="<f4").tobytes())
        return digest.hexdigest()[:16]

    @classmethod
    def from_dataset(
        cls,
        data: DatasetDict,
        language: str,
        *,
        facts: dict[str, Any] | None = None,
        vectors: Vectors | Frames | None = None,
    ) -> Corpus:
        """From splits `train`, `validation` and `test` with the canonical columns.

        Train rows have `image` (or `video`, the path of a file), `image_id`, `caption` (English) and `translation`, and may
        have `back_translation` and `weight`; the other splits have `target_caption`, captions in the language that people
        wrote, beside `caption`.

        Raises:
            DataError: If a split or a column is missing, a caption is empty, or a row says that it is in another language.
        """
        for split in SPLITS:
            if split not in data:
                raise DataError(f"The data has no split '{split}'; it has {', '.join(data)}.")
        train = data["train"]
        films = "image" not in train.column_names and VIDEO in train.column_names
        shown = {"image"} if vectors is None and not films else set()
        missing = sorted({*shown, "image_id", "caption", "translation"} - set(train.column_names))
        if missing:
            raise DataError(
                f"The training split lacks {', '.join(missing)}; it has {', '.join(train.column_names)}. Rename columns with "
                "`columns:` in the recipe."
            )
        check_language(train, language)
        wanted = ("caption", "translation", "back_translation", "weight")
        texts = train.select_columns([column for column in wanted if column in train.column_names])
        ids, index, first = pictures_of(train, "train")
        unique = train if len(first) == len(train) else train.select(first)
        if vectors is not None:
            gallery = vectors.shown(ids, "train")
        else:
            gallery = {"videos": list(unique[VIDEO])} if films else {"pictures": Column(unique, "image")}
        columns = {"en": "caption", language: "target_caption"}
        return cls(
            rows=texts,
            image_index=index,
            image_ids=ids,
            validation=RetrievalSet.from_dataset(data["validation"], columns, name="validation", vectors=vectors),
            test={"test": RetrievalSet.from_dataset(data["test"], columns, name="test", vectors=vectors)},
            facts=facts or {},
            **gallery,
        )


def check_pairs(rows: Dataset) -> None:
    """Refuse empty captions and translations before anything is trained.

    Raises:
        DataError: Counting them and naming the first.
    """
    for column in ("caption", "translation"):
        lists = next((index for index, text in enumerate(rows[column]) if isinstance(text, list)), None)
        if lists is not None:
            raise DataError(
                f"Row {lists} has a list in '{column}'; a training row is one caption with its translation."
            )
        empty = [index for index, text in enumerate(rows[column]) if not isinstance(text, str) or not text.strip()]
        if empty:
            raise DataError(
                f"{len(empty)} of {len(rows)} rows have an empty '{column}', the first is row {empty[0]}. Remove them, or "
                "translate them again."
            )


def check_language(rows: Dataset, language: str) -> None:
    """Refuse translations that say themselves, in a column `language`, that they are in another one.

    Raises:
        DataError: Counting them and naming the first.
    """
    if "language" not in rows.column_names:
        return
    wanted = _main(language)
    other = [
        (index, code)
        for index, code in enumerate(rows["language"])
        # `deu` is `de` to a table that is not at hand here, and `German` is no code
        if isinstance(code, str)
        and len(_main(code)) == len(wanted)
        and _main(code) != wanted
        and {_main(code), wanted} not in _TAKEN_AS_ONE
        and _main(code) not in ("mul", "und")
    ]
    if other:
        index, code = other[0]
        raise DataError(
            f"{len(other)} of {len(rows)} rows are in another language than '{language}', the first is row {index}, in '{code}'. "
            "Train that language, or leave those rows out."
        )


# codes of which one is an older, or a wider, name of the other
_TAKEN_AS_ONE: tuple[set[str], ...] = (
    {"no", "nb"},
    {"no", "nn"},
    {"he", "iw"},
    {"id", "in"},
    {"yi", "ji"},
    {"zh", "yue"},
    {"fil", "tgl"},
    {"sr", "sh"},
    {"hr", "sh"},
)


def _main(code: str) -> str:
    """`pt` of `pt-BR` and of `pt_BR`."""
    return code.strip().lower().replace("_", "-").partition("-")[0]


def check_weights(rows: Dataset) -> None:
    """Refuse weights that are no shares.

    Raises:
        DataError: Naming the first.
    """
    if "weight" not in rows.column_names:
        return
    weights = np.asarray(rows["weight"], dtype=np.float64)
    wrong = np.flatnonzero(~((weights >= 0) & (weights <= 1)))
    if len(wrong):
        raise DataError(
            f"{len(wrong)} of {len(rows)} rows have a `weight` that is no share from 0 to 1, the first is row {wrong[0]}: "
            f"{weights[wrong[0]]}."
        )
    if not weights.any():
        raise DataError("All rows have a `weight` of 0: nothing would be trained on.")


def load_corpus(spec: dict[str, Any], language: str, seed: int = 0) -> Corpus:
    """Load what a recipe's `data:` says.

    Args:
        spec: `{"name": "tiny_world", ...}` with arguments of `build_tiny_world`, or `{"path": ..., "columns": {...}}`: a
            folder that `datasets` saved, or files of one split each (`train.jsonl`, `validation.csv`, `test.parquet`). With
            `visual:` (`vectors.npy` and `visual_ids: ids.txt`, or a BigFile folder) precomputed vectors take the place of
            pictures, and with a folder of frames (`<id>.npy`, or a BigFile with `video2frames.txt`) those of videos.
        language: Code of the target language.
        seed: Seed of made data.

    Raises:
        DataError: If there is no such data, or an argument is unknown.
        ImageError: If a picture is missing.
        VideoError: If a video is missing.
    """
    spec = dict(spec)
    if spec.get("name") == "tiny_world":
        from ccr_adapters.data.tiny_world import build_tiny_world

        spec.pop("name")
        spec.setdefault("seed", seed)
        try:
            data = build_tiny_world(language, **spec)
        except TypeError as error:
            raise DataError(f"tiny_world: {error}.") from error
        noise = spec.get("noise", 0.1)
        facts = {
            "data": "tiny world (rendered scenes)",
            "translator": "rule-based stand-in, one plain style",
            "noise": f"{noise:.0%} of words",
        }
        return Corpus.from_dataset(data, language, facts=facts)
    path = spec.pop("path", None)
    columns = spec.pop("columns", {})
    visual, ids = spec.pop("visual", None), spec.pop("visual_ids", None)
    unknown = sorted(set(spec) - {"translator", "noise", "license"})
    if path is None or unknown:
        raise DataError(
            f"`data` needs `name: tiny_world` or `path:`; got {', '.join(unknown) or 'neither'} instead. See examples/configs."
        )
    if ids is not None and not visual:
        raise DataError("`visual_ids` names the rows of `visual`, and there is no `visual`. Add it, or leave both out.")
    wrong = sorted(set(columns) - set(COLUMNS))
    if wrong:
        raise DataError(f"`columns` maps {', '.join(wrong)}; it can map {', '.join(COLUMNS)}.")
    vectors = load_visual(Path(path) / visual, None if ids is None else Path(path) / ids) if visual else None
    data = _load_folder(Path(path), columns, visual=vectors is not None)
    return Corpus.from_dataset(data, language, facts={"data": str(Path(path).name), **spec}, vectors=vectors)


def _load_folder(path: Path, columns: dict[str, str], *, visual: bool = False) -> DatasetDict:
    """The splits, with paths made whole; those of videos are not looked at where features take their place."""
    if not path.is_dir():
        raise DataError(f"There is no folder '{path}' with training data.")
    if (path / "dataset_dict.json").is_file():
        data = load_from_disk(str(path))
    else:
        # one by one: the splits have different columns, and may be files of different kinds
        files = {split: split_files(path, split) for split in SPLITS}
        lacking = [split for split, found in files.items() if not found]
        if lacking:
            raise DataError(f"'{path}' has no file for the split '{lacking[0]}' ({', '.join(KINDS)}).")
        data = DatasetDict({split: read_tables(found) for split, found in files.items()})
    there = {name for rows in data.values() for name in rows.column_names}
    check_columns(columns, there)
    found = {split: with_pictures(path, split, _with_weights(renamed(rows, columns))) for split, rows in data.items()}
    return DatasetDict({split: rows if visual else _with_videos(path, split, rows) for split, rows in found.items()})


def _with_weights(rows: Dataset) -> Dataset:
    """Weights as numbers, which are text in a CSV file."""
    if "weight" not in rows.column_names or rows.features["weight"] != Value("string"):
        return rows
    try:
        return rows.cast_column("weight", Value("float64"))
    except ValueError as error:
        raise DataError(f"The column 'weight' holds text that is no number: {error}.") from error


def check_columns(columns: dict[str, str], there: set[str]) -> None:
    """Refuse names of columns that no split has.

    Raises:
        DataError: Naming the first, and those there are.
    """
    for own, theirs in columns.items():
        if theirs not in there:
            raise DataError(
                f"`columns` maps {own} to '{theirs}', which no split has; there are {', '.join(sorted(there))}."
            )


def renamed(rows: Dataset, columns: dict[str, str]) -> Dataset:
    """Rows with their columns under the canonical names; what has such a name but is not meant is left out."""
    names = {theirs: own for own, theirs in columns.items() if theirs in rows.column_names and theirs != own}
    hidden = [own for own in names.values() if own in rows.column_names and own not in names]
    return rows.remove_columns(hidden).rename_columns(names)


def with_pictures(path: Path, split: str, rows: Dataset) -> Dataset:
    """Turn paths, which are relative to the folder, into pictures that are read when they are needed.

    Raises:
        ImageError: If a file is missing, or the column holds neither pictures nor paths.
    """
    held = rows.features.get("image")
    if held is None or isinstance(held, Image):
        return rows
    if held in _BYTES or (isinstance(held, dict) and held.get("bytes") in _BYTES):
        return rows.cast_column("image", Image())  # as pandas and polars write them: no word of `datasets` in the file
    if held not in (Value("string"), Value("large_string")):
        raise ImageError(f"Split '{split}': the column 'image' holds {held}; expected pictures, or paths of files.")
    files = []
    for index, name in enumerate(rows["image"]):
        file = path / str(name)
        if name is None or not file.is_file():
            raise ImageError(f"Split '{split}', row {index}: the picture '{name}' is missing in '{path}'.")
        files.append(str(file))
    return rows.remove_columns("image").add_column("image", files).cast_column("image", Image())


def _with_videos(path: Path, split: str, rows: Dataset) -> Dataset:
    """Make paths of videos, which are relative to the folder, whole.

    Raises:
        DataError: If the column holds no paths.
        VideoError: If a file is missing.
    """
    if VIDEO not in rows.column_names or "image" in rows.column_names:
        return rows
    if rows.features[VIDEO] not in (Value("string"), Value("large_string")):
        raise DataError(f"Split '{split}': the column '{VIDEO}' holds {rows.features[VIDEO]}; expected paths of files.")
    files = []
    for index, name in enumerate(rows[VIDEO]):
        file = path / str(name)
        if name is None or not file.is_file():
            raise VideoError(f"Split '{split}', row {index}: the video '{name}' is missing in '{path}'.")
        files.append(str(file))
    return rows.remove_columns(VIDEO).add_column(VIDEO, files)
