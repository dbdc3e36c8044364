"""What an export saves: onnxruntime against the model itself, on a CPU, from strings to vectors.

    python benchmarks/export.py                               # German captions of the tiny world
    python benchmarks/export.py --threads 1 --rounds 9 --json export.json

The text tower is CLIP's of ViT-B/32 sizes (512 wide, 12 blocks) with a dynamic adapter and a tokenizer of its own; its weights are
random, which speed does not depend on. Both sides get the same captions and the same number of threads, and batch them alike.
Rounds alternate between the rows, after a warm-up; the figures are medians.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import CLIPTextConfig, CLIPTextModelWithProjection

from ccr_adapters.dasd import DASDConfig
from ccr_adapters.data import build_tiny_world
from ccr_adapters.evaluation import console_table, write_metrics
from ccr_adapters.export import OnnxEncoder, export_onnx
from ccr_adapters.export.parity import Parity, cosines, top_overlap
from ccr_adapters.modeling import CCRModel
from ccr_adapters.processing import CCRProcessor
from ccr_adapters.processing.vocabulary import train_tokenizer

TARGETS = {"times": 1.3, "cosine": 0.9999}
LONGEST = 77


def german_captions() -> list[str]:
    """Captions to encode, and to train the tokenizer on."""
    return list(build_tiny_world("de", train=2000, validation=0, test=0)["train"]["translation"])


def built(captions: list[str]) -> CCRModel:
    """A text tower of ViT-B/32 sizes with one dynamic language, its weights random."""
    torch.manual_seed(0)
    tokenizer = train_tokenizer(captions, size=8000, max_length=LONGEST)
    config = CLIPTextConfig(
        hidden_size=512,
        intermediate_size=2048,
        num_attention_heads=8,
        num_hidden_layers=12,
        projection_dim=512,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=49407,
    )
    base = CLIPTextModelWithProjection(config)
    model = CCRModel.from_base(base, processor=CCRProcessor(tokenizer, base_max_length=LONGEST))
    model.add_language("de", DASDConfig(init_weights=False), tokenizer=tokenizer)
    return model.eval()


def medians(rows: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Seconds of each row, the median over rounds in which all rows take turns."""
    taken: dict[str, list[float]] = {name: [] for name in rows}
    for run in rows.values():
        run()
    for _ in range(rounds):
        for name, run in rows.items():
            start = time.perf_counter()
            run()
            taken[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in taken.items()}


def main(argv: list[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="alternating rounds")
    parser.add_argument("--threads", type=int, default=1, help="threads of both sides")
    parser.add_argument("--batch", type=int, default=64, help="captions")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    captions = german_captions()
    model, batch = built(captions), captions[: args.batch]
    with tempfile.TemporaryDirectory() as home:
        reports: dict[str, Parity] = {}
        encoders: dict[str, OnnxEncoder] = {}
        sizes: dict[str, float] = {}
        for kind in ("float32", "int8"):
            folder = Path(home) / kind
            reports[kind] = export_onnx(model, "de", folder, int8=kind == "int8", captions=captions[:128])["text"]
            encoders[kind] = OnnxEncoder.from_folder(folder, threads=args.threads)
            sizes[kind] = (folder / "text.onnx").stat().st_size / 1e6
        seconds, figures = {}, {}
        for count in (len(batch), 1):
            chosen = batch[:count]
            rows: dict[str, Callable[[], Any]] = {"model": lambda c=chosen: model.encode_text(c, "de")}
            rows |= {kind: lambda c=chosen, e=one: e.encode_text(c) for kind, one in encoders.items()}
            seconds[count] = medians(rows, args.rounds)
        expected = model.encode_text(batch, "de").numpy()
        lines = []
        for kind in ("model", "float32", "int8"):
            found = expected if kind == "model" else encoders[kind].encode_text(batch)
            row = {"row": kind, "MB": "" if kind == "model" else f"{sizes[kind]:.0f}"}
            for count, values in seconds.items():
                ratio = values["model"] / values[kind]
                row[f"{count} captions, ms"] = f"{1000 * values[kind]:.0f}"
                row[f"{count}: times faster"] = f"{ratio:.2f}"
                figures[f"{kind}, {count} captions, times faster"] = ratio
            row["smallest cosine"] = f"{float(np.min(cosines(expected, found))):.6f}"
            row["top-10 overlap"] = f"{top_overlap(expected, found):.3f}"
            lines.append(row)
        print(console_table(lines, list(lines[0])))
        print(f"\n{args.threads} threads, medians of {args.rounds} rounds")
        times = figures[f"float32, {len(batch)} captions, times faster"]
        cosine = reports["float32"].smallest_cosine
        for name, value, target in (("times faster", times, TARGETS["times"]), ("cosine", cosine, TARGETS["cosine"])):
            print(f"{name:16s} {value:8.4f}   at least {target:g}   {'met' if value >= target else 'MISSED'}")
        if args.json:
            parity = {kind: report.to_dict() for kind, report in reports.items()}
            write_metrics(
                args.json, {"figures": figures, "parity": parity, "megabytes": sizes, "threads": args.threads}
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
