"""transformers' Trainer, told what a method is: named terms, its own parameter groups, small strict checkpoints."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from accelerate.utils.memory import clear_device_cache
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import (
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled

from ccr_adapters.data.samplers import LengthBucketSampler
from ccr_adapters.errors import TrainingError, first_line
from ccr_adapters.methods import Method
from ccr_adapters.modeling.memory import ran_out
from ccr_adapters.training.arguments import CCRTrainingArguments
from ccr_adapters.training.checkpoints import (
    TRAINER_STATE,
    WEIGHTS,
    MarkComplete,
    last_checkpoint,
    save_state,
    told_of_a_full_disk,
)
from ccr_adapters.training.memory import step_that_fits
from ccr_adapters.training.optimiser import keep_tables_whole, parameter_groups
from ccr_adapters.training.sharding import sharded_base

logger = logging.getLogger(__name__)

# mean cosine between different captions from which on they are one; untrained small encoders reach 0.99 in good health
COLLAPSED = 0.9995
# steps before anything is said about it
WARM = 10
Evaluate = Callable[[Method], dict[str, float]]


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


def _statistics(model: nn.Module) -> list[Tensor]:
    """What a forward pass in training changes beside gradients: the running means of batch normalisation."""
    norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    return [buffer for norm in norms if norm.training for buffer in norm.buffers()]


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
        self._marks = MarkComplete()
        self.add_callback(self._marks)
        self._epochs = _SetEpoch(self.data_collator)
        self.add_callback(self._epochs)

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """As `Trainer.train`, with the frozen base shared out over the processes where the arguments say so."""
        method: Method = self.model
        with sharded_base(method.model, method) if self.args.shard_base else nullcontext():
            return super().train(*args, **kwargs)

    @property
    def seconds(self) -> float:
        """Of training, those of earlier runs up to the checkpoint that this one resumed from included."""
        return self._marks.seconds

    def count_from(self, checkpoint: Path | None) -> None:
        """Count the seconds of training from those of a checkpoint on."""
        self._marks.count_from(checkpoint)

    # ------------------------------------------------------------------------------------------------------- steps

    def training_step(
        self, model: nn.Module, inputs: dict[str, Tensor], num_items_in_batch: Any | None = None
    ) -> Tensor:
        """One forward and backward pass; where memory runs out, again with fewer rows at a time, or a clear end.

        Raises:
            TrainingError: If `on_out_of_memory` is `"stop"`, or processes share the batch.
        """
        model.train()  # transformers does so in the step, too late to see what the first one will change
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
            buffers=_statistics(model),
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
        host = self.accelerator.unwrap_model(model).model
        # processes that gather weights together must all make as many passes
        gathers = self.args.shard_base or is_deepspeed_zero3_enabled()
        with host.in_chunks(self._rows_at_once), host.by_length(not gathers):
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
            args = self.args
            settings = parameter_groups(method, args, set(self.get_decay_parameter_names(method)))
            optimizer_class, kwargs = self.get_optimizer_cls_and_kwargs(args)
            if kwargs.get("optim_bits") == 8:
                keep_tables_whole(method)
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
        found = {f"{metric_key_prefix}_{name}": value for name, value in self._scores(method).items()}
        method.train(was_training)
        self.log(found)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, found)
        return found

    def _scores(self, method: Method) -> dict[str, float]:
        """The metrics; where memory runs out, once more without what the last step left behind.

        Raises:
            TrainingError: If that does not help.
        """
        evaluate: Any = self.evaluate_method
        for attempt in range(2):
            try:
                found: dict[str, float] = evaluate(method)
                return found
            except RuntimeError as error:
                if not ran_out(error):
                    raise
                reason = first_line(error)
            clear_device_cache(garbage_collection=True)
            logger.warning("Out of memory while scoring the validation set (%s), attempt %d.", reason, attempt + 1)
        kept = last_checkpoint(str(self.args.output_dir))
        raise TrainingError(
            f"Out of memory while scoring the validation set at step {self.state.global_step} ({reason}). Last checkpoint: "
            f"{kept or 'none'}. Lower `per_device_train_batch_size` or set `mini_batch_size`, and start again."
        )

    # -------------------------------------------------------------------------------------------------- checkpoints

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        best = super()._determine_best_metric(metrics, trial)
        if best and self.args.load_best_model_at_end:
            # between two saves it would raise the score to beat and be lost
            self.control.should_save = True
        return best

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        # Trainer calls this in every process; two that write one file would move it away from under each other
        if self.args.should_save:
            folder = Path(str(output_dir or self.args.output_dir))
            save_state(self.accelerator.unwrap_model(self.model), folder / WEIGHTS)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        # which ones go is decided when this one is whole
        limit, self.args.save_total_limit = self.args.save_total_limit, None
        try:
            with told_of_a_full_disk(self.args.output_dir):
                super()._save_checkpoint(model, trial)
        finally:
            self.args.save_total_limit = limit

    def take_up(self, checkpoint: Path) -> None:
        """Stand where a training stood that had come to its end, without another step."""
        self.state = TrainerState.load_from_json(str(checkpoint / TRAINER_STATE))
        self._load_from_checkpoint(str(checkpoint))
        best = self.state.best_model_checkpoint
        if self.args.load_best_model_at_end and best:
            # beside this one, wherever the run lies by now
            self._load_from_checkpoint(str(checkpoint.parent / Path(best).name))

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
