"""What an evaluation costs: 5,000 images and 25,000 captions, both directions, against a full sort for every query.

    python benchmarks/evaluation.py                       # 5,000 x 25,000, 512-d
    python benchmarks/evaluation.py --threads 2 --sample 400 --write docs/evaluation.md

`evaluate_retrieval` gives recalls, median and mean rank and mean average precision of both directions; without intervals here,
which the loops do not have either. The loops are what the NRCCR authors publish, written anew from what they do: for every
query they sort the whole gallery and look up where each right answer stands, and for mAP they sort it again, put a list of
labels into that order and walk along it. They run on a sample of the queries of each direction; their seconds are scaled to all.
Scores of all pairs are one matrix product, which is counted for both.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from tqdm import tqdm

from ccr_adapters.evaluation import evaluate_retrieval
from measure import machine, machine_line
from writing import add_outputs, tell, verdict

TARGETS = {"times": 10.0, "gigabytes": 2.0}


def made(images: int, captions: int, width: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images, captions that lie near theirs, and which image each caption is of. (M, d), (M * captions, d), (M * captions,)"""
    draw = np.random.default_rng(seed)
    visual = draw.normal(size=(images, width)).astype(np.float32)
    answers = np.repeat(np.arange(images), captions)
    text = visual[answers] + 6 * draw.normal(size=(len(answers), width)).astype(np.float32)
    return (
        visual / np.linalg.norm(visual, axis=1, keepdims=True),
        text / np.linalg.norm(text, axis=1, keepdims=True),
        answers,
    )


def asked(scores: np.ndarray, answers: Sequence[Sequence[int]]) -> Iterator[tuple[np.ndarray, Sequence[int]]]:
    """Each query's scores and right answers, behind a bar."""
    yield from tqdm(zip(scores, answers, strict=True), total=len(scores), unit="query", leave=False, disable=None)


def first_places(scores: np.ndarray, answers: Sequence[Sequence[int]]) -> list[int]:
    """Place of the best right answer of each query, by sorting the gallery and looking each answer up."""
    places = []
    for row, right in asked(scores, answers):
        order = np.argsort(-row)
        best = len(row) + 1
        for one in right:
            best = min(best, int(np.where(order == one)[0][0]) + 1)
        places.append(best)
    return places


def mean_precision(scores: np.ndarray, answers: Sequence[Sequence[int]]) -> float:
    """Mean average precision, by a list of labels that is put into the order of the scores."""
    precisions = []
    for row, right in asked(scores, answers):
        labels = [0] * len(row)
        for one in right:
            labels[one] = 1
        ordered = [labels[index] for index in np.argsort(-row)]
        hits, total = 0, 0.0
        for place, label in enumerate(ordered, 1):
            if label:
                hits += 1
                total += hits / place
        precisions.append(total / hits)
    return float(np.mean(precisions))


def by_loops(scores: np.ndarray, answers: Sequence[Sequence[int]]) -> dict[str, float]:
    """All metrics of one direction as the loops give them. (Q, G)"""
    places = np.asarray(first_places(scores, answers))
    return {
        **{f"r@{k}": 100 * float((places <= k).mean()) for k in (1, 5, 10)},
        "medr": float(np.median(places)),
        "meanr": float(places.mean()),
        "map": 100 * mean_precision(scores, answers),
    }


def right_answers(answers: np.ndarray, images: int) -> dict[str, list[list[int]]]:
    """Rows of the gallery that are right, for each query of each direction."""
    captions: list[list[int]] = [[] for _ in range(images)]
    for caption, image in enumerate(answers.tolist()):
        captions[image].append(caption)
    return {"t2i": [[image] for image in answers.tolist()], "i2t": captions}


def loop_seconds(visual: np.ndarray, text: np.ndarray, answers: np.ndarray, sample: int) -> dict[str, float]:
    """Seconds of the loops for all queries, from a sample of each direction."""
    right = right_answers(answers, len(visual))
    found = {}
    for way, queries, gallery in (("t2i", text, visual), ("i2t", visual, text)):
        chosen = np.random.default_rng(1).permutation(len(queries))[:sample]
        start = time.perf_counter()
        scores = queries[chosen] @ gallery.T
        by_loops(scores, [right[way][row] for row in chosen])
        found[way] = (time.perf_counter() - start) * len(queries) / len(chosen)
    return found


def peak_gigabytes() -> float:
    """Most memory of this process so far, libraries included."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024**3 if sys.platform == "darwin" else 1024**2)


def parsed(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--captions", type=int, default=5, help="captions of an image")
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--sample", type=int, default=200, help="queries of each direction for the loops")
    parser.add_argument("--rounds", type=int, default=3, help="the quickest round of ours counts")
    parser.add_argument("--threads", type=int, default=0, help="torch threads; 0: as torch chooses")
    add_outputs(parser, "evaluation")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Measure and print."""
    args = parsed(argv)
    if args.threads:
        torch.set_num_threads(args.threads)
    visual, text, answers = made(args.images, args.captions, args.width)
    ours = float("inf")
    for _ in tqdm(range(args.rounds), unit="round", leave=False, disable=None):
        start = time.perf_counter()
        evaluate_retrieval(text, visual, answers, bootstrap=0)
        ours = min(ours, time.perf_counter() - start)
    memory = peak_gigabytes()  # before the loops, which hold more
    loops = loop_seconds(visual, text, answers, args.sample)
    total = sum(loops.values())
    rows = [
        {"what": "evaluate_retrieval", "seconds": f"{ours:.3g}", "times": "1x"},
        {"what": "a full sort for every query", "seconds": f"{total:.3g}", "times": f"{total / ours:.3g}x"},
    ]
    reached = [
        verdict("times quicker than the loops", total / ours, "at least", TARGETS["times"]),
        verdict("peak memory of the process, GB", memory, "at most", TARGETS["gigabytes"], ".2f"),
    ]
    facts, sampled = machine(), min(args.sample, len(visual))
    note = machine_line(
        facts,
        f"{len(visual):,} images x {len(text):,} captions of width {args.width}; the loops ran on {sampled:,} queries of "
        "each direction and are scaled",
    )
    figures = {
        "machine": facts,
        "images": len(visual),
        "captions": len(text),
        "width": args.width,
        "seconds": ours,
        "loops": loops,
        "sample": sampled,
        "gigabytes": memory,
    }
    tell(args, "evaluation", [rows, reached], note, figures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
