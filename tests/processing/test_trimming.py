"""Trimmed tokenizers: the same cuts of the texts that count, nothing unknown that was not, for each kind of model."""

from __future__ import annotations

import json
import random

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from ccr_adapters.data.benchmarks.definitions import _XM_CAPTIONS
from ccr_adapters.errors import ConfigError
from ccr_adapters.processing.trimming import check_same, ids_in_use, ids_of_scripts, trim_tokenizer

CHINESE = ["一只狗在雪地里奔跑", "两个男人坐在红色的长凳上", "猫在睡觉", "孩子在公园里拿着蓝色的气球"]
RUSSIAN = ["собака бежит по снегу", "двое мужчин сидят на красной скамейке", "кошка спит"]
BOTH = [("<s>", 0), ("</s>", 2)]


def bert(texts):
    """As mBERT's: WordPiece, `##`, specials in front."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer.train_from_iterator(texts, trainers.WordPieceTrainer(vocab_size=500, special_tokens=special))
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, mask_token="[MASK]", **names)


def xlmr(texts):
    """As XLM-R's: unigrams, specials in front and one behind."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    alphabet = sorted(set("".join(texts)) - {" "})
    trainer = trainers.UnigramTrainer(
        vocab_size=500, special_tokens=special, unk_token="<unk>", initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=BOTH)
    tokenizer.add_special_tokens(["<mask>"])
    names = {"pad_token": "<pad>", "unk_token": "<unk>", "cls_token": "<s>", "eos_token": "</s>", "bos_token": "<s>"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, mask_token="<mask>", model_max_length=30, **names)


def roberta(texts):
    """As RoBERTa's: pairs of bytes."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<s>", "<pad>", "</s>"]
    trainer = trainers.BpeTrainer(vocab_size=700, special_tokens=special, initial_alphabet=alphabet)
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", bos_token="<s>")


def clip(texts):
    """As CLIP's: pairs of letters with the end of a word, specials at the very end, ids that other files hold."""
    tokenizer = Tokenizer(models.BPE(unk_token="<|end|>", end_of_word_suffix="</w>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=500, end_of_word_suffix="</w>"))
    tokenizer.add_special_tokens(["<|start|>", "<|end|>"])
    spec = json.loads(tokenizer.to_str())
    spec["model"]["vocab"] |= {each["content"]: each["id"] for each in spec["added_tokens"]}
    tokenizer = Tokenizer.from_str(json.dumps(spec))
    marks = [(token, tokenizer.token_to_id(token)) for token in ("<|start|>", "<|end|>")]
    tokenizer.post_processor = processors.TemplateProcessing(single="<|start|> $A <|end|>", special_tokens=marks)
    names = {"pad_token": "<|end|>", "eos_token": "<|end|>", "bos_token": "<|start|>", "unk_token": "<|end|>"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)


KINDS = {"bert": bert, "xlmr": xlmr, "roberta": roberta, "clip": clip}


@pytest.fixture(params=KINDS)
def tokenizer(request, english, german):
    """A multilingual tokenizer of one kind after the other."""
    return KINDS[request.param]([*english, *german, *CHINESE, *RUSSIAN] * 4)


def pieces(tokenizer, texts):
    return [tokenizer.convert_ids_to_tokens(ids) for ids in tokenizer(texts)["input_ids"]]


@pytest.fixture
def others(english):
    """Texts that no vocabulary was trimmed for: words in another order, letters in none, scripts mixed."""
    rng = random.Random(0)
    words = " ".join([*english, *RUSSIAN, *CHINESE]).split()
    letters = sorted(set("".join(words)))
    mixed = [" ".join(rng.choices(words, k=5)) for _ in range(40)]
    return mixed + ["".join(rng.choices(letters, k=9)) for _ in range(200)] + ["ß Ω 🙂 ｆｕｌｌ", "zzzzqq"]


def test_the_texts_that_count_are_cut_as_before(tokenizer, german, tmp_path):
    smaller, old = trim_tokenizer(tokenizer, ids_in_use(tokenizer, german))
    assert len(old) == len(smaller) < 0.9 * len(tokenizer)
    assert pieces(smaller, german) == pieces(tokenizer, german)
    for text in german:
        assert [old[i] for i in smaller(text)["input_ids"]] == tokenizer(text)["input_ids"]
    assert old == sorted(old)
    for name in ("pad_token", "eos_token", "cls_token", "sep_token", "unk_token", "mask_token", "bos_token"):
        assert getattr(smaller, name) == getattr(tokenizer, name)
    smaller.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert again(german)["input_ids"] == smaller(german)["input_ids"]
    assert again.model_max_length == tokenizer.model_max_length
    assert again.pad_token_id == old.index(tokenizer.pad_token_id)


def test_nothing_becomes_unknown_that_was_not(tokenizer, german, others):
    smaller, _ = trim_tokenizer(tokenizer, ids_in_use(tokenizer, german))
    unknown = tokenizer.unk_token
    for before, after in zip(pieces(tokenizer, others), pieces(smaller, others), strict=True):
        inner = slice(1, -1)
        assert (unknown in before[inner]) == (unknown in after[inner])
        assert "".join(after).replace("##", "") == "".join(before).replace("##", "") or unknown in before


def test_several_languages_stay_at_once(tokenizer, german, others):
    texts = [*german, *RUSSIAN]
    smaller, old = trim_tokenizer(tokenizer, ids_in_use(tokenizer, texts))
    check_same(tokenizer, smaller, old, texts)
    with pytest.raises(ConfigError, match="cuts .* in another way"):
        check_same(tokenizer, smaller, old, [*texts, *CHINESE, *others])


def test_trimming_to_everything_changes_nothing(tokenizer, german, others):
    smaller, old = trim_tokenizer(tokenizer, range(len(tokenizer)))
    assert old == list(range(len(tokenizer)))
    assert smaller([*german, *others])["input_ids"] == tokenizer([*german, *others])["input_ids"]


def test_all_pieces_of_a_script_keep_all_texts_in_it(tokenizer, english, german):
    used = ids_of_scripts(tokenizer, ["de"])
    smaller, old = trim_tokenizer(tokenizer, used)
    check_same(tokenizer, smaller, old, [*english, *german])
    left = set(tokenizer.get_vocab()) - set(smaller.get_vocab())
    if not any("Ġ" in piece for piece in tokenizer.get_vocab()):  # halves of letters have no script
        assert any(set(piece) & set("собака一只狗") for piece in left)
    check_same(tokenizer, *trim_tokenizer(tokenizer, ids_of_scripts(tokenizer, ["ru", "zh"])), [*RUSSIAN, *CHINESE])


@pytest.mark.parametrize(
    ("code", "kept", "left"),
    [
        ("yue", "狗", "д"),
        ("ba", "д", "狗"),
        ("sr-Latn", "g", "д"),
        ("sr-Cyrl", "д", "狗"),
        ("zh-Hant", "狗", "д"),
        ("pt-BR", "g", "狗"),
    ],
)
def test_pieces_of_a_language_are_in_its_script_or_that_of_its_tag(code, kept, left):
    pieces = ["[UNK]", *(f"{letter}{letter}" for letter in "gд狗")]
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]"))
    )
    found = {pieces[index] for index in ids_of_scripts(tokenizer, [code])}
    assert 2 * kept in found
    assert 2 * left not in found


def test_the_scripts_of_languages_that_people_evaluate_are_known():
    unknown = models.WordPiece({"?": 0}, unk_token="?")
    punctuation = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(unknown))
    for code in (*_XM_CAPTIONS, "ja-Jpan", "ko-Kore", "ta-Taml", "hy-Armn"):
        assert ids_of_scripts(punctuation, [code]) == {0}


@pytest.mark.parametrize("code", ["tlh", "xx-YY"])
def test_a_language_of_no_known_script_asks_for_texts(code, tokenizer):
    with pytest.raises(ConfigError, match=f"Which script '{code}' is written in .*--corpus {code}="):
        ids_of_scripts(tokenizer, [code])


def test_a_character_without_a_piece_of_its_own_keeps_its_longer_pieces():
    model = models.Unigram([("<unk>", 0.0), ("▁", -2.0), ("a", -3.0), ("▁ab", -4.0), ("▁aa", -1.0)], unk_id=0)
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>")
    smaller, _ = trim_tokenizer(wrapped, [2])
    assert set(smaller.get_vocab()) == {"<unk>", "▁", "a", "▁ab"}
    assert pieces(smaller, ["ab"]) == [["▁ab"]]


def test_kinds_that_cannot_be_trimmed_are_told():
    tokenizer = Tokenizer(models.WordLevel({"a": 0, "[UNK]": 1}, unk_token="[UNK]"))
    with pytest.raises(ConfigError, match="'WordLevel' cannot be trimmed.*expected WordPiece, BPE, Unigram"):
        trim_tokenizer(PreTrainedTokenizerFast(tokenizer_object=tokenizer), [0])
    with pytest.raises(ConfigError, match="A str has no `tokenizer.json`"):
        trim_tokenizer("words", [0])
