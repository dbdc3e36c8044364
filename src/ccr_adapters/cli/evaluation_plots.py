"""Which plots `evaluate` and `report` draw, and what they are called."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from ccr_adapters.evaluation.plots import rank_histogram, recall_bars, save_figure
from ccr_adapters.evaluation.records import Record
from ccr_adapters.evaluation.space_plots import MapPanel, language_map, similarity_heatmap
from ccr_adapters.extras import require
from ccr_adapters.processing.pictures import load_picture
from ccr_adapters.processing.video import is_file, sample_frames

if TYPE_CHECKING:
    from ccr_adapters.cli.evaluation_run import Vectors
    from ccr_adapters.data.retrieval_set import RetrievalSet

_CELLS = 8  # rows and columns of a heat-map
_PAIRS = 60  # of a map: more lines than that hide one another


class Plots:
    """Draws into a folder.

    Args:
        folder: The folder.

    Raises:
        MissingExtraError: If there is no matplotlib; it is said before anything is computed.
    """

    def __init__(self, folder: Path) -> None:
        require("matplotlib", extra="plots")
        self.folder = folder
        self.written: list[Path] = []

    def vectors(self, found: Vectors) -> None:
        """Draw captions against pictures, and the language before and after.

        Args:
            found: What was scored.
        """
        questions = found.questions
        code = next(iter(questions.captions))
        answers = questions.caption_to_image[code]
        captions = _one_each(answers)  # a caption of each picture that has one
        shown = _spread(captions, _CELLS)
        pictures = answers[shown]
        similarity = (found.text[shown] @ found.visual[pictures].T).numpy()
        texts = [questions.captions[code][row] for row in shown]
        title = f"{found.record.label}: {found.record.title}"
        seen = [_picture(questions, int(row)) for row in pictures]
        self._save(similarity_heatmap(similarity, texts, seen, title=title), "similarity", found.record)
        self._map(found, _spread(captions, _PAIRS), answers, title)

    def _map(self, found: Vectors, pairs: np.ndarray, answers: np.ndarray, title: str) -> None:
        code = next(iter(found.questions.captions))
        panels = []
        gallery = _array(found.visual)
        if found.before is not None:
            base, encode = found.before
            texts = [found.questions.captions[code][row] for row in pairs]
            own = _array(base)
            # one plane for both, unless the language has a space of its own
            gallery = own if base.shape == found.visual.shape and bool((base == found.visual).all()) else gallery
            panels.append(MapPanel("before: the base", _array(encode(texts)), own[answers[pairs]], own))
        panels.append(MapPanel("after: with the adapter", _array(found.text[pairs]), gallery[answers[pairs]], gallery))
        if len(gallery) >= 3:
            self._save(language_map(panels, title=title), "map", found.record)

    def records(self, records: Sequence[Record]) -> None:
        """Draw recalls of each data set, and ranks of each data set and language.

        Args:
            records: The results.
        """
        for dataset in dict.fromkeys(record.dataset for record in records):
            own = [record for record in records if record.dataset == dataset]
            if all("t2i_r@1" in record.scores() for record in own):
                self._write(recall_bars(own, k=1), f"recall__{_slug(dataset)}.png")
        questions = dict.fromkeys((record.dataset, record.language) for record in records if record.own)
        for dataset, language in questions:
            asked = [record for record in records if (record.dataset, record.language) == (dataset, language)]
            ranks = {record.label: record.ranks() for record in asked if record.own}
            title = f"Where the right answer stands: {dataset}, {language}"
            self._write(rank_histogram(ranks, title=title), f"ranks__{_slug(dataset)}__{_slug(language)}.png")

    def _save(self, figure: Any, kind: str, record: Record) -> None:
        self._write(figure, f"{kind}__{record.path.stem}.png")

    def _write(self, figure: Any, name: str) -> None:
        self.written.append(save_figure(figure, self.folder / name))


def _array(vectors: Tensor) -> np.ndarray:
    found: np.ndarray = vectors.float().numpy()
    return found


def _slug(text: str) -> str:
    return re.sub(r"[^\w.@+-]+", "_", text)


def _one_each(answers: np.ndarray) -> np.ndarray:
    """The first caption of each picture that has one."""
    return np.sort(np.unique(answers, return_index=True)[1])


def _spread(rows: np.ndarray, most: int) -> np.ndarray:
    """So many of them, evenly over all."""
    return rows if len(rows) <= most else rows[np.linspace(0, len(rows) - 1, most).round().astype(int)]


def _picture(questions: RetrievalSet, row: int) -> Any:
    """A picture for a thumbnail, of a video the middle, or its id where there are only features."""
    if questions.pictures is not None:
        return load_picture(questions.pictures[row])
    if questions.videos is not None and is_file(questions.videos[row]):
        return sample_frames(questions.videos[row], 1)[0]
    return questions.image_ids[row]
