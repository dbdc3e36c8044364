"""A base from its files, with all of its weights: transformers draws those that a file lacks at random, and goes on."""

from __future__ import annotations

from typing import Any

from transformers import AutoModel, PreTrainedModel

from ccr_adapters.dasd import find_text_encoder
from ccr_adapters.errors import AdapterError
from ccr_adapters.processing.bases import NO_REMOTE_CODE


def load_base(place: str, **how: Any) -> PreTrainedModel:
    """Load a base, and refuse one with missing weights.

    A pooler that its file lacks, as RoBERTa's do, and that no caption goes through is left out of the model: its random
    weights would give the base another hash at each loading.

    Args:
        place: Repository or folder.
        how: Passed to `AutoModel.from_pretrained`.

    Raises:
        AdapterError: If its files lack weights.
        OSError: If transformers does not find it.
        ValueError: If transformers cannot read it.
    """
    model: PreTrainedModel
    model, found = AutoModel.from_pretrained(place, output_loading_info=True, **{**NO_REMOTE_CODE, **how})
    missing = sorted(found["missing_keys"])
    if missing:
        encoder = find_text_encoder(model)
        pooler = f"{encoder.name}.pooler.".lstrip(".")
        if not encoder.anatomy.pooler and all(name.startswith(pooler) for name in missing):
            encoder.module.pooler = None  # type: ignore[assignment]
            return model
        others = f" and {len(missing) - 1} others" if len(missing) > 1 else ""
        raise AdapterError(f"its files lack the weight {missing[0]}{others}, which would be random; save it anew")
    return model
