"""What a recipe trains, built: the base, the language's vocabulary, the untrained adapter."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from accelerate import PartialState
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, PreTrainedTokenizerBase, set_seed

from ccr_adapters.cli.checks import adapter_of, head_of
from ccr_adapters.cli.recipe import Recipe
from ccr_adapters.configuration import VocabularyConfig
from ccr_adapters.dasd import find_text_encoder
from ccr_adapters.data.corpus import Corpus
from ccr_adapters.errors import CCRError, ConfigError, first_line
from ccr_adapters.modeling import CCRModel
from ccr_adapters.modeling.vocabulary_source import source_table
from ccr_adapters.processing.bases import NO_REMOTE_CODE
from ccr_adapters.processing.captions import token_ids
from ccr_adapters.processing.collator import unknown_id
from ccr_adapters.processing.subwords import SubwordSampler
from ccr_adapters.processing.video import is_features
from ccr_adapters.processing.vocabulary import start_table, train_tokenizer

logger = logging.getLogger(__name__)


def build_vocabulary(
    recipe: Recipe, corpus: Corpus, model: CCRModel, folder: Path
) -> tuple[PreTrainedTokenizerBase, VocabularyConfig, torch.Tensor | None, list[int] | None]:
    """The language's tokenizer and the start of its table, made once and kept in the output folder."""
    plan = recipe.vocabulary
    if plan is None:
        raise ConfigError("The recipe has no `vocabulary`.")
    width = find_text_encoder(model.base).token_width
    base_table = find_text_encoder(model.base).token_embedding.weight
    state = PartialState()
    with state.main_process_first():
        if not (folder / "table.safetensors").is_file():
            translations, captions = list(corpus.rows["translation"]), list(corpus.rows["caption"])
            longest = recipe.max_length or model.processor.base_max_length  # type: ignore[union-attr]
            if plan.tokenizer:
                tokenizer = _ready_tokenizer(plan.tokenizer)
            else:
                tokenizer = train_tokenizer(translations, size=plan.size, kind=plan.kind, max_length=longest)
            if plan.source:
                table = source_table(plan.source)
            elif plan.start == "random":
                generator = torch.Generator().manual_seed(recipe.seed)
                spread = base_table.std().item()
                table = base_table.mean(0).cpu() + spread * torch.randn(len(tokenizer), width, generator=generator)
            else:
                pairs = translations, captions
                base_tokens, align = model.processor.tokenizer, plan.start == "aligned"  # type: ignore[union-attr]
                table = start_table(*pairs, tokenizer, base_tokens, base_table, align=align)
            tokenizer.save_pretrained(str(folder))
            save_file({"table": table.contiguous()}, str(folder / ".table"))
            os.replace(folder / ".table", folder / "table.safetensors")
    tokenizer = AutoTokenizer.from_pretrained(str(folder))
    table = load_file(str(folder / "table.safetensors"))["table"]
    config = VocabularyConfig(
        size=len(table),
        width=table.shape[1],
        projection=plan.projection,
        train=plan.train,
        source=plan.source,
    )
    touched: list[int] | None = None
    if plan.train == "touched":
        longest = recipe.max_length or model.processor.base_max_length  # type: ignore[union-attr]
        shown = {i for ids in token_ids(corpus.rows["translation"], tokenizer, longest) for i in ids}
        # training puts these where the captions have words
        stand_ins = {tokenizer.unk_token_id, tokenizer.mask_token_id} - {None}
        touched = sorted(shown | stand_ins)
    return tokenizer, config, table, touched


def _ready_tokenizer(name: str) -> PreTrainedTokenizerBase:
    try:
        found: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(name, **NO_REMOTE_CODE)
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(
            f"`vocabulary.tokenizer` {name!r} cannot be loaded ({first_line(error)}). Name a folder or a repository that "
            "transformers reads."
        ) from error
    return found


def load_base(recipe: Recipe, corpus: Corpus, base: str) -> CCRModel:
    """The bare base.

    Raises:
        ConfigError: If it cannot be compared with what the corpus shows.
    """
    width = None if corpus.visual is None else int(corpus.visual.shape[1])
    if corpus.videos is not None and is_features(corpus.videos[0]):
        width = int(corpus.videos[0].shape[1])
    model = CCRModel.from_base(base, pooling=recipe.pooling, visual_dim=width)
    if width is None and not set(model.modalities) & ({"image"} if corpus.videos is None else {"image", "video"}):
        shown = "pictures" if corpus.videos is None else "video files"
        raise ConfigError(f"The base '{base}' has no image tower, and the data has {shown} instead of visual vectors.")
    if width is not None and width != model.embedding_dim and head_of(recipe) is None:
        raise ConfigError(
            f"The base '{base}' makes vectors of width {model.embedding_dim}, the visual vectors of the data have {width}. Only a "
            "method with a `head` can bring them together."
        )
    return model


def build_model(recipe: Recipe, corpus: Corpus, base: str, folder: Path) -> CCRModel:
    """The base with the untrained language, its parameters trainable.

    Raises:
        ConfigError: If the vocabulary cannot be made, or the adapter does not fit the base.
    """
    model = load_base(recipe, corpus, base)
    parts: dict[str, Any] = {"max_length": recipe.max_length, "head": head_of(recipe)}
    if recipe.vocabulary is not None:
        tokenizer, config, table, touched = build_vocabulary(recipe, corpus, model, folder)
        parts.update(tokenizer=tokenizer, vocabulary=config, source=table, touched=touched)
    set_seed(recipe.seed)
    try:
        model.add_language(recipe.language, adapter_of(recipe), **parts)
    except CCRError:
        raise
    except ValueError as error:  # what peft says of a configuration that does not fit the base
        raise ConfigError(f"`adapter`: {first_line(error)}") from error
    if recipe.warm_start is not None:
        shared = model.start_from(recipe.warm_start, recipe.language, recipe.warm_start_language)
        logger.info("Starts from '%s'; %d tokens are in both vocabularies.", recipe.warm_start, shared)
    model.trainable(recipe.language)
    return model


def subword_sampler(recipe: Recipe, model: CCRModel) -> SubwordSampler | None:
    """What cuts the words of training captions, where the recipe asks for it.

    Raises:
        ConfigError: If the language's tokenizer cannot be cut.
    """
    if recipe.vocabulary is None or not recipe.vocabulary.sampling:
        return None
    return SubwordSampler(model.processor.tokenizer_for(recipe.language))  # type: ignore[union-attr]


def check_language(recipe: Recipe, corpus: Corpus) -> None:
    """Build the language on the untrained base, and drop it: what is wrong with it is said before hours of training that base.

    Raises:
        CCRError: As `build_model`, `subword_sampler` and `unknown_id`.
    """
    with TemporaryDirectory() as folder:
        model = build_model(recipe, corpus, recipe.base, Path(folder))
        subword_sampler(recipe, model)
        if recipe.vocabulary is not None and recipe.vocabulary.unknown:
            unknown_id(model.processor, recipe.language)  # type: ignore[arg-type]
