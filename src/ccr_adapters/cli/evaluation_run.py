"""What `evaluate` does: every model in every language, galleries encoded once, each result written when it is there."""

from __future__ import annotations

import platform
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from torch import Tensor
from tqdm.auto import tqdm

from ccr_adapters import __version__
from ccr_adapters.cli.entrants import Entrant, before_of
from ccr_adapters.cli.galleries import Galleries
from ccr_adapters.cli.question_sets import fingerprint_of
from ccr_adapters.cli.training_images import ZERO_SHOT, LeakCheck, unchecked
from ccr_adapters.data.retrieval_set import RetrievalSet
from ccr_adapters.errors import EvaluationError
from ccr_adapters.evaluation import RetrievalMetrics, evaluate_retrieval, protocol_line
from ccr_adapters.evaluation.intervals import metric_intervals
from ccr_adapters.evaluation.records import Record, labels, read_record, relabelled, write_record
from ccr_adapters.modeling import CCRModel

_FORMAT = 1
_LIBRARIES = ("torch", "transformers", "peft", "numpy")


@dataclass(frozen=True)
class Vectors:
    """What was scored, for whoever wants to draw it.

    Attributes:
        record: The result.
        questions: The set.
        text: Captions. (N, d)
        visual: Gallery. (M, d)
        before: Gallery of the base (M, d), and what encodes captions with it; `None` where it cannot compare the two.
    """

    record: Record
    questions: RetrievalSet
    text: Tensor
    visual: Tensor
    before: tuple[Tensor, Callable[[Sequence[str]], Tensor]] | None


@dataclass(frozen=True)
class _Row:
    """One result to be: a model, whose adapter or none, a language."""

    entrant: Entrant
    language: str
    code: str | None
    path: Path
    request: dict[str, Any]
    leak: dict[str, Any]


@dataclass(frozen=True)
class _Loaded:
    """A model with the hash of its base, which takes a second of a large one."""

    model: CCRModel
    sha256: str


class Evaluation:
    """Scores models on sets, and keeps each result in a folder.

    Args:
        sets: Sets by language.
        output: Folder of the results.
        leak: The leak check.
        before: Also score each adapter's base as it is.
        bootstrap: Resamples behind the intervals; 0 for none.
        batch_size: Captions of a forward pass.
        device: Where the models run.
        force: Compute again what is finished.
        drawn: Called with what was scored, for plots; `None` for none.
    """

    def __init__(
        self,
        sets: Mapping[str, RetrievalSet],
        output: Path,
        leak: LeakCheck,
        *,
        before: bool = False,
        bootstrap: int = 1000,
        batch_size: int = 128,
        device: str | None = None,
        force: bool = False,
        drawn: Callable[[Vectors], None] | None = None,
    ) -> None:
        self.sets = sets
        self.output = output
        self.before = before
        self.bootstrap = bootstrap
        self.batch_size = batch_size
        self.device = device
        self.force = force
        self.drawn = drawn
        self.notes: list[str] = []
        self._leaks = {language: leak.facts(questions) for language, questions in sets.items()}
        self._prints = {language: fingerprint_of(one, _code(one)) for language, one in sets.items()}
        self._galleries = Galleries()

    def run(self, entrants: Sequence[Entrant]) -> list[Record]:
        """Score all models.

        Args:
            entrants: The models.

        Returns:
            The results, those included that were there already.
        """
        bases = before_of(entrants) if self.before else {}
        plan = [(entrant, self._rows(entrant, bases.get(entrant.label))) for entrant in entrants]
        found: list[Record] = []
        with tqdm(total=sum(len(rows) for _, rows in plan), desc="Scores", disable=None) as bar:
            for entrant, rows in plan:
                loaded: _Loaded | None = None
                for row in rows:
                    bar.set_postfix_str(f"{row.entrant.label}, {row.language}")
                    record = self._finished(row)
                    if record is None:
                        loaded = loaded or self._load(entrant)
                        record = self._score(row, loaded)
                    found += [] if record is None else [record]
                    bar.update()
        return found

    def _load(self, entrant: Entrant) -> _Loaded:
        model = entrant.load(self.device)
        return _Loaded(model, model.base_sha256())

    def _rows(self, entrant: Entrant, base: Entrant | None) -> list[_Row]:
        rows = []
        for language in self.sets:
            if base is not None:
                # the list of training images is the adapter's: of the base's own nobody told anything
                why = f"The training images of {base.label} itself were not named."
                rows.append(self._row(base, language, None, unchecked(why)))
            if entrant.answers(language):
                rows.append(self._row(entrant, language, entrant.speaks(language), self._leaks[language]))
            else:
                self.notes.append(f"{entrant.label} has no adapter for {language}: not scored in it.")
        return rows

    def _row(self, entrant: Entrant, language: str, code: str | None, leak: dict[str, Any]) -> _Row:
        questions = self.sets[language]
        name = "__".join(_slug(part) for part in (questions.name, entrant.label, language))
        request = {
            "model": entrant.fingerprint,
            "adapter": code,
            "questions": self._prints[language],
            "protocol": questions.facts.get("protocol", questions.name),
            "bootstrap": self.bootstrap,
        }
        return _Row(entrant, language, code, self.output / f"{name}.json", request, leak)

    def _finished(self, row: _Row) -> Record | None:
        """A result that is there, if it is of the same model, questions and options."""
        if self.force or not row.path.is_file():
            return None
        try:
            record = read_record(row.path)
            record.ranks()
        except EvaluationError as error:
            self.notes.append(f"{error} It was computed again.")
            return None
        if record.own.get("request") == row.request:
            # the scores stand, whatever is known of the training images
            return relabelled(record, _task(row.leak), row.leak)
        self.notes.append(f"{row.path.name} was of another model, other questions or options: computed again.")
        return None

    def _score(self, row: _Row, loaded: _Loaded) -> Record | None:
        questions, model = self.sets[row.language], loaded.model
        seconds: dict[str, float] = {}
        visual, seconds["gallery"] = _timed(lambda: self._gallery(loaded, questions, row.code))
        if not _comparable(model, row.code, visual):
            widths = f"the gallery of {questions.name} is {visual.shape[1]} wide, its captions become {model.embedding_dim} wide"
            if row.code is not None:
                raise EvaluationError(f"{row.entrant.label} cannot be scored in {row.language}: {widths}.")
            self.notes.append(f"{row.entrant.label} as it is was not scored in {row.language}: {widths}.")
            return None
        text, seconds["captions"] = _timed(lambda: self._encode(model, questions.captions[_code(questions)], row.code))
        answers = questions.caption_to_image[_code(questions)]
        metrics, seconds["ranking"] = _timed(
            lambda: evaluate_retrieval(text, visual, answers, bootstrap=self.bootstrap)
        )
        record = write_record(row.path, _names(row, questions), metrics, self._own(row, loaded, metrics, seconds))
        if self.drawn is not None and row.code is not None:
            base = self._gallery(loaded, questions, None)
            before = (base, lambda texts: self._encode(model, texts, None)) if _comparable(model, None, base) else None
            self.drawn(Vectors(record, questions, text, visual, before))
        return record

    def _encode(self, model: CCRModel, texts: Sequence[str], code: str | None) -> Tensor:
        return model.encode_text(texts, code, batch_size=self.batch_size, show_progress=False).cpu()

    def _gallery(self, loaded: _Loaded, questions: RetrievalSet, code: str | None) -> Tensor:
        return self._galleries.vectors(loaded.model, loaded.sha256, questions, code)

    def _own(
        self, row: _Row, loaded: _Loaded, metrics: RetrievalMetrics, seconds: Mapping[str, float]
    ) -> dict[str, Any]:
        """What only this package writes beside the metrics."""
        questions = self.sets[row.language]
        facts = dict(questions.facts)
        ranks = metrics.ranks
        resamples = self.bootstrap
        measured = protocol_line(metrics.images, metrics.captions, unpaired=metrics.unpaired)
        return {
            "format": _FORMAT,
            "adapter": row.code,
            "intervals": metric_intervals(ranks, resamples=resamples) if ranks is not None and resamples else {},
            "bootstrap": {"resamples": resamples, "seed": 0, "over": "images with all their captions"},
            "protocol": f"{facts.pop('protocol', questions.name)}. {measured}",
            "problems": facts.pop("skipped", {}),
            "facts": facts,
            **labels(row.leak),
            "base": {
                "name": row.entrant.base,
                "revision": loaded.model.config.base_revision,
                "sha256": loaded.sha256,
            },
            "questions": self._prints[row.language],
            "versions": {
                "ccr-adapters": __version__,
                "python": platform.python_version(),
                **{name: version(name) for name in _LIBRARIES},
            },
            "device": str(loaded.model.device),
            "seconds": {name: round(value, 3) for name, value in seconds.items()},
            "request": row.request,
        }


def _names(row: _Row, questions: RetrievalSet) -> dict[str, str]:
    return {
        "dataset": questions.name,
        "model": row.entrant.base,
        "pretrained": row.entrant.pretrained,
        "task": _task(row.leak),
        "language": row.language,
    }


def _task(leak: Mapping[str, Any]) -> str:
    """A score is called zero-shot only if somebody looked."""
    return "zeroshot_retrieval" if leak["setting"] == ZERO_SHOT else "retrieval"


def _comparable(model: CCRModel, code: str | None, visual: Tensor) -> bool:
    """Whether a gallery and the captions of a language meet in one space."""
    return model.space(code) is not None or visual.shape[1] == model.embedding_dim


def _code(questions: RetrievalSet) -> str:
    return next(iter(questions.captions))


def _slug(text: str) -> str:
    return re.sub(r"[^\w.@+-]+", "_", text).strip("_.") or "model"


def _timed(work: Callable[[], Any]) -> tuple[Any, float]:
    start = time.perf_counter()
    return work(), time.perf_counter() - start
