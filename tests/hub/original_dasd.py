"""What the DASD authors' code leaves, with random values, and its forward pass written from the equations.

The state dict has the names that their code gives it. One caption is computed at a time, where that can be.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from pathlib import Path

import torch
from transformers import CLIPConfig, CLIPModel
from transformers.models.clip import CLIPImageProcessorPil

WIDTH, CONTEXT, BLOCKS, NARROW, RANK, CONDITION = 128, 24, 3, 20, 4, 24


def clip_like_openais(seed: int) -> CLIPModel:
    """A CLIP with heads of width 64."""
    text = {"hidden_size": WIDTH, "intermediate_size": 80, "num_attention_heads": 2, "num_hidden_layers": BLOCKS}
    text |= {"vocab_size": 200, "max_position_embeddings": CONTEXT, "pad_token_id": 0, "bos_token_id": 1}
    vision = {"hidden_size": 64, "intermediate_size": 60, "num_attention_heads": 1, "num_hidden_layers": 2}
    vision |= {"image_size": 16, "patch_size": 8}
    torch.manual_seed(seed)
    config = CLIPConfig(
        text_config={**text, "eos_token_id": 3, "projection_dim": WIDTH},
        vision_config={**vision, "projection_dim": WIDTH},
        projection_dim=WIDTH,
    )
    return stirred(CLIPModel(config)).eval()


def stirred(module, scale: float = 0.1):
    """Every weight moved, norms and biases too."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(scale * torch.randn_like(parameter))
    return module


def under_openais_names(clip: CLIPModel) -> dict[str, torch.Tensor]:
    """The weights of a CLIP as OpenAI's state dict has them: joint maps of queries, keys and values, maps on the right."""
    own = clip.state_dict()
    found = {
        "token_embedding.weight": own["text_model.embeddings.token_embedding.weight"],
        "positional_embedding": own["text_model.embeddings.position_embedding.weight"],
        "text_projection": own["text_projection.weight"].T.contiguous(),
        "logit_scale": own["logit_scale"],
        "visual.class_embedding": own["vision_model.embeddings.class_embedding"],
        "visual.conv1.weight": own["vision_model.embeddings.patch_embedding.weight"],
        "visual.positional_embedding": own["vision_model.embeddings.position_embedding.weight"],
        "visual.proj": own["visual_projection.weight"].T.contiguous(),
    }
    norms = {"ln_final": "text_model.final_layer_norm", "visual.ln_pre": "vision_model.pre_layrnorm"}
    norms |= {"visual.ln_post": "vision_model.post_layernorm"}
    for tower, start, count in (("text_model", "", BLOCKS), ("vision_model", "visual.", 2)):
        for index in range(count):
            theirs, place = f"{start}transformer.resblocks.{index}", f"{tower}.encoder.layers.{index}"
            for kind in ("weight", "bias"):
                joint = [own[f"{place}.self_attn.{part}_proj.{kind}"] for part in "qkv"]
                found[f"{theirs}.attn.in_proj_{kind}"] = torch.cat(joint)
            norms |= {f"{theirs}.ln_1": f"{place}.layer_norm1", f"{theirs}.ln_2": f"{place}.layer_norm2"}
            norms |= {f"{theirs}.mlp.c_fc": f"{place}.mlp.fc1", f"{theirs}.mlp.c_proj": f"{place}.mlp.fc2"}
            norms |= {f"{theirs}.attn.out_proj": f"{place}.self_attn.out_proj"}
    for theirs, place in norms.items():
        found |= {f"{theirs}.{kind}": own[f"{place}.{kind}"] for kind in ("weight", "bias")}
    return {name: value.clone() for name, value in found.items()}


def save_clip(clip: CLIPModel, tokenizer, folder: Path) -> Path:
    clip.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    size = {"height": 16, "width": 16}
    CLIPImageProcessorPil(size=size, crop_size=size, do_center_crop=False).save_pretrained(folder)
    return folder


def dasd_state(clip: CLIPModel, rows: int, codes: tuple[str, ...] = ("de", "fr")) -> OrderedDict:
    """A checkpoint of the authors' train.py: CLIP, what was trained, and what is never used (in part not even finite)."""
    torch.manual_seed(11)
    shapes = {
        "ln_mu.weight": (WIDTH,),
        "ln_mu.bias": (WIDTH,),
        "ln_sigma.weight": (WIDTH,),
        "ln_sigma.bias": (WIDTH,),
        "sr_projection": (WIDTH, WIDTH),
        "multilingual_embedding.weight": (rows, NARROW),
        "multilingual_embedding_linear.weight": (WIDTH, NARROW),
        "multilingual_embedding_linear.bias": (WIDTH,),
        "transformer.zi_adapter_student.c_fc1.weight": (CONDITION, 2 * WIDTH),
        "transformer.zi_adapter_student.c_fc1.bias": (CONDITION,),
        # never used
        "target_projection": (WIDTH, WIDTH),
        "visual.transformer.zi_adapter_student.c_fc1.weight": (CONDITION, 2 * WIDTH),
        "visual.transformer.zi_adapter_student.c_fc1.bias": (CONDITION,),
        "AdvAgent.discriminator.model.0.weight": (6, 2 * WIDTH),
        "AdvAgent.discriminator.model.0.bias": (6,),
    }
    for index in range(BLOCKS):
        block = f"transformer.resblocks.{index}"
        shapes |= {f"{block}.mlp_zi.c_fc1.weight": (RANK**2, CONDITION), f"{block}.mlp_zi.c_fc1.bias": (RANK**2,)}
        for code in codes:
            own = f"{block}.acquirer.{code}"
            shapes |= {f"{own}.mlp_beforez.c_fc.weight": (RANK, WIDTH), f"{own}.mlp_beforez.c_fc.bias": (RANK,)}
            shapes |= {f"{own}.mlp_afterz.c_proj2.weight": (WIDTH, RANK), f"{own}.mlp_afterz.c_proj2.bias": (WIDTH,)}
            for name in ("mlp_sr", "mlp_sa"):
                shapes |= {f"{own}.{name}.c_fc.weight": (9, WIDTH), f"{own}.{name}.c_proj.bias": (WIDTH,)}
            shapes |= {f"{own}.ln.weight": (WIDTH,), f"{own}.ln.bias": (WIDTH,)}
    trained = {name: torch.randn(shape) / math.sqrt(shape[-1]) for name, shape in shapes.items()}
    unset = {"sigma_projection": torch.full((WIDTH, WIDTH), math.nan)}  # made by torch.empty, and never filled
    return OrderedDict({**under_openais_names(clip), **trained, **unset})


def plain_norm(x, state, name):
    centred = x - x.mean(-1, keepdim=True)
    scale = torch.sqrt((centred**2).mean(-1, keepdim=True) + 1e-5)
    return centred / scale * state[f"{name}.weight"] + state[f"{name}.bias"]


def plain_gelu(x):
    return x * torch.sigmoid(1.702 * x)


def plain_block(x, state, name):
    """One frozen block over one caption. (L, w) -> (L, w)"""
    normed = plain_norm(x, state, f"{name}.ln_1")
    q, k, v = (normed @ state[f"{name}.attn.in_proj_weight"].T + state[f"{name}.attn.in_proj_bias"]).chunk(3, dim=-1)
    seen = torch.ones(len(x), len(x)).tril().bool()  # a position sees those before it
    heads = []
    for start in range(0, WIDTH, 64):
        part = slice(start, start + 64)
        scores = (q[:, part] @ k[:, part].T / 8).masked_fill(~seen, -math.inf)
        heads.append(scores.softmax(dim=-1) @ v[:, part])
    out = f"{name}.attn.out_proj"
    x = x + torch.cat(heads, dim=-1) @ state[f"{out}.weight"].T + state[f"{out}.bias"]
    inner = plain_norm(x, state, f"{name}.ln_2") @ state[f"{name}.mlp.c_fc.weight"].T + state[f"{name}.mlp.c_fc.bias"]
    return x + plain_gelu(inner) @ state[f"{name}.mlp.c_proj.weight"].T + state[f"{name}.mlp.c_proj.bias"]


def plain_dasd(ids: list[int], pad: int, state, code: str) -> torch.Tensor:
    """The vector of one caption by the paper's equations, with padding up to the context. -> (d,)"""
    end = len(ids) - 1
    ids = ids + [pad] * (CONTEXT - len(ids))
    rows = state["multilingual_embedding.weight"][ids]
    linear = "multilingual_embedding_linear"
    start = rows @ state[f"{linear}.weight"].T + state[f"{linear}.bias"] + state["positional_embedding"]
    prefix = start
    for index in range(2):
        prefix = plain_block(prefix, state, f"transformer.resblocks.{index}")
    related = plain_norm(prefix, state, "ln_mu")[end] @ state["sr_projection"]
    agnostic = plain_norm(prefix, state, "ln_sigma").mean(dim=0)  # over padding too, without a head
    read, student = torch.cat([related, agnostic]), "transformer.zi_adapter_student.c_fc1"
    z = plain_gelu(state[f"{student}.weight"] @ read + state[f"{student}.bias"])
    x = start
    for index in range(BLOCKS):
        block = f"transformer.resblocks.{index}"
        x = plain_block(x, state, block)
        core = (state[f"{block}.mlp_zi.c_fc1.weight"] @ z + state[f"{block}.mlp_zi.c_fc1.bias"]).reshape(RANK, RANK)
        own = f"{block}.acquirer.{code}"
        down = x @ state[f"{own}.mlp_beforez.c_fc.weight"].T + state[f"{own}.mlp_beforez.c_fc.bias"]
        up = torch.relu(down @ core) @ state[f"{own}.mlp_afterz.c_proj2.weight"].T
        x = x + up + state[f"{own}.mlp_afterz.c_proj2.bias"]
    vector = plain_norm(x, state, "ln_final")[end] @ state["text_projection"]
    return vector / vector.norm()
