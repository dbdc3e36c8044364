"""Optimiser states in 8 bits: what they save, whether the losses stay, and whether a run resumes bit for bit.

    pip install bitsandbytes
    python benchmarks/optimiser_states.py                     # ViT-B/32 sizes
    python benchmarks/optimiser_states.py --size tiny --steps 4 --optim adamw_torch adamw_8bit

The recipe's word for it is `optim: adamw_8bit`. The real trainer takes the steps, saves half-way, and a new trainer goes on
from there; parameters of fewer than 4,096 values keep states of 32 bits. The trained parts of an adapter are small, and so
is what there is to save: look at the column before you choose it.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import torch

from ccr_adapters.evaluation import console_table, write_metrics
from processes import losses_of, trainer_of
from towers import SIZES


def states_of(optimizer: torch.optim.Optimizer) -> int:
    """Bytes of all states."""
    values = (value for state in optimizer.state.values() for value in state.values())
    return sum(value.numel() * value.element_size() for value in values if isinstance(value, torch.Tensor))


def measured(name: str, args: argparse.Namespace) -> dict[str, float | bool]:
    """One run, and the same again from its middle."""
    half = args.steps // 2
    settings = {"optim": name, "max_steps": args.steps, "per_device_train_batch_size": args.batch}
    settings |= {"save_strategy": "steps", "save_steps": half}
    with tempfile.TemporaryDirectory() as folder:
        whole = trainer_of(SIZES[args.size], folder, **settings)
        whole.train()
        again = trainer_of(SIZES[args.size], folder, **settings)
        again.train(resume_from_checkpoint=str(Path(folder) / f"checkpoint-{half}"))
    one, other = whole.model.trainable_state(), again.model.trainable_state()
    return {
        "states MB": states_of(whole.optimizer) / 1e6,  # type: ignore[arg-type]
        "trained MB": sum(value.numel() * value.element_size() for value in one.values()) / 1e6,
        "last loss": losses_of(whole)[-1],
        "resumes bit for bit": all(torch.equal(value, other[key]) for key, value in one.items()),
    }


def main(argv: list[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--optim", nargs="+", default=["adamw_torch", "adamw_8bit"], help="as in `TrainingArguments`")
    parser.add_argument("--size", choices=SIZES, default="vit-b-32")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    args = parser.parse_args(argv)
    if args.steps < 2:
        parser.error("--steps counts two halves: at least 2.")
    found = {name: measured(name, args) for name in args.optim}
    print(
        console_table(
            [
                {"optim": name, **{key: f"{v:.4g}" if isinstance(v, float) else str(v) for key, v in row.items()}}
                for name, row in found.items()
            ]
        )
    )
    if args.json:
        write_metrics(args.json, found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
