"""The parts of an NRCCR checkpoint that vectors depend on, read and checked."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ccr_adapters.errors import AdapterError
from ccr_adapters.hub.checkpoint import Shape, check, state_dict, without

SOURCE = "Take a checkpoint that the NRCCR authors' trainer wrote (model_best.pth.tar), whole."
_PARTS = ("visual encoder", "text encoder", "visual map", "text map")
_BERT, _CLIP = "text_bert.text_bert.", "encoder."
DEAD_TEXT = (r"text_bert\.text_bert\.pooler\..+", r"text_bert\.text_bert\.embeddings\.(position_ids|token_type_ids)")
# Captions of an NRCCR checkpoint go through mBERT; CLIP's own text encoder came along with its image tower.
DEAD_VISUAL = (
    r"encoder\.(token_embedding\.weight|positional_embedding|ln_final\.(weight|bias)|text_projection|logit_scale)",
    r"encoder\.transformer\..+",
    r"encoder\.(input_resolution|context_length|vocab_size)",
)


@dataclass
class Parts:
    """The parts of a checkpoint that vectors depend on."""

    kind: str
    """`clip`: pictures by CLIP; `features`: precomputed ones of pictures; `video`: of frames."""
    visual: dict[str, Tensor]
    text: dict[str, Tensor]
    visual_map: dict[str, Tensor]
    text_map: dict[str, Tensor]
    heads: int
    dropped: list[str]

    @property
    def bert(self) -> dict[str, Tensor]:
        """Weights of mBERT, by transformers' names."""
        named = self.text.items()
        return {name.removeprefix(_BERT): value.float() for name, value in named if name.startswith(_BERT)}

    @property
    def text_head(self) -> dict[str, Tensor]:
        """What follows mBERT."""
        return {name: value.float() for name, value in self.text.items() if not name.startswith(_BERT)}

    @property
    def image_tower(self) -> dict[str, Tensor]:
        """Weights of CLIP, by OpenAI's names."""
        named = self.visual.items()
        return {name.removeprefix(_CLIP): value for name, value in named if name.startswith(_CLIP)}

    @property
    def visual_head(self) -> dict[str, Tensor]:
        """What follows CLIP, or the features."""
        return {name: value.float() for name, value in self.visual.items() if not name.startswith(_CLIP)}


def read_parts(values: Any) -> Parts:
    """Take a checkpoint apart.

    Args:
        values: What the file holds: state dicts in a list `model`, and the run's options in `opt`.

    Raises:
        AdapterError: If it is another method's checkpoint, or one that cannot be converted.
    """
    if not isinstance(values, Mapping) or not isinstance(values.get("model"), (list, tuple)):
        names = values if isinstance(values, Mapping) else {}
        hint = (
            " It looks like DASD's: convert it with --from dasd."
            if any(".acquirer." in str(key) for key in names)
            else ""
        )
        raise AdapterError(f"This is no NRCCR checkpoint: it has no list 'model' of state dicts.{hint} {SOURCE}")
    listed = list(values["model"])
    if len(listed) not in (4, 5):
        raise AdapterError(f"The checkpoint's 'model' lists {len(listed)} state dicts; expected 5. {SOURCE}")
    visual, text, visual_map, text_map = (
        state_dict(part, f"The checkpoint's {what}") for part, what in zip(listed[:4], _PARTS, strict=True)
    )
    options = values.get("opt")
    options = vars(options) if isinstance(options, argparse.Namespace) else {}
    visual, dropped_visual = without(visual, DEAD_VISUAL)
    text, dropped_text = without(text, DEAD_TEXT)
    kind = "video" if "input_proj_layer.LayerNorm.weight" in visual else "features"
    if any(name.startswith("encoder.visual.") for name in visual):
        kind = "clip"
    if kind == "features" and getattr(visual.get("proj.weight"), "ndim", 0) != 2:
        raise AdapterError(f"The checkpoint's visual encoder is neither for pictures nor for videos. {SOURCE}")
    heads = int(options.get("text_num_attention") or 8)
    _check_options(options, kind, heads)
    dropped = [
        *dropped_visual,
        *dropped_text,
        *(f"AdvAgent.{name}" for name in (listed[4] if len(listed) == 5 else ())),
    ]
    return Parts(kind, visual, text, visual_map, text_map, heads, dropped)


def _check_options(options: Mapping[str, Any], kind: str, heads: int) -> None:
    """Refuse what their options allow and their state dicts or this package cannot hold."""
    wrong = [name for name in ("text_pooling", "video_pooling") if options.get(name) not in (None, "mean")]
    if wrong and (kind == "video" or "text_pooling" in wrong):
        raise AdapterError(
            f"The checkpoint was trained with {wrong[0]}={options[wrong[0]]!r}; only 'mean' can be converted."
        )
    if kind == "video" and int(options.get("video_layer") or 1) != 1:
        raise AdapterError(
            f"The checkpoint was trained with video_layer={options['video_layer']}, and the authors' code saves only the "
            "first layer's weights: it cannot be converted, or run."
        )
    if kind == "video" and int(options.get("video_num_attention") or 8) != heads:
        raise AdapterError("The checkpoint has another number of attention heads for frames than for captions.")


def check_head(found: Parts, width: int, seen: int) -> None:
    """Refuse a head in which a tensor has not the shape that the others give it.

    Args:
        found: The checkpoint.
        width: Width of mBERT's states.
        seen: Width of the visual vectors that come in.

    Raises:
        AdapterError: Naming the tensor.
    """
    text, visual = found.text_head, found.visual_head
    what = "The head of the checkpoint"
    hidden = _entrance(text, what)
    check(text, _encoder_shapes(text, width, hidden, found.heads), f"{what} (text)", SOURCE)
    if found.kind == "video":
        out = _entrance(visual, what)
        check(visual, _encoder_shapes(visual, seen, out, found.heads), f"{what} (frames)", SOURCE)
    else:
        out = visual["proj.weight"].shape[0] if "proj.weight" in visual else seen
        check(visual, {"proj.weight": (out, seen), "proj.bias": (out,)}, f"{what} (pictures)", SOURCE)
    space = found.text_map["mapping.fc1.weight"].shape[0] if "mapping.fc1.weight" in found.text_map else 0
    for side, narrow, part in (("text", hidden, found.text_map), ("visual", out, found.visual_map)):
        expected: dict[str, Shape] = {"mapping.fc1.weight": (space, narrow), "mapping.bn_1.num_batches_tracked": ()}
        names = ("fc1.bias", "bn_1.weight", "bn_1.bias", "bn_1.running_mean", "bn_1.running_var")
        expected.update({f"mapping.{name}": (space,) for name in names})
        check(part, expected, f"{what} ({side} map)", SOURCE)


def _entrance(part: Mapping[str, Tensor], what: str) -> int:
    entry = part.get("input_proj_layer.net.1.weight")
    if entry is None or entry.ndim != 2 or "encoder_layer.self.query.weight" not in part:
        raise AdapterError(
            f"{what} lacks 'input_proj_layer.net.1.weight' or 'encoder_layer.self.query.weight'. {SOURCE}"
        )
    return len(entry)


def _encoder_shapes(part: Mapping[str, Tensor], entry: int, hidden: int, heads: int) -> dict[str, Shape]:
    asked = len(part["encoder_layer.self.query.weight"])
    positions = part.get("pos_embed_layer.position_embeddings.weight")
    if hidden % heads or asked % heads or asked > hidden:
        raise AdapterError(
            f"The attention of the checkpoint has {heads} heads, queries of width {asked} and values of width {hidden}; "
            "queries may be narrower than values, and both must divide into the heads."
        )
    shapes: dict[str, Shape] = {
        "input_proj_layer.LayerNorm.weight": (entry,),
        "input_proj_layer.LayerNorm.bias": (entry,),
        "input_proj_layer.net.1.weight": (hidden, entry),
        "input_proj_layer.net.1.bias": (hidden,),
        "pos_embed_layer.position_embeddings.weight": (0 if positions is None else len(positions), hidden),
    }
    for name, out in (("self.query", asked), ("self.key", asked), ("self.value", hidden), ("output.dense", hidden)):
        shapes[f"encoder_layer.{name}.weight"], shapes[f"encoder_layer.{name}.bias"] = (out, hidden), (out,)
    for name in ("pos_embed_layer.LayerNorm", "encoder_layer.output.LayerNorm"):
        shapes[f"{name}.weight"] = shapes[f"{name}.bias"] = (hidden,)
    return shapes
