"""Scores of a model on retrieval sets, in whichever space its language lives."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from ccr_adapters.data.corpus import Corpus
from ccr_adapters.data.retrieval_set import RetrievalSet
from ccr_adapters.evaluation import RetrievalMetrics, evaluate_retrieval, fused
from ccr_adapters.methods import Method
from ccr_adapters.modeling import CCRModel


def visual_vectors(model: CCRModel, questions: RetrievalSet) -> torch.Tensor:
    """The base's vectors of a set's gallery, precomputed or encoded: the same for every language. (M, d)"""
    if questions.videos is not None:
        return model.encode_video(questions.videos, None, show_progress=False).cpu()
    if questions.visual is not None:
        return F.normalize(torch.from_numpy(questions.visual.astype("float32")), dim=-1)
    pictures = questions.pictures
    chunks = [
        model.encode_image(pictures[start : start + 256], None)  # type: ignore[index]
        for start in range(0, len(pictures), 256)  # type: ignore[arg-type]
    ]
    return torch.cat(chunks).cpu()


def gallery_of(
    model: CCRModel, questions: RetrievalSet, language: str | None, visual: torch.Tensor | None = None
) -> torch.Tensor:
    """The gallery in the space of a language.

    Args:
        model: The model.
        questions: The set.
        language: Whose space.
        visual: The base's vectors, when they are at hand. (M, d)

    Returns:
        L2-normalised vectors. (M, d')
    """
    own = model.space(language)
    if own is not None and questions.videos is not None:
        return model.encode_video(questions.videos, own, show_progress=False).cpu()
    if own is not None and not model.heads[own].config.normalize_visual:  # type: ignore[union-attr]
        return _at_their_own_length(model, questions, own)
    visual = visual_vectors(model, questions) if visual is None else visual
    return visual if own is None else model.map_visual(visual, own).cpu()


def _at_their_own_length(model: CCRModel, questions: RetrievalSet, language: str) -> torch.Tensor:
    """The gallery in the space of a language whose head reads how long the base's vectors are. (M, d')"""
    if questions.visual is not None:
        return model.map_visual(torch.from_numpy(questions.visual.astype("float32")), language).cpu()
    pictures = questions.pictures
    chunks = [model.encode_image(pictures[start : start + 256], language) for start in range(0, len(pictures), 256)]  # type: ignore[index, arg-type]
    return torch.cat(chunks).cpu()


def evaluate_model(
    model: CCRModel,
    questions: RetrievalSet,
    language: str | None,
    *,
    captions: str | None = None,
    visual: torch.Tensor | None = None,
    bootstrap: int = 1000,
    translated: Sequence[str] | None = None,
    weight: float = 0.5,
) -> RetrievalMetrics:
    """Score one language of a retrieval set.

    Args:
        model: The model.
        questions: The set.
        language: Language that the captions are encoded as; `None` for the base.
        captions: Language of the captions, where it is another: German through the bare base, for example.
        visual: The base's vectors of the gallery, when they are at hand. (M, d)
        bootstrap: Resamples behind the interval.
        translated: The same captions machine-translated into the base's language: their scores are added
            (*translate-test*). Say so wherever such a score is shown.
        weight: Share of the captions' own scores in that sum.
    """
    spoken = captions or language or "en"
    text = model.encode_text(questions.captions[spoken], language, show_progress=False).cpu()
    visual = gallery_of(model, questions, language, visual)
    if translated is not None:
        other = model.encode_source(translated, language, show_progress=False).cpu()
        text, visual = fused(text, other, visual, weight)
    return evaluate_retrieval(text, visual, questions.caption_to_image[spoken], bootstrap=bootstrap)


class Validation:
    """Metrics of the method on the validation set; the base's vectors of the gallery are made once."""

    def __init__(self, questions: RetrievalSet, language: str | None, visual: torch.Tensor | None) -> None:
        self.questions = questions
        self.language = language
        self.visual = visual

    def __call__(self, method: Method) -> dict[str, float]:
        """Mean average recall and sum of recalls of the method as it stands."""
        scores = evaluate_model(method.model, self.questions, self.language, visual=self.visual, bootstrap=0)
        return {"mAR": scores.sum_r / 6, "sumR": scores.sum_r}


def evaluate_all(model: CCRModel, corpus: Corpus, language: str) -> dict[str, RetrievalMetrics]:
    """English and the language on every test set, before and after: `test/de`, `test/de before`, `test/en`.

    Where the pictures' vectors have another width than the base's captions, only the language has a space to meet them.
    """
    found: dict[str, RetrievalMetrics] = {}
    for name, questions in corpus.test.items():
        visual = visual_vectors(model, questions)
        comparable = visual.shape[1] == model.embedding_dim
        if "en" in questions.captions and comparable:
            found[f"{name}/en"] = evaluate_model(model, questions, None, visual=visual)
        if comparable:
            found[f"{name}/{language} before"] = evaluate_model(
                model, questions, None, captions=language, visual=visual
            )
        found[f"{name}/{language}"] = evaluate_model(model, questions, language, visual=visual)
    return found
