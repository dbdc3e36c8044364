"""A whole corpus encoded once by each way: the naive loop, the authors' schedule, and the library with and without DASD.

    python benchmarks/corpus.py --captions captions.txt                    # all of them: half an hour for 29,000 on two cores
    python benchmarks/corpus.py --captions captions.txt --count 5000
    python benchmarks/corpus.py --captions captions.txt --device cuda --bf16
    python benchmarks/corpus.py --captions captions.txt --threads 2 --write docs/performance.md

The captions are parted into as many shares as there are rounds. In each round every way encodes that round's share, in turns, so
that a slow minute meets them all and no way encodes a caption twice. `suite.py` has more rows, each round on the same captions.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from ccr_adapters.modeling import CCRModel
from ccr_adapters.processing.vocabulary import train_tokenizer
from measure import against, alternating, counted, machine, machine_line, precise
from sections import BATCH, NAIVE, naive_loop
from speed import captions_of
from towers import BARE, DYNAMIC, FULL_GENERATOR, LANGUAGE, LONGEST, SIZES, model_of
from writing import add_outputs, tell, verdict


def shares_of(captions: list[str], rounds: int) -> list[list[str]]:
    """As many shares as rounds, in the captions' order, as even as they can be."""
    bounds = [number * len(captions) // rounds for number in range(rounds + 1)]
    return [captions[start:end] for start, end in itertools.pairwise(bounds)]


def ways_of(size: str, tokenizer: Any, device: str) -> dict[str, Callable[[list[str]], torch.Tensor]]:
    """What is compared: each way from captions to vectors, tokenising included."""
    models: dict[str, CCRModel] = {
        row: model_of(row, SIZES[size], tokenizer, device) for row in (BARE, DYNAMIC, FULL_GENERATOR)
    }
    return {
        NAIVE: lambda share: naive_loop(models[BARE], share),
        BARE: lambda share: models[BARE].encode_text(share, show_progress=False),
        DYNAMIC: lambda share: models[DYNAMIC].encode_text(share, LANGUAGE, show_progress=False),
        FULL_GENERATOR: lambda share: naive_loop(models[FULL_GENERATOR], share, schedule=True),
    }


def main(argv: list[str] | None = None) -> int:
    """Measure, print, and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--captions", type=Path, help="text file with one caption a line (.gz too); default: the tiny world's"
    )
    parser.add_argument("--count", type=int, help="only so many of them")
    parser.add_argument("--size", choices=SIZES, default="vit-b-32", help="of the text tower")
    parser.add_argument("--rounds", type=int, default=5, help="alternating rounds, and shares")
    parser.add_argument("--threads", type=int, default=0, help="torch threads; 0: as torch chooses")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--bf16", action="store_true", help="compute in bfloat16")
    add_outputs(parser, "corpus")
    args = parser.parse_args(argv)
    if args.threads:
        torch.set_num_threads(args.threads)
    everything = captions_of(args.captions)
    tokenizer = train_tokenizer(everything, size=8000, max_length=LONGEST)
    shares = shares_of(everything[: args.count], args.rounds)
    rows: dict[str, Callable[[], torch.Tensor]] = {}
    for name, way in ways_of(args.size, tokenizer, args.device).items():
        # one batch to warm up with, and then a share a round
        ahead = iter([shares[0][:BATCH], *shares])
        rows[name] = precise(lambda way=way, ahead=ahead: way(next(ahead)), args.device, args.bf16)  # type: ignore[misc]
    seconds = alternating(rows, args.rounds, args.device)
    count = sum(map(len, shares))
    ratios = against(seconds, NAIVE)
    table = [
        {
            "way": name,
            "seconds": f"{sum(own):.0f}",
            "captions a second": f"{count / sum(own):.0f}",
            "time": f"{ratios[name]:.2f}x",
            "time by round": " ".join(f"{one / other:.2f}" for one, other in zip(own, seconds[NAIVE], strict=True)),
        }
        for name, own in seconds.items()
    ]
    reached = [
        verdict(f"{slow} / {DYNAMIC}", against(seconds, DYNAMIC)[slow], "at least", target, ".2f")
        for slow, target in ((NAIVE, 1.5), (FULL_GENERATOR, 5.0))
    ]
    facts = machine(args.device)
    lengths = [
        len(ids) for ids in tokenizer(everything[: args.count], truncation=True, max_length=LONGEST)["input_ids"]
    ]
    note = machine_line(
        facts,
        f"{count:,} captions of {statistics.mean(lengths):.1f} tokens, {args.size} sizes{' in bf16' if args.bf16 else ''}, "
        f"each caption once, medians of {counted(args.rounds, 'round')}",
    )
    tell(
        args,
        "corpus",
        [table, reached],
        note,
        {"machine": facts, "captions": count, "seconds": seconds, "ratios": ratios},
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
