"""Where the parts of a text encoder are, as data: its module, its blocks, and the token at which it pools."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from ccr_adapters.dasd.config import Pooling


@dataclass(frozen=True)
class Anatomy:
    """Paths of one family of encoders, relative to the text module (the one that takes `input_ids`)."""

    blocks: str
    token_embedding: str
    pooling: Pooling


# Causal encoders know a caption only at its end; SigLIP pools the last position, padding included; BERT-like encoders
# have a token of their own for the whole in front.
_CLIP = Anatomy(blocks="encoder.layers", token_embedding="embeddings.token_embedding", pooling="eos")
_SIGLIP = Anatomy(blocks="encoder.layers", token_embedding="embeddings.token_embedding", pooling="last")
_BERT = Anatomy(blocks="encoder.layer", token_embedding="embeddings.word_embeddings", pooling="first")

ANATOMIES: dict[str, Anatomy] = {
    "clip": _CLIP,
    "clip_text_model": _CLIP,
    "siglip": _SIGLIP,
    "siglip_text_model": _SIGLIP,
    "bert": _BERT,
    "roberta": _BERT,
    "xlm-roberta": _BERT,
    "camembert": _BERT,
    "electra": _BERT,
}

# Where a text module can hide inside a larger model, nearest first.
_PLACES = ("", "text_model", "text_model.text_model", "bert", "roberta", "electra")


@dataclass(frozen=True)
class TextEncoder:
    """A text encoder found inside a model."""

    name: str
    """Path of the text module inside the model, `""` for the model itself."""
    module: nn.Module
    config: Any
    blocks_name: str
    """Path of the list of blocks inside the model."""
    blocks: nn.ModuleList
    anatomy: Anatomy

    @property
    def block_names(self) -> list[str]:
        """Full names of all blocks, first to last."""
        return [f"{self.blocks_name}.{index}" for index in range(len(self.blocks))]

    @property
    def token_embedding(self) -> nn.Embedding:
        """The table that turns ids into vectors of the encoder's width."""
        table = self.module.get_submodule(self.anatomy.token_embedding)
        if not isinstance(table, nn.Embedding):
            raise ValueError(f"'{self.anatomy.token_embedding}' is a {type(table).__name__}, not an nn.Embedding.")
        return table


def _submodule(model: nn.Module, path: str) -> nn.Module | None:
    for part in filter(None, path.split(".")):
        child = getattr(model, part, None)
        if not isinstance(child, nn.Module):
            return None
        model = child
    return model


def _join(*parts: str) -> str:
    return ".".join(part for part in parts if part)


def find_text_encoder(model: nn.Module) -> TextEncoder:
    """Find the text encoder in a transformers model: a dual encoder, a text tower, or a plain encoder.

    Args:
        model: The model; it is only looked at.

    Raises:
        ValueError: If no known list of blocks is found; the message says what to write instead.
    """
    model_type = getattr(getattr(model, "config", None), "model_type", None)
    known = ANATOMIES.get(str(model_type))
    candidates = [known] if known else [_CLIP, _BERT]
    for place in _PLACES:
        module = _submodule(model, place)
        if module is None:
            continue
        for anatomy in candidates:
            blocks = _submodule(module, anatomy.blocks)
            embedding = _submodule(module, anatomy.token_embedding)
            if isinstance(blocks, nn.ModuleList) and embedding is not None:
                config = getattr(module, "config", None) or getattr(model, "config", None)
                config = getattr(config, "text_config", config)
                return TextEncoder(place, module, config, _join(place, anatomy.blocks), blocks, anatomy)
    raise ValueError(
        f"No text encoder was found in a {type(model).__name__} (model_type {model_type!r}). Known families: "
        f"{', '.join(sorted(ANATOMIES))}. For another one add a line to `ccr_adapters.dasd.anatomy.ANATOMIES` that says "
        "where its blocks and its token embedding are."
    )


def width_of(config: Any) -> int:
    """Width of the hidden states of a text encoder, from its config."""
    width = getattr(config, "hidden_size", None) or getattr(config, "d_model", None)
    if not isinstance(width, int):
        raise ValueError(f"{type(config).__name__} has neither `hidden_size` nor `d_model`.")
    return width


def embedding_dim_of(model_config: Any, text_config: Any) -> int:
    """Width of the shared space: the projection's where there is one, else the encoder's own."""
    for config, key in (
        (model_config, "projection_dim"),
        (text_config, "projection_size"),
        (text_config, "projection_dim"),
    ):
        value = getattr(config, key, None)
        if isinstance(value, int):
            return value
    return width_of(text_config)
