"""Why a question finds what it finds: what a dynamic adapter reads off it, beside what it reads off known captions."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ccr_adapters.demo.captions import Caption
from ccr_adapters.demo.finder import Finder, Near, nearest
from ccr_adapters.demo.names import name_of
from ccr_adapters.errors import LanguageError
from ccr_adapters.evaluation.space_plots import plane_of
from ccr_adapters.modeling import CCRModel
from ccr_adapters.modeling.encoding import processor_of

_BATCH = 64
# more captions would hide each other on a map, and cost memory: their weights are r x r a block
MOST = 500


@dataclass(frozen=True)
class Reading:
    """What an adapter reads off some captions.

    Attributes:
        related: The semantic-related feature, what is said; of length one. (N, d)
        agnostic: The semantic-agnostic feature, how it is said; of length one. (N, d)
        cores: The weights that it generates from both, of all blocks. (N, n r r)
    """

    related: Tensor
    agnostic: Tensor
    cores: Tensor


def read(model: CCRModel, texts: Sequence[str], language: str) -> Reading:
    """Read captions as a dynamic adapter does.

    Args:
        model: The model.
        texts: Captions.
        language: Whose adapter.

    Returns:
        Features and weights, on the CPU.

    Raises:
        LanguageError: If the adapter reads nothing off a caption: a static one, or the base.
    """
    if language not in model.languages or not model.disentangles(language):
        raise LanguageError(
            f"{name_of(language)} has no such features here: only a dynamic adapter (DASD) reads a caption in two ways and "
            "makes its weights from that. Everything else treats all captions alike."
        )
    processor = processor_of(model)
    rows = processor.token_ids(texts, language)
    parts: list[tuple[Tensor, Tensor, Tensor]] = []
    with torch.inference_mode():
        for start in range(0, len(rows), _BATCH):
            batch = processor.pad(rows[start : start + _BATCH], language)
            ids, mask, ends = (
                each.to(model.device) for each in (batch.input_ids, batch.attention_mask, batch.pooled_at)
            )
            if processor.reads_padding(language):
                _, _, condition = model.target_features(ids, None, None, language)
            else:
                _, _, condition = model.target_features(ids, mask, ends, language)
            features = condition.features[language]
            found = (features.related, features.agnostic, condition.cores[language].flatten(1))
            parts.append(tuple(each.float().cpu() for each in found))  # type: ignore[arg-type]
    related, agnostic, cores = (torch.cat(each) for each in zip(*parts, strict=True))
    return Reading(F.normalize(related, dim=-1), F.normalize(agnostic, dim=-1), cores)


@dataclass(frozen=True)
class Plane:
    """The plane in which the weights of known captions differ most.

    Attributes:
        captions: The captions. (N,)
        points: Where they are. (N, 2)
        query: Where the question is. (2,)
        share: Share of the variance that the plane shows.
    """

    captions: list[Caption]
    points: np.ndarray
    query: np.ndarray
    share: float


@dataclass(frozen=True)
class Why:
    """What there is to say about one question.

    Attributes:
        related: Captions that say alike.
        agnostic: Captions that say it alike.
        plane: The map of the generated weights.
    """

    related: list[Near]
    agnostic: list[Near]
    plane: Plane


@dataclass(frozen=True)
class _Known:
    captions: list[Caption]
    reading: Reading
    plane: tuple[np.ndarray, np.ndarray, float]


class Reasons:
    """Explains questions by known captions, which are read once for each language."""

    def __init__(self, finder: Finder) -> None:
        """Take the captions of a finder.

        Args:
            finder: It has the model and the captions.
        """
        self._finder = finder
        self._known: dict[str, _Known] = {}
        self._lock = threading.Lock()

    def why(self, text: str, language: str, k: int) -> Why:
        """Explain a question.

        Args:
            text: The question.
            language: The adapter that reads it.
            k: Captions of each kind.

        Returns:
            The reasons.

        Raises:
            LanguageError: If the adapter is static, or there are no captions in its language.
        """
        model = self._finder.model
        own = read(model, [text], language)  # first: it may be refused
        known = self._read(language)
        mean, directions, share = known.plane
        points = (known.reading.cores.numpy() - mean) @ directions.T
        query = (own.cores.numpy()[0] - mean) @ directions.T
        others = [index for index, each in enumerate(known.captions) if each.text != text]
        captions = [known.captions[index] for index in others]
        related = (known.reading.related[others] @ own.related.T).squeeze(1)  # (N,)
        agnostic = (known.reading.agnostic[others] @ own.agnostic.T).squeeze(1)  # (N,)
        return Why(
            nearest(captions, related, k),
            nearest(captions, agnostic, k),
            Plane(known.captions, points, query, share),
        )

    def _read(self, language: str) -> _Known:
        with self._lock:
            if language not in self._known:
                captions = self._finder.known_captions(language)[:MOST]
                reading = read(self._finder.model, [each.text for each in captions], language)
                self._known[language] = _Known(captions, reading, plane_of(reading.cores.numpy()))
            return self._known[language]

    def languages_plane(self, text: str, language: str) -> Plane:
        """The map of all dynamic adapters' captions together.

        Args:
            text: The question.
            language: The adapter that reads it.

        Returns:
            A plane that is fitted on all of them.

        Raises:
            LanguageError: As `why`.
        """
        model = self._finder.model
        own = read(model, [text], language)
        codes = [language, *(code for code in self._finder.captions if code in model.languages and code != language)]
        known = [self._read(code) for code in codes if model.disentangles(code)]
        # adapters of another rank have weights of another width, which no plane shares
        known = [each for each in known if each.reading.cores.shape[1] == own.cores.shape[1]]
        most = max(MOST // len(known), 1)
        cores = np.concatenate([each.reading.cores.numpy()[:most] for each in known])
        mean, directions, share = plane_of(cores)
        captions = [caption for each in known for caption in each.captions[:most]]
        query = (own.cores.numpy()[0] - mean) @ directions.T
        return Plane(captions, (cores - mean) @ directions.T, query, share)
