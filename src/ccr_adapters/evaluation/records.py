"""What one evaluation leaves: a JSON in the shape of CLIP_benchmark with ours beside it, and the ranks of every query."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch

from ccr_adapters.errors import EvaluationError
from ccr_adapters.evaluation.metrics import RetrievalMetrics
from ccr_adapters.evaluation.report import write_metrics
from ccr_adapters.evaluation.resampling import CUTOFFS, RetrievalRanks
from ccr_adapters.evaluation.significance import Comparison, paired_bootstrap

BASE = "base"
"""Value of `pretrained` where the base is scored as it is."""
TRANSLATE = "translate-test"
"""Value of `pretrained` where the base is asked with captions that a machine translated; a suffix where scores are fused."""
_NAMES = ("dataset", "model", "pretrained", "task", "language")
_SHARES = {"t2i": "image_retrieval_recall", "i2t": "text_retrieval_recall"}
_AVERAGED = (*(f"{way}_{metric}" for way in ("t2i", "i2t") for metric in ("r@1", "r@5", "r@10", "map")), "sumR", "AR")
_NAMED = 5
_ARRAYS = ("t2i", "i2t", "t2i_precision", "i2t_precision", "caption_to_image")


@dataclass(frozen=True)
class Record:
    """One result: a model, a data set, a language.

    Attributes:
        path: Its JSON.
        dataset: Name of the data set.
        model: Name of the base.
        pretrained: Name of the adapter, `BASE`, or `TRANSLATE`.
        task: `zeroshot_retrieval`, or `retrieval` where that is not known or not so.
        language: Language of the captions.
        metrics: Recalls as CLIP_benchmark writes them: shares, not percentages.
        own: What only this package writes; empty for a JSON of CLIP_benchmark.
    """

    path: Path
    dataset: str
    model: str
    pretrained: str
    task: str
    language: str
    metrics: Mapping[str, float]
    own: Mapping[str, Any]

    @property
    def label(self) -> str:
        """The model as plots and comparisons name it."""
        return f"{self.model} ({self.pretrained})" if self.pretrained in (BASE, TRANSLATE) else self.pretrained

    @property
    def title(self) -> str:
        """The questions, in words."""
        return f"{self.dataset}, {self.language}"

    def scores(self) -> dict[str, Any]:
        """Metrics by the keys of `RetrievalMetrics.to_dict`, as percentages; of CLIP_benchmark's JSON the recalls."""
        if self.own:
            return dict(self.own["scores"])
        named = {f"{share}@{k}": f"{way}_r@{k}" for way, share in _SHARES.items() for k in CUTOFFS}
        return {named[key]: 100 * value for key, value in self.metrics.items() if key in named}

    def row(self) -> dict[str, Any]:
        """The result as a row of a table."""
        return {
            "data": self.dataset,
            "language": self.language,
            "model": self.label,
            **self.scores(),
            "setting": self.own.get("setting", "not checked"),
            "task": self.task,
            "mt": "yes" if self.own.get("translate_test") else "no",
            "ms": self.own.get("milliseconds_a_query"),
        }

    def ranks(self) -> RetrievalRanks:
        """The ranks of every query.

        Raises:
            EvaluationError: If their file is missing or broken.
        """
        if not self.own:
            raise EvaluationError(f"'{self.path.name}' has no ranks: it was not written by `ccr-adapters evaluate`.")
        return _load_ranks(self.path.with_name(self.own["ranks"]))


def shares(metrics: RetrievalMetrics) -> dict[str, float]:
    """Recalls by the names and in the units of CLIP_benchmark.

    Its `image_retrieval_recall@k` is the share of captions with their image among the first k, its
    `text_retrieval_recall@k` the share of images with any of their captions there.

    Args:
        metrics: The metrics.
    """
    flat = metrics.to_dict()
    return {
        f"{share}@{k}": float(flat[f"{way}_r@{k}"]) / 100  # type: ignore[arg-type]
        for share, way in (("image_retrieval_recall", "t2i"), ("text_retrieval_recall", "i2t"))
        for k in CUTOFFS
    }


def table_columns(records: Sequence[Record], columns: Mapping[str, str]) -> dict[str, str]:
    """Columns of a table of results: whether a machine translates at inference, where any does, and what a query takes.

    Args:
        records: The results.
        columns: Keys of `Record.row` with their headings.
    """
    translated = any(record.own.get("translate_test") for record in records)
    return {**columns, "mt": "MT at inference", "ms": "ms a query"} if translated else dict(columns)


def mean_rows(records: Sequence[Record]) -> list[dict[str, Any]]:
    """Rows with the mean over languages, of each model that was scored in several on one data set.

    Args:
        records: The results.

    Returns:
        Rows as `Record.row`, with the languages by name where they are few; without intervals, which are of one language.
    """
    of_model: dict[tuple[str, str, str], list[Record]] = {}
    for record in records:
        # adapters that are called alike, on other bases, are no one model
        base = record.own.get("base", {}).get("sha256") or record.model
        of_model.setdefault((record.dataset, record.label, base), []).append(record)
    found = []
    for (dataset, label, _), own in of_model.items():
        codes = list(dict.fromkeys(record.language for record in own))
        if len(codes) < 2 or len(codes) < len(own):
            continue
        rows = [record.row() for record in own]
        means = {key: fmean(row[key] for row in rows) for key in _AVERAGED if all(key in row for row in rows)}
        settings = {row["setting"] for row in rows}
        named = ", ".join(codes) if len(codes) <= _NAMED else f"{len(codes)} languages"
        setting = settings.pop() if len(settings) == 1 else "differs"
        found.append({"data": dataset, "language": f"mean of {named}", "model": label, **means, "setting": setting})
    return found


def write_record(
    path: str | os.PathLike[str], names: Mapping[str, str], metrics: RetrievalMetrics, own: Mapping[str, Any]
) -> Record:
    """Write a result, the ranks first: where there is a JSON, all is there.

    Args:
        path: The JSON; the ranks lie beside it, with the ending `.npz`.
        names: `dataset`, `model`, `pretrained`, `task` and `language`.
        metrics: The metrics with their ranks.
        own: What else belongs to the result.

    Returns:
        The result as it was written.

    Raises:
        EvaluationError: If the metrics have no ranks, or a value does not fit into JSON.
    """
    target = Path(path)
    if metrics.ranks is None:
        raise EvaluationError(f"{target.name} was not written: its metrics come without ranks.")
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = target.with_suffix(".npz")
    _save_ranks(beside, metrics.ranks)
    payload = {name: names[name] for name in _NAMES}
    whole = {"ranks": beside.name, "scores": metrics.to_dict(), **own}
    write_metrics(target, {**payload, "metrics": shares(metrics), "ccr": whole})
    return read_record(target)


def read_record(path: str | os.PathLike[str]) -> Record:
    """Read a result, ours or one of CLIP_benchmark.

    Args:
        path: The JSON.

    Raises:
        EvaluationError: If there is no such file, or it holds something else.
    """
    target = Path(path)
    try:
        values = json.loads(target.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise EvaluationError(f"There is no result '{target}'.") from error
    except (OSError, ValueError) as error:
        raise EvaluationError(f"'{target}' is no JSON that can be read ({error}); evaluate again.") from error
    missing = [name for name in (*_NAMES, "metrics") if not isinstance(values, dict) or name not in values]
    if missing or not isinstance(values["metrics"], dict):
        lacks = f": it lacks {', '.join(missing)}" if missing and isinstance(values, dict) else ""
        raise EvaluationError(f"'{target}' is no result of `ccr-adapters evaluate` or of CLIP_benchmark{lacks}.")
    own = values.get("ccr", {})
    if not isinstance(own, dict) or (own and not {"scores", "ranks"} <= own.keys()):
        raise EvaluationError(f"'{target}' is no whole result: `ccr` lacks scores or ranks; evaluate again.")
    dataset, model, pretrained, task, language = (str(values[name]) for name in _NAMES)
    return Record(target, dataset, model, pretrained, task, language, values["metrics"], own)


def protocol_lines(records: Sequence[Record]) -> list[str]:
    """How results were measured, a line for each protocol.

    Args:
        records: The results.
    """
    languages: dict[tuple[str, str], list[str]] = {}
    for record in records:
        key = record.dataset, record.own.get("protocol", "protocol not recorded")
        languages.setdefault(key, []).append(record.language)
    lines = [
        f"{dataset} ({', '.join(dict.fromkeys(asked))}): {protocol}."
        for (dataset, protocol), asked in languages.items()
    ]
    return lines + list(dict.fromkeys(_machine_line(record) for record in records if record.own.get("translate_test")))


def _machine_line(record: Record) -> str:
    """What a machine did at inference."""
    facts = record.own["translate_test"]
    if facts["how"] == "alone":
        how = "the translation is asked instead of the caption"
    else:
        how = f"scores of the caption ({facts['weight']:.0%}) and of its translation are added, as NRCCR's published numbers are"
    took = "not known" if facts["milliseconds"] is None else f"{facts['milliseconds']:.1f} ms"
    return (
        f"{record.label}, {record.title}: MT at inference: yes. Captions in English by {facts['translator']}; {how}. Time of one "
        f"translation: {took}."
    )


def labels(leak: Mapping[str, Any]) -> dict[str, Any]:
    """What a result says about its training images.

    Args:
        leak: `setting`, what the score may be called, and why.
    """
    return {"setting": leak["setting"], "leak": dict(leak)}


def relabelled(record: Record, task: str, leak: Mapping[str, Any]) -> Record:
    """A result with what is known now of its training images; its file is written again if that is something else.

    Args:
        record: The result.
        task: What its task is called now.
        leak: As in `labels`.

    Returns:
        The result, with the same scores.
    """
    now = json.loads(json.dumps(labels(leak)))
    if record.task == task and {key: record.own.get(key) for key in now} == now:
        return record
    values = json.loads(record.path.read_text(encoding="utf-8"))
    values["task"] = task
    values["ccr"] |= now
    write_metrics(record.path, values)
    return read_record(record.path)


def compare_records(a: Record, b: Record, *, resamples: int = 10_000, seed: int = 0) -> Comparison:
    """Say whether one result is better than another, by the paired bootstrap.

    Args:
        a: The first.
        b: The second, on the same questions.
        resamples: Number of resamples.
        seed: Seed of the resampling.

    Returns:
        How much the first is better.

    Raises:
        EvaluationError: If the two were not asked the same questions, or one has no ranks.
    """
    ranks = a.ranks(), b.ranks()
    if a.own.get("questions") != b.own.get("questions"):
        detail = "" if a.title != b.title else ", and the captions or images of the two differ"
        raise EvaluationError(
            f"These are not the same questions: '{a.path.name}' is {a.title}, '{b.path.name}' is {b.title}{detail}. A paired "
            "comparison needs two models on one set."
        )
    return paired_bootstrap(*ranks, resamples=resamples, seed=seed)


def _save_ranks(path: Path, ranks: RetrievalRanks) -> None:
    arrays = {name: getattr(ranks, name).numpy() for name in _ARRAYS}
    aside = path.with_name(f".{path.stem}.{os.getpid()}.part.npz")
    try:
        np.savez_compressed(aside, images=np.int64(ranks.images), **arrays)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def _load_ranks(path: Path) -> RetrievalRanks:
    try:
        with np.load(path, allow_pickle=False) as held:
            arrays = {name: torch.from_numpy(held[name]) for name in _ARRAYS}
            return RetrievalRanks(**arrays, images=int(held["images"]))
    except FileNotFoundError as error:
        raise EvaluationError(f"The ranks '{path}' are missing; they lie beside the JSON. Evaluate again.") from error
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise EvaluationError(f"'{path}' holds no ranks ({error}); evaluate again.") from error
