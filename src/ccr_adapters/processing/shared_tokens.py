"""Tokens that two tokenizers share: the same text at the same place of a word, whatever marks each of them uses."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

# marks of what begins a word (SentencePiece, byte-level BPE), of what ends one (CLIP), and of what does not begin one (WordPiece)
_BEGINS, _ENDS, _GOES_ON = ("▁", "Ġ"), "</w>", "##"


def _texts(tokenizer: Any) -> dict[tuple[str, bool], int]:
    """Ids by the text of a token and whether it begins a word; special tokens and pieces of characters are left out."""
    special = set(tokenizer.all_special_ids)
    tokens: dict[str, int] = tokenizer.get_vocab()
    marked = any(token.startswith(_BEGINS) for token in tokens)
    ended = any(token.endswith(_ENDS) for token in tokens)
    found: dict[tuple[str, bool], int] = {}
    for token, index in tokens.items():
        text = tokenizer.convert_tokens_to_string([token]).replace(_ENDS, "").removeprefix(_GOES_ON).strip()
        if index in special or not (text or token in _BEGINS) or "\N{REPLACEMENT CHARACTER}" in text:
            continue
        if marked:
            begins = token.startswith(_BEGINS)
        elif ended:
            begins = token.endswith(_ENDS)  # most tokens that end a word are all of it
        else:
            begins = not token.startswith(_GOES_ON)
        found.setdefault((text, begins), index)
    return found


def shared_tokens(tokenizer: Any, other: Any, *, fragments: bool = True) -> tuple[Tensor, Tensor]:
    """Ids of the tokens that both have, in the order of the first.

    Args:
        tokenizer: A tokenizer of transformers.
        other: Another.
        fragments: Also those that do not begin a word.

    Returns:
        Ids of the first (k,), and of the other (k,).
    """
    here, there = _texts(tokenizer), _texts(other)
    both = [key for key in here.keys() & there.keys() if fragments or key[1]]
    pairs = sorted((here[key], there[key]) for key in both)
    ids = torch.tensor(pairs, dtype=torch.long).reshape(-1, 2)
    return ids[:, 0], ids[:, 1]
