"""The text encoder in a model, found by the table of families or by its structure."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from ccr_adapters.dasd.config import Pooling
from ccr_adapters.dasd.families import ANATOMIES, CLIP, COMPOSED, SIGLIP, Anatomy, type_of

# Where a text module can hide inside a larger model, nearest first.
_PLACES = (
    "",
    "text_model",
    "text_model.text_model",
    "text_model.roberta",
    "transformer",
    "bert",
    "roberta",
    "electra",
    "distilbert",
    "mpnet",
)


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
    known: bool = True
    """Whether the anatomy is a row of the table, or was guessed by structure."""

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

    @property
    def token_width(self) -> int:
        """Width of a token vector: that of the hidden states, but for small ELECTRAs, which widen it."""
        return self.token_embedding.embedding_dim

    @property
    def carrier(self) -> nn.Module | None:
        """The module that hands keywords on to the blocks, where that is not the text module."""
        return None if self.anatomy.carrier is None else self.module.get_submodule(self.anatomy.carrier)


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
        ValueError: If no list of blocks is found; the message says what to write instead.
    """
    model_type = type_of(getattr(model, "config", None))
    if model_type in COMPOSED:
        return _inside(model, COMPOSED[model_type])
    anatomy = ANATOMIES.get(str(model_type))
    found = None if anatomy is None else _at_its_place(model, anatomy)
    found = found or _by_structure(model, anatomy)
    if found is None:
        raise ValueError(
            f"No text encoder was found in a {type(model).__name__} (model_type {model_type!r}). Known families: "
            f"{', '.join(sorted(ANATOMIES))}. For another one add a line to `ccr_adapters.dasd.families.ANATOMIES` that says "
            "where its blocks and its token embedding are."
        )
    return found


def _at_its_place(model: nn.Module, anatomy: Anatomy) -> TextEncoder | None:
    for place in _PLACES if anatomy.place is None else (anatomy.place,):
        module = _submodule(model, place)
        if module is None:
            continue
        blocks = _submodule(module, anatomy.blocks)
        embedding = _submodule(module, anatomy.token_embedding)
        if isinstance(blocks, nn.ModuleList) and embedding is not None:
            config = _text_config(module, model)
            return TextEncoder(place, module, config, _join(place, anatomy.blocks), blocks, anatomy)
    return None


def _inside(model: nn.Module, place: str) -> TextEncoder:
    """The text encoder of a model that is put together from two others."""
    text = model.get_submodule(place)
    inner = find_text_encoder(text)
    takes_ids = inner.anatomy.norm is not None
    if not takes_ids and getattr(text, "pooler", None) is None:
        raise ValueError(
            f"A {type(model).__name__} projects the `pooler_output` of its text encoder, and a {type(text).__name__} has no "
            "pooler. Take a text encoder with one, or write a model with `get_text_features` of its own and its line in "
            "`ccr_adapters.dasd.families.ANATOMIES`."
        )
    anatomy = replace(inner.anatomy, projection=("text_projection",), pooler=not takes_ids)
    name, blocks_name = _join(place, inner.name), _join(place, inner.blocks_name)
    return replace(inner, name=name, blocks_name=blocks_name, anatomy=anatomy)


def _text_config(module: nn.Module, model: nn.Module) -> Any:
    config = getattr(module, "config", None) or getattr(model, "config", None)
    return getattr(config, "text_config", config)


def _by_structure(model: nn.Module, row: Anatomy | None) -> TextEncoder | None:
    """The innermost module that takes ids and has an input embedding and as many blocks as its configuration says.

    Names move between versions of transformers: the rest of a known row stays true.
    """
    found: TextEncoder | None = None
    for name, module in model.named_modules():
        table, config = _input_embedding(module), _text_config(module, model)
        count = getattr(config, "num_hidden_layers", None)
        if table is None or not isinstance(count, int):
            continue
        paths = {id(part): path for path, part in module.named_modules()}
        lists = [part for part in module.modules() if isinstance(part, nn.ModuleList) and len(part) == count]
        depth = min((paths[id(part)].count(".") for part in lists), default=0)
        outermost = [part for part in lists if paths[id(part)].count(".") == depth]
        # two towers side by side: the text module is one of them, further inside
        if len(outermost) != 1 or id(table) not in paths:
            continue
        blocks = paths[id(outermost[0])]
        guess = row or Anatomy("", "", "mean")
        anatomy = replace(guess, blocks=blocks, token_embedding=paths[id(table)], place=name)
        found = TextEncoder(name, module, config, _join(name, blocks), outermost[0], anatomy, known=row is not None)
    return found


def _input_embedding(module: nn.Module) -> nn.Embedding | None:
    getter = getattr(module, "get_input_embeddings", None)
    if getter is None or "input_ids" not in inspect.signature(module.forward).parameters:
        return None
    try:
        table = getter()
    except (NotImplementedError, AttributeError):  # transformers' word for: this model has none
        return None
    return table if isinstance(table, nn.Embedding) else None


def candidates(encoder: TextEncoder, model: nn.Module) -> Iterator[Anatomy]:
    """Anatomies that an encoder which was found by structure may have; the caller tries which one is true."""
    takes_vectors = "inputs_embeds" in inspect.signature(encoder.module.forward).parameters
    projections = [(name,) for name in ("text_projection", "text_proj") if _submodule(model, name) is not None]
    if takes_vectors:
        poolings: tuple[Pooling, ...] = ("first", "mean")
        for projection in [*projections, ()]:
            for pooling in poolings:
                yield replace(encoder.anatomy, pooling=pooling, projection=projection)
            yield replace(encoder.anatomy, pooling="first", projection=projection, pooler=True)
    for row in (CLIP, replace(CLIP, legacy_end=False), replace(CLIP, projection=()), SIGLIP):
        parts = (row.norm, row.head, row.blocks, row.token_embedding)
        there = all(part is None or _submodule(encoder.module, part) is not None for part in parts)
        if there and all(_submodule(model, part) is not None for part in row.projection):
            yield replace(row, place=encoder.name)


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
        (model_config, "numDims"),  # M-CLIP
        (text_config, "projection_size"),
        (text_config, "projection_dim"),
        (text_config, "project_dim"),  # AltCLIP's text encoder alone
    ):
        value = getattr(config, key, None)
        if isinstance(value, int):
            return value
    return width_of(text_config)
