"""What it costs to have many languages: to load, to switch, to mix them in a batch, in memory, and to download.

    python benchmarks/loading.py                              # 5 alternating rounds
    python benchmarks/loading.py --threads 2 --write docs/many_languages.md
    python benchmarks/loading.py --quick --rounds 1           # to see that it works

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
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm
from transformers import AutoModel, AutoTokenizer, CLIPConfig, CLIPModel
from transformers.models.clip import CLIPImageProcessorPil
from transformers.utils import logging

from ccr_adapters.dasd import DASDConfig
from ccr_adapters.hub import adapter_info
from ccr_adapters.modeling import CCRModel
from ccr_adapters.processing.vocabulary import train_tokenizer
from measure import counted, machine, machine_line, medians
from writing import Rows, add_outputs, tell, verdict

TARGETS = {
    "load, adapter / base": 1.3,
    "set_language, ms": 1.0,
    "64 captions, 8 languages / 1": 1.25,
    "50th language, bytes / its own": 1.05,
    "download in MB": 12.0,
}
MANY = [f"l{number:02}" for number in range(50)]
# a language's tokens, as many as the recipes train at most
VOCABULARY = 7000
# towers to see that it works
SMALL = {"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 3, "num_attention_heads": 4}


def made_up(seed: int, words: int = 12_000, captions: int = 5_000) -> list[str]:
    """Captions of words that there are not, some of them much more frequent than others."""
    rng = random.Random(seed)
    syllables = [first + vowel + last for first in "bdfgklmnprst" for vowel in "aeiou" for last in ("", "n", "r", "s")]
    lexicon = ["".join(rng.choices(syllables, k=rng.randint(1, 4))) for _ in range(words)]
    weights = [1 / (rank + 10) for rank in range(words)]
    return [" ".join(rng.choices(lexicon, weights, k=rng.randint(6, 14))) for _ in range(captions)]


def write_base(folder: Path, captions: list[str], vocabulary: int, *, small: bool) -> None:
    """A CLIP of ViT-B/32 sizes with random weights, or a small one, and what is needed to load it."""
    torch.manual_seed(0)
    tokenizer = train_tokenizer(captions, size=vocabulary)
    text = {name: getattr(tokenizer, name) for name in ("pad_token_id", "bos_token_id", "eos_token_id")}
    own = SMALL if small else {}
    CLIPModel(CLIPConfig(text_config=text | own, vision_config=own)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    CLIPImageProcessorPil().save_pretrained(folder)


def write_languages(base: Path, folder: Path, captions: list[str], vocabulary: int) -> None:
    """An adapter repository of fifty languages, whose files are those of one."""
    tokenizer = train_tokenizer(captions, size=vocabulary)
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
    return medians(rows, rounds)


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
    found = medians(rows, rounds) | medians({"one more language, in and out": one_more}, rounds)
    turns = itertools.cycle(MANY[:2])
    return found | medians({"set_language": lambda: model.set_language(next(turns))}, 100)


def resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1]) * os.sysconf("SC_PAGE_SIZE")


def memory(model: CCRModel, adapter: Path) -> dict[str, float]:
    """Bytes of parameters and buffers, and of the process, that languages up to the fiftieth add."""

    def held() -> int:
        tensors = [*model.parameters(), *model.buffers()]
        return sum({tensor.data_ptr(): tensor.nbytes for tensor in tensors}.values())

    for code in tqdm(MANY[len(model.languages) : 40], unit="language", leave=False, disable=None):
        model.load_language(adapter, code)
    process = resident()
    for code in MANY[40:49]:
        model.load_language(adapter, code)
    before = held()
    model.load_language(adapter, MANY[49])
    files = [path.stat().st_size for path in adapter.glob("*.safetensors")]
    return {"50th, tensors": held() - before, "files": sum(files), "41st to 50th, process": (resident() - process) / 10}


def sizes(base: Path, folder: Path, captions: list[str], vocabulary: int) -> dict[str, dict[str, float]]:
    """Megabytes that somebody downloads for one language, by part: everything but the base.

    By `generator_rank`, vocabulary and precision; what they cost in recall is not measured here.
    """
    tokenizers = {size: train_tokenizer(captions, size=size) for size in (vocabulary // 2, vocabulary)}
    found: dict[str, dict[str, float]] = {}
    planned = list(itertools.product((128, 64, 32), {0: None, **tokenizers}.items()))
    for rank, (rows, own) in tqdm(planned, unit="adapter", leave=False, disable=None):
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


def tables(
    seconds: dict[str, float], held: dict[str, float], size: dict[str, dict[str, float]]
) -> tuple[list[Rows], dict[str, float]]:
    """Time, memory, size and the figures against their targets; those figures as numbers."""
    figures = {
        "load, adapter / base": seconds["adapter with its base"] / seconds["base, model alone"],
        "set_language, ms": seconds["set_language"] * 1e3,
        "64 captions, 8 languages / 1": seconds["64 captions, 8 languages"] / seconds["64 captions, 1 language"],
        "50th language, bytes / its own": held["50th, tensors"] / held["files"],
    }
    largest = [name for name in size if name.endswith("float16")][2::3]  # of each rank, with the largest vocabulary
    figures |= {f"download in MB, {name}": size[name]["all"] for name in largest}
    shown: list[Rows] = [
        [{"time": name, "ms": f"{value * 1e3:.3f}"} for name, value in seconds.items()],
        [{"memory": name, "MB": f"{value / 1e6:.2f}"} for name, value in held.items()],
        [{"download in MB": name, **{p: f"{v:.2f}" for p, v in parts.items()}} for name, parts in size.items()],
        [
            verdict(name, value, "at most", TARGETS[name.partition(",")[0] if name.startswith("download") else name])
            for name, value in figures.items()
        ],
    ]
    return shown, figures


def parsed(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="alternating rounds")
    parser.add_argument("--threads", type=int, default=0, help="torch threads; 0: as torch chooses")
    parser.add_argument("--quick", action="store_true", help="small towers and vocabularies: to see that it works")
    add_outputs(parser, "loading")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Measure and print."""
    args = parsed(argv)
    if args.threads:
        torch.set_num_threads(args.threads)
    vocabulary, corpus = (400, {"words": 500, "captions": 400}) if args.quick else (VOCABULARY, {})
    english, german = made_up(0, **corpus), made_up(1, **corpus)
    with tempfile.TemporaryDirectory() as home:
        base, adapter = Path(home) / "base", Path(home) / "adapter"
        write_base(base, english, vocabulary, small=args.quick)
        write_languages(base, adapter, german, vocabulary)
        seconds = loading(base, adapter, args.rounds)
        model = CCRModel.from_pretrained(adapter, languages=MANY[:8])
        seconds |= using(model, adapter, german[:64], args.rounds)
        held = memory(model, adapter)
        del model
        size = sizes(base, Path(home) / "sizes", german, vocabulary)
    shown, figures = tables(seconds, held, size)
    facts = machine()
    towers = "small towers" if args.quick else "a CLIP of ViT-B/32 sizes"
    note = machine_line(facts, f"{towers}, medians of {counted(args.rounds, 'round')}")
    found = {"machine": facts, "seconds": seconds, "memory": held, "megabytes": size, "figures": figures}
    tell(args, "loading", shown, note, found)
    return 0


if __name__ == "__main__":
    logging.disable_progress_bar()  # one bar is enough
    sys.exit(main())
