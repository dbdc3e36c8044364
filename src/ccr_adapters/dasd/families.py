"""The families of text encoders, as data: where the parts of each are, and what its captions look like. One row each."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from ccr_adapters.dasd.config import Pooling


@dataclass(frozen=True)
class Anatomy:
    """One family of encoders.

    Paths in the first group are relative to the text module (the one that takes `input_ids`), those of `projection` to
    the whole model.
    """

    blocks: str
    """The list of blocks."""
    token_embedding: str
    """The table of token vectors."""
    pooling: Pooling
    """Which state stands for the caption: of its end token, of the last position, of the first, or the mean."""
    norm: str | None = None
    """The norm behind the blocks of a text module that takes ids alone; one without it takes `inputs_embeds`."""
    head: str | None = None
    """Map of the pooled state, inside the text module."""
    carrier: str | None = None
    """The module that hands keywords on to the blocks, where the text module itself drops them."""
    place: str | None = None
    """Path of the text module inside the model; `None` looks in the usual places."""

    projection: tuple[str, ...] = ()
    """Maps of the pooled state on its way to the shared space, in order."""
    pooler: bool = False
    """The projection reads the text module's own `pooler_output`."""
    legacy_end: bool = False
    """An end token of 2 in the configuration means the highest id of a caption, as before transformers 4.31."""

    fixed_length: bool = False
    """Captions are padded to the longest there may be, and the padding is read."""
    lowercase: bool = False
    """Trained on lower-case captions, and not every tokenizer of the family writes them so."""
    positions_from: Literal["padding"] | int = 0
    """First position that a token takes; RoBERTa's is the one behind the padding id."""
    length: int | None = None
    """Longest caption in training, where the encoder has room for longer ones."""


# Causal encoders know a caption only at its end; SigLIP pools the last position, padding included; BERT-like encoders
# have a token of their own for the whole in front.
CLIP = Anatomy(
    blocks="encoder.layers",
    token_embedding="embeddings.token_embedding",
    pooling="eos",
    norm="final_layer_norm",
    projection=("text_projection",),
    legacy_end=True,
)
# MetaCLIP 2 has XLM-V's vocabulary, where the end token really is 2
_METACLIP2 = replace(CLIP, legacy_end=False)
# SigLIP 2 at fixed resolutions is of type `siglip` too, with Gemma's tokenizer, which keeps capitals
SIGLIP = Anatomy(
    blocks="encoder.layers",
    token_embedding="embeddings.token_embedding",
    pooling="last",
    norm="final_layer_norm",
    head="head",
    fixed_length=True,
    lowercase=True,
)
_BERT = Anatomy(blocks="encoder.layer", token_embedding="embeddings.word_embeddings", pooling="first")
_ROBERTA = replace(_BERT, positions_from="padding")
# 512 positions come from the Chinese RoBERTa that it started from; as Chinese-CLIP it has read 52 tokens at most
_CHINESE_CLIP = replace(_BERT, length=52)
_ALTCLIP = replace(_ROBERTA, blocks="encoder.layers")
_M_CLIP = replace(_ROBERTA, pooling="mean", projection=("LinearTransformation",))

LEGACY_END = 2
"""The end token that CLIP checkpoints converted before transformers 4.31 name, and which is not theirs."""

ANATOMIES: dict[str, Anatomy] = {
    "clip": CLIP,
    "clip_text_model": CLIP,
    "xclip": CLIP,
    "xclip_text_model": CLIP,
    "metaclip_2": _METACLIP2,
    "metaclip_2_text_model": _METACLIP2,
    "siglip": SIGLIP,
    "siglip_text_model": SIGLIP,
    "siglip2": SIGLIP,
    "siglip2_text_model": SIGLIP,
    "chinese_clip": replace(_CHINESE_CLIP, projection=("text_projection",)),
    "chinese_clip_text_model": _CHINESE_CLIP,
    "altclip": replace(_ALTCLIP, projection=("text_model.pre_LN", "text_model.transformation", "text_projection")),
    "altclip_text_model": replace(_ALTCLIP, projection=("pre_LN", "transformation")),
    "M-CLIP": _M_CLIP,
    "m-clip": _M_CLIP,
    "bert": _BERT,
    "electra": _BERT,
    "distilbert": replace(_BERT, blocks="transformer.layer"),
    "roberta": _ROBERTA,
    "xlm-roberta": _ROBERTA,
    "camembert": _ROBERTA,
    "mpnet": replace(_BERT, positions_from=2, carrier="encoder"),
}
"""By transformers' `model_type`, of a whole model or of its text encoder."""

COMPOSED = {"vision-text-dual-encoder": "text_model"}
"""Models that take any text encoder and project its `pooler_output`: where they keep it."""


def type_of(config: Any) -> str | None:
    """The `model_type` of a configuration, if it has one."""
    value = getattr(config, "model_type", None)
    return value if isinstance(value, str) and value else None


def anatomy_of(config: Any) -> Anatomy | None:
    """The row of the table for a model's configuration; `None` if its family is not known."""
    own, text = type_of(config), type_of(getattr(config, "text_config", None))
    return ANATOMIES.get(str(own)) or ANATOMIES.get(str(text))


def caption_limit(config: Any) -> int:
    """Longest caption in tokens that a model takes, from its configuration: its positions, or less by the table."""
    anatomy = anatomy_of(config) or Anatomy("", "", "mean")
    text = getattr(config, "text_config", None) or config
    longest = int(getattr(text, "max_position_embeddings", None) or 77)
    first = anatomy.positions_from
    if first == "padding":
        first = int(getattr(text, "pad_token_id", 0) or 0) + 1
    longest -= int(first)
    return longest if anatomy.length is None else min(longest, anatomy.length)
