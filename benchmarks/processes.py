"""One process against two: the same global batch, the same losses, and how much faster.

    python benchmarks/processes.py                       # text tower of ViT-B/32 sizes, gloo, one thread a process
    python benchmarks/processes.py --write docs/performance.md
    python benchmarks/processes.py --size tiny --batch 32 --steps 8

Both start the real trainer as `accelerate launch` does, on captions of the tiny world with random vectors, and train a few
steps of DASD, the first of which is not counted. Two processes need two free cores. The target is 1.6 times the throughput
of one, with the losses of one.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm
from transformers import PrinterCallback, set_seed

from ccr_adapters.methods import DASD
from ccr_adapters.processing.collator import TargetCollator
from ccr_adapters.processing.vocabulary import train_tokenizer
from ccr_adapters.training import CCRTrainer, CCRTrainingArguments
from measure import Bar, Clock, machine, machine_line
from sections import TERMS
from speed import captions_of
from towers import DYNAMIC, LANGUAGE, LONGEST, SIZES, Size, model_of
from writing import add_outputs, tell, verdict

TARGET, ALIKE = 1.6, 1e-3


def trainer_of(size: Size, folder: Path | str, *, callbacks: list[Any] | None = None, **arguments: Any) -> CCRTrainer:
    """The real trainer for DASD, on captions of the tiny world with random vectors; always the same start."""
    captions = captions_of(None)
    tokenizer = train_tokenizer(captions, size=8000, max_length=LONGEST)
    model = model_of(DYNAMIC, size, tokenizer)
    model.trainable(LANGUAGE)
    set_seed(0)
    vectors = np.random.default_rng(0).normal(size=(len(captions), size.embedding)).astype("float32")
    rows = np.arange(len(captions))
    fixed = {"output_dir": str(folder), "use_cpu": True, "logging_steps": 1, "disable_tqdm": True}
    trainer = CCRTrainer(
        DASD(model, LANGUAGE, TERMS),
        CCRTrainingArguments(**{"save_strategy": "no", **fixed, **arguments}),
        lengths=[len(text) for text in captions],
        train_dataset=[{"row": row, "translation": text} for row, text in enumerate(captions)],  # type: ignore[arg-type]
        data_collator=TargetCollator(model.processor, LANGUAGE, vectors, rows, source=vectors),  # type: ignore[arg-type]
        callbacks=callbacks or [],
    )
    trainer.remove_callback(PrinterCallback)  # the table says it
    return trainer


def losses_of(trainer: CCRTrainer) -> list[float]:
    """The loss of every step."""
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def trained(args: argparse.Namespace) -> dict[str, Any]:
    """This process's part of the run: seconds, and the losses of all."""
    torch.set_num_threads(1)
    clock = Clock()
    bars = [Bar(args.steps + 1)] if os.environ.get("RANK", "0") == "0" else []
    rows = {"per_device_train_batch_size": args.batch // args.processes, "max_steps": args.steps + 1}
    with tempfile.TemporaryDirectory() as folder:
        trainer = trainer_of(SIZES[args.size], folder, callbacks=[clock, *bars], **rows)
        trainer.train()
    return {"seconds": clock.seconds, "losses": losses_of(trainer)}


def started(args: argparse.Namespace, processes: int, home: Path) -> dict[str, Any]:
    """Start so many processes, and wait; what the first of them found."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    if processes > 1:
        environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(processes)}
        if "lo" in dict(map(reversed, socket.if_nameindex())):  # type: ignore[arg-type]
            environment["GLOO_SOCKET_IFNAME"] = "lo"  # a machine need not be able to resolve its own name
    out = home / f"{processes}.json"
    command = [sys.executable, __file__, "--out", str(out), "--size", args.size, "--batch", str(args.batch)]
    command += ["--steps", str(args.steps), "--processes", str(processes)]
    ranks = [{"RANK": str(n), "LOCAL_RANK": str(n)} if processes > 1 else {} for n in range(processes)]
    running = [subprocess.Popen(command, env=environment | rank, stdout=subprocess.DEVNULL) for rank in ranks]
    codes = [process.wait() for process in running]
    if any(codes):
        raise SystemExit(f"A process ended with exit code {max(codes, key=abs)}.")
    found: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    return found


def parsed(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="vit-b-32")
    parser.add_argument("--batch", type=int, default=128, help="rows a step, over all processes")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--out", type=Path, help="be one of the processes, and write what it found here")
    add_outputs(parser, "processes")
    return parser.parse_args(argv)


def report(args: argparse.Namespace, one: dict[str, Any], many: dict[str, Any]) -> None:
    """Print what one process and several found, and write it."""
    apart = max(abs(a - b) / abs(a) for a, b in zip(one["losses"], many["losses"], strict=True))
    ratio = one["seconds"] / many["seconds"]
    rows = [
        {
            "processes": str(count),
            "rows a second": f"{args.steps * args.batch / found['seconds']:.1f}",
            "first loss": f"{found['losses'][0]:.4f}",
            "last loss": f"{found['losses'][-1]:.4f}",
        }
        for count, found in ((1, one), (args.processes, many))
    ]
    reached = [
        verdict("throughput, times", ratio, "at least", TARGET, ".2f"),
        verdict("losses apart, as a share of their value", apart, "at most", ALIKE, ".1e"),
    ]
    facts = machine(threads=1)
    note = machine_line(facts, f"a process has one thread; text tower of {args.size} sizes, {args.batch} rows a step")
    figures = {"machine": facts, "throughput": ratio, "losses apart": apart, "one": one, "many": many}
    tell(args, "processes", [rows, reached], note, figures)


def main(argv: list[str] | None = None) -> int:
    """Measure both, and print."""
    args = parsed(argv)
    if args.out:
        found = trained(args)
        if os.environ.get("RANK", "0") == "0":
            args.out.write_text(json.dumps(found), encoding="utf-8")
        return 0
    counts = (1, args.processes)
    with tempfile.TemporaryDirectory() as home:
        bar = tqdm(counts, unit="run", leave=False, disable=None)
        one, many = (started(args, count, Path(home)) for count in bar)
    report(args, one, many)
    return 0


if __name__ == "__main__":
    sys.exit(main())
