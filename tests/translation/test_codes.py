"""Plain language codes become what each kind of translation model calls the language."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoConfig, AutoTokenizer, MBart50Tokenizer, PreTrainedTokenizerFast
from transformers.models.m2m_100.tokenization_m2m_100 import FAIRSEQ_LANGUAGE_CODES as M2M100
from transformers.models.mbart50.tokenization_mbart50 import FAIRSEQ_LANGUAGE_CODES as MBART50
from transformers.models.nllb.tokenization_nllb import FAIRSEQ_LANGUAGE_CODES as NLLB

from ccr_adapters.errors import LanguageError, TranslationError
from ccr_adapters.translation.checks import ALSO_WRITTEN, SCRIPTS
from ccr_adapters.translation.codes import _spelling, find_language, languages, resolve_codes, script_of


@pytest.mark.parametrize(("column", "theirs"), [("nllb", NLLB), ("m2m100", M2M100["m2m100"]), ("mbart50", MBART50)])
def test_the_table_has_only_codes_that_the_models_have(column, theirs):
    ours = {getattr(language, column) for language in languages().values()} - {None}
    assert ours <= set(theirs)
    # the two smaller families are covered whole
    assert column == "nllb" or ours == set(theirs)


def test_the_table_is_large_and_says_the_script_of_each_language():
    assert len(languages()) > 110
    unknown = [code for code, language in languages().items() if language.nllb and language.script not in SCRIPTS]
    assert unknown == []
    assert all(code in languages() and script in SCRIPTS for code, script in ALSO_WRITTEN.items())


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ("de", "de"), ("DE", "de"), ("deu", "de"), ("deu_Latn", "de"), ("de_DE", "de"), ("de-AT", "de"), ("pt-br", "pt-BR"),
        ("pt_BR", "pt-BR"), ("zh", "zh"), ("zh-CN", "zh"), ("zh_TW", "zh-Hant"), ("zh-hant", "zh-Hant"), ("jp", "ja"),
        ("zh-MO", "zh-Hant"), ("cz", "cs"), ("iw", "he"), ("no", "nb"), ("fil", "fil"), ("es-419", "es"), ("swh_Latn", "sw"),
        ("zh-Hans-CN", "zh"), ("zh-Hant-TW", "zh-Hant"), ("sr-Cyrl", "sr"), ("sr-Latn-RS", "sr-Latn"), ("mn_Cyrl", "mn"),
    ],
)  # fmt: skip
def test_a_language_is_found_by_any_of_its_codes(given, code):
    assert find_language(given).code == code


@pytest.mark.parametrize("given", ["xx", "tlh", "sr-Deva", "", "german please"])
def test_what_is_no_code_is_not_found(given):
    assert find_language(given) is None


@pytest.mark.parametrize(
    ("code", "token"), [("ckb", "ckb_Arab"), ("rn", "run_Latn"), ("bo", "bod_Tibt"), ("ee", "ewe_Latn"), ("tlh", None)]
)
def test_languages_of_nllb_that_the_table_lacks(code, token):
    tokens = {"deu_Latn", "ckb_Arab", "run_Latn", "bod_Tibt", "ewe_Latn", "tlh", "min_Arab", "min_Latn"}
    assert _spelling(code, "nllb", tokens) == token
    assert _spelling("min", "nllb", tokens) is None  # which of its scripts?


def test_another_script_is_not_taken_for_it():
    assert _spelling("zh-Hant", "marian", {">>zho<<", ">>zh<<"}) is None
    assert _spelling("zh", "marian", {">>zho<<"}) == "zho"


def test_scripts():
    assert script_of("bod_Tibt") == "Tibt"
    assert [script_of(code) for code in ("de", "zh", "zh-TW", "sr", "sr-Latn", "ja", "xx")] == [
        "Latn", "Hans", "Hant", "Cyrl", "Latn", "Jpan", None,
    ]  # fmt: skip


def codes_of(folder, source, target):
    return resolve_codes(AutoConfig.from_pretrained(folder), AutoTokenizer.from_pretrained(folder), source, target)


@pytest.mark.parametrize(
    ("kind", "target", "expected"),
    [
        ("nllb", "de", ("nllb", "eng_Latn", "deu_Latn", "")),
        ("nllb", "sw", ("nllb", "eng_Latn", "swh_Latn", "")),
        ("nllb", "zh", ("nllb", "eng_Latn", "zho_Hans", "")),
        ("nllb", "zh-Hant", ("nllb", "eng_Latn", "zho_Hant", "")),
        ("nllb", "pt-BR", ("nllb", "eng_Latn", "por_Latn", "")),
        ("nllb", "ace_Arab", ("nllb", "eng_Latn", "ace_Arab", "")),  # a code of its own that the table lacks
        ("m2m100", "de", ("m2m100", "en", "de", "")),
        ("m2m100", "nb", ("m2m100", "en", "no", "")),
        ("m2m100", "de-AT", ("m2m100", "en", "de", "")),
        ("madlad", "de", ("madlad", None, "de", "<2de> ")),
        ("madlad", "he", ("madlad", None, "iw", "<2iw> ")),
        ("madlad", "pt-BR", ("madlad", None, "pt", "<2pt> ")),
        ("madlad", "tl", ("madlad", None, "fil", "<2fil> ")),
        ("marian", "de", ("pair", None, None, "")),
        ("marian_many", "de", ("marian", None, "deu", ">>deu<< ")),
        ("marian_many", "sw", ("marian", None, "swa", ">>swa<< ")),
        ("marian_many", "zh", ("marian", None, "cmn_Hans", ">>cmn_Hans<< ")),
        ("marian_many", "pt", ("marian", None, "por", ">>por<< ")),
        ("marian_many", "pt-BR", ("marian", None, "pt_BR", ">>pt_BR<< ")),
    ],
)
def test_each_kind_of_model_is_told_in_its_own_way(kind, target, expected, request):
    found = codes_of(request.getfixturevalue(kind), "en", target)
    assert (found.style, found.source, found.target, found.prefix) == expected


def test_mbart50_is_told_by_its_own_codes():
    tokenizer = MBart50Tokenizer()
    found = resolve_codes(SimpleNamespace(model_type="mbart"), tokenizer, "en", "de")
    assert (found.style, found.source, found.target) == ("mbart50", "en_XX", "de_DE")
    assert found.forced_bos == tokenizer.convert_tokens_to_ids("de_DE")
    with pytest.raises(LanguageError, match=r"no target language 'zh-Hant'.*zh \(Chinese\)"):
        resolve_codes(SimpleNamespace(model_type="mbart"), tokenizer, "en", "zh-Hant")


def test_the_forced_token_is_the_target_language(nllb, m2m100):
    for folder, token in ((nllb, "ces_Latn"), (m2m100, "__cs__")):
        tokenizer = AutoTokenizer.from_pretrained(folder)
        found = resolve_codes(AutoConfig.from_pretrained(folder), tokenizer, "en", "cs")
        assert found.forced_bos == tokenizer.convert_tokens_to_ids(token)
        assert found.forced_bos in found.silent


def test_a_t5_is_prompted_as_its_configuration_says(madlad):
    tasks = {"translation_en_to_de": {"prefix": "translate English to German: "}}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"a": 0}, unk_token="a")))
    config = SimpleNamespace(model_type="t5", task_specific_params=tasks)
    assert resolve_codes(config, tokenizer, "en", "de").prefix == "translate English to German: "
    with pytest.raises(LanguageError, match="does not translate en to cs. It translates en to de"):
        resolve_codes(config, tokenizer, "en", "cs")


@pytest.mark.parametrize(
    ("kind", "target", "message"),
    [
        ("nllb", "german", r"no target language 'german'. Nearest of the \d+ in the table: de \(German\)"),
        ("nllb", "sr-Latn", r"sr \(Serbian\)"),
        ("m2m100", "eo", r"no target language 'eo'. Nearest of the \d+"),
        ("madlad", "fr", r"no target language 'fr'. It knows .*cs \(Czech\), de \(German\)"),
        ("marian_many", "fr", r"It knows .*sw \(Swahili\)"),
        ("marian", "fr", r"target language is de \(German\), not 'fr'"),
    ],
)
def test_a_language_that_a_model_lacks_is_refused_naming_the_nearest(kind, target, message, request):
    with pytest.raises(LanguageError, match=message):
        codes_of(request.getfixturevalue(kind), "en", target)


def test_the_source_language_is_checked_too(nllb, marian, marian_many):
    with pytest.raises(LanguageError, match="no source language 'tlh'"):
        codes_of(nllb, "tlh", "de")
    for folder in (marian, marian_many):
        with pytest.raises(LanguageError, match=r"source language is en \(English\), not 'fr'"):
            codes_of(folder, "fr", "de")


@pytest.mark.parametrize(
    ("own", "wanted", "taken"),
    [
        ("tgl", "fil", True), ("tgl", "tl", True), ("tl", "fil", True), ("fil", "tgl", True), ("nor", "nn", True),
        ("no", "nb", True), ("nno", "no", True), ("nob", "nn", False), ("ind", "ms", False), ("zho", "zh-Hant", True),
    ],
)  # fmt: skip
def test_a_model_is_taken_for_its_language_by_any_of_its_names(own, wanted, taken):
    plain = Tokenizer(models.WordLevel({"a": 0}, unk_token="a"))
    for side, pair in (("target", ("en", wanted)), ("source", (wanted, "en"))):
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=plain)
        setattr(tokenizer, f"{side}_lang", own)
        with nullcontext() if taken else pytest.raises(LanguageError, match=f"{side} language is .* not '{wanted}'"):
            assert resolve_codes(SimpleNamespace(model_type="bart"), tokenizer, *pair).style == "pair"


def test_a_model_of_an_unnamed_pair_is_taken_at_the_users_word(caplog):
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"a": 0}, unk_token="a")))
    assert resolve_codes(SimpleNamespace(model_type="bart"), tokenizer, "en", "de").style == "pair"
    assert "taken to translate en to de" in caplog.text


def test_a_tokenizer_that_does_not_write_the_source_code_is_refused():
    vocabulary = {token: i for i, token in enumerate(["<unk>", "a", "eng_Latn", "deu_Latn"])}
    plain = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    plain.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=plain, unk_token="<unk>")
    with pytest.raises(TranslationError, match=r"does not write the source code 'eng_Latn'.*NllbTokenizer"):
        resolve_codes(SimpleNamespace(model_type="m2m_100"), tokenizer, "en", "de")
