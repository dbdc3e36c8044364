"""What the page does, without the page: pictures for a question, captions for a picture, and who speaks."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from PIL import Image
from torch import Tensor

from ccr_adapters.data.benchmarks.languages import primary_language
from ccr_adapters.demo.captions import Caption, captions_by_language
from ccr_adapters.demo.detect import Detector, detect_by_tokenizer
from ccr_adapters.demo.names import SOURCE
from ccr_adapters.errors import CaptionError, CCRError, LanguageError
from ccr_adapters.modeling import CCRModel
from ccr_adapters.modeling.encoding import processor_of
from ccr_adapters.search import Hit
from ccr_adapters.search.interface import Vectors

logger = logging.getLogger(__name__)

AUTO = "auto"
"""In place of a language: find out."""


class Pictures(Protocol):
    """Pictures that can be searched and shown, as [`ccr_adapters.search.Collection`] does."""

    def search(self, vectors: Vectors, k: int) -> list[list[Hit]]:
        """The nearest of each question, best first. (Q, d)"""
        ...

    def picture(self, hit: Hit) -> Image.Image:
        """One that was found, RGB and upright."""
        ...


@dataclass(frozen=True)
class Spoken:
    """The language that a question was asked in.

    Attributes:
        code: Its code; `en` is the base without an adapter.
        sure: How sure the detection was, from 0 to 1; `None` where the user said it.
        foreign: What was detected, where there is no adapter for it and the base was asked instead.
    """

    code: str
    sure: float | None = None
    foreign: str = ""


@dataclass(frozen=True)
class Found:
    """A picture that was found.

    Attributes:
        rank: From 1.
        id: Its name in the index.
        score: Cosine similarity.
        picture: The picture; `None` where it cannot be shown any more.
        alt: What is on it, in words: a caption that was given for it, its own from the index (`caption`), or its name.
    """

    rank: int
    id: str
    score: float
    picture: Image.Image | None
    alt: str

    @property
    def name(self) -> str:
        """Its name without the folder."""
        return self.id.rpartition("/")[2]


@dataclass(frozen=True)
class Near:
    """A caption that is near to something.

    Attributes:
        caption: The caption.
        score: Cosine similarity.
    """

    caption: Caption
    score: float


class Finder:
    """Answers the questions of a page; safe to be asked from several threads.

    Attributes:
        model: The model.
        languages: Codes that can be asked in: those with an adapter, then the base's.
        captions: Captions by language, of those languages.
    """

    def __init__(
        self, model: CCRModel, pictures: Pictures, captions: Sequence[Caption] = (), *, detect: Detector | None = None
    ) -> None:
        """Put a model and what it searches together.

        Args:
            model: The model, with a processor.
            pictures: Indexed by the same base.
            captions: To find for pictures, and to explain by. A language may be spelled in any way (`deu`, `de-DE`); captions
                of a language that the model does not read are left out, and counted in the log.
            detect: Says which language a text is in; default: by the tokenizers.

        Raises:
            ConfigError: If the model has no processor.
            LanguageError: If a language has a space of its own, in which the pictures are not.
        """
        processor = processor_of(model)
        for code in model.languages:
            if model.space(code) is not None:
                raise LanguageError(
                    f"Language {code!r} has a space of its own, and the pictures are in that of the base. Take an adapter whose "
                    "captions share the base's space (DASD, MLA, LoRA)."
                )
        self.model = model
        self.languages = [*model.languages, SOURCE]
        self.captions: dict[str, list[Caption]] = {}
        for code, own in captions_by_language(captions).items():
            known = self._known(code)
            if known is None:
                logger.warning(
                    "%d captions in %r were left out: the model reads %s.", len(own), code, ", ".join(self.languages)
                )
            else:
                self.captions[known] = [*self.captions.get(known, ()), *(replace(each, language=known) for each in own)]
        self._pictures = pictures
        self._detect = detect or detect_by_tokenizer(processor, model.languages)
        # English tells the most readers what is on a picture
        spoken = [*self.captions.get(SOURCE, ()), *(each for own in self.captions.values() for each in own)]
        self._alts = {each.picture: each.text for each in reversed(spoken) if each.picture}
        self._vectors: dict[str, Tensor] = {}
        self._lock = threading.Lock()

    def spoken(self, text: str, choice: str = AUTO) -> Spoken:
        """Settle the language of a question.

        Args:
            text: The question.
            choice: What the user says: a code, or `auto`.

        Returns:
            The language.

        Raises:
            CaptionError: If there is no question.
            LanguageError: If the code is not one of `languages`.
        """
        if not text.strip():
            raise CaptionError("The question is empty. Say what you are looking for.")
        if choice != AUTO:
            if choice not in self.languages:
                raise LanguageError(f"Language {choice!r} has no adapter here; there are {', '.join(self.languages)}.")
            return Spoken(choice)
        code, sure = self._detect(text)
        known = self._known(code)
        return Spoken(SOURCE, sure, code) if known is None else Spoken(known, sure)

    def _known(self, code: str) -> str | None:
        """The language that a code means here, as the model spells it."""
        return next((own for own in (code, primary_language(code)) if own in self.languages), None)

    def search(self, text: str, language: str, k: int) -> list[Found]:
        """Find pictures.

        Args:
            text: The question.
            language: The adapter that reads it; `en` is the base.
            k: How many.

        Returns:
            The nearest, best first.
        """
        vector = self.model.encode_text([text], _code(language)).float().cpu().numpy()
        (hits,) = self._pictures.search(vector, k)
        return [self._found(rank, hit) for rank, hit in enumerate(hits, 1)]

    def _found(self, rank: int, hit: Hit) -> Found:
        name = hit.id.rpartition("/")[2]
        try:
            picture = self._pictures.picture(hit)
        except (CCRError, OSError):
            picture = None
        alt = self._alts.get(name) or str(hit.metadata.get("caption") or name)
        return Found(rank, hit.id, hit.score, picture, alt)

    def captions_for(self, picture: Image.Image, language: str, k: int) -> list[Near]:
        """Find captions for a picture.

        Args:
            picture: RGB.
            language: Of the captions.
            k: How many.

        Returns:
            The nearest, best first.

        Raises:
            LanguageError: If there are no captions in that language.
        """
        known = self.known_captions(language)
        vector = self.model.encode_image([picture], None).float().cpu()  # (1, d)
        scores = (self.vectors(language) @ vector.T).squeeze(1)  # (N,)
        return nearest(known, scores, k)

    def known_captions(self, language: str) -> list[Caption]:
        """The captions of a language.

        Args:
            language: Its code.

        Returns:
            At least one.

        Raises:
            LanguageError: If there are none.
        """
        if not self.captions.get(language):
            there = ", ".join(self.captions) or "none"
            raise LanguageError(f"There are no captions in {language!r} here; there are some in: {there}.")
        return self.captions[language]

    def vectors(self, language: str) -> Tensor:
        """Vectors of the captions of a language, made at the first question for them. (N, d)"""
        with self._lock:
            if language not in self._vectors:
                texts = [each.text for each in self.known_captions(language)]
                self._vectors[language] = self.model.encode_text(texts, _code(language)).float().cpu()
            return self._vectors[language]


def _code(language: str) -> str | None:
    return None if language == SOURCE else language


def nearest(captions: Sequence[Caption], scores: Tensor, k: int) -> list[Near]:
    """The captions with the highest scores.

    Args:
        captions: Captions. (N,)
        scores: Their scores. (N,)
        k: How many; fewer where there are fewer. A text that comes twice is told once.

    Returns:
        Best first.
    """
    found: dict[str, Near] = {}
    for index in torch.argsort(scores, descending=True, stable=True).tolist():
        if len(found) == k:
            break
        found.setdefault(captions[index].text, Near(captions[index], float(scores[index])))
    return list(found.values())
