"""A base whose family the table does not know: found by structure, and believed only after a trial."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ccr_adapters.dasd import TextEncoder, find_text_encoder
from ccr_adapters.dasd.anatomy import candidates, embedding_dim_of
from ccr_adapters.dasd.families import ANATOMIES, LEGACY_END
from ccr_adapters.errors import ConfigError
from ccr_adapters.modeling.towers import TextTower

logger = logging.getLogger(__name__)

_ATOL = 1e-4


def check_base(base: nn.Module, pooling: str | None) -> None:
    """Refuse a base whose captions could not be followed.

    A base of an unknown family gets the anatomy with which two made-up captions, walked through its parts, come out as
    from the base itself. It is remembered under the base's `model_type`.

    Args:
        base: The base.
        pooling: How a text encoder alone pools.

    Raises:
        ValueError: If it has no text encoder.
        ConfigError: If it is not made like any of those that are known; the message says what to write.
    """
    encoder = find_text_encoder(base)
    if encoder.known:
        TextTower(base, encoder, pooling)
        return
    model_type = str(getattr(base.config, "model_type", ""))
    for anatomy in candidates(encoder, base):
        found = replace(encoder, anatomy=anatomy)
        if _is_true(base, found, pooling):
            logger.warning(
                "'%s' is no family that is known; by its structure and a trial it is %s. Check a few captions, and add the "
                "line to `ccr_adapters.dasd.families.ANATOMIES` to be told no more.",
                model_type,
                anatomy,
            )
            ANATOMIES[model_type] = anatomy
            return
    raise ConfigError(
        f"The text encoder of a {type(base).__name__} was found ('{encoder.name}', {len(encoder.blocks)} blocks in "
        f"'{encoder.blocks_name}'), but not how its states become vectors. Write it down before loading: "
        f"`from ccr_adapters.dasd.families import ANATOMIES, Anatomy; ANATOMIES[{model_type!r}] = Anatomy(blocks="
        f"{encoder.anatomy.blocks!r}, token_embedding={encoder.anatomy.token_embedding!r}, pooling='first', "
        "projection=('text_projection',))`, with its own pooling and maps; its text module must take `inputs_embeds`."
    )


@torch.no_grad()
def _is_true(base: nn.Module, encoder: TextEncoder, pooling: str | None) -> bool:
    """Whether two captions come out the same by the anatomy and by the base. They differ in length, to show padding."""
    ids, mask = _captions(encoder)
    ends = mask.sum(dim=1) - 1 if encoder.anatomy.pooling != "last" else torch.full((2,), ids.shape[1] - 1)
    device = encoder.token_embedding.weight.device
    ids, mask, ends = ids.to(device), mask.to(device), ends.to(device)
    try:
        tower = TextTower(base, encoder, pooling)
        expected = tower.source(input_ids=ids, attention_mask=mask)
        vectors, _ = tower(encoder.token_embedding(ids), mask, ends, None)
    # the parts of a wrong guess do not fit together in ways as many as there are models
    except (TypeError, ValueError, AttributeError, RuntimeError, IndexError) as error:
        logger.debug("%s does not fit: %s", encoder.anatomy, error)
        return False
    width = embedding_dim_of(getattr(base, "config", None), encoder.config)
    same = vectors.shape == expected.shape == (2, width)
    return same and torch.allclose(vectors, expected, rtol=_ATOL, atol=_ATOL)


def _captions(encoder: TextEncoder) -> tuple[Tensor, Tensor]:
    size = encoder.token_embedding.num_embeddings
    special: dict[str, Any] = {name: getattr(encoder.config, f"{name}_token_id", None) for name in ("eos", "pad")}
    told = isinstance(special["eos"], int) and 0 <= special["eos"] < size
    # an end token of 2 in old CLIP configurations means the highest id
    end = special["eos"] if told and not (encoder.anatomy.legacy_end and special["eos"] == LEGACY_END) else size - 1
    pad = special["pad"] if isinstance(special["pad"], int) and 0 <= special["pad"] < size else 0
    words = [index for index in range(size // 2, size) if index not in (end, pad)][:5]
    rows = [[*words[:3], end, pad, pad], [*words[:5][::-1], end]]
    mask = [[1, 1, 1, 1, 0, 0], [1] * 6]
    return torch.tensor(rows), torch.tensor(mask)
