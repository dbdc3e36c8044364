"""One of the processes of test_sharding.py: trains the packaged tiny model with a whole base, and with a shared one.

Usage: accelerate launch --config_file CONFIG worker.py FOLDER
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from accelerate import PartialState
from peft import LoraConfig
from torch.distributed.tensor import DTensor

from ccr_adapters.cli.recipe import recipe_from_dict
from ccr_adapters.cli.train import run_recipe
from ccr_adapters.dasd import DASDConfig
from ccr_adapters.modeling import CCRModel
from ccr_adapters.training.sharding import sharded_base

ARGUMENTS = {
    "use_cpu": True,
    "per_device_train_batch_size": 8,
    "max_steps": 2,
    "learning_rate": 0.002,
    "adam_epsilon": 0.001,  # keeps noise from looking like a step
    "eval_strategy": "steps",
    "eval_steps": 1,
    "save_strategy": "steps",
    "save_steps": 1,
    "load_best_model_at_end": True,
    "disable_tqdm": True,
}


def trained(folder: Path, chunk: int | None = None, **arguments: Any) -> str:
    """Train two stages of two steps, the second in chunks; returns the hash of the base afterwards."""
    values = {
        "base": "tiny_clip",
        "language": "de",
        "data": {"name": "tiny_world", "train": 64, "validation": 16, "test": 16},
        "output_dir": str(folder),
        "vocabulary": {"kind": "word", "size": 300},
        "arguments": {**ARGUMENTS, **arguments},
        "stages": [{"name": "cla"}, {"name": "cma", "arguments": {"mini_batch_size": chunk}}],
    }
    return run_recipe(recipe_from_dict(values)).model.base_sha256()


def held(adapter: Any) -> dict[str, int]:
    """Values of the base's blocks that this process holds: before, during and after training."""
    model = CCRModel.from_base("tiny_clip")
    model.add_language("de", adapter)
    model.trainable("de")

    def count() -> int:
        parts = (p.to_local() if isinstance(p, DTensor) else p for p in model.base.parameters() if not p.requires_grad)
        return sum(part.numel() for part in parts)

    found = {"before": count()}
    with sharded_base(model, model):
        found["during"] = count()
        found["shards"] = sum(isinstance(p, DTensor) for p in model.base.parameters())
        found["trained shards"] = sum(isinstance(p, DTensor) for p in model.parameters() if p.requires_grad)
    return {**found, "after": count()}


def main(folder: Path) -> None:
    """Train with and without; what was held goes to a file of each process."""
    hashes = [trained(folder / "whole"), trained(folder / "shared", 3, shard_base=True)]
    found = {"dasd": held(DASDConfig()), "lora": held(LoraConfig(r=4, target_modules="all-linear")), "hashes": hashes}
    (folder / f"{PartialState().process_index}.json").write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
