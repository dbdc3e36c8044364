"""A training corpus: pictures with English captions and their translations, and the sets to choose and to score on."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset, DatasetDict, load_dataset, load_from_disk

from ccr_adapters.data.retrieval_set import Column, RetrievalSet
from ccr_adapters.errors import DataError

COLUMNS = {
    "image": "image",
    "image_id": "image_id",
    "caption": "caption",
    "translation": "translation",
    "target_caption": "target_caption",
}


@dataclass
class Corpus:
    """What one training needs.

    Args:
        rows: One row a pair, with `caption` and `translation`; memory-mapped by datasets.
        image_index: Which picture each row shows. (N,)
        image_ids: Ids of the pictures. (M,)
        pictures: The pictures by index; `None` when `visual` is given.
        visual: Precomputed visual vectors. (M, d)
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

    @classmethod
    def from_dataset(cls, data: DatasetDict, language: str, *, facts: dict[str, Any] | None = None) -> Corpus:
        """From splits `train`, `validation` and `test` with the canonical columns.

        Train rows have `image`, `image_id`, `caption` (English) and `translation`; the other splits have
        `target_caption`, captions in the language that people wrote, beside `caption`.

        Raises:
            DataError: If a split or a column is missing, or a caption is empty.
        """
        for split in ("train", "validation", "test"):
            if split not in data:
                raise DataError(f"The data has no split '{split}'; it has {', '.join(data)}.")
        train = data["train"]
        missing = sorted({"image", "image_id", "caption", "translation"} - set(train.column_names))
        if missing:
            raise DataError(
                f"The training split lacks {', '.join(missing)}; it has {', '.join(train.column_names)}. Rename columns with "
                "`columns:` in the recipe."
            )
        texts = train.select_columns(["caption", "translation"])
        check_pairs(texts)
        position: dict[str, int] = {}
        index = np.empty(len(train), dtype=np.int64)
        first: list[int] = []
        for row, image_id in enumerate(train["image_id"]):
            if image_id not in position:
                position[image_id] = len(position)
                first.append(row)
            index[row] = position[image_id]
        unique = train if len(first) == len(train) else train.select(first)
        columns = {"en": "caption", language: "target_caption"}
        return cls(
            rows=texts,
            image_index=index,
            image_ids=list(position),
            pictures=Column(unique, "image"),
            validation=RetrievalSet.from_dataset(data["validation"], columns, name="validation"),
            test={"test": RetrievalSet.from_dataset(data["test"], columns, name="test")},
            facts=facts or {},
        )


def check_pairs(rows: Dataset) -> None:
    """Refuse empty captions and translations before anything is trained.

    Raises:
        DataError: Counting them and naming the first.
    """
    for column in ("caption", "translation"):
        empty = [index for index, text in enumerate(rows[column]) if not isinstance(text, str) or not text.strip()]
        if empty:
            raise DataError(
                f"{len(empty)} of {len(rows)} rows have an empty '{column}', the first is row {empty[0]}. Remove them, or "
                "translate them again."
            )


def load_corpus(spec: dict[str, Any], language: str, seed: int = 0) -> Corpus:
    """Load what a recipe's `data:` says.

    Args:
        spec: `{"name": "tiny_world", ...}` with arguments of `build_tiny_world`, or `{"path": ..., "columns": {...}}`: a
            folder that `datasets` saved, or files of one split each (`train.jsonl`, `validation.csv`, `test.parquet`).
        language: Code of the target language.
        seed: Seed of made data.

    Raises:
        DataError: If there is no such data, or an argument is unknown.
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
            "translator": "rule-based, one plain style",
            "noise": f"{noise:.0%} of words",
        }
        return Corpus.from_dataset(data, language, facts=facts)
    path = spec.pop("path", None)
    columns = spec.pop("columns", {})
    unknown = sorted(set(spec) - {"translator", "noise", "license"})
    if path is None or unknown:
        raise DataError(
            f"`data` needs `name: tiny_world` or `path:`; got {', '.join(unknown) or 'neither'} instead. See examples/configs."
        )
    wrong = sorted(set(columns) - set(COLUMNS))
    if wrong:
        raise DataError(f"`columns` maps {', '.join(wrong)}; it can map {', '.join(COLUMNS)}.")
    data = _load_folder(Path(path))
    for own, theirs in columns.items():
        data = DatasetDict(
            {k: v.rename_column(theirs, own) if theirs in v.column_names else v for k, v in data.items()}
        )
    return Corpus.from_dataset(data, language, facts={"data": str(Path(path).name), **spec})


def _load_folder(path: Path) -> DatasetDict:
    if not path.is_dir():
        raise DataError(f"There is no folder '{path}' with training data.")
    if (path / "dataset_dict.json").is_file():
        return load_from_disk(str(path))
    files: dict[str, str] = {}
    kinds = {".jsonl": "json", ".json": "json", ".csv": "csv", ".parquet": "parquet"}
    for split in ("train", "validation", "test"):
        found = [file for suffix in kinds for file in path.glob(f"{split}*{suffix}")]
        if not found:
            raise DataError(f"'{path}' has no file for the split '{split}' ({', '.join(kinds)}).")
        files[split] = str(found[0])
    kind = kinds[Path(files["train"]).suffix]
    from datasets import Image

    data = load_dataset(kind, data_files=files)

    # paths of pictures are relative to the folder
    def absolute(row: dict[str, Any]) -> dict[str, Any]:
        image = row.get("image")
        if isinstance(image, str) and not Path(image).is_absolute():
            row["image"] = str(path / image)
        return row

    return DatasetDict(
        {k: v.map(absolute).cast_column("image", Image()) if "image" in v.column_names else v for k, v in data.items()}
    )
