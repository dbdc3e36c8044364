"""Training: arguments, cached targets, and a Trainer that knows methods."""

from __future__ import annotations

from ccr_adapters.training.arguments import CCRTrainingArguments
from ccr_adapters.training.targets import TargetCache
from ccr_adapters.training.trainer import CCRTrainer, last_checkpoint

__all__ = ["CCRTrainer", "CCRTrainingArguments", "TargetCache", "last_checkpoint"]
