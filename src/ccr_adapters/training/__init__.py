"""Training: arguments, cached targets, and a Trainer that knows methods."""

from __future__ import annotations

from ccr_adapters.training.arguments import CCRTrainingArguments
from ccr_adapters.training.checkpoints import last_checkpoint
from ccr_adapters.training.targets import TargetCache
from ccr_adapters.training.trainer import CCRTrainer

__all__ = ["CCRTrainer", "CCRTrainingArguments", "TargetCache", "last_checkpoint"]
