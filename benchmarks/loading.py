"""What it costs to have many languages: to load, to switch, to mix them in a batch, in memory, and to download.

    python benchmarks/loading.py                              # 5 alternating rounds
    python benchmarks/loading.py --rounds 3 --threads 1 --json loading.json

The base is a CLIP of ViT-B/32 sizes with random weights, written to a temporary folder (600 MB): speed and size do not
depend on their values. Each language has a vocabulary of its own, trained on made-up words, so that it is as large as those
of real captions are. Rounds alternate between the rows, after a warm-up; the figures are medians. Files are in the system's
cache, as where the base was used before.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModel, AutoTokenizer, CLIPConfig, CLIPModel
from transformers.models.clip import CLIPImageProcessorPil

from ccr_adapters.dasd import DASDConfig
from ccr_adapters.evaluation import console_table, write_metrics
from ccr_adapters.hub import adapter_info
from ccr_adapters.modeling import CCRModel
from ccr_adapters.processing.vocabulary import train_tokenizer

TARGETS = {
    "load, adapter / base": 1.3,
    "set_language, ms": 1.0,
    "64 captions, 8 languages / 1": 1.25,
    "50th language, bytes / its own": 1.05,
    "download in MB": 12.0,
}
MANY = [f"l{number:02}" for number in range(50)]
# a language's tokens, as many as the recipes train at most
VOCABULARY = 8000


def alternating(rows: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Median seconds of each row, measured in turns."""
    seconds: dict[str, list[float]] = {name: [] for name in rows}
    for turn in range(rounds + 1):
        for name, run in rows.items():
            start = time.perf_counter()
            kept = run()
            if turn:  # the first one warms up
                seconds[name].append(time.perf_counter() - start)
            del kept
    return {name: statistics.median(values) for name, values in seconds.items()}


def made_up(seed: int, words: int = 12_000, captions: int = 5_000) -> list[str]:
    """Captions of words that there are not, some of them much more frequent than others."""
    rng = random.Random(seed)
    syllables = [first + vowel + last for first in "bdfgklmnprst" for vowel in "aeiou" for last in ("", "n", "r", "s")]
    lexicon = ["".join(rng.choices(syllables, k=rng.randint(1, 4))) for _ in range(words)]
    weights = [1 / (rank + 10) for rank in range(words)]
    return [" ".join(rng.choices(lexicon, weights, k=rng.randint(6, 14))) for _ in range(captions)]


def write_base(folder: Path, captions: list[str]) -> None:
    """A CLIP of ViT-B/32 sizes with random weights, and what is needed to load it."""
    torch.manual_seed(0)
    tokenizer = train_tokenizer(captions, size=VOCABULARY)
    text = {name: getattr(tokenizer, name) for name in ("pad_token_id", "bos_token_id", "eos_token_id")}
    CLIPModel(CLIPConfig(text_config=text)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    CLIPImageProcessorPil().save_pretrained(folder)


def write_languages(base: Path, folder: Path, captions: list[str]) -> None:
    """An adapter repository of fifty languages, whose files are those of one."""
    tokenizer = train_tokenizer(captions, size=VOCABULARY)
    model = CCRModel.from_base(base)
    model.add_language(MANY[0], DASDConfig(), tokenizer=tokenizer)
    model.save_pretrained(folder)
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["languages"] = dict.fromkeys(MANY, config["languages"][MANY[0]])
    path.write_text(json.dumps(config), encoding="utf-8")


def loading(base: Path, adapter: Path, rounds: int) -> dict[str, float]:
    """Seconds to load a base, and an adapter with it."""

    def whole() -> tuple[Any, Any]:
        return AutoModel.from_pretrained(base), AutoTokenizer.from_pretrained(base)

    rows = {
        "base, model alone": lambda: AutoModel.from_pretrained(base),
        "base, with its tokenizer": whole,
        "adapter with its base": lambda: CCRModel.from_pretrained(adapter, languages=MANY[:1]),
        "adapter, lazy": lambda: CCRModel.from_pretrained(adapter, lazy=True),
    }
    return alternating(rows, rounds)


def using(model: CCRModel, adapter: Path, captions: list[str], rounds: int) -> dict[str, float]:
    """Seconds to encode captions of one language and of eight, to load one more, and to choose another."""
    mixed = (MANY[:8] * len(captions))[: len(captions)]

    def one_more() -> None:
        model.load_language(adapter, MANY[-1])
        model.delete_language(MANY[-1])

    rows = {
        "64 captions, 1 language": lambda: model.encode_text(captions, MANY[0]),
        "64 captions, 8 languages": lambda: model.encode_text(captions, mixed),
    }
    found = alternating(rows, rounds) | alternating({"one more language, in and out": one_more}, rounds)
    turns = itertools.cycle(MANY[:2])
    return found | alternating({"set_language": lambda: model.set_language(next(turns))}, 100)


def resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1]) * os.sysconf("SC_PAGE_SIZE")


def memory(model: CCRModel, adapter: Path) -> dict[str, float]:
    """Bytes of parameters and buffers, and of the process, that languages up to the fiftieth add."""

    def held() -> int:
        tensors = [*model.parameters(), *model.buffers()]
        return sum({tensor.data_ptr(): tensor.nbytes for tensor in tensors}.values())

    for code in MANY[len(model.languages) : 40]:
        model.load_language(adapter, code)
    process = resident()
    for code in MANY[40:49]:
        model.load_language(adapter, code)
    before = held()
    model.load_language(adapter, MANY[49])
    files = [path.stat().st_size for path in adapter.glob("*.safetensors")]
    return {"50th, tensors": held() - before, "files": sum(files), "41st to 50th, process": (resident() - process) / 10}


def sizes(base: Path, folder: Path, captions: list[str]) -> dict[str, dict[str, float]]:
    """Megabytes that somebody downloads for one language, by part: everything but the base.

    By `generator_rank`, vocabulary and precision; what they cost in recall is not measured here.
    """
    tokenizers = {size: train_tokenizer(captions, size=size) for size in (VOCABULARY // 2, VOCABULARY)}
    found: dict[str, dict[str, float]] = {}
    for rank in (128, 64):
        for rows, own in {0: None, **tokenizers}.items():
            model = CCRModel.from_base(base)
            model.add_language("de", DASDConfig(generator_rank=rank), tokenizer=own)
            for dtype in ("float32", "float16"):
                place = folder / f"{rank}-{rows}-{dtype}"
                model.save_pretrained(place, dtype=dtype)
                parts = adapter_info(place).by_part()
                vocabulary = f"{len(own):,} tokens" if own else "base's tokens"
                found[f"rank {rank}, {vocabulary}, {dtype}"] = {
                    "adapter": parts["adapter"] / 1e6,
                    "vocabulary": (parts.get("vocabulary rows", 0) + parts.get("tokenizer", 0)) / 1e6,
                    "all": sum(parts.values()) / 1e6,
                }
    return found


def main(argv: list[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="alternating rounds")
    parser.add_argument("--threads", type=int, default=0, help="torch threads; 0: as torch chooses")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    args = parser.parse_args(argv)
    if args.threads:
        torch.set_num_threads(args.threads)
    english, german = made_up(0), made_up(1)
    with tempfile.TemporaryDirectory() as home:
        base, adapter = Path(home) / "base", Path(home) / "adapter"
        write_base(base, english)
        write_languages(base, adapter, german)
        seconds = loading(base, adapter, args.rounds)
        model = CCRModel.from_pretrained(adapter, languages=MANY[:8])
        seconds |= using(model, adapter, german[:64], args.rounds)
        held = memory(model, adapter)
        del model
        size = sizes(base, Path(home) / "sizes", german)
    report(seconds, held, size, args.json)
    return 0


def report(
    seconds: dict[str, float], held: dict[str, float], size: dict[str, dict[str, float]], path: Path | None
) -> None:
    """Print tables and figures, and write the figures."""
    print(console_table([{"row": name, "ms": f"{value * 1e3:.3f}"} for name, value in seconds.items()], ["row", "ms"]))
    print(console_table([{"row": name, "MB": f"{value / 1e6:.2f}"} for name, value in held.items()], ["row", "MB"]))
    rows = [{"row": name, **{part: f"{value:.2f}" for part, value in parts.items()}} for name, parts in size.items()]
    print(console_table(rows, ["row", "adapter", "vocabulary", "all"]))
    figures = {
        "load, adapter / base": seconds["adapter with its base"] / seconds["base, model alone"],
        "set_language, ms": seconds["set_language"] * 1e3,
        "64 captions, 8 languages / 1": seconds["64 captions, 8 languages"] / seconds["64 captions, 1 language"],
        "50th language, bytes / its own": held["50th, tensors"] / held["files"],
    }
    largest = [name for name in size if name.endswith("float16")][2::3]  # of each rank, with the largest vocabulary
    figures |= {f"download in MB, {name}": size[name]["all"] for name in largest}
    print()
    for name, value in figures.items():
        target = TARGETS[name.partition(",")[0] if name.startswith("download") else name]
        print(f"{name:52s} {value:8.3f}   at most {target:g}   {'met' if value <= target else 'MISSED'}")
    if path:
        write_metrics(path, {"seconds": seconds, "memory": held, "megabytes": size, "figures": figures})


if __name__ == "__main__":
    sys.exit(main())
