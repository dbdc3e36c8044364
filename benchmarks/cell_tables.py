"""Tables of cells: a row a method, the recommended one against each other over languages, and what noise costs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from contenders import CONTENDERS, title_of, training_of
from multi30k import interval, shown

COLOURS = (*(f"C{number}" for number in range(10)), "black", "navy")
NOTE = (
    "Sum of recalls (R@1, 5, 10, both directions, of 600) with its 95% bootstrap interval over pictures, mean over seeds. "
    "Multi30K: stand-in image vectors; 1,000 test captions translated from English, and (German) 5 x 1,014 varied captions "
    "that translate nothing. No method sees a machine translation at test time. Trained weights in millions, without the "
    "vocabulary's; seconds a step of 128 pairs on this machine; peak memory of the whole process."
)


def grouped(cells: list[dict[str, Any]], key: Callable[[dict[str, Any]], Any]) -> dict[Any, list[dict[str, Any]]]:
    """Cells by a key, in order."""
    found: dict[Any, list[dict[str, Any]]] = {}
    for cell in cells:
        found.setdefault(key(cell), []).append(cell)
    return found


def mean_of(cells: Iterable[dict[str, Any]], key: str) -> np.ndarray:
    """Mean over seeds, picture by picture. (M,)"""
    return np.mean([cell["arrays"][key] for cell in cells], axis=0)


def table(cells: list[dict[str, Any]]) -> list[dict[str, str]]:
    """One row a method and training."""
    rows = []
    for (training, method), own in grouped(cells, lambda cell: (training_of(cell), cell["method"])).items():
        if method == "base":
            english = mean_of(own, "english test")
            rows.append({"training": training, "method": "English captions (the ceiling)", "test": shown(english)})
        first = own[0]
        row = {"training": training, "method": title_of(method), "test": shown(mean_of(own, "test"))}
        if "varied" in first["arrays"]:
            row["varied"] = shown(mean_of(own, "varied"))
        if first["seconds_a_step"]:
            row["trained"] = f"{first['parameters'] / 1e6:.2f} M"
            # the quickest: what else the machine did only ever adds
            row["s a step"] = f"{min(cell['seconds_a_step'] for cell in own):.2f}"
            row["GB"] = f"{median(cell['peak_bytes'] for cell in own) / 1e9:.1f}"
            row["MB on disk"] = f"{first['bytes'] / 1e6:.1f}"
            row["seeds"] = str(len(own))
        rows.append(row)
    return rows


def difference(pairs: Iterable[Sequence[np.ndarray]]) -> str:
    """Mean difference of pairs, one a language, with its interval: all show the same pictures, drawn for all at once."""
    values = np.mean([one - other for one, other in pairs], axis=0)  # (M,)
    low, high = interval(values)
    verdict = "above" if low > 0 else "below" if high < 0 else "tie"
    return f"{values.mean():+.1f} [{low:+.1f}, {high:+.1f}] {verdict}"


def over_languages(cells: list[dict[str, Any]], reference: str) -> list[dict[str, str]]:
    """Mean over languages, a row a world, pairs and method: its score, and how far the reference is from it.

    Compared are, in each language, the seeds that both have.
    """
    rows = []
    trained = [cell for cell in cells if cell["method"] in CONTENDERS]
    for world, block in grouped(trained, lambda cell: training_of({**cell, "language": ""})).items():
        by: dict[tuple[str, str], dict[int, dict[str, Any]]] = {}
        for cell in block:
            by.setdefault((cell["method"], cell["language"]), {})[cell["seed"]] = cell
        for method in dict.fromkeys(name for name, _ in by):
            row = {"training": world.lstrip(", "), "method": title_of(method)}
            compared = set()
            for kind in ("test", "varied"):
                spoken = {each[1]: own for each, own in by.items() if each[0] == method and kind in _arrays(own)}
                if not spoken:
                    continue
                row[f"{kind}, mean"] = f"{np.mean([mean_of(own.values(), kind).mean() for own in spoken.values()]):.1f}"
                row[f"{kind} in"] = " ".join(spoken)
                sides = [(by.get((reference, language), {}), own) for language, own in spoken.items()]
                seeds = [ours.keys() & theirs.keys() for ours, theirs in sides]
                if method != reference and all(seeds):
                    means = [
                        [mean_of([side[seed] for seed in shared], kind) for side in both]
                        for both, shared in zip(sides, seeds, strict=True)
                    ]
                    row[f"{reference} against it, {kind}"] = difference(means)
                    compared.update(map(len, seeds))
            row["seeds compared"] = str(min(compared, default=""))
            rows.append(row)
    return rows


def _arrays(own: dict[int, dict[str, Any]]) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = next(iter(own.values()))["arrays"]
    return found


def at_several_rates(cells: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Cells of methods that were trained at more than one rate of noise."""
    trained = [cell for cell in cells if cell["method"] in CONTENDERS]
    rates = grouped(trained, lambda cell: (training_of({**cell, "noise": 0}), cell["method"]))
    several = [own for own in rates.values() if len({cell["noise"] for cell in own}) > 1]
    return [cell for own in several for cell in own]


def noise_table(cells: list[dict[str, Any]]) -> list[dict[str, str]]:
    """How much of its own score without noise each method keeps, by rate; lost is what the same seeds lost."""
    rows = []
    several = at_several_rates(cells)
    most = max((cell["noise"] for cell in several), default=0.0)
    for (training, method), own in grouped(
        several, lambda cell: (training_of({**cell, "noise": 0}), cell["method"])
    ).items():
        row = {"training": training, "method": title_of(method)}
        rates = {rate: {cell["seed"]: cell for cell in found} for rate, found in grouped(own, _noise).items()}
        first, *others = sorted(rates)
        row[f"{first:.0%}"] = f"{mean_of(rates[first].values(), 'test').mean():.1f}"
        for rate in others:
            value = mean_of(rates[rate].values(), "test").mean()
            row[f"{rate:.0%}"] = f"{value:.1f}"
            seeds = rates[rate].keys() & rates[first].keys()
            if seeds:
                kept, whole = (mean_of([rates[at][seed] for seed in seeds], "test") for at in (rate, first))
                row[f"{rate:.0%}"] += f" ({(kept - whole).mean():+.1f})"
                if rate == most:
                    row[f"lost at {rate:.0%}"] = shown(whole - kept)
        counts = [str(len(rates[rate])) for rate in sorted(rates)]
        row["seeds"] = counts[0] if len(set(counts)) == 1 else ", ".join(counts)
        rows.append(row)
    return rows


def _noise(cell: dict[str, Any]) -> float:
    return float(cell["noise"])


def noise_plot(cells: list[dict[str, Any]], path: Path) -> None:
    """Sum of recalls by noise rate, a line a method, a panel a training."""
    from matplotlib.figure import Figure

    blocks = grouped(at_several_rates(cells), lambda cell: training_of({**cell, "noise": 0}))
    figure = Figure(figsize=(max(6.4, 5.2 * len(blocks)), 5.2), layout="constrained")
    lines: dict[str, Any] = {}
    methods = list(dict.fromkeys(cell["method"] for own in blocks.values() for cell in own))
    for index, (training, own) in enumerate(blocks.items()):
        axes = figure.add_subplot(1, len(blocks), index + 1)
        for method, found in grouped(own, lambda cell: cell["method"]).items():
            rates = grouped(found, lambda cell: cell["noise"])
            values = [mean_of(rates[rate], "test").mean() for rate in sorted(rates)]
            number = methods.index(method)
            style = {"marker": "osD^vPX*"[number % 8], "color": COLOURS[number % len(COLOURS)]}
            lines[title_of(method)] = axes.plot([100 * rate for rate in sorted(rates)], values, **style)[0]
        axes.set(title=training, xlabel="words gone wrong in the training translations, %", ylabel="sum of recalls")
        axes.grid(alpha=0.3)
    # below: many lines lie close together, and none may be hidden
    figure.legend(lines.values(), lines.keys(), loc="outside lower center", ncols=2, fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
