"""What everything costs, against everything else: encode, train step, memory, load, evaluate, search.

    python benchmarks/suite.py --quick                                     # all sections in a few minutes
    python benchmarks/suite.py --captions captions.txt --count 29000 --sections encode
    python benchmarks/suite.py --device cuda --bf16 --batch 1024 --json cuda.json
    python benchmarks/suite.py --json suite.json --write docs/performance.md --plot docs/images/performance.png
    python benchmarks/suite.py --sizes vit-b-32 vit-l-14 xlm-r-base --sections encode step --compiled --write docs/performance.md

Every figure is a ratio within one process, its rows measured in turns: the median over the rounds of each row's time by
that of the section's reference in the same round. Memory is that of a process for each row. The rows are the bare encoder,
LoRA (r=16, all linear layers), MLA's static acquirer, DASD, DASD whose adapters start behind its frozen prefix, and the
published schedule of DASD: every caption padded to 77 tokens, two passes of their own over the prefix, nothing cached.
Steps called 'cached' are this package's: frozen vectors are read, and captions of like length are encoded together. The
others encode all that they compare with, a batch padded to its longest. Encoders have random weights, on which speed does
not depend. `compare.py` tells two runs apart.
One size is written to the page's place `suite`, several to its place `sizes`, what a training step costs alone to `training`;
`--place` names another.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

import torch
from tqdm import tqdm

from ccr_adapters.evaluation import save_figure
from ccr_adapters.processing.vocabulary import train_tokenizer
from measure import against, counted, exact_memory, machine, machine_line
from sections import NAIVE, PICTURES, SECTIONS, TEACHER, Setting, tokens_a_row
from speed import captions_of
from suite_plot import ratio_bars
from towers import DYNAMIC, FREE, FULL_GENERATOR, LONGEST, LORA, SIZES, STATIC
from writing import Rows, add_outputs, page_with, tell, verdict

PLACES = ("suite", "sizes", "training", "training_small")
# section, row, row that it is compared with, how the quotient is to stand to the target
TARGETS: tuple[tuple[str, str, str, str, float], ...] = (
    ("encode", NAIVE, DYNAMIC, "at least", 1.5),
    ("encode", FULL_GENERATOR, DYNAMIC, "at least", 5.0),
    ("step", f"{DYNAMIC}, cached", TEACHER, "at most", 0.6),
    ("step", f"{DYNAMIC}, cached", PICTURES, "at most", 0.6),
    ("memory", f"{DYNAMIC}, cached", TEACHER, "at most", 0.8),
    ("memory", f"{DYNAMIC}, cached", PICTURES, "at most", 0.8),
)


def memory(size: str, args: argparse.Namespace) -> Rows:
    """Peak memory of a training step, in a process for each row."""
    seen = SIZES[size].vision is not None
    rows: dict[str, tuple[str, list[str]]] = {TEACHER: (LORA, ["--teacher"])}
    rows.update({f"{row}, cached": (row, ["--by-length"]) for row in (LORA, STATIC, DYNAMIC, FREE)})
    rows[FULL_GENERATOR] = (FULL_GENERATOR, ["--teacher", *(["--pictures"] if seen else [])])
    if seen:
        rows[PICTURES] = (LORA, ["--teacher", "--pictures"])
    options = ["--size", size, "--batch", str(args.batch), "--device", args.device]
    options += ["--bf16"] if args.bf16 else []
    options += ["--captions", str(args.captions)] if args.captions else []
    found = {}
    for name, (row, more) in tqdm(rows.items(), unit="process", leave=False, disable=None):
        command = [sys.executable, str(Path(__file__).with_name("peak.py")), row, *options, *more]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=exact_memory())
        found[name] = json.loads(done.stdout.splitlines()[-1])["megabytes"]
    return [
        {"section": "memory", "size": size, "row": name, "value": value, "unit": "MB", "ratio": value / found[TEACHER]}
        for name, value in found.items()
    ]


def timed(section: str, size: str, setting: Setting) -> Rows:
    """One section of one size."""
    seconds, reference = SECTIONS[section](setting)
    ratios = against(seconds, reference)
    return [
        {
            "section": section,
            "size": size,
            "row": name,
            "value": statistics.median(own),
            "unit": "s",
            "ratio": ratios[name],
            "spread": [min(own), max(own)],
        }
        for name, own in seconds.items()
    ]


def targets(figures: Rows) -> Rows:
    """What the figures say about the numbers to reach."""
    by = {(found["section"], found["size"], found["row"]): found["ratio"] for found in figures}
    rows = []
    for section, row, other, kind, target in TARGETS:
        for size in dict.fromkeys(found["size"] for found in figures):
            if (section, size, row) in by and (section, size, other) in by:
                ratio = by[section, size, row] / by[section, size, other]
                rows.append({"size": size, **verdict(f"{section}: {row} / {other}", ratio, kind, target, ".2f")})
    return rows


def tables(figures: Rows) -> list[Rows]:
    """A table for each section, rows by sizes, and one of the targets."""
    parts = []
    for section in dict.fromkeys(found["section"] for found in figures):
        rows: dict[str, dict[str, str]] = {}
        for found in figures:
            if found["section"] == section:
                value = f"{found['value']:.0f} MB" if found["unit"] == "MB" else f"{found['value']:.3g} s"
                cells = rows.setdefault(found["row"], {section: found["row"]})
                cells[found["size"]] = f"{found['ratio']:.2f}x ({value})"
        parts.append(list(rows.values()))
    return [*parts, targets(figures)]


def parsed(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [*SECTIONS, "memory"]
    parser.add_argument(
        "--captions", type=Path, help="text file with one caption a line (.gz too); default: the tiny world's"
    )
    parser.add_argument("--count", type=int, default=1024, help="captions to encode")
    parser.add_argument("--batch", type=int, default=128, help="rows of a training step")
    parser.add_argument("--gallery", type=int, default=1000, help="pictures to score, with five captions each")
    parser.add_argument("--index", type=int, default=20000, help="vectors to search")
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=["vit-b-32"])
    parser.add_argument("--sections", nargs="+", choices=names, default=names)
    parser.add_argument("--rounds", type=int, default=5, help="alternating rounds")
    parser.add_argument("--threads", type=int, default=0, help="torch threads; 0: as torch chooses")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--bf16", action="store_true", help="compute in bfloat16")
    parser.add_argument("--compiled", action="store_true", help="encode with torch.compile too, which compiles first")
    parser.add_argument("--quick", action="store_true", help="few captions and rows: to see that it works")
    add_outputs(parser)
    parser.add_argument("--place", choices=PLACES, help="of a page, where to write; default: by what is measured")
    parser.add_argument("--plot", type=Path, help="picture to draw the ratios in")
    args = parser.parse_args(argv)
    if args.quick:
        args.count, args.batch, args.gallery, args.index = 128, 16, 200, 2000
    alone = "training" if set(args.sections) <= {"step", "memory"} else "suite"
    args.place = args.place or (alone if len(args.sizes) == 1 else "sizes")
    if args.write:
        try:
            page_with([args.place])(args.write)
        except argparse.ArgumentTypeError as error:
            parser.error(f"argument --write: {error}")
    return args


def main(argv: list[str] | None = None) -> int:
    """Measure, print, and write."""
    args = parsed(argv)
    if args.threads:
        torch.set_num_threads(args.threads)
    everything = captions_of(args.captions)
    # of all captions, as a language's is: one of few cuts words into more pieces
    tokenizer = train_tokenizer(everything, size=8000, max_length=LONGEST)
    captions = everything[: args.count]
    figures: Rows = []
    shape = (args.rounds, args.batch, args.gallery, args.index, args.device, args.bf16, args.compiled)
    planned = [(size, section) for size in args.sizes for section in args.sections]
    with tqdm(planned, unit="section", disable=None) as bar:
        for size, section in bar:
            bar.set_postfix_str(f"{size}, {section}")
            if section == "memory":
                figures += memory(size, args)
            else:
                figures += timed(section, size, Setting(SIZES[size], tokenizer, captions, *shape))
    settings = {key: getattr(args, key) for key in ("count", "batch", "gallery", "index", "rounds", "bf16", "quick")}
    facts = machine(args.device)
    what = [f"{len(captions)} captions"] if "encode" in args.sections else []
    if {"step", "memory"} & set(args.sections):
        rows = tokens_a_row(Setting(SIZES[args.sizes[0]], tokenizer, captions, *shape))
        what.append(f"steps of {counted(args.batch, 'row')} ({rows})")
    what += ["in bf16"] if args.bf16 else []
    note = machine_line(facts, ", ".join([*what, f"medians of {counted(args.rounds, 'round')}"]))
    found = {"machine": facts, "settings": settings, "figures": figures, "targets": targets(figures)}
    tell(args, args.place, tables(figures), note, found)
    if args.plot:
        save_figure(ratio_bars(figures, note), args.plot)
    return 0


if __name__ == "__main__":
    sys.exit(main())
