"""Which results `evaluate` computes: of each model and language the plain one, the base before it, and translate-test."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ccr_adapters.cli.entrants import ENGLISH, Entrant
from ccr_adapters.cli.query_translations import QueryTranslations
from ccr_adapters.cli.training_images import ZERO_SHOT, unchecked
from ccr_adapters.data.benchmarks import primary_language
from ccr_adapters.data.retrieval_set import RetrievalSet
from ccr_adapters.evaluation.records import TRANSLATE

FORMAT = 2
"""Of results. 2: pictures are upright and on white."""
WEIGHT = 0.5
"""Share of the captions' own scores in translate-test, as in NRCCR's published numbers."""


@dataclass(frozen=True)
class Row:
    """One result to be.

    Attributes:
        entrant: The model.
        language: Language of the captions, as the user spells it.
        code: The adapter; `None` for none.
        machine: `None`: no machine translates. `"fused"`: scores of captions and of their translations are added.
            `"alone"`: the translations are asked instead of the captions.
        path: Its JSON.
        request: What it depends on, by which a finished result is known.
        leak: What is known of the training images.
        place: Hash of where model and questions were taken from.
    """

    entrant: Entrant
    language: str
    code: str | None
    machine: Literal["fused", "alone"] | None
    path: Path
    request: dict[str, Any]
    leak: dict[str, Any]
    place: str

    def names(self, questions: RetrievalSet) -> dict[str, str]:
        """What the result is of, by the keys of CLIP_benchmark."""
        pretrained = {"alone": TRANSLATE, "fused": f"{self.entrant.pretrained} + {TRANSLATE}"}
        return {
            "dataset": questions.name,
            "model": self.entrant.base,
            "pretrained": pretrained.get(str(self.machine), self.entrant.pretrained),
            "task": task_of(self.leak),
            "language": self.language,
        }


class Plan:
    """Says which results there are to be.

    Args:
        sets: Sets by language.
        output: Folder of the results.
        leaks: What is known of each set's images, by language.
        prints: Hash of each set's questions, by language.
        bootstrap: Resamples behind the intervals.
        translations: Captions in English; `None` if no machine translates.
        fused: Score adapters with translate-test too.
        source: Where the sets are from, in whatever words tell one source from another.
    """

    def __init__(
        self,
        sets: Mapping[str, RetrievalSet],
        output: Path,
        leaks: Mapping[str, dict[str, Any]],
        prints: Mapping[str, str],
        *,
        bootstrap: int,
        translations: QueryTranslations | None = None,
        fused: bool = False,
        source: str = "",
    ) -> None:
        self.sets = sets
        self.source = source
        self.output = output
        self.leaks = leaks
        self.prints = prints
        self.bootstrap = bootstrap
        self.translations = translations
        self.fused = fused
        self.notes: list[str] = []

    def rows(self, entrant: Entrant, before: Entrant | None, translated: Entrant | None) -> list[Row]:
        """The results of one model.

        Args:
            entrant: The model.
            before: Its base, to be scored as it is.
            translated: Its base, to be asked with translations.
        """
        rows = []
        for language in self.sets:
            foreign = primary_language(language) != ENGLISH
            for base, machine in ((before, None), (translated, "alone")):
                if base is not None and (machine is None or foreign):
                    # the list of training images is the adapter's: of the base's own nobody told anything
                    why = f"The training images of {base.label} itself were not named."
                    leak = unchecked(why) if entrant.adapter else self.leaks[language]
                    rows.append(self._row(base, language, None, machine, leak))
            if not entrant.answers(language):
                self.notes.append(f"{entrant.label} has no adapter for {language}: not scored in it.")
                continue
            code = entrant.speaks(language)
            rows.append(self._row(entrant, language, code, None, self.leaks[language]))
            if self.fused and code is not None and foreign:
                rows.append(self._row(entrant, language, code, "fused", self.leaks[language]))
        return rows

    def _row(
        self,
        entrant: Entrant,
        language: str,
        code: str | None,
        machine: Any,
        leak: dict[str, Any],
    ) -> Row:
        questions = self.sets[language]
        parts = [questions.name, entrant.label, language, *([f"{TRANSLATE}-{machine}"] if machine else [])]
        request = {
            "format": FORMAT,
            "model": entrant.fingerprint,
            "adapter": code,
            "questions": self.prints[language],
            "protocol": questions.facts.get("protocol", questions.name),
            "bootstrap": self.bootstrap,
        }
        if machine and self.translations is not None:
            translations = self.translations.identity(questions, language)
            request["translate_test"] = {"how": machine, "weight": WEIGHT, "translations": translations}
        path = self.output / f"{'__'.join(map(slug, parts))}.json"
        model = Path(entrant.place).absolute() if Path(entrant.place).is_dir() else entrant.place
        place = hashlib.sha256(f"{self.source}\0{model}".encode()).hexdigest()[:16]
        return Row(entrant, language, code, machine, path, request, leak, place)


def task_of(leak: Mapping[str, Any]) -> str:
    """A score is called zero-shot only if somebody looked."""
    return "zeroshot_retrieval" if leak["setting"] == ZERO_SHOT else "retrieval"


def slug(text: str) -> str:
    """A text as part of a file name."""
    return re.sub(r"[^\w.@+-]+", "_", text).strip("_.") or "model"
