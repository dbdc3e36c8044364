"""Peak memory of one training step, or of encoding, with one adapter, in this process alone. `suite.py` starts it for each row.

    python benchmarks/peak.py "DASD" --size vit-b-32 --batch 128
    python benchmarks/peak.py "LoRA r=16" --teacher --pictures
    python benchmarks/peak.py "bare encoder" --encode

On a CPU it is what the process takes beyond its libraries and its captions, weights included; with CUDA what torch
allocates there. `--teacher` and `--pictures` encode what a cache would hold.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import torch

from ccr_adapters.processing.vocabulary import train_tokenizer
from measure import Peak, precise, precision
from sections import Setting, step_of
from speed import captions_of
from towers import BARE, LANGUAGE, LONGEST, ROWS, SIZES


def main(argv: list[str] | None = None) -> int:
    """Run it twice, and print the peak as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("row", choices=ROWS)
    parser.add_argument("--size", choices=SIZES, default="vit-b-32")
    parser.add_argument(
        "--captions", type=Path, help="text file with one caption a line; default: the tiny world's German"
    )
    parser.add_argument("--batch", type=int, default=128, help="rows of the step")
    parser.add_argument("--encode", action="store_true", help="encode the captions instead")
    parser.add_argument("--teacher", action="store_true", help="with the teacher's text pass")
    parser.add_argument("--pictures", action="store_true", help="with the image tower's pass")
    parser.add_argument(
        "--by-length", action="store_true", help="captions of like length together, as the trainer does"
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--bf16", action="store_true")
    args = parser.parse_args(argv)
    captions = captions_of(args.captions)
    tokenizer = train_tokenizer(captions, size=8000, max_length=LONGEST)
    setting = Setting(SIZES[args.size], tokenizer, captions, 1, args.batch, 0, 0, args.device, args.bf16)
    peak = Peak(args.device)
    if args.encode:
        model = setting.model(args.row)
        code = None if args.row == BARE else LANGUAGE
        with precision(args.device, args.bf16):
            model.encode_text(captions[: 16 * args.batch], code, show_progress=False)
    else:
        how = {"teacher": args.teacher, "pictures": args.pictures, "by_length": args.by_length}
        step = step_of(setting, args.row, **how)
        for _ in range(2):  # the optimiser has its states from the second on
            precise(step, args.device, args.bf16)()
    print(json.dumps({"megabytes": round(peak.megabytes(), 1), "threads": torch.get_num_threads()}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
