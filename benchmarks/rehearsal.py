"""A rehearsal at real size: 300,000 pairs on disk, ViT-B/32 sizes, both stages of DASD, for a few hundred steps.

    python benchmarks/rehearsal.py --data runs/rehearsal --steps 200              # writes the shards first, once
    python benchmarks/rehearsal.py --data runs/rehearsal --steps 500 --device cuda --bf16 --batch 1024
    python benchmarks/rehearsal.py --data runs/rehearsal --threads 2 --write docs/performance.md
    python benchmarks/rehearsal.py --data runs/small --pairs 2000 --shard 500 --size tiny --batch 16 --steps 3

The pairs are captions of the tiny world's grammar in English and German, and float16 vectors of random numbers in the place
of cached pictures and English captions, in Parquet shards. `datasets` maps them into memory, so that the process stays as
large as a batch needs, whatever there is on disk. The trainer is the real one.

Utilisation is what the steps computed, counted operation by operation on one batch and scaled by tokens, against the rate
of a dense matrix product of the encoder's shapes, measured in the same process and precision. Padding that the trainer cuts
away, by encoding captions of like length together, is not counted.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset, load_dataset
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from ccr_adapters.data.tiny_world import describe, sample_scenes, translate
from ccr_adapters.methods import DASD, DASDTerms
from ccr_adapters.modeling import CCRModel
from ccr_adapters.processing.vocabulary import train_tokenizer
from ccr_adapters.training import CCRTrainer, CCRTrainingArguments
from measure import Bar, Clock, Peak, machine, machine_line, places_of, precision, wait_for
from towers import DYNAMIC, LANGUAGE, LONGEST, SIZES, Size, model_of
from writing import add_outputs, tell


def write_shards(folder: Path, pairs: int, rows: int, width: int) -> list[Path]:
    """Write the pairs, a shard at a time; shards that are there are kept."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"pairs-{start // rows:05d}.parquet" for start in range(0, pairs, rows)]
    for number, path in enumerate(tqdm(paths, unit="shard", leave=False, disable=None)):
        if path.is_file():
            continue
        count = min(rows, pairs - number * rows)
        english, german = captions_of(count, number)
        noise = np.random.default_rng(number).standard_normal((2, count, width), dtype=np.float32).astype(np.float16)
        columns = {"caption": english, "translation": german, "visual": list(noise[0]), "source": list(noise[1])}
        aside = path.with_suffix(".part")
        Dataset.from_dict(columns).to_parquet(str(aside))
        aside.replace(path)
    return paths


def captions_of(count: int, seed: int) -> tuple[list[str], list[str]]:
    """English captions of scenes, and their German translations."""
    scenes = sample_scenes(train=count, validation=0, test=0, seed=seed)["train"]
    told = [describe(scene, "en", random.Random(f"{seed}/{index}"))[0] for index, scene in enumerate(scenes)]
    return [text for _, text in told], [translate(message, LANGUAGE) for message, _ in told]


class Collator:
    """Rows of the shards to batches; counts what it hands out."""

    def __init__(self, model: CCRModel, device: str) -> None:
        self.processor: Any = model.processor
        self.device = device
        self.tokens = self.places = self.bytes = 0

    def __call__(self, examples: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
        """Ids of the translations, and both vectors."""
        batch = self.processor.pad(
            self.processor.token_ids([row["translation"] for row in examples], LANGUAGE), LANGUAGE
        )
        vectors = {name: np.stack([row[name] for row in examples]) for name in ("source", "visual")}
        self.tokens += int(batch.attention_mask.sum())
        self.places += places_of(batch.attention_mask.sum(dim=1).tolist(), self.device)
        self.bytes += sum(array.nbytes for array in vectors.values()) + sum(len(row["translation"]) for row in examples)
        return {
            "target_input_ids": batch.input_ids,
            "target_attention_mask": batch.attention_mask,
            "target_pooled_at": batch.pooled_at,
            "image_index": torch.tensor([row["row"] for row in examples]),
            **{f"{name}_vectors": torch.from_numpy(array.astype(np.float32)) for name, array in vectors.items()},
        }


class Rows(torch.utils.data.Dataset[dict[str, Any]]):
    """The shards by row, read from the mapped file when they are asked for."""

    def __init__(self, rows: Dataset) -> None:
        self.rows = rows.select_columns(["translation", "visual", "source"]).with_format("numpy")

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"row": index, **self.rows[index]}


def flops_of(method: DASD, batch: dict[str, Tensor], bf16: bool, device: str) -> float:
    """Floating-point operations of one step, forward and backward, for each place that is computed."""
    inputs = {name: value.to(device) for name, value in batch.items()}
    # as the trainer encodes them
    with FlopCounterMode(display=False) as counter, precision(device, bf16), method.model.by_length():
        torch.stack([term.float() for term in method(**inputs).values()]).sum().backward()
    method.zero_grad()
    return counter.get_total_flops() / places_of(batch["target_attention_mask"].sum(dim=1).tolist(), device)


def matmul_rate(size: Size, bf16: bool, device: str, rounds: int = 10) -> float:
    """Operations a second of a dense product of the encoder's shapes: the median of some rounds."""
    rows, inner, outer = (8192, 4096, 4096) if device.startswith("cuda") else (2048, size.width, 4 * size.width)
    dtype = torch.bfloat16 if bf16 else torch.float32
    left, right = (
        torch.randn(rows, inner, device=device, dtype=dtype),
        torch.randn(inner, outer, device=device, dtype=dtype),
    )
    seconds = []
    for _ in range(rounds + 1):
        wait_for(device)
        start = time.perf_counter()
        left @ right
        wait_for(device)
        seconds.append(time.perf_counter() - start)
    return 2 * rows * inner * outer / float(np.median(seconds[1:]))


def disk_bytes() -> int:
    """What this process has read from disks so far, where the system says it; a mapped file that is cached costs nothing."""
    path = Path("/proc/self/io")
    if not path.is_file():
        return 0
    return next(int(line.split()[1]) for line in path.read_text().splitlines() if line.startswith("read_bytes"))


def stage(
    name: str, args: argparse.Namespace, model: CCRModel, data: Rows, lengths: list[int], rate: float, bar: Bar
) -> dict[str, Any]:
    """Train one stage; what it took."""
    terms = DASD.stages[name]
    if not isinstance(terms, DASDTerms):
        raise TypeError(f"Stage {name} has terms of another method.")
    method = DASD(model, LANGUAGE, terms).to(args.device)
    collator, clock = Collator(model, args.device), Clock()
    operations = flops_of(method, collator([data[row] for row in range(args.batch)]), args.bf16, args.device)
    before = disk_bytes()
    with tempfile.TemporaryDirectory() as folder:
        arguments = CCRTrainingArguments(
            output_dir=folder,
            use_cpu=args.device == "cpu",
            bf16=args.bf16,
            per_device_train_batch_size=args.batch,
            max_steps=args.steps + 1,
            logging_steps=max(1, args.steps // 5),
            save_strategy="no",
            disable_tqdm=True,
        )
        trainer = CCRTrainer(
            method, arguments, lengths=lengths, train_dataset=data, data_collator=collator, callbacks=[clock, bar]
        )
        trainer.train()
    steps = args.steps / clock.seconds
    share = args.steps / (args.steps + 2)  # the batch that was counted, and the first step, were not timed
    tokens, places = (count * share / clock.seconds for count in (collator.tokens, collator.places))
    return {
        "stage": name,
        "steps a second": steps,
        "pairs a second": steps * args.batch,
        "tokens a second": tokens,
        "padding": 1 - collator.tokens / collator.places,
        "GFLOP/s": operations * places / 1e9,
        "utilisation": operations * places / rate,
        "MB handed out": collator.bytes / 1e6,
        "MB read from disk": (disk_bytes() - before) / 1e6,
        "last loss": trainer.state.log_history[-2]["loss"],
    }


def main(argv: list[str] | None = None) -> int:
    """Write the shards, train, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the shards; made where it is missing")
    parser.add_argument("--pairs", type=int, default=300_000)
    parser.add_argument("--shard", type=int, default=25_000, help="pairs a shard")
    parser.add_argument("--size", choices=SIZES, default="vit-b-32")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=200, help="steps of each stage")
    parser.add_argument("--threads", type=int, default=0, help="torch threads; 0: as torch chooses")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--bf16", action="store_true", help="compute in bfloat16")
    add_outputs(parser, "rehearsal")
    args = parser.parse_args(argv)
    if args.threads:
        torch.set_num_threads(args.threads)
    size = SIZES[args.size]
    paths = write_shards(args.data, args.pairs, args.shard, size.embedding)
    peaks = {"process": Peak("cpu"), **({"device": Peak("cuda")} if args.device != "cpu" else {})}
    rows = load_dataset("parquet", data_files=list(map(str, paths)), split="train", cache_dir=str(args.data / "cache"))
    tokenizer = train_tokenizer(rows[: min(20_000, len(rows))]["translation"], size=8000, max_length=LONGEST)
    model = model_of(DYNAMIC, size, tokenizer, args.device)
    model.trainable(LANGUAGE)
    lengths = [len(text.split()) for text in rows["translation"]]
    rate = matmul_rate(size, args.bf16, args.device)
    bar = Bar(2 * (args.steps + 1))
    found = [stage(name, args, model, Rows(rows), lengths, rate, bar) for name in ("cla", "cma")]
    on_disk = sum(path.stat().st_size for path in paths) / 1e6
    memory = {name: peak.megabytes() for name, peak in peaks.items()}
    around = [
        {"what": f"{len(paths)} shards on disk, MB", "value": f"{on_disk:.0f}"},
        {"what": "dense product, GFLOP/s", "value": f"{rate / 1e9:.0f}"},
        *({"what": f"peak memory of the {name}, MB", "value": f"{value:.0f}"} for name, value in memory.items()),
    ]
    facts = machine(args.device)
    rounds = f"{args.steps} steps of {args.batch} rows{' in bf16' if args.bf16 else ''} in each stage"
    note = machine_line(facts, f"{len(rows):,} pairs, {rounds}, text tower of {args.size} sizes")
    figures = {"machine": facts, "pairs": len(rows), "shards MB": on_disk, "product": rate, "memory": memory}
    tell(args, "rehearsal", [sideways(found), around], note, {**figures, "stages": found})
    return 0


def sideways(found: list[dict[str, Any]]) -> list[dict[str, str]]:
    """A stage a column: there are few stages, and much to say of each."""
    return [{"stage": key, **{row["stage"]: f"{row[key]:.3g}" for row in found}} for key in found[0] if key != "stage"]


if __name__ == "__main__":
    sys.exit(main())
