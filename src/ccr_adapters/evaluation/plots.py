"""Plots of results: recall by language and method, and where the right answers stand. Needs matplotlib (extra `plots`)."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ccr_adapters.errors import EvaluationError
from ccr_adapters.evaluation.records import Record
from ccr_adapters.evaluation.resampling import RetrievalRanks
from ccr_adapters.extras import require

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe and Ito (2008): told apart with any kind of colour vision. Grey comes first, for a base.
COLOURS = ("#999999", "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#000000")
INK, QUIET, RULE = "#1f2937", "#6b7280", "#e5e7eb"
DPI = 100
WIDTH = 12.0  # inches: 1200 pixels
WAYS = {"t2i": "captions find their picture", "i2t": "pictures find their caption"}
# More bars than this have no room for numbers.
_NUMBERED = 20


def new_figure(height: float) -> Figure:
    """A figure 1200 pixels wide, without pyplot, which would keep it and look for a screen.

    Args:
        height: In inches.

    Raises:
        MissingExtraError: If there is no matplotlib.
    """
    require("matplotlib", extra="plots")
    from matplotlib.figure import Figure

    return Figure(figsize=(WIDTH, height), dpi=DPI, facecolor="white")


def save_figure(figure: Figure, path: str | os.PathLike[str]) -> Path:
    """Write a figure, aside and then moved.

    Args:
        figure: The figure.
        path: The picture; its ending says the format.

    Returns:
        The path.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_name(f".{target.stem}.{os.getpid()}.part{target.suffix}")
    try:
        figure.savefig(aside, dpi=DPI)
        aside.replace(target)
    finally:
        aside.unlink(missing_ok=True)
    return target


def recall_bars(records: Sequence[Record], *, k: int = 1, title: str = "") -> Figure:
    """Recall by language and method, both directions, with 95% intervals.

    Args:
        records: Results on one data set; a language has at most one of each method.
        k: Recall at how many.
        title: First line; default the data set.

    Raises:
        EvaluationError: If there is no result, two are of one method and language, or one lacks the recall.
        MissingExtraError: If there is no matplotlib.
    """
    languages = list(dict.fromkeys(record.language for record in records))
    methods = _methods(records)
    of = {(record.label, record.language): record for record in records}
    if not records or len(of) < len(records):
        raise EvaluationError("Bars need one result for each method and language; name models apart, or pick results.")
    figure = new_figure(6.6)
    panels = figure.subplots(2, 1, sharex=True, sharey=True)
    present = {language: [method for method in methods if (method, language) in of] for language in languages}
    width = 0.82 / max(map(len, present.values()))
    for panel, (way, words) in zip(panels, WAYS.items(), strict=True):
        for number, method in enumerate(methods):
            there = [index for index, language in enumerate(languages) if method in present[language]]
            values = [_value(of[method, languages[index]], f"{way}_r@{k}") for index in there]
            # a language's bars stand together, whichever methods it has
            places = [(present[languages[index]].index(method), len(present[languages[index]])) for index in there]
            at = np.array([x + (own - (all_ - 1) / 2) * width for x, (own, all_) in zip(there, places, strict=True)])
            heights = [value for value, _, _ in values]
            errors = np.abs(np.array([[value - low, high - value] for value, low, high in values]).T)
            colour = COLOURS[number % len(COLOURS)]
            panel.bar(at, heights, width * 0.94, color=colour, label=method, zorder=2)
            style = {"fmt": "none", "ecolor": INK, "elinewidth": 1.2, "capsize": min(4, 40 * width / len(languages))}
            panel.errorbar(at, heights, errors, **style, zorder=3)
            if len(records) <= _NUMBERED:
                for x, (value, _, high) in zip(at, values, strict=True):
                    panel.annotate(
                        f"{value:.1f}",
                        (x, max(value, high)),
                        (0, 3),
                        textcoords="offset points",
                        ha="center",
                        fontsize=11,
                    )
        _tidy(panel, f"R@{k} (%)", f"{words} ({'text to image' if way == 't2i' else 'image to text'})")
    top = min(100.0, max(10.0, panels[0].get_ylim()[1]))
    panels[0].set_yticks([tick for tick in panels[0].get_yticks() if 0 <= tick <= top])
    panels[0].set_ylim(0, top * 1.14)  # room for the numbers above the bars
    panels[-1].set_xticks(range(len(languages)), languages, fontsize=13 if len(languages) <= 18 else 10)
    panels[-1].set_xlim(-0.6, len(languages) - 0.4)
    _head(figure, title or f"Recall at {k} on {records[0].dataset}", panels[0], len(methods))
    return figure


def rank_histogram(ranks: Mapping[str, RetrievalRanks], *, title: str = "") -> Figure:
    """Where the right answer stands, in bins that double, both directions.

    Args:
        ranks: Ranks by method, on the same questions.
        title: First line.

    Raises:
        EvaluationError: If there are no ranks.
        MissingExtraError: If there is no matplotlib.
    """
    if not ranks:
        raise EvaluationError("A histogram needs the ranks of at least one model.")
    figure = new_figure(5.8)
    panels = figure.subplots(1, 2, sharey=True)
    width = 0.86 / len(ranks)
    for panel, (way, words) in zip(panels, WAYS.items(), strict=True):
        worst = max(int(getattr(one, way).max()) for one in ranks.values())
        edges = 2 ** np.arange(worst.bit_length() + 1)  # 1, 2, 4, ...
        for number, (label, one) in enumerate(ranks.items()):
            places = getattr(one, way).numpy()
            shares = 100 * np.histogram(places, bins=edges)[0] / len(places)
            at = np.arange(len(shares)) + (number - (len(ranks) - 1) / 2) * width
            panel.bar(at, shares, width * 0.94, color=COLOURS[number % len(COLOURS)], label=label, zorder=2)
        names = ["1", *(f"{low}–{2 * low - 1}" for low in edges[1:-1])]
        panel.set_xticks(range(len(names)), names)
        if len(names) > 7:
            panel.tick_params(axis="x", rotation=35)
            for name in panel.get_xticklabels():
                name.set(ha="right", rotation_mode="anchor")
        panel.set_xlabel("rank of the right answer", fontsize=12, color=INK)
        _tidy(panel, "share of queries (%)" if way == "t2i" else "", words)
    _head(figure, title or "Ranks of the right answers", panels[0], len(ranks), foot=1.15)
    return figure


def _methods(records: Sequence[Record]) -> list[str]:
    """Labels, bases first: grey is theirs."""
    found = dict.fromkeys(record.label for record in records if record.label.endswith("(base)"))
    return [*found, *(label for label in dict.fromkeys(record.label for record in records) if label not in found)]


def _value(record: Record, key: str) -> tuple[float, float, float]:
    """A score with the ends of its interval, or itself twice."""
    scores = record.scores()
    if key not in scores:
        raise EvaluationError(f"'{record.path.name}' has no {key}.")
    low, high = record.own.get("intervals", {}).get(key, (scores[key], scores[key]))
    return scores[key], low, high


def _tidy(panel: Any, y_name: str, heading: str) -> None:
    panel.set_title(heading, loc="left", fontsize=13, color=INK, pad=6)
    panel.set_ylabel(y_name, fontsize=12, color=INK)
    panel.tick_params(colors=INK, length=0, labelsize=11)
    panel.grid(axis="y", color=RULE, zorder=0)
    panel.set_axisbelow(True)
    for side in ("top", "right", "left"):
        panel.spines[side].set_visible(False)
    panel.spines["bottom"].set_color(QUIET)


def _head(figure: Figure, title: str, panel: Any, entries: int, *, foot: float = 0.5) -> None:
    """Title, legend below it, and the panels below that."""
    height = figure.get_figheight()
    figure.text(0.03, 1 - 0.36 / height, title, fontsize=17, fontweight="bold", color=INK, va="center")
    handles, labels = panel.get_legend_handles_labels()
    columns = min(entries, 4)
    rows = -(-entries // columns)
    figure.legend(
        handles,
        labels,
        loc="upper left",
        bbox_to_anchor=(0.022, 1 - 0.56 / height),
        ncols=columns,
        frameon=False,
        fontsize=12,
        labelcolor=INK,
        handlelength=1.2,
        columnspacing=1.8,
    )
    top = 1 - (1.15 + 0.28 * rows) / height
    figure.subplots_adjust(left=0.07, right=0.98, top=top, bottom=foot / height, hspace=0.36, wspace=0.07)
