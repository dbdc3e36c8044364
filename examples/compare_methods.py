"""Compare methods on the same data in the same order: a table, a plot, and whether the best is better than by chance.

python examples/compare_methods.py
python examples/compare_methods.py --methods transfer dasd lora --language cs

A few steps on the tiny world, to show how a comparison is made. `python benchmarks/methods.py` is the one to believe.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from pathlib import Path

from ccr_adapters import load_recipe, run_recipe
from ccr_adapters.errors import CCRError
from ccr_adapters.evaluation import (
    RetrievalMetrics,
    console_table,
    paired_bootstrap,
    protocol_line,
    recall_bars,
    save_figure,
    write_record,
)

CONFIGS = Path(__file__).parent / "configs"
METHODS = ["transfer", "mla", "lora"]
# the same number of steps in each stage of each method
SMALL = ["data.train=1024", "data.validation=20", "data.test=300", "arguments.load_best_model_at_end=false"]
SMALL += [f"arguments.{name}_strategy='no'" for name in ("eval", "save", "logging")]
QUICK = ["data.train=64", "data.test=40", "arguments.per_device_train_batch_size=32", "arguments.max_steps=1"]


def main(argv: list[str] | None = None) -> int:
    """Train each, score each, compare."""
    known = sorted(path.stem.removeprefix("tiny_").removesuffix("_de") for path in CONFIGS.glob("tiny_*_de.yaml"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", default=METHODS, choices=known, metavar="NAME", help=", ".join(known))
    parser.add_argument("--language", default="de", help="language of the tiny world: de, fr, cs, zh, sw")
    parser.add_argument("--output", type=Path, default=Path("runs/compare_methods"), help="folder for everything")
    parser.add_argument("--quick", action="store_true", help="one step each: does it run?")
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    logging.getLogger("ccr_adapters.processing.captions").setLevel(logging.ERROR)
    code, found, rows = args.language, {}, []

    for method in dict.fromkeys(args.methods):
        print(f"{method} ...", flush=True)
        started = time.perf_counter()
        # pictures and English captions are encoded once for all of them
        changes = [
            f"language={code}",
            f"output_dir={args.output / code / method}",
            f"cache_dir={args.output / 'targets'}",
        ]
        recipe = load_recipe(CONFIGS / f"tiny_{method}_de.yaml", [*changes, *SMALL, *(QUICK if args.quick else [])])
        outcome = run_recipe(recipe)
        found[method] = outcome.metrics[f"test/{code}"]
        found.setdefault("base", outcome.metrics[f"test/{code} before"])
        megabytes = sum(file.stat().st_size for file in outcome.adapter.rglob("adapter_model.safetensors")) / 1e6
        rows.append(row_of(method, found[method]) | {"MB": megabytes, "seconds": round(time.perf_counter() - started)})

    print("\n" + console_table([row_of("base alone", found["base"]), *rows]))
    print(protocol_line(found["base"].images, found["base"].captions))
    best, *others = sorted(rows, key=lambda row: row["sum of recalls"], reverse=True)
    for other in others:
        compared = paired_bootstrap(found[best["method"]].ranks, found[other["method"]].ranks)
        low, high = compared.ci95
        verdict = "better" if compared.significant else "a tie"
        print(
            f"{best['method']} against {other['method']}: {compared.difference:+.1f} [{low:+.1f}, {high:+.1f}], {verdict}"
        )

    names = {"dataset": "tiny-world", "model": "tiny CLIP", "task": "retrieval", "language": code}
    results = args.output / code / "results"
    records = [
        write_record(results / f"{name}.json", {**names, "pretrained": name}, metrics, {})
        for name, metrics in found.items()
    ]
    plot = save_figure(recall_bars(records, title="Recall at 1 on the tiny world"), args.output / code / "recall.png")
    print(f"\nPlot:    {plot}\nResults: {results}  (`ccr-adapters report {results}` reads them)")
    return 0


def row_of(name: str, metrics: RetrievalMetrics) -> dict[str, object]:
    """One line of the table."""
    scores = metrics.to_dict()
    keys = {"t2i R@1": "t2i_r@1", "i2t R@1": "i2t_r@1", "sum of recalls": "sumR", "95%": "sumR_ci95"}
    return {"method": name, **{heading: scores[key] for heading, key in keys.items()}}


if __name__ == "__main__":
    try:
        sys.exit(main())
    except CCRError as error:
        sys.exit(f"error: {error}")
