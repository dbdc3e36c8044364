"""A multilingual base with only those rows of its token embedding that some languages use: a base of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import nn

from ccr_adapters.dasd import find_text_encoder
from ccr_adapters.dasd.families import anatomy_of
from ccr_adapters.errors import AdapterError, first_line
from ccr_adapters.modeling.adapter_folder import written_aside
from ccr_adapters.modeling.loading import load_base
from ccr_adapters.processing import CCRProcessor
from ccr_adapters.processing.bases import resolve_base
from ccr_adapters.processing.repository import TOKENIZER_FILES
from ccr_adapters.processing.trimming import check_same, ids_in_use, ids_of_scripts, trim_tokenizer

# texts whose vectors are compared, before and after
_COMPARED = 16


def trim_base(
    name: str,
    target: Path,
    languages: Sequence[str],
    texts: Sequence[str],
    dtype: torch.dtype | None,
    hub: Mapping[str, Any],
) -> tuple[str, int, int, int, int, int]:
    """Write a base with a smaller token embedding; its vectors of the texts stay the same to the bit.

    Args:
        name: Repository or folder of the base.
        target: Where to.
        languages: Whose pieces to keep.
        texts: Their texts; without any, all pieces in their scripts stay.
        dtype: Precision of the written weights; default as they are.
        hub: Arguments of the download.

    Returns:
        Name, tokens before and after, bytes before and after, texts that were compared.

    Raises:
        AdapterError: If its files lack weights or a tokenizer, its table has another size than its tokenizer needs, or a vector
            would change.
        ConfigError: If the tokenizer cannot be trimmed.
    """
    place = resolve_base(name)
    try:
        model: Any = load_base(place, **hub)
    except (OSError, ValueError) as error:
        raise AdapterError(
            f"'{name}' is neither an adapter nor a base that transformers can load ({first_line(error)})."
        ) from error
    model.eval()
    processor = CCRProcessor.for_base(place, model.config, **hub)
    tokenizer = processor.tokenizer
    if processor.lowercase:
        texts = [text.lower() for text in texts]  # as captions are read, whatever the tokenizer does with capitals
    used = ids_in_use(tokenizer, texts) if texts else ids_of_scripts(tokenizer, languages)
    smaller, old = trim_tokenizer(tokenizer, used)
    check_same(tokenizer, smaller, old, texts)
    table = find_text_encoder(model).token_embedding
    if old[-1] >= table.num_embeddings:
        raise AdapterError(
            f"The tokenizer of '{name}' has an id {old[-1]}, its table {table.num_embeddings} rows. They do not belong together."
        )
    before = _vectors(model, tokenizer, texts[:_COMPARED])
    rows = table.weight.numel() * table.weight.element_size()
    _cut(model, table, old)
    after = _vectors(model, smaller, texts[:_COMPARED])
    if not all(map(torch.equal, before, after)):
        raise AdapterError(
            f"The vectors of '{name}' would change with its vocabulary. Nothing was written; please report it."
        )
    with written_aside(target) as aside:
        (model if dtype is None else model.to(dtype)).save_pretrained(str(aside))
        if processor.image_processor is not None:
            processor.image_processor.save_pretrained(str(aside))
        smaller.save_pretrained(str(aside))
        kept = _token_bytes(aside)
    with TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        whole = _token_bytes(Path(folder))
    width = table.embedding_dim * (torch.finfo(dtype).bits // 8 if dtype else table.weight.element_size())
    return Path(name).name, len(tokenizer), len(old), rows + whole, len(old) * width + kept, len(texts)


def _token_bytes(folder: Path) -> int:
    return sum((folder / name).stat().st_size for name in TOKENIZER_FILES if (folder / name).is_file())


def _vectors(model: Any, tokenizer: Any, texts: Sequence[str]) -> list[torch.Tensor]:
    """Last states of the text module, one text at a time, so that nothing but the ids differs."""
    module = find_text_encoder(model).module
    found = []
    with torch.inference_mode():
        for text in texts:
            inputs = tokenizer(text, return_tensors="pt", truncation=True, max_length=16)
            output = module(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"])
            found.append(output[0])
    return found


def _cut(model: Any, table: nn.Embedding, old: Sequence[int]) -> None:
    """Keep some rows, and tell the configuration."""
    new = {before: after for after, before in enumerate(old)}
    padding = None if table.padding_idx is None else new.get(table.padding_idx)
    smaller = nn.Embedding(len(old), table.embedding_dim, padding_idx=padding, dtype=table.weight.dtype)
    with torch.no_grad():
        smaller.weight.copy_(table.weight[torch.tensor(old)])
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if child is table:
                setattr(module, name, smaller)
    text = find_text_encoder(model).config
    anatomy = anatomy_of(model.config)
    for config in {id(each): each for each in (model.config, text)}.values():
        if getattr(config, "vocab_size", None) == table.num_embeddings:
            config.vocab_size = len(old)
        for key in ("pad_token_id", "bos_token_id", "eos_token_id", "sep_token_id", "cls_token_id", "unk_token_id"):
            value = getattr(config, key, None)
            # an end token of 2 stands for the highest id there, which stays the highest
            legacy = key == "eos_token_id" and value == 2 and anatomy is not None and anatomy.legacy_end
            if isinstance(value, int) and value in new and not legacy:
                setattr(config, key, new[value])
