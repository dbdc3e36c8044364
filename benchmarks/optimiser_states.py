"""Optimiser states in 8 bits: what they save, whether the losses stay, and whether a run resumes bit for bit.

    pip install 'ccr-adapters[optim]'
    python benchmarks/optimiser_states.py                     # ViT-B/32 sizes
    python benchmarks/optimiser_states.py --write docs/performance.md
    python benchmarks/optimiser_states.py --size tiny --steps 4 --optim adamw_torch adamw_8bit

The recipe's word for it is `optim: adamw_8bit`. The real trainer takes the steps, saves half-way, and a new trainer goes on
from there; parameters of fewer than 4,096 values keep states of 32 bits. The trained parts of an adapter are small, and so
is what there is to save: look at the column before you choose it.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import tempfile
from pathlib import Path

import torch

from measure import Bar, machine, machine_line
from processes import losses_of, trainer_of
from towers import SIZES
from writing import add_outputs, tell


def states_of(optimizer: torch.optim.Optimizer) -> int:
    """Bytes of all states."""
    values = (value for state in optimizer.state.values() for value in state.values())
    return sum(value.numel() * value.element_size() for value in values if isinstance(value, torch.Tensor))


def measured(name: str, args: argparse.Namespace, bar: Bar) -> dict[str, float | bool]:
    """One run, and the same again from its middle."""
    half = args.steps // 2
    settings = {"optim": name, "max_steps": args.steps, "per_device_train_batch_size": args.batch}
    settings |= {"save_strategy": "steps", "save_steps": half}
    with tempfile.TemporaryDirectory() as folder:
        whole = trainer_of(SIZES[args.size], folder, callbacks=[bar], **settings)
        whole.train()
        again = trainer_of(SIZES[args.size], folder, callbacks=[bar], **settings)
        again.train(resume_from_checkpoint=str(Path(folder) / f"checkpoint-{half}"))
    one, other = whole.model.trainable_state(), again.model.trainable_state()
    return {
        "states MB": states_of(whole.optimizer) / 1e6,  # type: ignore[arg-type]
        "trained MB": sum(value.numel() * value.element_size() for value in one.values()) / 1e6,
        "last loss": losses_of(whole)[-1],
        "resumes bit for bit": all(torch.equal(value, other[key]) for key, value in one.items()),
    }


def parsed(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--optim", nargs="+", default=["adamw_torch", "adamw_8bit"], help="as in `TrainingArguments`")
    parser.add_argument("--size", choices=SIZES, default="vit-b-32")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=20)
    add_outputs(parser, "optimiser_states")
    args = parser.parse_args(argv)
    if args.steps < 2:
        parser.error(f"--steps {args.steps} has no two halves. Give at least 2.")
    small = [name for name in args.optim if "8bit" in name]
    if small and importlib.util.find_spec("bitsandbytes") is None:
        parser.error(f"{small[0]} needs bitsandbytes: pip install 'ccr-adapters[optim]', or leave it out of --optim.")
    return args


def main(argv: list[str] | None = None) -> int:
    """Measure and print."""
    args = parsed(argv)
    bar = Bar(len(args.optim) * (args.steps + args.steps - args.steps // 2))
    found = {name: measured(name, args, bar) for name in args.optim}
    bar.bar.close()
    rows = [
        {"optim": name, **{key: f"{v:.4g}" if isinstance(v, float) else str(v) for key, v in row.items()}}
        for name, row in found.items()
    ]
    facts = machine()
    note = machine_line(facts, f"text tower of {args.size} sizes, {args.steps} steps of {args.batch} rows")
    tell(args, "optimiser_states", [rows], note, {"machine": facts, "rows": found})
    return 0


if __name__ == "__main__":
    sys.exit(main())
