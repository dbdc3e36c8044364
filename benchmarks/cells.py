"""One cell of the table of all methods: its pairs, its training in a process of its own, and its scores by picture."""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from datasets import load_from_disk

from ccr_adapters.cli.build import build_model
from ccr_adapters.cli.scoring import gallery_of, visual_vectors
from ccr_adapters.cli.train import run_recipe
from ccr_adapters.data import build_tiny_world
from ccr_adapters.data.corpus import Corpus
from ccr_adapters.data.retrieval_set import RetrievalSet
from ccr_adapters.errors import DataError
from ccr_adapters.evaluation import evaluate_retrieval, write_metrics
from ccr_adapters.modeling import CCRModel
from contenders import name_of, recipe_of
from multi30k import load


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
    varied = [name for name in found.test if name.startswith("varied")]
    left_out = set(varied[cell.get("varied", len(varied)) :])  # a quick run scores some
    return replace(found, rows=rows, test={name: asked for name, asked in found.test.items() if name not in left_out})


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
        command = [
            sys.executable,
            str(Path(__file__).with_name("methods.py")),
            "--cell",
            json.dumps(cell),
            "--output",
            str(args.output),
        ]
        command += ["--data", str(args.data)] if args.data else []
        command += ["--base", args.base] if args.base else []
        command += ["--threads", str(args.threads)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise DataError(f"The cell {name_of(cell)} failed:\n{done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads((folder / "cell.json").read_text(encoding="utf-8"))
    other = [key for key in ("pairs", "epochs") if key in found and found[key] != cell[key]]
    if other:
        raise DataError(
            f"'{folder}' was trained with other {' and '.join(other)}, as `--quick` does. Choose another --output, or remove it."
        )
    return {**found, "arrays": dict(np.load(folder / "cell.npz"))}
