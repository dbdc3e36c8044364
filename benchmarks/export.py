"""What an export saves: onnxruntime against the model itself, on a CPU, from strings to vectors.

    python benchmarks/export.py                               # German captions of the tiny world
    python benchmarks/export.py --threads 1 --rounds 9 --write docs/export.md
    python benchmarks/export.py --size tiny --rounds 1        # to see that it works

The text tower is one of ViT-B/32 sizes (512 wide, 12 blocks) with a dynamic adapter and a tokenizer of its own; its weights are
random, which speed does not depend on. Both sides get the same captions and the same number of threads, and batch them alike.
Rounds alternate between the rows, after a warm-up; the figures are medians.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from ccr_adapters.dasd import DASDConfig
from ccr_adapters.data import build_tiny_world
from ccr_adapters.export import OnnxEncoder, export_onnx
from ccr_adapters.export.parity import cosines, top_overlap
from ccr_adapters.modeling import CCRModel
from ccr_adapters.processing import CCRProcessor
from ccr_adapters.processing.vocabulary import train_tokenizer
from measure import counted, machine, machine_line, medians
from towers import LANGUAGE, LONGEST, SIZES, Size, text_tower
from writing import Rows, add_outputs, tell, verdict

TARGETS = {"times": 1.3, "cosine": 0.9999}
KINDS = ("float32", "int8")


def german_captions() -> list[str]:
    """Captions to encode, and to train the tokenizer on."""
    return list(build_tiny_world(LANGUAGE, train=2000, validation=0, test=0, image_size=8)["train"]["translation"])


def built(size: Size, captions: list[str]) -> CCRModel:
    """A text tower with one dynamic language, its weights random."""
    tokenizer = train_tokenizer(captions, size=8000, max_length=LONGEST)
    base = text_tower(size, tokenizer)
    model = CCRModel.from_base(base, processor=CCRProcessor(tokenizer, base_max_length=LONGEST))
    model.add_language(LANGUAGE, DASDConfig(init_weights=False), tokenizer=tokenizer)
    return model.eval()


def measured(model: CCRModel, captions: list[str], args: argparse.Namespace, home: Path) -> dict[str, dict[str, Any]]:
    """Export both kinds and measure: by row, megabytes, milliseconds by number of captions, and how near the vectors are."""
    batch = captions[: args.batch]
    expected = model.encode_text(batch, LANGUAGE, batch_size=args.batch).numpy()
    found: dict[str, dict[str, Any]] = {"model": {}}
    encoders: dict[str, OnnxEncoder] = {}
    for kind in tqdm(KINDS, desc="export", unit="graph", leave=False, disable=None):
        folder = home / kind
        report = export_onnx(model, LANGUAGE, folder, int8=kind == "int8", captions=captions[:128])["text"]
        encoders[kind] = OnnxEncoder.from_folder(folder, threads=args.threads)
        vectors = encoders[kind].encode_text(batch, batch_size=args.batch)
        found[kind] = {
            "megabytes": (folder / "text.onnx").stat().st_size / 1e6,
            "smallest cosine": float(np.min(cosines(expected, vectors))),
            "top-10 overlap": top_overlap(expected, vectors),
            "parity": report.to_dict(),
        }
    for count in dict.fromkeys((len(batch), 1)):
        chosen = batch[:count]
        rows: dict[str, Callable[[], Any]] = {
            "model": lambda c=chosen: model.encode_text(c, LANGUAGE, batch_size=args.batch)
        }
        rows |= {
            kind: lambda c=chosen, e=one: e.encode_text(c, batch_size=args.batch) for kind, one in encoders.items()
        }
        for name, seconds in medians(rows, args.rounds).items():
            found[name].setdefault("milliseconds", {})[f"{count}"] = 1000 * seconds
    return found


def table(found: dict[str, dict[str, Any]]) -> Rows:
    """What is shown of it."""
    rows = []
    for name, own in found.items():
        exported = "megabytes" in own
        row = {"row": name, "MB": f"{own['megabytes']:.0f}" if exported else None}
        for count, milliseconds in own["milliseconds"].items():
            what = "1 caption" if count == "1" else f"{count} captions"
            row[f"{what}, ms"] = f"{milliseconds:.0f}"
            row[f"{what}, times faster"] = f"{found['model']['milliseconds'][count] / milliseconds:.1f}x"
        if exported:
            row["smallest cosine"] = f"{own['smallest cosine']:.4f}"
            row["top-10 overlap"] = f"{own['top-10 overlap']:.3f}"
        rows.append(row)
    return rows


def parsed(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="vit-b-32")
    parser.add_argument("--rounds", type=int, default=5, help="alternating rounds")
    parser.add_argument("--threads", type=int, default=1, help="threads of both sides")
    parser.add_argument("--batch", type=int, default=64, help="captions")
    add_outputs(parser, "export")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Measure and print."""
    args = parsed(argv)
    torch.set_num_threads(args.threads)
    captions = german_captions()
    with tempfile.TemporaryDirectory() as home:
        found = measured(built(SIZES[args.size], captions), captions, args, Path(home))
    first = next(iter(found["model"]["milliseconds"]))
    times = found["model"]["milliseconds"][first] / found["float32"]["milliseconds"][first]
    reached = [
        verdict(f"float32, {first} captions, times faster", times, "at least", TARGETS["times"]),
        verdict("float32, cosine", found["float32"]["smallest cosine"], "at least", TARGETS["cosine"], ".6f"),
    ]
    facts = machine()
    note = machine_line(facts, f"text tower of {args.size} sizes, medians of {counted(args.rounds, 'round')}")
    tell(args, "export", [table(found), reached], note, {"machine": facts, "rows": found})
    return 0


if __name__ == "__main__":
    sys.exit(main())
