"""Tiny translation models with random weights: real tokenizers, trained here, in folders as they come from a hub."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import sentencepiece
import torch
from transformers import (
    M2M100Config,
    M2M100ForConditionalGeneration,
    M2M100Tokenizer,
    MarianConfig,
    MarianMTModel,
    MarianTokenizer,
    NllbTokenizer,
    T5Config,
    T5ForConditionalGeneration,
    T5Tokenizer,
)

ENGLISH = "a the two men women dogs run runs sit on red blue bench snow with old tree under park ball child reads"
GERMAN = "ein eine der die zwei Männer Frauen Hunde läuft sitzen auf roten blauen Bank Schnee mit alten Baum grün"
WORDS_EN, WORDS_DE = ENGLISH.split(), GERMAN.split()
SPECIAL = ["</s>", "<unk>", "<pad>"]
SIZES = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2}
SIZES |= {"decoder_attention_heads": 2, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32}


def make_captions(number: int, seed: int = 0) -> list[str]:
    """Different captions of one to fourteen words."""
    draw = torch.Generator().manual_seed(seed)
    found: list[str] = []
    while len(found) < number:
        length = int(torch.randint(1, 15, (), generator=draw))
        picked = torch.randint(len(WORDS_EN), (length,), generator=draw)
        text = " ".join(WORDS_EN[i] for i in picked)
        if text not in found:
            found.append(text)
    return found


def train_pieces(folder: Path, name: str, texts: list[str], size: int) -> Path:
    """A sentencepiece model."""
    file = folder / f"{name}.txt"
    file.write_text("\n".join(texts), encoding="utf-8")
    sentencepiece.SentencePieceTrainer.train(
        input=str(file), model_prefix=str(folder / name), vocab_size=size, minloglevel=2, hard_vocab_limit=False
    )
    return folder / f"{name}.model"


def pieces_of(model: Path) -> list[str]:
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(model))
    return [pieces.id_to_piece(i) for i in range(pieces.vocab_size())]


def random_weights(model, seed: int, scale: float = 1.0):
    """Weights large enough that outputs differ from input to input."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.copy_(scale * torch.randn(parameter.shape, generator=generator))
    return model.eval()


@pytest.fixture(scope="session")
def captions() -> Callable[..., list[str]]:
    """`make_captions`."""
    return make_captions


@pytest.fixture(scope="session")
def home(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("translators")


@pytest.fixture(scope="session")
def pieces(home) -> dict[str, Path]:
    german = [" ".join(WORDS_DE[(i * 7 + j) % len(WORDS_DE)] for j in range(2 + i % 6)) for i in range(80)]
    return {"en": train_pieces(home, "en", make_captions(80), 60), "de": train_pieces(home, "de", german, 60)}


def make_marian(pieces, folder: Path, codes: tuple[str, ...] = (), seed: int = 0, **names: str) -> Path:
    """A Marian model; with `codes`, one of several targets."""
    vocabulary = list(
        dict.fromkeys([*SPECIAL[:2], *codes, *pieces_of(pieces["en"]), *pieces_of(pieces["de"]), SPECIAL[2]])
    )
    vocabulary.remove("<s>")
    folder.mkdir()
    file = folder / "vocab.json"
    file.write_text(json.dumps({piece: i for i, piece in enumerate(vocabulary)}), encoding="utf-8")
    tokenizer = MarianTokenizer(str(pieces["en"]), str(pieces["de"]), str(file), model_max_length=64, **names)
    pad = len(vocabulary) - 1
    config = MarianConfig(
        **SIZES, vocab_size=len(vocabulary), max_position_embeddings=64, pad_token_id=pad, eos_token_id=0,
        decoder_start_token_id=pad, forced_eos_token_id=None, tie_word_embeddings=True,
    )  # fmt: skip
    model = random_weights(MarianMTModel(config), seed)
    model.generation_config.bad_words_ids = [[pad]]
    with torch.no_grad():
        model.final_logits_bias[:, 0] = 2.0  # translations end, some early
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def marian(pieces, home) -> Path:
    """English to German."""
    return make_marian(pieces, home / "marian-en-de", source_lang="en", target_lang="de")


@pytest.fixture(scope="session")
def marian_back(pieces, home) -> Path:
    """German to English."""
    turned = {"en": pieces["de"], "de": pieces["en"]}
    return make_marian(turned, home / "marian-de-en", seed=1, source_lang="de", target_lang="en")


@pytest.fixture(scope="session")
def marian_many(pieces, home) -> Path:
    """English to several languages."""
    codes = (">>deu<<", ">>ces<<", ">>swa<<", ">>cmn_Hans<<", ">>pt_BR<<", ">>por<<")
    return make_marian(pieces, home / "marian-en-mul", codes, source_lang="en", target_lang="mul")


def _m2m(vocabulary: int, pad: int, seed: int) -> M2M100ForConditionalGeneration:
    config = M2M100Config(
        **SIZES, vocab_size=vocabulary, max_position_embeddings=64, pad_token_id=pad, bos_token_id=0, eos_token_id=2,
        decoder_start_token_id=2, forced_eos_token_id=None,
    )  # fmt: skip
    return random_weights(M2M100ForConditionalGeneration(config), seed)


@pytest.fixture(scope="session")
def m2m100(pieces, home) -> Path:
    """All languages of M2M100."""
    folder = home / "m2m100"
    folder.mkdir()
    own = [piece for piece in pieces_of(pieces["en"]) if piece not in ("<s>", "</s>", "<unk>")]
    vocabulary = ["<s>", "<pad>", "</s>", "<unk>", *own]
    file = folder / "vocab.json"
    file.write_text(json.dumps({piece: i for i, piece in enumerate(vocabulary)}), encoding="utf-8")
    tokenizer = M2M100Tokenizer(str(file), str(pieces["en"]), model_max_length=64)
    _m2m(len(vocabulary) + len(tokenizer.lang_code_to_id) + 8, 1, seed=2).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def nllb(home) -> Path:
    """All languages of NLLB, spelt in letters."""
    folder = home / "nllb"
    letters = sorted({letter for text in [*WORDS_EN, *WORDS_DE] for letter in text} | {"▁"})
    words = ["en", "de", "sw", "zh", "cs"]  # of a real vocabulary: pieces that are spelt like codes and mean none
    vocabulary = {piece: i for i, piece in enumerate(["<s>", "<pad>", "</s>", "<unk>", *letters, *words])}
    tokenizer = NllbTokenizer(vocab=vocabulary, merges=[], model_max_length=64)
    model = _m2m(len(tokenizer), 1, seed=3)
    with torch.no_grad():
        model.model.shared.weight[len(vocabulary) :] *= 0.3  # it speaks letters rather than codes
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def madlad(home) -> Path:
    """A T5 whose tokenizer knows some of MADLAD's codes."""
    folder = home / "madlad"
    letters = sorted({letter for text in [*WORDS_EN, *WORDS_DE] for letter in text})
    codes = [f"<2{code}>" for code in ("de", "cs", "sw", "iw", "zh", "pt", "fil")]
    vocabulary = [(piece, 0.0) for piece in ("<pad>", "</s>", "<unk>", *codes)]
    vocabulary += [("▁", -2.0), *((letter, -3.0) for letter in letters)]
    tokenizer = T5Tokenizer(vocab=vocabulary, extra_ids=0, model_max_length=64, additional_special_tokens=codes)
    config = T5Config(
        vocab_size=len(tokenizer), d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2, decoder_start_token_id=0
    )
    random_weights(T5ForConditionalGeneration(config), seed=4).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
