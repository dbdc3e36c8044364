"""transformers' Trainer, told what a method is: named terms, its own parameter groups, small strict checkpoints."""

from __future__ import annotations

import errno
import json
import logging
import os
import re
import shutil
from collections import defaultdict
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ccr_adapters.data.samplers import LengthBucketSampler
from ccr_adapters.errors import ConfigError, TrainingError
from ccr_adapters.methods import Method
from ccr_adapters.training.arguments import CCRTrainingArguments
from ccr_adapters.training.memory import step_that_fits
from ccr_adapters.training.sharding import sharded_base

logger = logging.getLogger(__name__)

WEIGHTS = "trainable.safetensors"
COMPLETE = "complete.json"
# mean cosine between different captions from which on they are one; untrained small encoders reach 0.99 in good health
COLLAPSED = 0.9995
# steps before anything is said about it
WARM = 10
_ROOM = "Make room on the disk, and start again: it goes on from the last whole checkpoint."
Evaluate = Callable[[Method], dict[str, float]]


class _MarkComplete(TrainerCallback):
    """Writes the last file of a checkpoint, so that one which a dying process left half-written is known."""

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        folder = Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"
        PartialState().wait_for_everyone()  # each process has random states of its own in there
        if state.is_world_process_zero and folder.is_dir():
            aside = folder / f".{COMPLETE}"
            aside.write_text(json.dumps({"step": state.global_step}), encoding="utf-8")
            os.replace(aside, folder / COMPLETE)
        return control


class _SetEpoch(TrainerCallback):
    """Tells sampler and collator the epoch. Accelerate's own way to it is lost where processes resume inside an epoch."""

    def __init__(self, *listeners: Any) -> None:
        self.listeners = [listener for listener in listeners if hasattr(listener, "set_epoch")]

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        for listener in self.listeners:
            listener.set_epoch(int(state.epoch or 0))
        return control


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


class CCRTrainer(Trainer):
    """Trains a [`Method`].

    Args:
        model: The method; its forward pass gives named terms, their sum is the loss.
        args: The arguments.
        lengths: Length of each training row, for batches of like length; `None` keeps transformers' order.
        weights: How far to trust each row, from 0 to 1; see `LengthBucketSampler`. Needs `lengths`.
        evaluate_method: Metrics on validation, without a prefix; must contain `args.metric_for_best_model`.
        kwargs: As for `Trainer` (`train_dataset`, `data_collator`, `callbacks`, ...).
    """

    args: CCRTrainingArguments
    model: Any

    def __init__(
        self,
        model: Method,
        args: CCRTrainingArguments,
        *,
        lengths: Any | None = None,
        weights: Any | None = None,
        evaluate_method: Evaluate | None = None,
        **kwargs: Any,
    ) -> None:
        self.lengths = lengths
        self.weights = weights
        self.evaluate_method = evaluate_method
        if evaluate_method is not None:
            # Trainer insists on a data set where it evaluates; ours is with the function
            kwargs.setdefault("eval_dataset", [])
        super().__init__(model=model, args=args, **kwargs)
        self._terms: dict[str, Tensor] = defaultdict(lambda: torch.zeros(()))
        self._term_steps = 0
        self._collapsed = 0
        self._rows_at_once = args.mini_batch_size
        self.add_callback(_MarkComplete())
        self._epochs = _SetEpoch(self.data_collator)
        self.add_callback(self._epochs)

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """As `Trainer.train`, with the frozen base shared out over the processes where the arguments say so."""
        method: Method = self.model
        with sharded_base(method.model, method) if self.args.shard_base else nullcontext():
            return super().train(*args, **kwargs)

    # ------------------------------------------------------------------------------------------------------- steps

    def training_step(
        self, model: nn.Module, inputs: dict[str, Tensor], num_items_in_batch: Any | None = None
    ) -> Tensor:
        """One forward and backward pass; where memory runs out, again with fewer rows at a time, or a clear end.

        Raises:
            TrainingError: If `on_out_of_memory` is `"stop"`, or processes share the batch.
        """
        rows, allowed = len(next(iter(inputs.values()))), self._rows_at_once
        terms, steps = self._terms.copy(), self._term_steps

        def step(chunk: int | None) -> Tensor:
            self._rows_at_once, self._terms, self._term_steps = chunk, terms.copy(), steps
            loss: Tensor = super(CCRTrainer, self).training_step(model, inputs, num_items_in_batch)
            return loss

        loss, fits = step_that_fits(
            step,
            rows,
            allowed,
            model.parameters(),
            alone=self.args.world_size == 1,
            keep_gradients=self.args.gradient_accumulation_steps > 1,
        )
        if fits != allowed and self.args.on_out_of_memory == "stop":
            raise TrainingError(
                f"Out of memory at step {self.state.global_step + 1} with {allowed or rows} rows at a time; {fits} fit. Set "
                f"`mini_batch_size: {fits}`, which trains the same, or `on_out_of_memory: chunk`."
            )
        return loss

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Any | None = None,
    ) -> Tensor | tuple[Tensor, dict[str, Tensor]]:
        """Sum of the method's terms; each is logged by its name."""
        with self.accelerator.unwrap_model(model).model.in_chunks(self._rows_at_once):
            terms: dict[str, Tensor] = model(**inputs)
        loss = torch.stack([term.float() for term in terms.values()]).sum()
        if not torch.isfinite(loss):
            values = ", ".join(f"{name} {term.item():.4g}" for name, term in terms.items())
            rows = inputs.get("image_index")
            kept = last_checkpoint(str(self.args.output_dir))
            raise TrainingError(
                f"The loss is not finite at step {self.state.global_step + 1} ({values}). The batch shows the pictures "
                f"{rows.tolist()[:8] if rows is not None else '?'}... (by index). "
                + (f"The last good checkpoint is kept: {kept}. " if kept else "No checkpoint had been written. ")
                + "Lower the learning rate, or look at those rows."
            )
        for name, term in terms.items():
            self._terms[name] = self._terms[name].to(term.device) + term.detach().float()
        self._term_steps += 1
        return (loss, terms) if return_outputs else loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the mean of each term since the last log."""
        if "loss" in logs and self._term_steps:
            for name, total in self._terms.items():
                logs[f"term/{name}"] = round(float(total) / self._term_steps, 6)
            self._terms.clear()
            self._term_steps = 0
            self._check_health(logs)
        super().log(logs, start_time)

    def _check_health(self, logs: dict[str, float]) -> None:
        """Log the figures that the method keeps, and stop where all captions have become one.

        Raises:
            TrainingError: If captions were alike in three logs running, which no later step mends.
        """
        observed = self.accelerator.unwrap_model(self.model).observed()
        logs.update({f"health/{name}": round(value, 6) for name, value in observed.items()})
        alike = observed.get("mean_cosine", 0.0)
        self._collapsed = self._collapsed + 1 if alike > COLLAPSED else 0
        if self._collapsed >= 3 and self.state.global_step >= WARM:
            kept = last_checkpoint(str(self.args.output_dir))
            raise TrainingError(
                f"The captions have collapsed: at step {self.state.global_step} the mean cosine between different ones is "
                f"{alike:.4f}, in the third log running or longer. Lower the learning rate, give a term with negatives more "
                f"weight (contrastive, relational, triplet), or use larger batches. Last checkpoint: {kept or 'none'}."
            )

    def _get_train_sampler(self, train_dataset: Any | None = None) -> Any:
        if self.lengths is None:
            return super()._get_train_sampler(train_dataset)
        args = self.args
        rows = (
            args.per_device_train_batch_size * max(1, args.n_gpu) * args.gradient_accumulation_steps * args.world_size
        )
        sampler = LengthBucketSampler(self.lengths, rows, seed=args.seed, chunk=args.bucket_chunk, weights=self.weights)
        self._epochs.listeners.append(sampler)
        return sampler

    # --------------------------------------------------------------------------------------------------- optimiser

    def create_optimizer(self, model: Any | None = None) -> torch.optim.Optimizer:
        """Groups by what a parameter belongs to: adapters, the token embedding, discriminators."""
        if self.optimizer is None:
            method: Method = self.model
            owner: dict[int, str] = {}
            for kind in ("vocabulary", "auxiliary"):
                for module in method.modules_of(kind):
                    owner.update({id(parameter): kind for parameter in module.parameters()})
            decayed = {
                id(p) for name, p in method.named_parameters() if name in set(self.get_decay_parameter_names(method))
            }
            args = self.args
            rates = {
                "vocabulary": args.vocabulary_learning_rate or args.learning_rate,
                "auxiliary": args.auxiliary_learning_rate,
                "adapter": args.learning_rate,
            }
            groups: dict[tuple[str, bool], list[nn.Parameter]] = defaultdict(list)
            for parameter in method.parameters():
                if parameter.requires_grad:
                    kind = owner.get(id(parameter), "adapter")
                    # rows of a table that a batch does not touch must not shrink
                    groups[kind, kind == "adapter" and id(parameter) in decayed].append(parameter)
            if not groups:
                raise ConfigError("Nothing is trainable. Call model.trainable(language) before training.")
            settings = []
            for (kind, decay), parameters in sorted(groups.items()):
                group: dict[str, Any] = {"params": parameters, "lr": rates[kind], "name": kind}
                group["weight_decay"] = args.weight_decay if decay else 0.0
                if kind == "auxiliary":
                    group["betas"] = (0.9, 0.999)
                settings.append(group)
            optimizer_class, kwargs = self.get_optimizer_cls_and_kwargs(args)
            self.optimizer = optimizer_class(settings, **kwargs)
        return self.optimizer

    # -------------------------------------------------------------------------------------------------- evaluation

    def evaluate(self, *args: Any, metric_key_prefix: str = "eval", **kwargs: Any) -> dict[str, float]:
        """Metrics of the method on validation, logged with the prefix."""
        if self.evaluate_method is None:
            return {}
        method: Method = self.accelerator.unwrap_model(self.model)
        was_training = method.training
        method.eval()
        found = {f"{metric_key_prefix}_{name}": value for name, value in self.evaluate_method(method).items()}
        method.train(was_training)
        self.log(found)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, found)
        return found

    # -------------------------------------------------------------------------------------------------- checkpoints

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        # Trainer calls this in every process; two that write one file would move it away from under each other
        if self.args.should_save:
            folder = Path(str(output_dir or self.args.output_dir))
            save_state(self.accelerator.unwrap_model(self.model), folder / WEIGHTS)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        try:
            super()._save_checkpoint(model, trial)
        except RuntimeError as error:
            # how torch tells a full disk
            if "PytorchStreamWriter" not in str(error) and "unexpected pos" not in str(error):
                raise
            raise TrainingError(f"A checkpoint in '{self.args.output_dir}' cannot be written. {_ROOM}") from error

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        path = Path(resume_from_checkpoint) / WEIGHTS
        try:
            state = load_file(str(path))
        except (SafetensorError, OSError) as error:
            raise TrainingError(
                f"The checkpoint '{path}' cannot be read ({error}). Remove its folder and start again."
            ) from error
        self.accelerator.unwrap_model(self.model).load_trainable_state(state)

    def _load_best_model(self) -> None:
        best = self.state.best_model_checkpoint
        if best:
            logger.info(
                "Best checkpoint: %s (%s %.4f)",
                best,
                self.args.metric_for_best_model,
                self.state.best_metric or 0,
            )
            self._load_from_checkpoint(best)
