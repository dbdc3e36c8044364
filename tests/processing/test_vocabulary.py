"""A tokenizer for a new language: it comes back from disk, knows every character it saw, and is the same every time."""

from __future__ import annotations

import hashlib
import subprocess
import sys

import pytest
import torch
from transformers import AutoTokenizer

from ccr_adapters.errors import ConfigError, DataError
from ccr_adapters.processing.captions import token_ids
from ccr_adapters.processing.vocabulary import start_table, train_tokenizer

CHINESE = ["一只狗在雪地里奔跑", "两个男人坐在红色的长凳上", "猫在睡觉", "孩子在公园里拿着蓝色的气球"]
CZECH = ["pes běží sněhem", "dva muži sedí na červené lavičce", "kočka spí", "žena čte pod starým stromem"]
SUBWORDS = ["unigram", "bpe"]
KINDS = [*SUBWORDS, "word"]


@pytest.fixture(params=["german", "chinese", "czech", "mixed"])
def captions(request, german) -> list[str]:
    """Captions of languages with and without spaces, with letters of several scripts."""
    found = {"german": german, "chinese": CHINESE, "czech": CZECH}
    return found.get(request.param, [*german, *CHINESE, *CZECH])


@pytest.mark.parametrize("kind", SUBWORDS)
@pytest.mark.parametrize("lowercase", [True, False])
def test_what_was_seen_can_be_written_back(kind, lowercase, captions, tmp_path):
    tokenizer = train_tokenizer(captions, size=400, kind=kind, lowercase=lowercase)
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    for text in captions:
        ids = tokenizer(text)["input_ids"]
        assert loaded(text)["input_ids"] == ids
        assert tokenizer.unk_token_id not in ids
        written = tokenizer.decode(ids, skip_special_tokens=True).strip()
        assert written == (text.lower() if lowercase else text)
    assert len(loaded) == len(tokenizer) <= 400
    for name in ("pad", "bos", "eos", "cls", "sep", "unk"):
        assert getattr(loaded, f"{name}_token_id") == getattr(tokenizer, f"{name}_token_id") is not None


@pytest.mark.parametrize("kind", KINDS)
def test_captions_stand_between_their_marks(kind, german):
    tokenizer = train_tokenizer(german, size=200, kind=kind, max_length=12)
    assert tokenizer.model_max_length == 12
    for ids in tokenizer(german)["input_ids"]:
        assert ids[0] == tokenizer.cls_token_id
        assert ids[-1] == tokenizer.sep_token_id
    assert token_ids(german, tokenizer, 1000) == tokenizer(german)["input_ids"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_character_that_was_never_seen_is_unknown_not_an_error(kind, german):
    tokenizer = train_tokenizer(german, size=200, kind=kind)
    assert tokenizer.unk_token_id in tokenizer("雪")["input_ids"]
    assert len(tokenizer("雪 Ж")["input_ids"]) >= 3


INVISIBLE = "\ufeff\u00ad\u061c\u200e\u200f\u202a\u202e\u2060\u2066\u2069\ufe00\ufe0f\U000e0100"


@pytest.mark.parametrize("kind", KINDS)
def test_what_nobody_sees_changes_nothing(kind, captions, tmp_path):
    plain = train_tokenizer(captions, size=400, kind=kind)
    marked = train_tokenizer([f"\ufeff{text[:3]}\u00ad{text[3:]}\u200b" for text in captions], size=400, kind=kind)
    assert marked.get_vocab() == plain.get_vocab()
    plain.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    for text in captions:
        ids = plain(text)["input_ids"]
        for mark in INVISIBLE:
            assert loaded(f"{mark}{text[:2]}{mark}{mark}{text[2:]}{mark}")["input_ids"] == ids, ascii(mark)
        if " " in text:
            for space in ("\u200b", " \u200b", "\u200b ", " \u200b\u200b \u200b"):
                assert loaded("\u200b" + text.replace(" ", space) + "\u200b")["input_ids"] == ids, ascii(space)


@pytest.mark.parametrize("kind", KINDS)
def test_a_text_without_what_nobody_sees_stays_as_it_is(kind, german):
    visible = train_tokenizer(german, size=200, kind=kind).backend_tokenizer.normalizer[0]
    persian = "\u0645\u06cc\u200c\u0631\u0648\u0645"  # spelled with U+200C
    for text in (*german, *CHINESE, "  Zwei\nHunde  im\u00a0Schnee… ", persian, "क्\u200dष", "①ＡＢ ½"):
        assert visible.normalize_str(text) == text


def test_whole_words_are_known_or_not(german, tmp_path):
    tokenizer = train_tokenizer([*german, *CHINESE], size=400, kind="word")
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    inner = loaded("ein Hund, ein Esel", add_special_tokens=False)["input_ids"]
    assert [token == loaded.unk_token_id for token in inner] == [False, False, True, False, True]
    assert inner[0] == inner[3] == loaded("EIN", add_special_tokens=False)["input_ids"][0]
    # Chinese writes no spaces: a character is a word
    assert len(loaded("一只狗", add_special_tokens=False)["input_ids"]) == 3
    assert loaded.unk_token_id not in loaded(CHINESE[0])["input_ids"]
    assert len(train_tokenizer(german, size=10, kind="word")) == 10
    with_case = train_tokenizer(german, size=400, kind="word", lowercase=False)
    assert with_case.unk_token_id in with_case("EIN")["input_ids"]


@pytest.mark.parametrize("kind", SUBWORDS)
def test_the_size_is_kept_to(kind, captions):
    small = train_tokenizer(captions, size=120, kind=kind)
    # every character is kept, so that few tokens can be more than were asked for
    characters = {char for text in captions for char in text.lower()}
    assert len(small) <= max(120, len(characters) + 6)


def test_bad_input_is_said():
    with pytest.raises(ConfigError, match="kind 'words'; expected 'unigram', 'bpe' or 'word'"):
        train_tokenizer(["a"], kind="words")
    for nothing in ([], [""], [" ", "\n"]):
        with pytest.raises(DataError, match="no caption to train a tokenizer on"):
            train_tokenizer(nothing)
    assert len(train_tokenizer(text for text in ("a b", "c"))) > 4  # any iterable will do


WORDS = [f"w{i * 7919 % 97}x" for i in range(97)]
TEXTS = [" ".join(WORDS[(i * k + k) % 97] for k in range(1, 9)) for i in range(400)]
PROGRAM = f"""
import hashlib
from ccr_adapters.processing.vocabulary import train_tokenizer
texts = {TEXTS!r}
for kind in {KINDS}:
    tokenizer = train_tokenizer(texts, size=150, kind=kind)
    print(hashlib.sha256(tokenizer.backend_tokenizer.to_str().encode()).hexdigest())
"""


def test_two_runs_and_any_number_of_threads_train_the_same():
    outcomes = []
    for threads in ("1", "4"):
        environment = {"PYTHONPATH": ":".join(filter(None, sys.path)), "TOKENIZERS_PARALLELISM": "true"}
        environment |= {"RAYON_NUM_THREADS": threads, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-c", PROGRAM]
        outcomes.append(subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True))
    outputs = [process.communicate(timeout=120)[0] for process in outcomes]
    assert outputs[0] == outputs[1]
    assert len(outputs[0].split()) == len(KINDS)
    for kind, digest in zip(KINDS, outputs[0].split(), strict=True):
        for _ in range(3):  # one process hashes differently from table to table, too
            here = train_tokenizer(TEXTS, size=150, kind=kind).backend_tokenizer.to_str()
            assert hashlib.sha256(here.encode()).hexdigest() == digest


def test_a_table_starts_where_the_base_knows_the_words(base_tokenizer):
    colours = ["red", "blue", "green", "black", "white"]
    things = ["dog", "cat", "ball", "tree"]
    english = [f"{colour} {thing}" for colour in colours for thing in things]
    german = ["rot", "blau", "grün", "schwarz", "weiß"], ["hund", "katze", "kugel", "baum"]
    translations = [f"{colour} {thing}" for colour in german[0] for thing in german[1]]
    base = train_tokenizer(english, size=300, kind="bpe")
    own = train_tokenizer(translations, size=300, kind="bpe")
    source = torch.randn(len(base), 16)
    before = source.clone()
    table = start_table(translations, english, own, base, source)
    assert table.shape == (len(own), 16)
    assert torch.equal(source, before)

    def row(tokenizer, word):
        ids = tokenizer(f"{word}", add_special_tokens=False)["input_ids"]
        assert len(ids) == 1, word
        return ids[0]

    for ours, theirs in zip([*german[0], *german[1]], [*colours, *things], strict=True):
        cosine = torch.nn.functional.cosine_similarity(table[row(own, ours)], source, dim=-1)
        assert cosine.argmax() == row(base, theirs), ours
    for name in ("pad", "cls", "sep", "unk"):
        here, there = getattr(own, f"{name}_token_id"), getattr(base, f"{name}_token_id")
        assert torch.equal(table[here], source[there]), name


def test_special_tokens_mean_what_they_mean_in_the_base(base_tokenizer, german_tokenizer, english, german):
    # bos and eos here, in another order than there
    source = torch.randn(len(base_tokenizer), 8)
    table = start_table(german, english, german_tokenizer, base_tokenizer, source)
    for name in ("pad", "bos", "eos", "unk"):
        here, there = getattr(german_tokenizer, f"{name}_token_id"), getattr(base_tokenizer, f"{name}_token_id")
        assert here != there or name == "pad"
        assert torch.equal(table[here], source[there]), name
    # a tokenizer with cls and sep over a base with bos and eos
    own = train_tokenizer(german, size=200)
    table = start_table(german, english, own, base_tokenizer, source.half())
    assert table.dtype == torch.float32
    torch.testing.assert_close(table[own.cls_token_id], source.half().float()[base_tokenizer.bos_token_id])
    torch.testing.assert_close(table[own.sep_token_id], source.half().float()[base_tokenizer.eos_token_id])


def test_a_word_that_no_pair_has_starts_as_the_base_s_own(base_tokenizer):
    # a ready tokenizer knows more words than the pairs have
    own = train_tokenizer(["roter hund", "frisbee zebra"], size=100, kind="word")
    base = train_tokenizer(["red dog", "frisbee"], size=100, kind="word")
    source = torch.randn(len(base), 8)
    ids, theirs = own.get_vocab(), base.get_vocab()
    table = start_table(["roter hund"], ["red dog"], own, base, source)
    assert torch.equal(table[ids["frisbee"]], source[theirs["frisbee"]])
    assert torch.allclose(table[ids["zebra"]], source.mean(0))
    # without the pairs, all words go by their text
    table = start_table(["roter hund"], ["red dog"], own, base, source, align=False)
    assert torch.equal(table[ids["frisbee"]], source[theirs["frisbee"]])
    assert torch.allclose(table[ids["hund"]], source.mean(0))
