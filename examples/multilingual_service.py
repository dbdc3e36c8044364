"""Several languages from one model: loaded when they are asked for, mixed in one batch, switched in no time.

python examples/multilingual_service.py
python examples/multilingual_service.py --adapters org/dasd-clip-de org/dasd-clip-cs

Without adapters it teaches the tiny CLIP German, Chinese and Swahili, a few seconds each. `ccr-adapters serve` is the service.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Callable
from itertools import cycle
from pathlib import Path

import torch

from ccr_adapters import CCRModel, build_tiny_world, load_recipe, run_recipe
from ccr_adapters.errors import CCRError

RECIPE = Path(__file__).parent / "configs" / "tiny_transfer_de.yaml"
LANGUAGES = ["de", "zh", "sw"]
SMALL = ["data.train=1024", "data.validation=20", "data.test=20", "arguments.load_best_model_at_end=false"]
SMALL += ["arguments.max_steps=12", *(f"arguments.{name}_strategy='no'" for name in ("eval", "save", "logging"))]
QUICK = ["data.train=64", "arguments.per_device_train_batch_size=32", "arguments.max_steps=1"]


def trained(language: str, output: Path, quick: bool) -> str:
    """An adapter of a few steps; one that is there is taken."""
    folder = output / "training" / language
    if not (folder / "adapter").is_dir():
        print(f"Teaching the tiny CLIP {language} ...", flush=True)
        # pictures and English captions are encoded once for all of them
        changes = [f"language={language}", f"output_dir={folder}", f"cache_dir={output / 'targets'}"]
        run_recipe(load_recipe(RECIPE, [*changes, *SMALL, *(QUICK if quick else [])]), evaluate=False)
    return str(folder / "adapter")


def milliseconds(work: Callable[[], object], times: int = 5) -> float:
    """How long something takes, the median of a few times."""
    taken = []
    for _ in range(times):
        started = time.perf_counter()
        work()
        taken.append(time.perf_counter() - started)
    return 1000 * sorted(taken)[times // 2]


def main(argv: list[str] | None = None) -> int:
    """Load, encode a mixed batch, switch."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--adapters", nargs="+", help="folders or repositories on one base; default: three are trained")
    parser.add_argument("--output", type=Path, default=Path("runs/multilingual_service"), help="folder for everything")
    parser.add_argument("--quick", action="store_true", help="one step each: does it run?")
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    first, *others = args.adapters or [trained(code, args.output, args.quick) for code in LANGUAGES]

    model = CCRModel.from_pretrained(first)
    for place in others:
        model.load_language(place, lazy=True)
    print(f"\nLanguages: {', '.join(model.languages)}; in memory: {', '.join(model.loaded_languages)}")
    own = {code: {id(p): p.numel() for p in model.trainable(code)} for code in model.loaded_languages}
    base = sum(p.numel() for p in model.base.parameters() if not any(id(p) in weights for weights in own.values()))
    sizes = [f"{code} {sum(weights.values()) / 1e6:.1f} M" for code, weights in own.items()]
    print(f"The base has {base / 1e6:.1f} M weights, {', '.join(sizes)}")

    # pictures as people tell of them, each in a language of its own
    asked = {code: build_tiny_world(code, train=0, validation=0, test=12)["test"] for code in LANGUAGES}
    spoken = [code for _, code in zip(range(12), cycle([c for c in LANGUAGES if c in model.languages]), strict=False)]
    captions = [min(asked[code][row]["target_caption"], key=len) for row, code in enumerate(spoken)]
    mixed = model.encode_text(captions, language=spoken)  # loads what is not there yet
    best = model.similarity(mixed, model.encode_image(asked[LANGUAGES[0]]["image"])).argmax(dim=1).tolist()
    print(f"\nOne batch of 12; in memory now: {', '.join(model.loaded_languages)}")
    for row, (code, caption, hit) in enumerate(zip(spoken, captions, best, strict=True)):
        print(f"  {code}  {'found' if hit == row else 'missed'}  {caption}")
    alone = torch.cat([model.encode_text([caption], code) for caption, code in zip(captions, spoken, strict=True)])
    print(f"Largest difference to one caption at a time: {float((mixed - alone).abs().max()):.1e}")

    mixed_batch = milliseconds(lambda: model.encode_text(captions, spoken))
    switch = milliseconds(lambda: model.set_language(spoken[1]), times=101)
    print(f"The mixed batch takes {mixed_batch:.0f} ms, changing the language {1000 * switch:.0f} microseconds.")
    options = " ".join(f"--model {place}" for place in (first, *others))
    print(f"\nOver HTTP: ccr-adapters serve {options}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except CCRError as error:
        sys.exit(f"error: {error}")
