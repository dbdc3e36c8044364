"""Weights of OpenAI's CLIP under the names that transformers gives them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ccr_adapters.errors import AdapterError

OPENAI = re.compile(
    r"(visual\.(class_embedding|positional_embedding|proj|conv1\.weight|ln_(pre|post)\.(weight|bias))"
    r"|(visual\.)?transformer\.resblocks\.\d+\.(attn|ln_1|ln_2|mlp)\..+"
    r"|token_embedding\.weight|positional_embedding|ln_final\.(weight|bias)|text_projection|logit_scale)"
)
"""Names of a CLIP with a vision transformer, as OpenAI published it."""

# Those that are not in a block; a projection is kept transposed there.
_PLACES = {
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "ln_final.weight": "text_model.final_layer_norm.weight",
    "ln_final.bias": "text_model.final_layer_norm.bias",
    "text_projection": "text_projection.weight",
    "logit_scale": "logit_scale",
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "visual.ln_pre.weight": "vision_model.pre_layrnorm.weight",
    "visual.ln_pre.bias": "vision_model.pre_layrnorm.bias",
    "visual.ln_post.weight": "vision_model.post_layernorm.weight",
    "visual.ln_post.bias": "vision_model.post_layernorm.bias",
    "visual.proj": "visual_projection.weight",
}
_TRANSPOSED = {"text_projection", "visual.proj"}
_IN_A_BLOCK = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
    "attn.out_proj": "self_attn.out_proj",
}
_BLOCK = re.compile(r"(visual\.)?transformer\.resblocks\.(\d+)\.(.+)")

BASES = {32: "openai/clip-vit-base-patch32", 16: "openai/clip-vit-base-patch16"}
"""OpenAI's CLIP in transformers' form, by the side of its patches."""


def to_transformers(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename weights of OpenAI's CLIP; maps that transformers keeps apart are cut apart.

    Args:
        tensors: By OpenAI's names (`OPENAI`).

    Returns:
        By transformers' names, in float32.
    """
    found: dict[str, Tensor] = {}
    for name, value in tensors.items():
        value = value.float()
        block = _BLOCK.fullmatch(name)
        if block is None:
            found[_PLACES[name]] = value.t() if name in _TRANSPOSED else value
            continue
        tower = "vision_model" if block[1] else "text_model"
        place, part = f"{tower}.encoder.layers.{block[2]}", block[3]
        joint = re.fullmatch(r"attn\.in_proj_(weight|bias)", part)
        if joint:
            for own, third in zip("qkv", value.chunk(3), strict=True):
                found[f"{place}.self_attn.{own}_proj.{joint[1]}"] = third
        else:
            owner, _, kind = part.rpartition(".")
            found[f"{place}.{_IN_A_BLOCK.get(owner, owner)}.{kind}"] = value
    return found


def base_for(tensors: Mapping[str, Tensor]) -> str | None:
    """Name of the public base that weights of CLIP have the shape of; `None` if there is no vision transformer."""
    patches = tensors.get("visual.conv1.weight")
    return None if patches is None else BASES.get(int(patches.shape[-1]))


def check_like_openai(config: Any, name: str) -> None:
    """Refuse a base whose weights would fit, and that computes something else with them.

    Args:
        config: The base's configuration.
        name: How a message calls it.

    Raises:
        AdapterError: If it is no CLIP, or differs in its activation or its attention heads.
    """
    if getattr(config, "model_type", None) != "clip":
        raise AdapterError(
            f"The base '{name}' is a {getattr(config, 'model_type', None)!r} model; the checkpoint needs OpenAI's CLIP in "
            f"transformers' form: {', '.join(BASES.values())}."
        )
    for tower in (config.text_config, config.vision_config):
        if tower.hidden_act != "quick_gelu" or tower.num_attention_heads * 64 != tower.hidden_size:
            raise AdapterError(
                f"The base '{name}' has {tower.num_attention_heads} attention heads over a width of {tower.hidden_size} and "
                f"the activation {tower.hidden_act!r}; OpenAI's CLIP has heads of width 64 and 'quick_gelu'."
            )
