"""What `evaluate` does: every model in every language, galleries encoded once, each result written when it is there."""

from __future__ import annotations

import platform
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
from ccr_adapters.cli.evaluation_plan import FORMAT, WEIGHT, Plan, Row, task_of
from ccr_adapters.cli.galleries import Galleries
from ccr_adapters.cli.query_translations import QueryTranslations, Translated
from ccr_adapters.cli.question_sets import fingerprint_of, gallery_fingerprint, gallery_object
from ccr_adapters.cli.training_images import UNKNOWN, LeakCheck
from ccr_adapters.data.retrieval_set import RetrievalSet
from ccr_adapters.errors import EvaluationError
from ccr_adapters.evaluation import RetrievalMetrics, evaluate_retrieval, fused, protocol_line
from ccr_adapters.evaluation.intervals import metric_intervals
from ccr_adapters.evaluation.records import Record, labels, read_record, relabelled, write_record
from ccr_adapters.modeling import CCRModel

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
        batch_size: Captions of a forward pass; `None` takes as many as fit a budget of tokens.
        device: Where the models run.
        force: Compute again what is finished.
        drawn: Called with what was scored, for plots; `None` for none.
        translations: Captions in English by machine, for what follows; `None` for none.
        fused: Score adapters with translate-test too: captions and their translations together.
        alone: Score each base on the translations alone.
        source: Where the sets are from: a result of another source is not replaced.
    """

    def __init__(
        self,
        sets: Mapping[str, RetrievalSet],
        output: Path,
        leak: LeakCheck,
        *,
        before: bool = False,
        bootstrap: int = 1000,
        batch_size: int | None = None,
        device: str | None = None,
        force: bool = False,
        drawn: Callable[[Vectors], None] | None = None,
        translations: QueryTranslations | None = None,
        fused: bool = False,
        alone: bool = False,
        source: str = "",
    ) -> None:
        self.sets = sets
        self.before = before
        self.alone = alone
        self.translations = translations
        self.bootstrap = bootstrap
        self.batch_size = batch_size
        self.device = device
        self.force = force
        self.drawn = drawn
        self._translated: dict[str, Translated] = {}
        shown = {id(gallery): gallery for gallery in map(gallery_object, sets.values())}
        prints = {each: gallery_fingerprint(gallery) for each, gallery in shown.items()}
        self._prints = {
            language: fingerprint_of(one, _code(one), prints[id(gallery_object(one))]) for language, one in sets.items()
        }
        self._galleries = Galleries()
        leaks = {language: leak.facts(questions) for language, questions in sets.items()}
        self._plan = Plan(
            sets,
            output,
            leaks,
            self._prints,
            bootstrap=bootstrap,
            translations=translations,
            fused=fused,
            source=source,
        )
        self.notes = self._plan.notes

    def run(self, entrants: Sequence[Entrant]) -> list[Record]:
        """Score all models.

        Args:
            entrants: The models.

        Returns:
            The results, those included that were there already.

        Raises:
            EvaluationError: If a result would take the place of one of another model or other questions.
        """
        bases = before_of(entrants)
        plan = []
        for entrant in entrants:
            base = bases.get(entrant.label)
            # a base that is scored anyway is its own baseline
            asked = base if entrant.adapter else entrant
            before, alone = (base if self.before else None), (asked if self.alone else None)
            plan.append((entrant, self._plan.rows(entrant, before, alone)))
        finished = {row.path: self._finished(row) for _, rows in plan for row in rows}
        found: list[Record] = []
        with tqdm(total=sum(len(rows) for _, rows in plan), desc="Scores", disable=None) as bar:
            for entrant, rows in plan:
                loaded: _Loaded | None = None
                for row in rows:
                    bar.set_postfix_str(f"{row.entrant.label}, {row.language}")
                    record = finished[row.path]
                    if record is None:
                        loaded = loaded or self._load(entrant)
                        record = self._score(row, loaded)
                    found += [] if record is None else [record]
                    bar.update()
        return found

    def _load(self, entrant: Entrant) -> _Loaded:
        model = entrant.load(self.device)
        return _Loaded(model, model.base_sha256())

    def _finished(self, row: Row) -> Record | None:
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
            # the scores stand, whatever is known of the training images; who says nothing of them takes nothing back
            silent = row.leak["setting"] == UNKNOWN
            return record if silent else relabelled(record, task_of(row.leak), row.leak)
        self._check_place(record, row)
        self.notes.append(f"{row.path.name} was of another model, other questions or options: computed again.")
        return None

    def _check_place(self, record: Record, row: Row) -> None:
        """What was made again at its place replaces what was measured of it; what only has its name does not."""
        earlier = record.own.get("request") or {}
        other = next((key for key in ("model", "questions") if earlier.get(key) != row.request[key]), None)
        if other is not None and record.own.get("place", row.place) != row.place:
            what = {"model": f"another model that is called {row.entrant.label!r}", "questions": "other questions"}[
                other
            ]
            raise EvaluationError(
                f"'{row.path}' is there already, of {what}. Take another --output, name the model (NAME=PLACE), or replace "
                "it with --force."
            )

    def _score(self, row: Row, loaded: _Loaded) -> Record | None:
        questions, model = self.sets[row.language], loaded.model
        seconds: dict[str, float] = {}
        visual, seconds["gallery"] = _timed(lambda: self._gallery(loaded, questions, row.code))
        if not _comparable(model, row.code, visual):
            widths = f"the gallery of {questions.name} is {visual.shape[1]} wide, its captions become {model.embedding_dim} wide"
            if row.code is not None:
                raise EvaluationError(f"{row.entrant.label} cannot be scored in {row.language}: {widths}.")
            self.notes.append(f"{row.entrant.label} as it is was not scored in {row.language}: {widths}.")
            return None
        translated = self._translations(row) if row.machine else None
        (text, visual), seconds["captions"] = _timed(lambda: self._asked(model, row, visual, translated))
        answers = questions.caption_to_image[_code(questions)]
        metrics, seconds["ranking"] = _timed(
            lambda: evaluate_retrieval(text, visual, answers, bootstrap=self.bootstrap)
        )
        own = self._own(row, loaded, metrics, seconds) | _machine(
            row, translated, seconds["captions"], metrics.captions
        )
        record = write_record(row.path, row.names(questions), metrics, own)
        if self.drawn is not None and row.code is not None and row.machine is None:
            base = self._gallery(loaded, questions, None)
            before = (base, lambda texts: self._encode(model, texts, None)) if _comparable(model, None, base) else None
            self.drawn(Vectors(record, questions, text, visual, before))
        return record

    def _asked(self, model: CCRModel, row: Row, visual: Tensor, translated: Translated | None) -> tuple[Tensor, Tensor]:
        """Vectors of the queries, and the gallery as they meet it; both twice as wide where two scores are added."""
        captions = self.sets[row.language].captions[_code(self.sets[row.language])]
        if translated is None:
            return self._encode(model, captions, row.code), visual
        if row.code is None:
            return self._encode(model, translated.texts, None), visual
        other = model.encode_source(translated.texts, row.code, batch_size=self.batch_size, show_progress=False).cpu()
        return fused(self._encode(model, captions, row.code), other, visual, WEIGHT)

    def _translations(self, row: Row) -> Translated:
        """The captions of a set in English, made or read once."""
        if row.language not in self._translated:
            if self.translations is None:
                raise EvaluationError("Nobody said where translated captions come from.")
            found = self.translations.of(self.sets[row.language], row.language)
            self._translated[row.language] = found
            if found.untranslated:
                self.notes.append(
                    f"{found.untranslated:,} of {len(found.texts):,} captions in {row.language} have an empty translation and "
                    "stand for themselves."
                )
        return self._translated[row.language]

    def _encode(self, model: CCRModel, texts: Sequence[str], code: str | None) -> Tensor:
        return model.encode_text(texts, code, batch_size=self.batch_size, show_progress=False).cpu()

    def _gallery(self, loaded: _Loaded, questions: RetrievalSet, code: str | None) -> Tensor:
        return self._galleries.vectors(loaded.model, loaded.sha256, questions, code)

    def _own(
        self, row: Row, loaded: _Loaded, metrics: RetrievalMetrics, seconds: Mapping[str, float]
    ) -> dict[str, Any]:
        """What only this package writes beside the metrics."""
        questions = self.sets[row.language]
        facts = dict(questions.facts)
        ranks = metrics.ranks
        resamples = self.bootstrap
        measured = protocol_line(metrics.images, metrics.captions, unpaired=metrics.unpaired)
        return {
            "format": FORMAT,
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
            "place": row.place,
        }


def _machine(row: Row, translated: Translated | None, seconds: float, captions: int) -> dict[str, Any]:
    """What a result says about machine translation at inference, and about the time that a query takes."""
    encoding = 1000 * seconds / max(captions, 1)
    if translated is None:
        return {"translate_test": None, "milliseconds_a_query": round(encoding, 3)}
    facts = {
        "how": row.machine,
        "translator": translated.by,
        "untranslated": translated.untranslated,
        "milliseconds": translated.milliseconds,
        **({"weight": WEIGHT} if row.machine == "fused" else {}),
    }
    known = translated.milliseconds is not None
    return {
        "translate_test": facts,
        "milliseconds_a_query": round(encoding + (translated.milliseconds or 0), 3) if known else None,
    }


def _comparable(model: CCRModel, code: str | None, visual: Tensor) -> bool:
    """Whether a gallery and the captions of a language meet in one space."""
    return model.space(code) is not None or visual.shape[1] == model.embedding_dim


def _code(questions: RetrievalSet) -> str:
    return next(iter(questions.captions))


def _timed(work: Callable[[], Any]) -> tuple[Any, float]:
    start = time.perf_counter()
    return work(), time.perf_counter() - start
