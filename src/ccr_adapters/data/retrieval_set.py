"""Captions and pictures with the answers: what an evaluation asks, whatever the data set it comes from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from datasets import Dataset

from ccr_adapters.errors import DataError


@dataclass
class RetrievalSet:
    """Queries over one gallery of pictures.

    Args:
        image_ids: One id a picture. (M,)
        captions: Queries by language; each list is flat. (N_language,)
        caption_to_image: Index of each query's picture, by language. (N_language,)
        pictures: The pictures, lazily: anything that can be indexed and gives what `encode_image` takes.
        visual: Precomputed visual vectors instead of pictures. (M, d)
        name: For protocols and tables.
    """

    image_ids: list[str]
    captions: dict[str, list[str]]
    caption_to_image: dict[str, np.ndarray]
    pictures: Any | None = None
    visual: np.ndarray | None = None
    name: str = "retrieval"
    extra: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if (self.pictures is None) == (self.visual is None):
            raise DataError("A retrieval set has either pictures or precomputed visual vectors.")
        gallery = len(self.visual) if self.visual is not None else len(self.pictures or ())
        if gallery != len(self.image_ids):
            raise DataError(f"{len(self.image_ids)} image ids for {gallery} pictures.")
        for language, texts in self.captions.items():
            answers = self.caption_to_image[language]
            if len(texts) != len(answers):
                raise DataError(f"Language {language!r}: {len(texts)} captions with {len(answers)} answers.")
            if len(answers) and (answers.min() < 0 or answers.max() >= gallery):
                raise DataError(f"Language {language!r}: an answer points outside the {gallery} pictures.")

    @classmethod
    def from_dataset(
        cls, rows: Dataset, columns: dict[str, str], *, image_column: str = "image", name: str = "retrieval"
    ) -> RetrievalSet:
        """Read one row a picture, with a list of captions (or one) a language.

        Args:
            rows: The data set; pictures stay on disk until they are encoded.
            columns: Caption column by language: `{"en": "caption", "de": "target_caption"}`.
            image_column: Column of pictures.
            name: For tables.

        Raises:
            DataError: If a column is missing.
        """
        missing = sorted({*columns.values(), image_column, "image_id"} - set(rows.column_names))
        if missing:
            raise DataError(f"The data set lacks {', '.join(missing)}; it has {', '.join(rows.column_names)}.")
        captions: dict[str, list[str]] = {}
        answers: dict[str, np.ndarray] = {}
        for language, column in columns.items():
            texts: list[str] = []
            owners: list[int] = []
            for index, value in enumerate(rows[column]):
                own = [value] if isinstance(value, str) else list(value)
                texts += own
                owners += [index] * len(own)
            captions[language], answers[language] = texts, np.asarray(owners, dtype=np.int64)
        return cls(list(rows["image_id"]), captions, answers, pictures=Column(rows, image_column), name=name)


class Column:
    """A column of a data set as a sequence that decodes one value at a time."""

    def __init__(self, rows: Dataset, name: str) -> None:
        self.rows = rows
        self.name = name

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return [self.rows[i][self.name] for i in range(*index.indices(len(self)))]
        return self.rows[index][self.name]
