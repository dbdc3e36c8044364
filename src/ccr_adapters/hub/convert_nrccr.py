"""The NRCCR authors' checkpoints: fine-tuned blocks of mBERT and a mapping head (Wang et al., ACM MM 2022).

A file holds five state dicts (visual encoder, text encoder, their maps into the common space, discriminator) and the
options of the run. What their code does beside the paper stays true by configuration: LayerNorms behind positions and
attention, queries and keys of another width than values, means over padding, visual vectors at their own length, and a
tokenizer that folds case over a vocabulary that does not.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModel, CLIPVisionModel, VisionTextDualEncoderConfig, VisionTextDualEncoderModel

from ccr_adapters.configuration import HeadConfig
from ccr_adapters.dasd import find_text_encoder
from ccr_adapters.errors import AdapterError, first_line
from ccr_adapters.full import FullConfig
from ccr_adapters.hub.checkpoint import check, largest_difference, shapes_of
from ccr_adapters.hub.clip_names import BASES, OPENAI, base_for, check_like_openai, to_transformers
from ccr_adapters.hub.conversion import SAME, Draft, load_base, load_tokenizer
from ccr_adapters.hub.nrccr_parts import Parts, check_head, read_parts
from ccr_adapters.modeling import CCRModel
from ccr_adapters.modeling.heads import AttentionLayer
from ccr_adapters.processing import CCRProcessor
from ccr_adapters.processing.bases import resolve_base

TEXT_BASE = "google-bert/bert-base-multilingual-cased"

MOST_FRAMES = 64
"""Frames of a video that their loader reads, of the 80 that there are positions for."""


def draft_nrccr(
    values: Any, language: str, *, base: str | Path | None = None, images: str | Path | None = None
) -> Draft:
    """Read a checkpoint, and build the base that it stands on.

    Args:
        values: What the file holds.
        language: Code of the language that it was trained for; the file does not tell.
        base: mBERT, with its tokenizer; default its repository.
        images: For pictures by CLIP: that CLIP, in transformers' form; `None` takes OpenAI's by the size of the patches.

    Raises:
        AdapterError: If it is another method's checkpoint, or does not fit.
    """
    found = read_parts(values)
    name = base or TEXT_BASE
    tokenizer = load_tokenizer(name, do_lower_case=True)
    bert = _load_bert(name)
    shapes = {key: value for key, value in shapes_of(bert.state_dict()).items() if not key.startswith("pooler.")}
    for key in ("embeddings.position_ids", "embeddings.token_type_ids"):
        shapes.pop(key, None)
    own = found.bert
    check(own, shapes, f"mBERT in the checkpoint, beside '{name}'", "Name another mBERT with --base.")
    state = bert.state_dict()
    changed = sorted(
        {int(key.split(".")[2]) for key in own if key.startswith("encoder.layer.") and _differs(own, state, key)}
    )
    frozen = [key for key in own if not key.startswith("encoder.layer.") or int(key.split(".")[2]) not in changed]
    # embeddings are no part of an adapter of this kind: where they were trained too, the base is the checkpoint's
    compared, difference = str(name), largest_difference(own, state, frozen)
    bert.load_state_dict({**state, **{key: own[key] for key in frozen}}, strict=True)
    if found.kind == "clip":
        model, clip, other = _with_clip(found, bert, tokenizer, images)
        compared, difference = f"{name} and {clip}", max(difference, other)
    else:
        narrow = found.visual["proj.weight" if found.kind == "features" else "input_proj_layer.LayerNorm.weight"]
        processor = CCRProcessor(tokenizer, base_max_length=int(bert.config.max_position_embeddings))
        model = CCRModel.from_base(bert, processor=processor, pooling="mean", visual_dim=narrow.shape[-1])
    check_head(found, bert.config.hidden_size, model.config.visual_dim or model.embedding_dim)
    return Draft(
        model=model,
        base_name=compared,
        carried=True,
        difference=difference,
        dropped=found.dropped,
        add=lambda: _add(model, found, language, changed),
        license="apache-2.0",
        source="github.com/HuiGuanLab/nrccr",
    )


def _differs(own: Mapping[str, Tensor], state: Mapping[str, Tensor], key: str) -> bool:
    return bool((own[key] - state[key].float()).abs().max() > SAME)


def _load_bert(name: str | Path) -> Any:
    try:
        bert = AutoModel.from_pretrained(resolve_base(name), dtype=torch.float32)
    except (OSError, ValueError) as error:
        raise AdapterError(
            f"The base '{name}' cannot be loaded ({first_line(error)}). Say where mBERT is, with --base."
        ) from error
    if bert.config.model_type != "bert":
        raise AdapterError(f"The base '{name}' is a {bert.config.model_type!r} model; NRCCR stands on mBERT, a 'bert'.")
    return bert


def _with_clip(found: Parts, bert: Any, tokenizer: Any, images: str | Path | None) -> tuple[CCRModel, str, float]:
    """The image tower of the checkpoint's CLIP, and mBERT beside it; the public CLIP, and how far that is from it."""
    seen = found.image_tower
    name = images or base_for(seen)
    if not all(map(OPENAI.fullmatch, seen)):
        raise AdapterError(
            "The checkpoint's pictures go through an image tower that is no vision transformer of OpenAI's CLIP; one like "
            f"{BASES[32]} can be converted."
        )
    if name is None:
        raise AdapterError(
            f"The checkpoint does not tell which CLIP it holds. Name it with --images ({BASES[32]}, ...)."
        )
    clip = load_base(name)
    check_like_openai(clip.base.config, str(name))
    fitted = to_transformers(seen)
    theirs = ("vision_model.", "visual_projection.")
    state = {key: value for key, value in clip.base.state_dict().items() if key.startswith(theirs)}
    expected = {key: shape for key, shape in shapes_of(state).items() if not key.endswith("position_ids")}
    check(
        fitted, expected, f"CLIP's image tower in the checkpoint, beside '{name}'", "Name another CLIP with --images."
    )
    vision = CLIPVisionModel(clip.base.config.vision_config)
    direct = "embeddings.class_embedding" in vision.state_dict()  # without a level that older versions have
    weights = {key.removeprefix("vision_model.") if direct else key: value for key, value in fitted.items()}
    projection = weights.pop("visual_projection.weight")
    rest = {key: value for key, value in vision.state_dict().items() if key not in weights}
    vision.load_state_dict({**rest, **weights}, strict=True)
    config = VisionTextDualEncoderConfig.from_vision_text_configs(
        clip.base.config.vision_config, bert.config, projection_dim=projection.shape[0]
    )
    base = VisionTextDualEncoderModel(config, vision_model=vision, text_model=bert)
    with torch.no_grad():
        base.visual_projection.weight.copy_(projection)
        # captions have no way into CLIP's space but a language's own; made the same for every checkpoint
        base.text_projection.weight.zero_()
    processor: Any = clip.processor
    longest = int(bert.config.max_position_embeddings)
    both = CCRProcessor(tokenizer, processor.image_processor, base_max_length=longest)
    return CCRModel.from_base(base.eval(), processor=both), str(name), largest_difference(fitted, state, fitted)


def _add(model: CCRModel, found: Parts, language: str, changed: list[int]) -> None:
    """Give the model the language, with the checkpoint's weights."""
    count = len(find_text_encoder(model.base).blocks)
    text, visual = found.text_head, found.visual_head
    positions = len(text["pos_embed_layer.position_embeddings.weight"])
    frames, visual_width = 0, None
    if found.kind == "video":
        frames = min(MOST_FRAMES, len(visual["pos_embed_layer.position_embeddings.weight"]))
        visual_width = len(visual["input_proj_layer.net.1.weight"])
    elif found.kind == "features":
        visual_width = len(visual["proj.weight"])
    head = HeadConfig(
        space=len(found.text_map["mapping.fc1.weight"]),
        width=len(text["input_proj_layer.net.1.weight"]),
        attention_heads=found.heads,
        frames=frames,
        positions=positions,
        visual_width=visual_width,
        post_norm=True,
        read_padding=True,
        normalize_visual=False,
    )
    longest = model.processor.base_max_length if model.processor is not None else positions
    # an adapter has a block at the least
    adapter = FullConfig(layers_to_transform=changed or [count - 1], head=False)
    model.add_language(language, adapter, max_length=min(positions, longest), head=head)
    bert = found.bert
    blocks: list[Any] = list(find_text_encoder(model.base).blocks)
    for index in changed:
        prefix = f"encoder.layer.{index}."
        state = {key.removeprefix(prefix): value for key, value in bert.items() if key.startswith(prefix)}
        blocks[index].full_copy[language].load_state_dict(state, strict=True)
    own: Any = model.heads[language]
    own.text.entry.load_state_dict(_entry(text), strict=True)
    fill_attention(own.text.layer, text)
    mapped = {key: value.float() for key, value in found.text_map.items()}
    own.text.exit.load_state_dict(_part(mapped, "mapping.fc1"), strict=True)
    norm = {key.removeprefix("mapping.bn_1."): value for key, value in found.text_map.items() if ".bn_1." in key}
    own.text.norm.load_state_dict(norm, strict=True)
    if found.kind == "video":
        own.visual.entry.load_state_dict(_entry(visual), strict=True)
        fill_attention(own.visual.layer, visual)
    elif found.kind == "features":
        proj = {f"0.{kind}": value for kind, value in _part(visual, "proj").items()}
        own.visual.entry.load_state_dict(proj, strict=True)
    first = _part(visual, "proj") if found.kind == "clip" else None
    own.visual.exit.load_state_dict(folded(found.visual_map, first), strict=True)
    model.eval()


def _part(tensors: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    return {kind: tensors[f"{name}.{kind}"] for kind in ("weight", "bias")}


def _entry(part: Mapping[str, Tensor]) -> dict[str, Tensor]:
    norm, linear = _part(part, "input_proj_layer.LayerNorm"), _part(part, "input_proj_layer.net.1")
    return {f"{index}.{kind}": value[kind] for index, value in ((0, norm), (1, linear)) for kind in value}


def fill_attention(layer: AttentionLayer, part: Mapping[str, Tensor]) -> None:
    """Put their attention layer into ours, where queries and keys are as wide as values.

    Each head's queries and keys get zeros up to that width, which change no product of the two; the scale is that of the
    values' width in their code too.
    """
    heads, hidden = layer.attention.num_heads, layer.positions.shape[1]

    def widened(name: str) -> tuple[Tensor, Tensor]:
        own = _part(part, f"encoder_layer.self.{name}")
        narrow = len(own["bias"]) // heads
        weight, bias = torch.zeros(heads, hidden // heads, hidden), torch.zeros(heads, hidden // heads)
        weight[:, :narrow] = own["weight"].unflatten(0, (heads, narrow))
        bias[:, :narrow] = own["bias"].unflatten(0, (heads, narrow))
        return weight.flatten(0, 1), bias.flatten()

    parts = [widened(name) for name in ("query", "key", "value")]
    state = {
        "positions": part["pos_embed_layer.position_embeddings.weight"][: len(layer.positions)],
        "attention.in_proj_weight": torch.cat([weight for weight, _ in parts]),
        "attention.in_proj_bias": torch.cat([bias for _, bias in parts]),
    }
    for place, name in (
        ("attention.out_proj", "encoder_layer.output.dense"),
        ("placed", "pos_embed_layer.LayerNorm"),
        ("attended", "encoder_layer.output.LayerNorm"),
    ):
        state.update({f"{place}.{kind}": value for kind, value in _part(part, name).items()})
    layer.load_state_dict(state, strict=True)


def folded(mapping: Mapping[str, Tensor], first: Mapping[str, Tensor] | None) -> dict[str, Tensor]:
    """Linear maps and batch normalisation of the visual side as one linear map.

    Args:
        mapping: The map into the common space, with its running statistics.
        first: A linear map in front of it.
    """
    own = {key.removeprefix("mapping."): value.double() for key, value in mapping.items()}
    weight, bias = own["fc1.weight"], own["fc1.bias"]
    if first is not None:
        weight, bias = weight @ first["weight"].double(), bias + weight @ first["bias"].double()
    scale = own["bn_1.weight"] / torch.sqrt(own["bn_1.running_var"] + 1e-5)
    bias = scale * (bias - own["bn_1.running_mean"]) + own["bn_1.bias"]
    return {"weight": (scale.unsqueeze(1) * weight).float(), "bias": bias.float()}
