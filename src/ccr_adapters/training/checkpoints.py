"""Checkpoints: written whole or not at all, marked when they are, and what a resumed run takes up from them."""

from __future__ import annotations

import errno
import json
import logging
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from safetensors import SafetensorError
from safetensors.torch import save_file
from transformers import EarlyStoppingCallback, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import rotate_checkpoints

from ccr_adapters.errors import TrainingError
from ccr_adapters.methods import Method

logger = logging.getLogger(__name__)

WEIGHTS = "trainable.safetensors"
COMPLETE = "complete.json"
TRAINER_STATE = "trainer_state.json"
_ROOM = "Make room on the disk, and start again: it goes on from the last whole checkpoint."


@contextmanager
def told_of_a_full_disk(folder: Any) -> Iterator[None]:
    """Tell a full disk as such.

    Raises:
        TrainingError: In place of what torch or the system says.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        # how torch tells it
        if not full and "PytorchStreamWriter" not in str(error) and "unexpected pos" not in str(error):
            raise
        kept = last_checkpoint(str(folder))
        raise TrainingError(f"A checkpoint in '{folder}' cannot be written. {_ROOM} Kept: {kept or 'none'}.") from error


def last_checkpoint(output_dir: str | Path) -> Path | None:
    """The newest whole checkpoint of a folder."""
    found = []
    for path in Path(output_dir).glob("checkpoint-*"):
        match = re.fullmatch(r"checkpoint-(\d+)", path.name)
        if match and (path / COMPLETE).is_file() and (path / WEIGHTS).is_file():
            found.append((int(match.group(1)), path))
    return max(found)[1] if found else None


def remove_incomplete(output_dir: str | Path) -> list[str]:
    """Remove checkpoints that were being written when a process died; returns their names."""
    broken = [
        path
        for path in Path(output_dir).glob("checkpoint-*")
        if re.fullmatch(r"checkpoint-\d+", path.name) and path.is_dir() and not (path / COMPLETE).is_file()
    ]
    for path in broken:
        logger.warning("'%s' was not written to its end and is removed.", path)
        shutil.rmtree(path)
    return [path.name for path in broken]


def save_state(method: Method, path: Path) -> None:
    """Write what a method trains: aside, then moved, so that a reader never sees half a file.

    Raises:
        TrainingError: If the disk is full, or a weight is not finite. A gradient can spoil the weights one step before the
            loss shows it, and such weights must not take the place of a good checkpoint.
    """
    state = {name: value.cpu().contiguous().clone() for name, value in method.trainable_state().items()}
    spoiled = [name for name, value in state.items() if not torch.isfinite(value).all()]
    if spoiled:
        kept = last_checkpoint(path.parent) or last_checkpoint(path.parents[1])
        raise TrainingError(
            f"'{path}' was not written: {len(spoiled)} weights are not finite, the first is '{spoiled[0]}'. "
            + (f"The last good checkpoint is kept: {kept}. " if kept else "No checkpoint had been written. ")
            + "Lower the learning rate."
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}")
    try:
        save_file(state, str(aside), metadata={"format": "pt"})
        os.replace(aside, path)
    except (OSError, SafetensorError) as error:
        aside.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise TrainingError(f"'{path}' cannot be written ({error}). {_ROOM}") from error


class MarkComplete(TrainerCallback):
    """Writes the last file of a checkpoint, so that one which a dying process left half-written is known.

    Older checkpoints go after that, and not before, as transformers would have it: a kill in between would leave none.

    It also counts the seconds of training, those of the runs before included, and finds the best checkpoint again where the
    folder has moved.
    """

    def __init__(self) -> None:
        self.before, self.start = 0.0, time.perf_counter()

    def count_from(self, checkpoint: Path | None) -> None:
        """Go on from what a checkpoint says."""
        if checkpoint is not None:
            self.before = float(json.loads((checkpoint / COMPLETE).read_text(encoding="utf-8")).get("seconds", 0))

    @property
    def seconds(self) -> float:
        """Since the first of them began to train."""
        return self.before + time.perf_counter() - self.start

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        """Look at the clock, and for the best checkpoint of the runs before."""
        self.start = time.perf_counter()
        best = Path(str(args.output_dir)) / f"checkpoint-{state.best_global_step}"
        if best.is_dir():
            state.best_model_checkpoint = str(best)
        return control

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        """Mark the checkpoint that was written just now."""
        folder = Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"
        PartialState().wait_for_everyone()  # each process has random states of its own in there
        if state.is_world_process_zero and folder.is_dir():
            aside = folder / f".{COMPLETE}"
            done = {"step": state.global_step, "seconds": round(self.seconds, 3)}
            with told_of_a_full_disk(args.output_dir):
                aside.write_text(json.dumps(done), encoding="utf-8")
                os.replace(aside, folder / COMPLETE)
            rotate_checkpoints(
                output_dir=str(args.output_dir),
                save_total_limit=args.save_total_limit,
                best_model_checkpoint=state.best_model_checkpoint,
                use_mtime=True,
            )
        return control


class Patience(EarlyStoppingCallback):
    """Early stopping that a resumed run remembers: transformers writes the counter to its checkpoints, and starts from 0."""

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Take up the counter of the checkpoint."""
        super().on_train_begin(args, state, control, **kwargs)
        self.early_stopping_patience_counter = self._evaluations_without_gain(state)

    @classmethod
    def _evaluations_without_gain(cls, state: TrainerState) -> int:
        return int(cls._kept(state).get("attributes", {}).get("early_stopping_patience_counter", 0))

    @classmethod
    def _kept(cls, state: TrainerState) -> dict[str, Any]:
        """What a checkpoint has of it."""
        every: Any = state.stateful_callbacks or {}
        kept: dict[str, Any] = every.get(cls.__name__) or {}
        return kept

    @classmethod
    def ended(cls, state: TrainerState) -> bool:
        """Whether a training had lost its patience."""
        most = cls._kept(state).get("args", {}).get("early_stopping_patience")
        return most is not None and cls._evaluations_without_gain(state) >= most


def ended(checkpoint: Path) -> bool:
    """Whether a training had come to its end when it wrote a checkpoint: another `train` would take one step too many."""
    state = TrainerState.load_from_json(str(checkpoint / TRAINER_STATE))
    return state.global_step >= state.max_steps or Patience.ended(state)
