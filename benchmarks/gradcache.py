"""A batch of thousands in the memory of hundreds: GradCache against a batch that is encoded at once.

    python benchmarks/gradcache.py                      # 4,096 rows, 256 at a time, against 256 rows
    python benchmarks/gradcache.py --threads 2 --write docs/performance.md
    python benchmarks/gradcache.py --batch 512 --chunk 64 --size tiny

Each row is a process of its own, which takes steps of DASD with cached vectors on a text tower of ViT-B/32 sizes and short
captions, and says the most memory that model and steps took, and the seconds a sample, the median over the steps. The targets: the
memory of one chunk alone plus 20%, and 1.5 times its time a sample. Both take captions of like length together, and of a
larger batch more are alike; captions that all have the commonest length tell what encoding twice costs alone.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
from tqdm import tqdm

from ccr_adapters.processing.captions import token_ids
from ccr_adapters.processing.vocabulary import train_tokenizer
from measure import Peak, counted, exact_memory, machine, machine_line, precise, wait_for
from sections import Setting, step_of
from speed import captions_of
from towers import DYNAMIC, LONGEST, SIZES
from writing import add_outputs, tell, verdict

TARGETS = {"MB": 1.2, "seconds a sample": 1.5}
EVEN = "of one length"
KINDS = ("as they come", EVEN)


def one(args: argparse.Namespace) -> dict[str, float]:
    """Steps of one kind in this process."""
    captions = captions_of(args.captions)
    tokenizer = train_tokenizer(captions, size=8000, max_length=LONGEST)
    if args.even:
        lengths = [len(ids) for ids in token_ids(captions, tokenizer, LONGEST)]
        commonest = statistics.mode(lengths)
        captions = [caption for caption, length in zip(captions, lengths, strict=True) if length == commonest]
    setting = Setting(SIZES[args.size], tokenizer, captions, 1, args.batch, 0, 0, args.device, args.bf16)
    peak = Peak(args.device)
    model = setting.model(DYNAMIC)
    once = precise(step_of(setting, DYNAMIC, model=model, by_length=True), args.device, args.bf16)
    seconds = []
    with model.in_chunks(args.chunk):
        once()  # the optimiser makes its states
        for _ in tqdm(range(args.rounds), unit="step", leave=False, disable=None):
            wait_for(args.device)
            start = time.perf_counter()
            once()
            wait_for(args.device)
            seconds.append(time.perf_counter() - start)
    return {"MB": peak.megabytes(), "seconds a sample": statistics.median(seconds) / args.batch}


def measured(args: argparse.Namespace, batch: int, even: bool) -> dict[str, float]:
    """The same in a process of its own; `even`: captions of one length alone."""
    command = [
        sys.executable,
        __file__,
        "--one",
        "--batch",
        str(batch),
        "--chunk",
        str(args.chunk),
        "--size",
        args.size,
    ]
    command += ["--rounds", str(args.rounds), "--device", args.device, "--threads", str(args.threads)]
    command += ["--bf16"] if args.bf16 else []
    command += ["--even"] if even else []
    command += ["--captions", str(args.captions)] if args.captions else []
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=exact_memory())
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def parsed(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=4096, help="rows whose gradients are wanted")
    parser.add_argument(
        "--chunk", type=int, default=256, help="rows encoded at a time, and of the batch to compare with"
    )
    parser.add_argument("--captions", type=Path, help="text file, one a line (.gz too); default: the tiny world's")
    parser.add_argument("--size", choices=SIZES, default="vit-b-32")
    parser.add_argument("--rounds", type=int, default=5, help="steps")
    parser.add_argument("--threads", type=int, default=0, help="torch threads; 0: as torch chooses")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--bf16", action="store_true", help="compute in bfloat16")
    parser.add_argument("--one", action="store_true", help="measure only this batch, in this process, and print JSON")
    parser.add_argument("--even", action="store_true", help="with --one: only captions of the commonest length")
    add_outputs(parser, "gradcache")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Measure both, and print."""
    args = parsed(argv)
    if args.threads:
        torch.set_num_threads(args.threads)
    if args.one:
        print(json.dumps(one(args)))
        return 0
    planned = [(kind, batch) for kind in KINDS for batch in (args.chunk, args.batch)]
    found = {
        (kind, batch): measured(args, batch, even=kind == EVEN)
        for kind, batch in tqdm(planned, unit="process", leave=False, disable=None)
    }
    rows = [
        {
            "captions": kind,
            "rows": str(batch),
            "at a time": "all" if batch == args.chunk else str(args.chunk),
            **_shown(own),
        }
        for (kind, batch), own in found.items()
    ]
    ratios = {
        kind: {name: found[kind, args.batch][name] / found[kind, args.chunk][name] for name in TARGETS}
        for kind in KINDS
    }
    reached = [
        verdict(f"{name}, times, {kind}", ratios[kind][name], "at most", target, ".2f")
        for kind in KINDS
        for name, target in TARGETS.items()
    ]
    facts = machine(args.device)
    precise = " in bf16" if args.bf16 else ""
    note = machine_line(facts, f"text tower of {args.size} sizes{precise}, medians of {counted(args.rounds, 'step')}")
    figures = {"machine": facts, "batch": args.batch, "chunk": args.chunk, "rows": rows, "ratios": ratios}
    tell(args, "gradcache", [rows, reached], note, figures)
    return 0


def _shown(found: dict[str, float]) -> dict[str, str]:
    return {name: f"{value:.3g}" for name, value in found.items()}


if __name__ == "__main__":
    sys.exit(main())
