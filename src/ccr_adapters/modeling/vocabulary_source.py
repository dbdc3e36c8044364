"""The token embedding of a pretrained model, as the start of a target vocabulary."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from transformers import AutoModel

from ccr_adapters.errors import ConfigError


def source_table(name: str | Path, **kwargs: object) -> Tensor:
    """Input embeddings of a model (mBERT: 119,547 x 768).

    Args:
        name: Repository or folder.
        kwargs: What `AutoModel.from_pretrained` takes.

    Returns:
        The table, in float32. (n, e)
    """
    model = AutoModel.from_pretrained(str(name), dtype=torch.float32, **kwargs)
    table = model.get_input_embeddings()
    if table is None or not hasattr(table, "weight"):
        raise ConfigError(f"'{name}' has no input embeddings to start a vocabulary from.")
    return table.weight.detach().clone()
