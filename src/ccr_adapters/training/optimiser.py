"""What the optimiser is told: groups by what a parameter belongs to, each with its rate, decay and betas."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection
from importlib import import_module
from typing import Any

from torch import nn

from ccr_adapters.errors import ConfigError
from ccr_adapters.methods import Method
from ccr_adapters.training.arguments import CCRTrainingArguments

_SHARED = re.compile(r"\bdasd_generator\.[^.]+\.core$")


def parameter_groups(
    method: Method, args: CCRTrainingArguments, decayed_names: Collection[str]
) -> list[dict[str, Any]]:
    """Groups of the trained parameters: adapters, the token embedding, discriminators.

    Args:
        method: What is trained.
        args: With a rate for each.
        decayed_names: Of the parameters that are neither biases nor norms.

    Raises:
        ConfigError: If nothing is trainable.
    """
    owner: dict[int, str] = {}
    for kind in ("vocabulary", "auxiliary"):
        for module in method.modules_of(kind):
            owner.update({id(parameter): kind for parameter in module.parameters()})
    # the one core of all captions (`condition_on: nothing`) is what the bias of a generator is to others: it starts at 1
    decayed = {id(p) for name, p in method.named_parameters() if name in decayed_names and not _SHARED.search(name)}
    maps = {
        id(inner.weight)
        for module in method.modules_of("vocabulary")
        for inner in module.modules()
        if isinstance(inner, nn.Linear)
    }
    rates = {
        "vocabulary": args.learning_rate if args.vocabulary_learning_rate is None else args.vocabulary_learning_rate,
        "auxiliary": args.auxiliary_learning_rate,
        "adapter": args.learning_rate,
    }
    groups: dict[tuple[str, bool], list[nn.Parameter]] = defaultdict(list)
    for parameter in method.parameters():
        if parameter.requires_grad:
            kind = owner.get(id(parameter), "adapter")
            # rows of a table that a batch does not touch must not shrink
            shrinks = kind == "adapter" or id(parameter) in maps
            groups[kind, shrinks and id(parameter) in decayed].append(parameter)
    if not groups:
        raise ConfigError("Nothing is trainable. Call model.trainable(language) before training.")
    settings = []
    for (kind, decay), parameters in sorted(groups.items()):
        group: dict[str, Any] = {"params": parameters, "lr": rates[kind], "name": kind}
        group["weight_decay"] = args.weight_decay if decay else 0.0
        if kind == "auxiliary":
            group["betas"] = (0.9, 0.999)
        settings.append(group)
    return settings


def keep_tables_whole(method: Method) -> None:
    """Leave the states of token embeddings at 32 bits, as transformers does: most of their rows get no gradient at a step."""
    manager = import_module("bitsandbytes.optim").GlobalOptimManager.get_instance()  # an extra
    for module in method.modules():
        if isinstance(module, nn.Embedding) and module.weight.requires_grad:
            manager.register_module_override(module, "weight", {"optim_bits": 32})
