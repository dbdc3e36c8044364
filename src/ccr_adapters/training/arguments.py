"""Training arguments: only what transformers' own do not have."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass, field
from datetime import timedelta

from accelerate import PartialState
from accelerate.utils import compare_versions
from transformers import TrainingArguments

logger = logging.getLogger(__name__)


@dataclass
class CCRTrainingArguments(TrainingArguments):
    """`TrainingArguments` with DASD's published optimiser as defaults, and rates for the parts that need their own.

    Args:
        vocabulary_learning_rate: Peak rate of the target's token embedding; `None` takes `learning_rate`.
        auxiliary_learning_rate: Rate of discriminators (1e-4 in DASD, betas .9/.999, no weight decay).
        bucket_chunk: Batches that are sorted by length together.
        mini_batch_size: Rows that are encoded at a time, with the gradients of the whole batch (GradCache): thousands of
            negatives in the memory of `mini_batch_size` rows, for a second forward pass. Fewer where captions are long.
            `None` keeps the activations of all.
        on_out_of_memory: `"chunk"` takes the step again with half of the rows at a time, until it fits, and goes on so, which
            changes the time and not the training; `"stop"` ends the run and says how many rows fit. Processes that share
            a batch always stop: the others cannot wait for one that tries again.
        shard_base: Each process keeps one part of the frozen base and gathers a block while it computes (FSDP2). What is
            trained stays whole in each. For bases that do not fit on one device.
    """

    vocabulary_learning_rate: float | None = field(default=None, metadata={"help": "Peak rate of the token embedding."})
    auxiliary_learning_rate: float = field(default=1e-4, metadata={"help": "Rate of discriminators."})
    bucket_chunk: int = field(default=16, metadata={"help": "Batches sorted by length together."})
    mini_batch_size: int | None = field(default=None, metadata={"help": "Rows encoded at a time (GradCache)."})
    on_out_of_memory: str = field(default="chunk", metadata={"help": "'chunk' (fewer rows at a time) or 'stop'."})
    shard_base: bool = field(default=False, metadata={"help": "Share the frozen base out over the processes (FSDP2)."})
    # DASD (Cai et al. 2025): Adam .9/.98, weight decay .2, 10% warm-up then cosine, batch 128, norm 1
    learning_rate: float = field(default=2e-4, metadata={"help": "Peak rate of the adapters."})
    adam_beta2: float = field(default=0.98, metadata={"help": "Second beta of Adam."})
    weight_decay: float = field(default=0.2, metadata={"help": "Weight decay, none on biases, norms and tables."})
    warmup_steps: float = field(default=0.1, metadata={"help": "Steps, or a share of all steps, of linear warm-up."})
    lr_scheduler_type: str = field(default="cosine", metadata={"help": "Schedule after the warm-up."})
    per_device_train_batch_size: int = field(default=128, metadata={"help": "Rows a step and device."})
    max_grad_norm: float = field(default=1.0, metadata={"help": "Gradients are clipped to this norm."})
    remove_unused_columns: bool = field(default=False, metadata={"help": "The collator chooses."})
    dataloader_drop_last: bool = field(default=True, metadata={"help": "A short last batch has fewer negatives."})
    metric_for_best_model: str | None = field(default="mAR", metadata={"help": "Mean average recall on validation."})
    greater_is_better: bool | None = field(default=True, metadata={"help": "mAR is a recall."})
    report_to: str | list[str] = field(default="none", metadata={"help": "Where to log beside the console."})
    save_total_limit: int | None = field(default=2, metadata={"help": "Checkpoints kept."})
    # while one process fills the caches of a large corpus the others wait, and half an hour is too short for that
    ddp_timeout: int = field(default=7 * 24 * 3600, metadata={"help": "Seconds that processes wait for each other."})
    # the only large buffer is the bank of cached vectors, the same in every process
    ddp_broadcast_buffers: bool | None = field(default=False, metadata={"help": "Send buffers at every step."})
    ddp_find_unused_parameters: bool | None = field(default=False, metadata={"help": "Search for unused parameters."})

    def __post_init__(self) -> None:
        on_cpu = self.use_cpu or os.environ.get("ACCELERATE_USE_CPU", "false").lower() in ("1", "true", "yes")
        if on_cpu and int(os.environ.get("WORLD_SIZE", "1")) > 1:
            # the group is made here: transformers hands its patience on to accelerators alone
            PartialState(cpu=True, timeout=timedelta(seconds=self.ddp_timeout))
        super().__post_init__()
        if self.n_gpu > 1:
            # transformers would spread the rows over them, each with negatives of its own
            logger.warning(
                "%d GPUs are visible to one process, which uses the first. Use all with `accelerate launch --num_processes %d`.",
                self.n_gpu,
                self.n_gpu,
            )
            self._n_gpu = 1
        if self.dataloader_persistent_workers:
            raise ValueError(
                "`dataloader_persistent_workers` keeps what the first epoch draws at random; leave it off."
            )
        # nothing to copy to: torch would warn at every loader
        self.dataloader_pin_memory = self.dataloader_pin_memory and self.device.type != "cpu"
        for name in ("vocabulary_learning_rate", "auxiliary_learning_rate"):
            value = getattr(self, name)
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if value is not None and not (number and value >= 0):
                raise ValueError(f"`{name}` is {value!r}; expected a number, 0 or more.")
        if self.mini_batch_size is not None and self.mini_batch_size < 1:
            raise ValueError(f"`mini_batch_size` is {self.mini_batch_size!r}; expected 1 or more rows, or nothing.")
        if self.on_out_of_memory not in ("chunk", "stop"):
            raise ValueError(f"`on_out_of_memory` is {self.on_out_of_memory!r}; expected 'chunk' or 'stop'.")
        if self.bucket_chunk < 1:
            raise ValueError(f"`bucket_chunk` is {self.bucket_chunk!r}; expected 1 or more batches.")
        self._check_launcher()

    def _check_launcher(self) -> None:
        if self.fsdp or os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true":
            raise ValueError(
                "FSDP of Accelerate or transformers would shard the adapter with the base. Launch plain processes "
                "(distributed_type: MULTI_GPU) and set `shard_base: true`, which shards the base alone."
            )
        if self.deepspeed_plugin is not None:
            _refuse_lost_gradients(self.deepspeed_plugin.zero_stage, self.gradient_accumulation_steps)


def _refuse_lost_gradients(stage: int, accumulated: int) -> None:
    """Since 0.17.6 DeepSpeed keeps the last of the gradients that ZeRO-2 should sum (deepspeedai/DeepSpeed#7718)."""
    if stage == 2 and accumulated > 1 and compare_versions("deepspeed", ">=", "0.17.6"):
        raise ValueError(
            f"`gradient_accumulation_steps` is {accumulated}, and with ZeRO-2 DeepSpeed loses some of those gradients since its "
            "release 0.17.6. Install 'deepspeed<0.17.6', or set `mini_batch_size`, which needs no accumulation."
        )
