"""The token embedding of a pretrained model, as the start of a target vocabulary."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor
from transformers import AutoModel

from ccr_adapters.configuration import VocabularyConfig
from ccr_adapters.errors import AdapterError, ConfigError, first_line
from ccr_adapters.processing.bases import NO_REMOTE_CODE


def source_table(name: str | Path, *, sha256: str | None = None, **kwargs: object) -> Tensor:
    """Input embeddings of a model (mBERT: 119,547 x 768).

    Args:
        name: Repository or folder.
        sha256: What `table_sha256` found when an adapter was made from it.
        kwargs: What `AutoModel.from_pretrained` takes.

    Returns:
        The table, in float32. (n, e)

    Raises:
        AdapterError: If the model cannot be loaded, or its table is another one by now.
        ConfigError: If it has none.
    """
    try:
        model = AutoModel.from_pretrained(str(name), dtype=torch.float32, **NO_REMOTE_CODE, **kwargs)
    except (OSError, ValueError) as error:
        raise AdapterError(
            f"The model '{name}', from which a vocabulary's rows come, cannot be loaded ({first_line(error)})."
        ) from error
    table = model.get_input_embeddings()
    if table is None or not hasattr(table, "weight"):
        raise ConfigError(f"'{name}' has no input embeddings to start a vocabulary from.")
    rows: Tensor = table.weight.detach().clone()
    if sha256 is not None and table_sha256(rows) != sha256:
        raise AdapterError(
            f"The token embedding of '{name}' has changed since the adapter was made from it (sha256 "
            f"{table_sha256(rows)[:12]}..., expected {sha256[:12]}...), so its untrained rows cannot be rebuilt."
        )
    return rows


def with_hash(config: VocabularyConfig, table: Tensor | None) -> VocabularyConfig:
    """The configuration with the hash of the table that it starts from, where it names where that comes from."""
    if table is None or config.source is None or config.source_sha256 is not None:
        return config
    return replace(config, source_sha256=table_sha256(table))


def table_sha256(table: Tensor) -> str:
    """A hash of rows, rounded to bfloat16 as that of a base is."""
    digest = hashlib.sha256(str(tuple(table.shape)).encode())
    digest.update(table.detach().to("cpu", torch.bfloat16).contiguous().view(torch.int16).numpy().tobytes())
    return digest.hexdigest()
