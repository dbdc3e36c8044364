"""The suite's picture: bars of ratios, one panel a section, against the line of its reference."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ccr_adapters.evaluation.plots import COLOURS, INK, QUIET, RULE, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# white behind, where the line of the reference passes
NUMBER: dict[str, Any] = {"fontsize": 8, "color": INK, "bbox": {"facecolor": "white", "edgecolor": "none", "pad": 0.8}}


def ratio_bars(figures: list[dict[str, Any]], note: str) -> Figure:
    """Bars for each row and size; the reference of a section is 1.

    Args:
        figures: With `section`, `size`, `row` and `ratio`.
        note: A line below.
    """
    sections = list(dict.fromkeys(found["section"] for found in figures))
    sizes = list(dict.fromkeys(found["size"] for found in figures))
    rows = {name: list(dict.fromkeys(f["row"] for f in figures if f["section"] == name)) for name in sections}
    bars = [len(rows[name]) * len(sizes) for name in sections]
    figure = new_figure(1.2 + sum(0.22 * count + 0.75 for count in bars))
    panels = np.atleast_1d(figure.subplots(len(sections), 1, height_ratios=[count + 2 for count in bars]))
    thick = 0.8 / len(sizes)
    for panel, section in zip(panels, sections, strict=True):
        for number, size in enumerate(sizes):
            by = {f["row"]: f["ratio"] for f in figures if f["section"] == section and f["size"] == size}
            places = [rows[section].index(row) + (number - (len(sizes) - 1) / 2) * thick for row in by]
            panel.barh(places, list(by.values()), thick, color=COLOURS[1 + number], label=size)
            for place, value in zip(places, by.values(), strict=True):
                panel.annotate(
                    f"{value:.2f}x", (value, place), (3, 0), textcoords="offset points", va="center", **NUMBER
                )
        panel.axvline(1, color=QUIET, linewidth=1)
        panel.set_yticks(range(len(rows[section])), rows[section], fontsize=9, color=INK)
        panel.invert_yaxis()
        panel.set_title(section, loc="left", fontsize=11, color=INK)
        panel.grid(axis="x", color=RULE)
        panel.set_axisbelow(True)
        panel.margins(x=0.08)
        panel.spines[["top", "right", "left"]].set_visible(False)
        panel.tick_params(colors=QUIET, length=0, labelcolor=INK)
    if len(sizes) > 1:
        panels[0].legend(frameon=False, fontsize=9)
    figure.supxlabel(f"Times the reference of each section; less is better. {note}", fontsize=8, color=QUIET)
    figure.tight_layout()
    return figure
