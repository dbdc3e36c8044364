"""Models as sentence-transformers: in memory, as a small folder beside the base, or merged into the base."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from ccr_adapters.dasd import find_text_encoder
from ccr_adapters.errors import ExportError
from ccr_adapters.export.fold import fold
from ccr_adapters.export.parity import SMALLEST_COSINE, cosines, sample_captions
from ccr_adapters.extras import require
from ccr_adapters.modeling import CCRModel
from ccr_adapters.modeling.adapter_folder import written_aside
from ccr_adapters.modeling.encoding import processor_of
from ccr_adapters.modeling.layout import LANGUAGE_FILES, files_below, remove_leftovers

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_EXTRA = "sentence-transformers"
# what transformers and sentence-transformers write of a base, beside its configuration and its tokenizer
_WRITTEN = (
    "model.safetensors",
    "model.safetensors.index.json",
    "preprocessor_config.json",
    "processor_config.json",
    "sentence_bert_config.json",
    "sentence_ccr_config.json",
)
_PART = "model-*-of-*.safetensors"


def to_sentence_transformer(model: CCRModel, language: str | None = "active") -> SentenceTransformer:
    """A `SentenceTransformer` whose `encode` gives the model's vectors, for strings and for pictures.

    Args:
        model: The model; it is held, not copied, so what is trained in one is trained in the other.
        language: The language; `None` is the base, `"active"` the model's active one.

    Raises:
        LanguageError: If there is no such language.
        MissingExtraError: If sentence-transformers is not installed.

    Example:
        >>> encoder = to_sentence_transformer(model, "de")  # doctest: +SKIP
        >>> encoder.similarity(encoder.encode(["Ein Hund"]), encoder.encode([picture]))  # doctest: +SKIP
    """
    library = require("sentence_transformers", extra=_EXTRA)
    from ccr_adapters.export.sentence_module import CCRModule

    module = CCRModule(model, model.resolve_language(language))
    made: SentenceTransformer = library.SentenceTransformer(modules=[module], device=str(model.device))
    return made


def save_sentence_transformer(
    model: CCRModel, folder: str | Path, language: str | None = "active", *, merged: bool = False
) -> None:
    """Write a folder that `SentenceTransformer` loads.

    By default it is the adapter repository with sentence-transformers' own files beside it: small, loaded together with
    its base, and with `trust_remote_code=True`, since `modules.json` names a class of this package, which must be
    installed. `CCRModel.from_pretrained` loads it too.

    Args:
        model: The model.
        folder: Where to.
        language: The language; `"active"` is the model's active one.
        merged: Write the base with the language merged into it: as large as the base, and loaded by
            sentence-transformers alone, without the flag. Only for LoRA and its like and for fine-tuned copies, since a
            dynamic adapter has no weights to merge.

    Raises:
        ExportError: If the language cannot be merged; nothing is written then.
        MissingExtraError: If sentence-transformers is not installed.
    """
    library = require("sentence_transformers", extra=_EXTRA)
    code, target = model.resolve_language(language), Path(folder)
    earlier = _earlier(target)
    with written_aside(target) as aside, model.shelf.using(model, [] if code is None else [code]):
        if merged:
            _merged_parts(model, code, aside)
            made = library.SentenceTransformer(modules=_modules(model, aside), device="cpu")
            _check(model, code, made)
        else:
            made = to_sentence_transformer(model, code)
        made.save(str(aside), create_model_card=False)
        written = [target / name for name in files_below(aside)]
    remove_leftovers(earlier, written, target)


def _earlier(folder: Path) -> list[Path]:
    """Files of an export that lies there already: transformers would find an adapter beside what was merged, or the reverse."""
    if not (folder / "modules.json").is_file():
        return []
    named = {*LANGUAGE_FILES, *_WRITTEN}
    return [path for path in map(folder.joinpath, files_below(folder)) if path.name in named or path.match(_PART)]


def merged_base(model: CCRModel, code: str | None) -> Any:
    """A copy of the base with a language merged into it: a plain model of transformers.

    Raises:
        ExportError: If there is more to the language than weights of the base.
    """
    merged = copy.deepcopy(model.base)
    if fold(merged, code):
        raise ExportError(
            f"The adapter of {code!r} stands behind the blocks of the base and cannot be merged into them. Save it without "
            "`merged=True`; the folder then loads with `trust_remote_code=True`."
        )
    if model.space(code) is not None:
        raise ExportError(f"{code!r} has a head and a space of its own, which the base has no place for.")
    if hasattr(merged, "peft_config"):
        del merged.peft_config
    if code is not None and code in model.vocabularies:
        table: Any = model.vocabularies[code]
        with torch.no_grad():
            rows = table(torch.arange(table.config.size, device=merged.device)[None])[0]  # (n, w)
        encoder = find_text_encoder(merged)
        parent, _, name = encoder.anatomy.token_embedding.rpartition(".")
        setattr(encoder.module.get_submodule(parent), name, nn.Embedding.from_pretrained(rows.detach().clone()))
        for config in (encoder.config, getattr(merged.config, "text_config", merged.config)):
            config.vocab_size = len(rows)
    return merged.float().cpu()


def _merged_parts(model: CCRModel, code: str | None, folder: Path) -> None:
    """Write the merged base, tokenizer and image processor as transformers reads them."""
    processor, merged = processor_of(model), merged_base(model, code)
    tokenizer = copy.deepcopy(processor.tokenizer_for(code))
    longest = processor.base_max_length
    tokenizer.model_max_length = min(longest, processor.languages.get(str(code), (None, longest))[1])
    for config in (find_text_encoder(merged).config, getattr(merged.config, "text_config", merged.config)):
        for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
            if code is not None and code in model.vocabularies and getattr(tokenizer, name, None) is not None:
                setattr(config, name, getattr(tokenizer, name))
    merged.save_pretrained(str(folder))
    tokenizer.save_pretrained(str(folder))
    if processor.image_processor is not None:
        processor.image_processor.save_pretrained(str(folder))


def _modules(model: CCRModel, folder: Path) -> list[Any]:
    modules = require("sentence_transformers.sentence_transformer.modules", extra=_EXTRA)
    first = modules.Transformer(str(folder))
    if model.config.pooling is None:
        return [first, modules.Normalize()]
    mode = "cls" if model.config.pooling == "first" else "mean"
    return [first, modules.Pooling(model.embedding_dim, pooling_mode=mode), modules.Normalize()]


def _check(model: CCRModel, code: str | None, made: SentenceTransformer) -> None:
    """Refuse a merged model whose captions are read otherwise there: other padding, another end, capitals."""
    captions = sample_captions(processor_of(model), code)
    expected = model.encode_text(captions, code).float().cpu().numpy()
    found = np.asarray(made.encode(captions, show_progress_bar=False), dtype=np.float32)
    if expected.shape != found.shape or not cosines(expected, found).min() >= SMALLEST_COSINE:
        raise ExportError(
            f"sentence-transformers reads captions of a {type(model.base).__name__} in another way, and its vectors would not "
            "be the model's. Save without `merged=True`; the folder then loads with `trust_remote_code=True`."
        )
