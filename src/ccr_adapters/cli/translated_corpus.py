"""From a data set with English captions to a corpus in a new language: what `add-language` puts together."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset, DatasetDict, load_from_disk

from ccr_adapters.data.corpus import SPLITS, Corpus, check_columns, renamed, with_pictures
from ccr_adapters.data.retrieval_set import Column, RetrievalSet, image_ids, pictures_of
from ccr_adapters.data.tables import split_files
from ccr_adapters.errors import DataError
from ccr_adapters.translation import load_rows

HELD_OUT = "held-out translations"
SHARE = 0.05  # of the pictures, for each set that people did not caption
MOST = 1000
LEAST = 20  # pictures that a corpus needs before any can be held out


@dataclass
class Splits:
    """A data set as the user has it.

    Args:
        train: One row a caption or a picture, with `image`, `image_id` and `caption`.
        captioned: Other splits that people captioned in the language (`target_caption`), by name.
        notes: What was found, for the user.
    """

    train: Dataset
    captioned: dict[str, Dataset]
    notes: list[str] = field(default_factory=list)


def read_splits(path: Path, columns: dict[str, str]) -> Splits:
    """Read a folder with English captions.

    Args:
        path: Folder that `datasets` saved (one split, or several), or of files `train.jsonl`, `test.parquet`, ...
        columns: Canonical names by those of the data: `{"caption": "sentence"}`.

    Raises:
        DataError: If there is no training split, it lacks captions or pictures, or a named column is in no split.
    """
    notes: list[str] = []
    data = {split: load_rows(path, split=split) for split in _names(path)}
    check_columns(columns, {name for rows in data.values() for name in rows.column_names})
    data = {split: renamed(rows, columns) for split, rows in data.items()}
    if "train" not in data:
        raise DataError(f"'{path}' has no split 'train' with English captions.")
    for split, rows in data.items():
        if "image_id" not in rows.column_names:
            notes.append(f"{split}: no `image_id`, so every row counts as a picture of its own.")
            data[split] = rows.add_column("image_id", [f"{split}-{row}" for row in range(len(rows))])
        image_ids(data[split], split)  # a row without one is said before hours of translating
    train = data["train"]
    missing = sorted({"caption", "image"} - set(train.column_names))
    if missing:
        raise DataError(
            f"The split 'train' lacks {', '.join(missing)}; it has {', '.join(train.column_names)}. Name them with "
            "--column caption=THEIRS."
        )
    captioned = {}
    for split in SPLITS[1:]:
        if split in data and "target_caption" in data[split].column_names:
            missing = sorted({"caption", "image"} - set(data[split].column_names))
            if missing:
                raise DataError(f"The split '{split}' has captions by people and lacks {', '.join(missing)}.")
            captioned[split] = with_pictures(path, split, data[split])
        else:
            notes.append(
                f"{split}: no captions by people (`target_caption`); a held-out share of the translations takes its place."
            )
    return Splits(with_pictures(path, "train", train), captioned, notes)


def _names(path: Path) -> list[str]:
    if not path.is_dir():
        raise DataError(f"There is no folder '{path}' with English captions.")
    if (path / "dataset_dict.json").is_file():
        data = load_from_disk(str(path))
        return [split for split in SPLITS if isinstance(data, DatasetDict) and split in data]
    if (path / "state.json").is_file():
        return ["train"]
    return [split for split in SPLITS if split_files(path, split)]


def make_corpus(texts: Dataset, splits: Splits, language: str, *, seed: int, facts: dict[str, Any]) -> Corpus:
    """Put translations and pictures together, and hold a share of them out where people captioned none.

    Args:
        texts: Translated rows: `caption`, `translation`, `image_id`, and `back_translation` and `weight` where there are.
        splits: The data set.
        language: Of the translations.
        seed: Chooses what is held out.
        facts: For the card.

    Raises:
        DataError: If there are too few pictures to hold any out.
    """
    ids, _, first = pictures_of(splits.train, "train")
    position = {image_id: place for place, image_id in enumerate(ids)}
    index = np.asarray([position[image_id] for image_id in image_ids(texts, "train")], dtype=np.int64)  # (N,)
    shown = np.unique(index)
    groups, rest = _held_out(shown, [split for split in SPLITS[1:] if split not in splits.captioned], seed)
    sets: dict[str, RetrievalSet] = {}
    for split in SPLITS[1:]:
        if split in splits.captioned:
            columns = {"en": "caption", language: "target_caption"}
            sets[split] = RetrievalSet.from_dataset(splits.captioned[split], columns, name=split)
        else:
            sets[split] = _set_of(texts, splits, language, index, groups[split], (ids, first))
    kept = np.flatnonzero(np.isin(index, rest))
    chosen, renumbered = np.unique(index[kept], return_inverse=True)
    pictures = splits.train.select([first[i] for i in chosen])
    names = [name for name in ("caption", "translation", "back_translation", "weight") if name in texts.column_names]
    return Corpus(
        rows=texts.select_columns(names).select(kept),
        image_index=renumbered.reshape(-1).astype(np.int64),
        image_ids=[ids[i] for i in chosen],
        pictures=Column(pictures, "image"),
        validation=sets["validation"],
        test={sets["test"].name: sets["test"]},
        facts=facts,
    )


def _held_out(shown: np.ndarray, missing: list[str], seed: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Pictures for each missing split, and those that are left for training."""
    if missing and len(shown) < LEAST:
        raise DataError(
            f"{len(shown)} pictures with translations are too few to hold any out for {' and '.join(missing)}. Give at least "
            f"{LEAST}, or splits with `target_caption`."
        )
    order = np.random.default_rng(seed).permutation(shown)
    number = min(MOST, max(1, int(len(shown) * SHARE)))
    groups = {split: np.sort(order[i * number : (i + 1) * number]) for i, split in enumerate(missing)}
    return groups, order[len(missing) * number :]


def _set_of(
    texts: Dataset,
    splits: Splits,
    language: str,
    index: np.ndarray,
    pictures: np.ndarray,
    gallery: tuple[list[str], list[int]],
) -> RetrievalSet:
    """Captions and translations of some pictures as a set to score on; no person wrote these translations."""
    rows = np.flatnonzero(np.isin(index, pictures))
    chosen = texts.select(rows)
    answers = np.searchsorted(pictures, index[rows])
    ids, first = gallery
    shown = splits.train.select([first[i] for i in pictures])
    return RetrievalSet(
        image_ids=[ids[i] for i in pictures],
        captions={"en": list(chosen["caption"]), language: list(chosen["translation"])},
        caption_to_image={"en": answers, language: answers},
        pictures=Column(shown, "image"),
        name=HELD_OUT,
    )
