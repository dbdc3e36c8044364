"""The noise report: which rows of a translated data set look wrong, and how good each row is, from 0 to 1.

Each check measures one thing and turns it into a factor: 1 up to what good translations show, 0 from where it is
certainly wrong, straight in between (`RAMPS`). The score of a row is the product of its factors, and a check flags a row
when its factor is below one half.

    untranslated   chrF between caption and translation; not where both are in one language
    wrong_script   share of letters of the language's script
    length         distance of the row's log length ratio from the median of all rows, in robust standard deviations
    repeated       share of the translation that only repeats what stands in front of it, beyond what the caption does
    round_trip     chrF between caption and back-translation, in rows that have one
    empty          a translation without any text scores 0
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset, Value

from ccr_adapters.data.corpus import check_language
from ccr_adapters.errors import DataError
from ccr_adapters.extras import require
from ccr_adapters.processing.language_id import mostly_other
from ccr_adapters.translation.checks import ALSO_WRITTEN, SCRIPTS, UNSPACED, chrf, share_of_loops, share_of_script
from ccr_adapters.translation.codes import find_language, script_of
from ccr_adapters.translation.rows import check_texts

logger = logging.getLogger(__name__)

# check -> (still good, certainly wrong)
RAMPS: dict[str, tuple[float, float]] = {
    "untranslated": (0.5, 0.9),
    "wrong_script": (0.9, 0.1),
    "length": (2.0, 6.0),
    "repeated": (0.0, 0.3),
    "round_trip": (0.5, 0.1),
}
MEANINGS = {
    "empty": "no translation",
    "untranslated": "a copy of the caption",
    "wrong_script": "letters of another script",
    "length": "far shorter or longer than the others",
    "repeated": "the same words over and over",
    "round_trip": "the back-translation says something else",
}
_LEAST_SPREAD = 0.1  # of log length ratios: in a corpus of one length, a letter more is no outlier
_BLOCK = 1000


@dataclass
class NoiseReport:
    """How noisy a translated data set is.

    Args:
        language: Of the translations.
        scores: Quality of each row. (N,)
        factors: Factor of each check for each row. (N,) each
        empty: Rows without a translation. (N,)
        examples: The worst rows, with their texts and flags.
        note: What the translations as a whole look like, where they do not look like the language.
        left_out: Checks that were not made, each with the reason.
    """

    language: str
    scores: np.ndarray
    factors: dict[str, np.ndarray]
    empty: np.ndarray
    examples: list[dict[str, Any]] = field(default_factory=list)
    note: str | None = None
    left_out: dict[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.scores)

    @property
    def flags(self) -> dict[str, np.ndarray]:
        """Which rows each check flags. (N,) each"""
        return {"empty": self.empty, **{name: (value < 0.5) & ~self.empty for name, value in self.factors.items()}}

    @property
    def counts(self) -> dict[str, int]:
        """How many rows each check flags, and `any` of them."""
        flags = self.flags
        flagged = np.logical_or.reduce(list(flags.values()))
        return {**{name: int(value.sum()) for name, value in flags.items()}, "any": int(flagged.sum())}

    def to_dict(self) -> dict[str, Any]:
        """The report without the rows, for JSON."""
        quantiles = np.quantile(self.scores, [0.05, 0.25, 0.5]) if len(self) else np.zeros(3)
        return {
            "language": self.language,
            "rows": len(self),
            "mean_score": round(float(self.scores.mean()), 4) if len(self) else 0.0,
            "score_quantiles": dict(zip(("5%", "25%", "50%"), np.round(quantiles, 4).tolist(), strict=True)),
            "flagged": self.counts,
            "checks": {name: {"good": RAMPS[name][0], "wrong": RAMPS[name][1]} for name in self.factors},
            "left_out": self.left_out,
            "note": self.note,
            "worst": self.examples,
        }

    def to_markdown(self) -> str:
        """The report for people."""
        total = max(len(self), 1)
        reasons = "; ".join(f"{name}, for {reason}" for name, reason in self.left_out.items())
        lines = [
            f"# Noise of {len(self):,} translations into {self.language}",
            "",
            f"Mean score {self.to_dict()['mean_score']:.3f}; 1 is clean. A row's score is the product of its checks.",
            *(["", self.note] if self.note else []),
            *(["", f"Not checked: {reasons}."] if reasons else []),
            "",
            "| check | what it finds | rows | share |",
            "|---|---|---:|---:|",
        ]
        for name, count in self.counts.items():
            lines.append(
                f"| {name} | {MEANINGS.get(name, 'at least one of these')} | {count:,} | {count / total:.1%} |"
            )
        if self.examples:
            lines += [
                "",
                "## The worst",
                "",
                "| row | score | caption | translation | flags |",
                "|---:|---:|---|---|---|",
            ]
            lines += [
                f"| {row['row']} | {row['score']:.2f} | {_cell(row['caption'])} | {_cell(row['translation'])} | "
                f"{', '.join(row['flags'])} |"
                for row in self.examples
            ]
        return "\n".join(lines) + "\n"

    def write(self, folder: str | Path, *, plot: bool = True) -> Path:
        """Write `noise.md`, `noise.json`, `scores.npy` (one a row) and, with matplotlib, `noise.png`.

        Raises:
            MissingExtraError: If there is no matplotlib and `plot` is set.
        """
        home = Path(folder)
        home.mkdir(parents=True, exist_ok=True)
        (home / "noise.md").write_text(self.to_markdown(), encoding="utf-8")
        text = json.dumps(self.to_dict(), indent=2, ensure_ascii=False)
        (home / "noise.json").write_text(text + "\n", encoding="utf-8")
        np.save(home / "scores.npy", self.scores)
        if plot:
            self.plot(home / "noise.png")
        return home

    def plot(self, path: str | Path) -> None:
        """Draw how the scores are distributed, and what each check flags."""
        require("matplotlib", extra="plots")
        from matplotlib.figure import Figure

        figure = Figure(figsize=(9, 3.2), layout="constrained")
        left, right = figure.subplots(1, 2)
        left.hist(self.scores, bins=np.linspace(0, 1, 21).tolist(), color="#4c72b0")
        left.set(xlabel="score of a row", ylabel="rows", yscale="log" if len(self) > 100 else "linear")
        left.set_title(f"{len(self):,} translations into {self.language}")
        counts = {name: count for name, count in self.counts.items() if name != "any"}
        right.barh(list(counts), list(counts.values()), color="#c44e52")
        right.invert_yaxis()
        right.set(xlabel="flagged rows")
        figure.savefig(str(path), dpi=120)


def _cell(text: str) -> str:
    short = text if len(text) <= 90 else text[:89] + "…"
    return short.replace("|", "\\|").replace("\n", " ")


def _ramp(values: np.ndarray, good: float, wrong: float) -> np.ndarray:
    return np.clip((wrong - values) / (wrong - good), 0.0, 1.0)


def noise_report(rows: Dataset, language: str, *, source: str = "en", examples: int = 20) -> NoiseReport:
    """Score each row of a translated data set.

    Args:
        rows: With `caption` and `translation`; `back_translation` is used where it is there.
        language: Of the translations, BCP-47.
        source: Of the captions.
        examples: So many of the worst rows are kept with their texts.

    Returns:
        The report; its scores are in the order of the rows.

    Raises:
        DataError: If a column is missing or holds no texts, or rows say that they are in another language.
    """
    missing = sorted({"caption", "translation"} - set(rows.column_names))
    if missing:
        raise DataError(f"The rows lack {', '.join(missing)}; they have {', '.join(rows.column_names)}.")
    check_texts(rows, *(name for name in ("caption", "translation", "back_translation") if name in rows.column_names))
    check_language(rows, language)
    known = find_language(language)
    script = script_of(language)
    script = script if script in SCRIPTS else None
    if script is None:
        logger.warning("The script of '%s' is not known; it is not checked.", language)
    also = ALSO_WRITTEN.get(known.code, "") if known else ""
    scripts = (*SCRIPTS[script], *SCRIPTS.get(also, ())) if script else ()
    same = known is not None and known == find_language(source)
    left_out = {"untranslated": f"captions and translations are both in '{language}'"} if same else {}
    left_out |= {} if script else {"wrong_script": f"the script of '{language}' is not known"}
    spaced, caption_spaced = (written not in UNSPACED for written in (script, script_of(source)))
    measured: dict[str, list[float]] = {"length": [], "repeated": []}
    measured |= {} if same else {"untranslated": []}
    measured |= {"wrong_script": []} if scripts else {}
    measured |= {"round_trip": []} if "back_translation" in rows.column_names else {}
    empty: list[bool] = []
    for caption, translation, back in _texts(rows):
        empty.append(not translation.strip())
        measured["length"].append(math.log((len(translation.strip()) or 1) / (len(caption.strip()) or 1)))
        # a caption that says a word three times may have it translated three times
        loops = share_of_loops(translation, spaced=spaced)
        measured["repeated"].append(max(0.0, loops - share_of_loops(caption, spaced=caption_spaced)))
        if not same:
            measured["untranslated"].append(chrf(translation, caption))
        if scripts:
            measured["wrong_script"].append(share_of_script(translation, scripts))
        if "round_trip" in measured:
            # what is not there tells nothing
            measured["round_trip"].append(chrf(back, caption) if back.strip() else 1.0)
    gone = np.asarray(empty, dtype=bool)
    values = {name: np.asarray(found) for name, found in measured.items()}
    values["length"] = _deviations(values["length"], ~gone)
    factors = {name: _ramp(values[name], *RAMPS[name]) for name in RAMPS if name in values}
    scores = np.where(gone, 0.0, np.prod(list(factors.values()), axis=0))
    report = NoiseReport(language, scores, factors, gone, left_out=left_out)
    report.examples = _worst(rows, report, examples)
    report.note = mostly_other(rows["translation"], language)
    return report


def _texts(rows: Dataset) -> Iterator[tuple[str, str, str]]:
    """Caption, translation and back-translation of each row; what is missing is ''."""
    names = [name for name in ("caption", "translation", "back_translation") if name in rows.column_names]
    for block in rows.select_columns(names).iter(batch_size=_BLOCK):
        columns = [[text or "" for text in block[name]] for name in names]
        columns += [[""] * len(columns[0])] * (3 - len(columns))
        yield from zip(*columns, strict=True)


def _deviations(ratios: np.ndarray, there: np.ndarray) -> np.ndarray:
    """Distance from the median in robust standard deviations (1.4826 MAD), empty translations left out of both."""
    if not there.any():
        return np.zeros_like(ratios)
    median = np.median(ratios[there])
    spread = max(1.4826 * float(np.median(np.abs(ratios[there] - median))), _LEAST_SPREAD)
    return np.abs(ratios - median) / spread


def _worst(rows: Dataset, report: NoiseReport, number: int) -> list[dict[str, Any]]:
    order = np.argsort(report.scores, kind="stable")[:number]
    flags = report.flags
    found = []
    for index in order[report.scores[order] < 1]:
        row = rows.select_columns([n for n in rows.column_names if n in ("caption", "translation", "back_translation")])
        texts = {name: text or "" for name, text in row[int(index)].items()}
        flagged = [name for name, value in flags.items() if value[index]]
        found.append({"row": int(index), "score": round(float(report.scores[index]), 4), **texts, "flags": flagged})
    return found


def _check_fits(rows: Dataset, report: NoiseReport) -> None:
    if len(rows) != len(report):
        raise DataError(f"The report is of {len(report):,} rows, and there are {len(rows):,}. Make one of these rows.")


def filter_rows(rows: Dataset, report: NoiseReport, minimum: float = 0.5) -> Dataset:
    """Keep the rows that score at least `minimum`.

    Raises:
        DataError: If the report is of other rows, or `minimum` is no score.
    """
    _check_fits(rows, report)
    if not 0 <= minimum <= 1:
        raise DataError(f"The lowest score is {minimum}; expected a number from 0 to 1.")
    # an empty translation is nothing to learn from, whatever the limit
    return rows.select(np.flatnonzero((report.scores >= minimum) & ~report.empty))


def with_weights(rows: Dataset, report: NoiseReport) -> Dataset:
    """Add the scores as a column `weight`, for a training that listens less to noisy rows.

    Raises:
        DataError: If the report is of other rows, or there is such a column.
    """
    _check_fits(rows, report)
    if "weight" in rows.column_names:
        raise DataError("The rows have a column 'weight' already. Remove it first.")
    return rows.add_column("weight", report.scores.astype("float32"), feature=Value("float32"))
