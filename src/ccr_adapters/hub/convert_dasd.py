"""The DASD authors' checkpoints: their tensors as a dynamic adapter with a vocabulary (Cai et al., AAAI 2025).

One file holds the whole network: the CLIP that it was trained on, the adapters of one or more languages, mBERT's token
embedding as training left it, and parts that no vector depends on. What their code does beside the paper stays true by
configuration: `f_sa` is normed at each position and averaged over all 77, without a head of its own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ccr_adapters.configuration import VocabularyConfig
from ccr_adapters.dasd import DASDConfig, find_text_encoder
from ccr_adapters.errors import AdapterError
from ccr_adapters.hub.checkpoint import Shape, check, largest_difference, shapes_of, some, state_dict, without
from ccr_adapters.hub.clip_names import BASES, OPENAI, base_for, check_like_openai, to_transformers
from ccr_adapters.hub.conversion import SAME, Draft, load_base, load_tokenizer

TOKENIZER = "google-bert/bert-base-multilingual-cased"

_SOURCE = "Take a checkpoint that the DASD authors' train.py wrote in stage CLA or CMA, whole."
_ACQUIRER = re.compile(r"transformer\.resblocks\.\d+\.acquirer\.([^.]+)\.mlp_beforez\.c_fc\.weight")
_BLOCK = re.compile(r"transformer\.resblocks\.(\d+)\.")
# Built, saved and never run: static acquirers, spare norms and projections, a generator inside the image tower; and the
# discriminator, which training alone needs.
DEAD = (
    r"AdvAgent\..+",
    r"target_projection",
    r"sigma_projection",
    r"visual\.transformer\.zi_adapter_student\..+",
    r"transformer\.resblocks\.\d+\.acquirer\.[^.]+\.(mlp_sr|mlp_sa|ln)\..+",
    r"input_resolution|context_length|vocab_size",
)


def draft_dasd(
    values: Any, language: str, *, base: str | Path | None = None, tokenizer: str | Path | None = None
) -> Draft:
    """Read a checkpoint, and find the base that it stands on.

    Args:
        values: What the file holds.
        language: The language, by its name in the checkpoint.
        base: The CLIP that it was trained on, in transformers' form; `None` takes OpenAI's by the size of the patches.
        tokenizer: Where mBERT's tokenizer is; default its repository.

    Raises:
        AdapterError: If it is another method's checkpoint, lacks the language, or does not fit.
    """
    if isinstance(values, Mapping) and isinstance(values.get("model"), (list, tuple)):
        raise AdapterError("This is an NRCCR checkpoint: it holds a list of state dicts. Convert it with --from nrccr.")
    tensors = state_dict(values, "The checkpoint")
    _check_method(tensors, language)
    others = rf"transformer\.resblocks\.\d+\.acquirer\.(?!{re.escape(language)}\.)[^.]+\..+"
    live, dropped = without(tensors, [*DEAD, others])
    clip = {name: value for name, value in live.items() if OPENAI.fullmatch(name)}
    own = {name: value for name, value in live.items() if name not in clip}
    _check_own(own, language)

    name = base or base_for(clip)
    if name is None:
        raise AdapterError(
            f"The checkpoint does not tell which CLIP it was trained on. Name it with --base: {', '.join(BASES.values())}."
        )
    model = load_base(name)
    check_like_openai(model.base.config, str(name))
    state = model.base.state_dict()
    fitted, difference = to_transformers(clip), None
    if fitted:
        check(fitted, shapes_of(state), f"CLIP in the checkpoint, beside '{name}'", "Name another CLIP with --base.")
        # the temperature is no part of a vector
        difference = largest_difference(fitted, state, set(fitted) - {"logit_scale"})
    width, dim = own["sr_projection"].shape
    encoder = find_text_encoder(model.base)
    if (width, dim) != (encoder.config.hidden_size, model.embedding_dim) or len(encoder.blocks) != _count(own):
        raise AdapterError(
            f"The adapters are for a text encoder of {_count(own)} blocks of width {width}, and '{name}' has "
            f"{len(encoder.blocks)} of width {encoder.config.hidden_size}. Name another CLIP with --base."
        )
    tokens = load_tokenizer(tokenizer or TOKENIZER)
    rows = len(own["multilingual_embedding.weight"])
    if len(tokens) != rows:
        raise AdapterError(
            f"The tokenizer '{tokenizer or TOKENIZER}' has {len(tokens)} tokens, the checkpoint's table {rows} rows. Name the "
            "one that it was trained with, by --tokenizer."
        )
    carried = difference is not None and difference > SAME
    if carried:
        # the English fine-tuning came first: the checkpoint's own CLIP is its base
        model.base.load_state_dict(fitted, strict=True)
    return Draft(
        model=model,
        base_name=str(name),
        carried=carried,
        difference=difference,
        dropped=dropped,
        add=lambda: _add(model, own, language, tokens),
        license="unknown",
        source="github.com/HuiGuanLab/DASD",
    )


def _check_method(tensors: Mapping[str, Tensor], language: str) -> None:
    there = sorted({found[1] for found in map(_ACQUIRER.fullmatch, tensors) if found})
    if not there:
        acquirers = any(".acquirer." in name for name in tensors)
        kind = "static acquirers, or one acquirer without a language" if acquirers else "no adapters"
        if not acquirers and "token_embedding.weight" in tensors:
            kind = "a CLIP without adapters, as the English fine-tuning leaves it"
        raise AdapterError(f"The checkpoint holds {kind}; expected DASD's dynamic adapters. {_SOURCE}")
    if language not in there:
        raise AdapterError(f"The checkpoint has no language {language!r}. It has: {', '.join(there)}.")


def _count(own: Mapping[str, Tensor]) -> int:
    return len({found[1] for found in map(_BLOCK.match, own) if found})


def _check_own(own: Mapping[str, Tensor], language: str) -> None:
    """Every tensor of the adapters with the shape that the others give it."""
    sizes = ("sr_projection", "multilingual_embedding.weight", "transformer.zi_adapter_student.c_fc1.weight")
    down = f"transformer.resblocks.0.acquirer.{language}.mlp_beforez.c_fc.weight"
    missing = [name for name in (*sizes, down) if name not in own or own[name].ndim != 2]
    if missing:
        raise AdapterError(f"The checkpoint lacks {some(missing)}, or its shape is wrong. {_SOURCE}")
    (width, dim), (rows, narrow), (condition, _) = (tuple(own[name].shape) for name in sizes)
    rank = len(own[down])
    if width != dim:
        raise AdapterError(
            f"The semantic-agnostic feature has the encoder's width {width} and the other one {dim}; the authors' code joins "
            "two of one width, so this is no checkpoint of theirs."
        )
    expected: dict[str, Shape] = {
        "sr_projection": (width, dim),
        "ln_mu.weight": (width,),
        "ln_mu.bias": (width,),
        "ln_sigma.weight": (width,),
        "ln_sigma.bias": (width,),
        "multilingual_embedding.weight": (rows, narrow),
        "multilingual_embedding_linear.weight": (width, narrow),
        "multilingual_embedding_linear.bias": (width,),
        "transformer.zi_adapter_student.c_fc1.weight": (condition, dim + width),
        "transformer.zi_adapter_student.c_fc1.bias": (condition,),
    }
    for index in range(_count(own)):
        block = f"transformer.resblocks.{index}"
        expected[f"{block}.mlp_zi.c_fc1.weight"] = (rank * rank, condition)
        expected[f"{block}.mlp_zi.c_fc1.bias"] = (rank * rank,)
        acquirer = f"{block}.acquirer.{language}"
        expected[f"{acquirer}.mlp_beforez.c_fc.weight"] = (rank, width)
        expected[f"{acquirer}.mlp_beforez.c_fc.bias"] = (rank,)
        expected[f"{acquirer}.mlp_afterz.c_proj2.weight"] = (width, rank)
        expected[f"{acquirer}.mlp_afterz.c_proj2.bias"] = (width,)
    check(own, expected, "The adapters of the checkpoint", _SOURCE)


def _add(model: Any, own: Mapping[str, Tensor], language: str, tokenizer: Any) -> None:
    """Give the model the language, with the checkpoint's weights."""
    own = {name: value.float() for name, value in own.items()}
    condition = own["transformer.zi_adapter_student.c_fc1.weight"]
    table = own["multilingual_embedding.weight"]
    encoder = find_text_encoder(model.base)
    length = int(encoder.config.max_position_embeddings)
    adapter = DASDConfig(
        r=len(own[f"transformer.resblocks.0.acquirer.{language}.mlp_beforez.c_fc.weight"]),
        condition_dim=len(condition),
        embedding_dim=own["sr_projection"].shape[1],
        prefix_blocks=2,
        generator_rank=None,
        sa_all_positions=True,
    )
    vocabulary = VocabularyConfig(size=table.shape[0], width=table.shape[1], projection=True)
    model.add_language(language, adapter, tokenizer=tokenizer, vocabulary=vocabulary, source=table, max_length=length)
    model.config.languages[language] = replace(model.config.languages[language], pad_to=length)
    linear = model.vocabularies[language].projection
    linear.load_state_dict(_part(own, "multilingual_embedding_linear"), strict=True)
    layers: list[Any] = list(find_text_encoder(model.base).blocks)
    blocks = [f"transformer.resblocks.{index}" for index in range(len(layers))]
    for layer, block in zip(layers, blocks, strict=True):
        bottleneck = layer.dasd_bottleneck[language]
        bottleneck.down.load_state_dict(_part(own, f"{block}.acquirer.{language}.mlp_beforez.c_fc"), strict=True)
        bottleneck.up.load_state_dict(_part(own, f"{block}.acquirer.{language}.mlp_afterz.c_proj2"), strict=True)
    generator = layers[0].dasd_generator[language]
    generator.condition.load_state_dict(_part(own, "transformer.zi_adapter_student.c_fc1"), strict=True)
    cores = [_part(own, f"{block}.mlp_zi.c_fc1") for block in blocks]
    joined = {kind: torch.cat([core[kind] for core in cores]) for kind in ("weight", "bias")}
    generator.cores.load_state_dict(joined, strict=True)
    features = layers[0].dasd_disentangler[language]
    features.related_norm.load_state_dict(_part(own, "ln_mu"), strict=True)
    features.agnostic_norm.load_state_dict(_part(own, "ln_sigma"), strict=True)
    width, dim = own["sr_projection"].shape
    nothing = torch.zeros(dim)
    features.related_head.load_state_dict({"weight": own["sr_projection"].t(), "bias": nothing}, strict=True)
    # f_sa has no head in their code
    features.agnostic_head.load_state_dict({"weight": torch.eye(dim, width), "bias": nothing}, strict=True)


def _part(own: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    return {kind: own[f"{name}.{kind}"] for kind in ("weight", "bias")}
