"""A tokenizer for the target language, trained on the captions at hand, and the table that goes with it."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from ccr_adapters.errors import ConfigError, DataError
from ccr_adapters.processing.alignment import aligned_table
from ccr_adapters.processing.shared_tokens import shared_tokens

PAD, BOS, EOS, UNK = "[PAD]", "[CLS]", "[SEP]", "[UNK]"
# Byte order marks, soft hyphens, marks of direction, joiners of words, variation selectors: nobody sees them, and each would be
# unknown and part the word around it. U+200C and U+200D stay, which Persian and the languages of India are spelled with.
_INVISIBLE = "[\u00ad\u061c\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069\ufe00-\ufe0f\ufeff\U000e0100-\U000e01ef]"
# The space without a width parts words (Khmer, Thai); beside another space, or at an end, it would be a word of its own.
_NO_WIDTH = "\\s*\u200b[\\s\u200b]*"


def train_tokenizer(
    captions: Iterable[str],
    *,
    size: int = 8000,
    kind: str = "unigram",
    max_length: int = 77,
    lowercase: bool = True,
) -> PreTrainedTokenizerFast:
    """Train a subword tokenizer.

    Args:
        captions: Training captions of the language.
        size: Most tokens that it may have; few captions give fewer.
        kind: `"unigram"`, `"bpe"`, or `"word"` for captions from a small closed vocabulary: a word (a character, in
            Chinese) that is not among them is unknown as a whole.
        max_length: Longest caption, written into the tokenizer.
        lowercase: Fold case, as most caption encoders do.

    Returns:
        A fast tokenizer of transformers with `[CLS] ... [SEP]` around each caption.

    Raises:
        ConfigError: If the kind is unknown, or so few tokens do not hold the characters of the captions.
        DataError: If there is no caption.
    """
    texts = [text for text in captions if text and text.strip()]
    if not texts:
        raise DataError("There is no caption to train a tokenizer on.")
    special = [PAD, BOS, EOS, UNK]
    # captions of a language without spaces are long "words"; the trainer has to be allowed to learn every character
    visible = _visible()
    shown = (visible.normalize_str(text.lower() if lowercase else text) for text in texts)
    alphabet = sorted({char for text in shown for char in text if not char.isspace()})
    trainer: Any
    if kind == "unigram":
        # each is a piece of its own, and so is the mark of where a word begins
        required = {*alphabet, *unicodedata.normalize("NFKC", "".join(alphabet)), "\u2581"}
        if size < len(required):
            raise ConfigError(
                f"A unigram tokenizer of {size} tokens does not hold the {len(required)} characters of these captions. Raise the "
                "size of the vocabulary, or take `bpe`."
            )
        tokenizer = Tokenizer(models.Unigram())
        trainer = trainers.UnigramTrainer(
            vocab_size=size,
            special_tokens=special,
            unk_token=UNK,
            initial_alphabet=alphabet,
            show_progress=False,
        )
    elif kind == "bpe":
        tokenizer = Tokenizer(models.BPE(unk_token=UNK))
        trainer = trainers.BpeTrainer(
            vocab_size=size, special_tokens=special, initial_alphabet=alphabet, show_progress=False
        )
    elif kind == "word":
        tokenizer = Tokenizer(models.WordLevel(unk_token=UNK))
        trainer = trainers.WordLevelTrainer(vocab_size=size, special_tokens=special, show_progress=False)
    else:
        raise ConfigError(f"Tokenizer kind {kind!r}; expected 'unigram', 'bpe' or 'word'.")
    if kind == "word":
        spaced = normalizers.BertNormalizer(handle_chinese_chars=True, strip_accents=False, lowercase=lowercase)
        tokenizer.normalizer = normalizers.Sequence([visible, normalizers.NFKC(), spaced])
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    else:
        steps = [visible, normalizers.NFKC()] + ([normalizers.Lowercase()] if lowercase else [])
        tokenizer.normalizer = normalizers.Sequence(steps)
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Metaspace(), pre_tokenizers.Punctuation()])
        tokenizer.decoder = decoders.Metaspace()
    tokenizer.train_from_iterator(texts, trainer)
    if kind == "unigram":
        tokenizer.model = _settled(tokenizer, len(special))
    ids = {token: tokenizer.token_to_id(token) for token in (BOS, EOS)}
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A {EOS}", special_tokens=[(BOS, ids[BOS]), (EOS, ids[EOS])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=max_length,
        pad_token=PAD,
        bos_token=BOS,
        eos_token=EOS,
        cls_token=BOS,
        sep_token=EOS,
        unk_token=UNK,
    )


def _visible() -> normalizers.Sequence:
    """Takes out what nobody sees; any other text stays as it is."""
    steps = [
        (_INVISIBLE, ""),
        (rf"\A{_NO_WIDTH}|{_NO_WIDTH}\z", ""),
        (_NO_WIDTH, " "),
    ]
    return normalizers.Sequence([normalizers.Replace(Regex(pattern), shown) for pattern, shown in steps])


def _settled(tokenizer: Tokenizer, special: int) -> models.Unigram:
    """The trained model with its pieces in order of their text, and scores without the last bits.

    The trainer adds up in the order of a hash table: scores differ in the last bits from run to run, and with them the
    order of pieces that tie, which is their ids.
    """
    trained = json.loads(tokenizer.to_str())["model"]
    pieces = trained["vocab"]
    ordered = [*pieces[:special], *sorted(pieces[special:])]
    return models.Unigram([(piece, round(score, 6)) for piece, score in ordered], unk_id=trained["unk_id"])


def start_table(
    translations: Sequence[str],
    captions: Sequence[str],
    tokenizer: Any,
    base_tokenizer: Any,
    base_table: Tensor,
    *,
    align: bool = True,
) -> Tensor:
    """The table of a new vocabulary, aligned with the base's by the training pairs.

    Tokens that the pairs say nothing about start as the base's token of the same text if they begin a word, else as the mean.

    Args:
        translations: Target captions.
        captions: Source captions of the same rows.
        tokenizer: The new tokenizer.
        base_tokenizer: The base's.
        base_table: The base's token embedding. (V, w)
        align: Ask the pairs; without it, tokens of the same text alone.

    Returns:
        Start values. (n, w)
    """

    def inner(tokens: Any, texts: Sequence[str]) -> list[list[int]]:
        return tokens(list(texts), add_special_tokens=False, verbose=False)["input_ids"]

    size = len(tokenizer)
    base_table = base_table.detach().float().cpu()
    if align:
        ids = inner(tokenizer, translations), inner(base_tokenizer, captions)
        table, found = aligned_table(*ids, base_table, size)
    else:
        table, found = base_table.mean(dim=0).repeat(size, 1), torch.zeros(size, dtype=torch.bool)
    # a name or a number is the same in many languages; 'ange' inside a word is not
    own, other = shared_tokens(tokenizer, base_tokenizer, fragments=False)
    silent = ~found[own]
    table[own[silent]] = base_table[other[silent]]
    # special tokens mean what they mean in the base
    twins = (
        (("pad_token_id",), ("pad_token_id",)),
        (("cls_token_id", "bos_token_id"), ("cls_token_id", "bos_token_id")),
        (("sep_token_id", "eos_token_id"), ("sep_token_id", "eos_token_id")),
        (("unk_token_id",), ("unk_token_id",)),
    )
    with torch.no_grad():
        for names, others in twins:
            here, there = _first(tokenizer, names), _first(base_tokenizer, others)
            if here is not None and there is not None:
                table[here] = base_table[there]
    return table


def _first(tokenizer: Any, names: tuple[str, ...]) -> int | None:
    return next((getattr(tokenizer, name) for name in names if getattr(tokenizer, name, None) is not None), None)
