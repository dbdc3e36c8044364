"""Does the image tower wait for pictures? How much of the time it is busy, decoding in line and decoding ahead.

    python benchmarks/pictures.py                                       # 256 JPEG files of 640 x 480
    python benchmarks/pictures.py --size vit-l-14 --count 64 --batch 8
    python benchmarks/pictures.py --device cuda --count 8192 --batch 256
    python benchmarks/pictures.py --threads 2 --write docs/performance.md

Busy is the time of the tower alone, on pixels that are in memory, by the time of all: reading, decoding, resizing, encoding. Rows
are measured in turns. The files are written first, of noise as smooth as a photograph.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from ccr_adapters.modeling import CCRModel
from ccr_adapters.modeling.encoding import encode_pixels
from ccr_adapters.processing.vocabulary import train_tokenizer
from measure import against, alternating, counted, machine, machine_line, precision
from towers import LONGEST, SIZES, save_base
from writing import add_outputs, tell, verdict

ALONE, IN_LINE, AHEAD = "the tower alone", "decoded in line", "decoded ahead (`encode_image`)"
BUSY = 0.9
CAPTIONS = ["a dog runs through the snow", "two children play in the sand"]


def write_pictures(folder: Path, count: int, width: int, height: int) -> list[Path]:
    """Write JPEG files as large as those of a camera's of that many pixels: coarse shapes under fine noise."""
    generator = np.random.default_rng(0)
    paths = []
    for number in tqdm(range(count), unit="file", leave=False, disable=None):
        shapes = Image.fromarray(generator.integers(0, 256, size=(12, 16, 3), dtype=np.uint8))
        pixels = np.asarray(shapes.resize((width, height), Image.Resampling.BICUBIC), dtype=np.int16)
        pixels = pixels + generator.integers(-12, 13, size=pixels.shape, dtype=np.int16)
        paths.append(folder / f"{number:06d}.jpg")
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(paths[-1], quality=90)
    return paths


def seconds_of(model: CCRModel, paths: list[Path], args: argparse.Namespace) -> dict[str, list[float]]:
    """Seconds of each row in each round."""
    batches = [paths[start : start + args.batch] for start in range(0, len(paths), args.batch)]
    prepared = model.processor.picture_inputs  # type: ignore[union-attr]
    in_memory = [prepared(batch) for batch in tqdm(batches, unit="batch", leave=False, disable=None)]
    rows = {
        ALONE: lambda: [encode_pixels(model, pixels.copy(), None) for pixels in in_memory],
        IN_LINE: lambda: [encode_pixels(model, prepared(batch), None) for batch in batches],
        AHEAD: lambda: model.encode_image(paths, None, batch_size=args.batch, show_progress=False),
    }
    with precision(args.device, args.bf16):
        return alternating(rows, args.rounds, args.device)


def main(argv: list[str] | None = None) -> int:
    """Measure, print, and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=256, help="pictures")
    parser.add_argument("--pixels", type=int, nargs=2, default=(640, 480), metavar=("WIDTH", "HEIGHT"))
    parser.add_argument(
        "--size", choices=[name for name, size in SIZES.items() if size.vision is not None], default="vit-b-32"
    )
    parser.add_argument("--batch", type=int, default=32, help="pictures of a pass")
    parser.add_argument("--rounds", type=int, default=5, help="alternating rounds")
    parser.add_argument("--threads", type=int, default=0, help="torch threads; 0: as torch chooses")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--bf16", action="store_true", help="compute in bfloat16")
    add_outputs(parser, "pictures")
    args = parser.parse_args(argv)
    if args.threads:
        torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as home:
        base = Path(home) / "base"
        save_base(SIZES[args.size], train_tokenizer(CAPTIONS, size=200, max_length=LONGEST), base)
        paths = write_pictures(Path(home), args.count, *args.pixels)
        megabytes = sum(path.stat().st_size for path in paths) / 1e6
        seconds = seconds_of(CCRModel.from_base(base).to(args.device).eval(), paths, args)
    busy = {name: 1 / ratio for name, ratio in against(seconds, ALONE).items()}
    rows = [
        {"row": name, "pictures a second": f"{args.count / np.median(own):.1f}", "busy": f"{busy[name]:.0%}"}
        for name, own in seconds.items()
    ]
    facts = machine(args.device)
    precise = " in bf16" if args.bf16 else ""
    what = f"{counted(args.count, 'JPEG file')} of {args.pixels[0]} x {args.pixels[1]}, {megabytes:.0f} MB"
    note = machine_line(
        facts, f"image tower of {args.size} sizes{precise}, {what}, medians of {counted(args.rounds, 'round')}"
    )
    reached = [verdict("the tower is busy, pictures decoded ahead", busy[AHEAD], "at least", BUSY, ".2f")]
    tell(args, "pictures", [rows, reached], note, {"machine": facts, "seconds": seconds, "busy": busy})
    return 0


if __name__ == "__main__":
    sys.exit(main())
