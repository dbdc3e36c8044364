"""Translators translate: alone or in a batch, in order, in the language asked for, and count what went wrong."""

from __future__ import annotations

import logging
import shutil

import pytest
import torch
from transformers import BertConfig, BertModel

from ccr_adapters.errors import CaptionError, LanguageError, TranslationError
from ccr_adapters.translation import Translator
from ccr_adapters.translation.translator import BATCH_TOKENS, _budgeted

KINDS = ["marian", "marian_many", "m2m100", "nllb", "madlad"]


@pytest.fixture(params=KINDS)
def translator(request) -> Translator:
    return Translator.from_pretrained(request.getfixturevalue(request.param), target="de", device="cpu")


def slowly(translator, text, num_beams, max_new_tokens):
    """One caption as the documentation of transformers translates it."""
    tokenizer, model, codes = translator.tokenizer, translator.model, translator.codes
    if codes.source:
        tokenizer.src_lang = codes.source
    batch = tokenizer([codes.prefix + text], return_tensors="pt")
    batch = {name: batch[name][:, : translator.longest] for name in ("input_ids", "attention_mask")}
    bos = {} if codes.forced_bos is None else {"forced_bos_token_id": codes.forced_bos}
    row = model.generate(**batch, num_beams=num_beams, max_length=max_new_tokens + 1, do_sample=False, **bos)[0]
    ids = [token for token in row.tolist() if token not in codes.silent and token not in tokenizer.all_special_ids]
    if hasattr(tokenizer, "spm_target"):
        # pieces of the source language are not among the target's
        return " ".join(tokenizer.spm_target.decode(tokenizer.convert_ids_to_tokens(ids)).replace("▁", " ").split())
    return " ".join(tokenizer.decode(ids).split())


@pytest.mark.parametrize("num_beams", [1, 4])
def test_translations_are_those_of_one_caption_at_a_time(translator, captions, num_beams):
    texts = [text for text in captions(24) if len(text) < 50]  # what is too long is cut, with its end token kept
    found = translator.translate(texts, batch_size=5, num_beams=num_beams, max_new_tokens=9)
    expected = [slowly(translator, text, num_beams, 9) for text in texts]
    # an empty one was asked for again
    assert [ours for ours, theirs in zip(found, expected, strict=True) if theirs] == [text for text in expected if text]
    assert len(set(found)) > 3
    assert translator.counts["captions"] == len(texts)


def test_a_translation_does_not_depend_on_its_batch(translator, captions):
    texts = captions(18)
    alone = [translator.translate([text], max_new_tokens=6)[0] for text in texts]
    for batch_size in (3, 16):
        assert translator.translate(texts, batch_size=batch_size, max_new_tokens=6) == alone
    turned = translator.translate(texts[::-1], max_new_tokens=6)
    assert turned[::-1] == alone


def test_no_code_of_a_language_is_left_in_a_translation(translator, captions):
    for text in translator.translate(captions(30), max_new_tokens=12):
        assert not any(mark in text for mark in ("__", "<2", ">>", "_Latn", "</s>", "<pad>"))


def test_the_target_language_is_what_is_asked_for(nllb, captions):
    translator = Translator.from_pretrained(nllb, target="de", device="cpu")
    german = translator.translate(captions(10), max_new_tokens=12)
    other = Translator(translator.model, translator.tokenizer, "en", "ja").translate(captions(10), max_new_tokens=12)
    assert german != other
    # the tokenizer is shared and told its language each time
    assert translator.translate(captions(10), max_new_tokens=12) == german


def test_the_same_model_translates_back(nllb, captions):
    translator = Translator.from_pretrained(nllb, target="de", device="cpu")
    back = translator.reversed()
    assert (back.source, back.target) == ("de", "en")
    assert (back.codes.source, back.codes.target) == ("deu_Latn", "eng_Latn")
    assert back.model is translator.model
    assert back.translate(captions(3), max_new_tokens=5) != translator.translate(captions(3), max_new_tokens=5)


def test_umlauts_come_from_the_pieces_of_the_target_language(marian, captions):
    translator = Translator.from_pretrained(marian, device="cpu")
    found = " ".join(translator.translate(captions(40), max_new_tokens=12))
    assert "Männer" in found
    assert "▁" not in found
    assert "⁇" not in found


def test_line_breaks_are_no_part_of_a_caption(marian):
    translator = Translator.from_pretrained(marian, device="cpu")
    one, other = translator.translate(["two men  run\n on snow ", "two men run on snow"], max_new_tokens=8)
    assert one == other


def test_what_is_too_long_is_cut_counted_and_said_once(marian, caplog):
    translator = Translator.from_pretrained(marian, device="cpu")
    long = " ".join(["bench"] * 200)
    with caplog.at_level(logging.WARNING):
        found = translator.translate([long, "a dog", long + " snow"], max_new_tokens=5)
        translator.translate([long], max_new_tokens=5)
    assert translator.counts["truncated"] == 3
    assert found[0] == found[2]
    assert caplog.text.count("longer than the 64 tokens") == 1


def test_translations_that_are_cut_off_are_counted(marian, captions):
    translator = Translator.from_pretrained(marian, device="cpu")
    translator.translate(captions(20), max_new_tokens=2)
    few = translator.counts["unfinished"]
    translator.counts.clear()
    translator.translate(captions(20), max_new_tokens=40)
    assert translator.counts["unfinished"] < few <= 20


def prefer(translator, token, by):
    """Make the model of a translator like a token."""
    with torch.no_grad():
        translator.model.final_logits_bias[:, token] += by


def test_an_empty_translation_is_asked_for_again(marian, captions):
    translator = Translator.from_pretrained(marian, device="cpu")
    prefer(translator, translator.tokenizer.eos_token_id, 1000.0)
    found = translator.translate(captions(5), max_new_tokens=8)
    assert all(found)
    assert (translator.counts["retried"], translator.counts["empty"]) == (5, 0)


def test_what_stays_empty_is_counted(marian, captions):
    translator = Translator.from_pretrained(marian, device="cpu")
    prefer(translator, translator.tokenizer.convert_tokens_to_ids("▁"), 1000.0)
    assert translator.translate(captions(5), max_new_tokens=4) == [""] * 5
    assert (translator.counts["retried"], translator.counts["empty"]) == (5, 5)


@pytest.mark.parametrize("wrong", ["", "  \n", None, 7])
def test_an_empty_caption_is_refused(marian, wrong):
    translator = Translator.from_pretrained(marian, device="cpu")
    with pytest.raises(CaptionError, match="Caption 1 is empty or no text"):
        translator.translate(["a dog", wrong])
    assert translator.translate([]) == []


@pytest.mark.parametrize("setting", ["batch_size", "num_beams", "max_new_tokens"])
def test_settings_are_positive(marian, setting):
    with pytest.raises(TranslationError, match=f"`{setting}` is 0"):
        Translator.from_pretrained(marian, device="cpu").translate(["a dog"], **{setting: 0})


def test_batches_hold_all_rows_within_their_budget():
    draw = torch.Generator().manual_seed(0)
    inputs = [[0] * int(length) for length in torch.randint(1, 900, (200,), generator=draw)]
    order = sorted(range(200), key=lambda row: -len(inputs[row]))
    batches = list(_budgeted(order, inputs, 16))
    assert sorted(row for rows in batches for row in rows) == list(range(200))
    for rows in batches:
        assert len(rows) <= 16
        assert len(rows) == 1 or max(len(inputs[row]) for row in rows) * len(rows) <= BATCH_TOKENS
    assert len(batches) < 40


def test_the_identity_tells_models_apart(marian, marian_back, nllb):
    one = Translator.from_pretrained(marian, device="cpu")
    assert one.identity() == Translator.from_pretrained(marian, device="cpu").identity()
    assert one.identity()["name"] == "marian-en-de"
    changed = Translator.from_pretrained(marian, device="cpu")
    with torch.no_grad():
        changed.model.model.encoder.layers[0].fc1.weight[0, 0] += 1
    assert changed.identity()["weights"] != one.identity()["weights"]
    half = Translator.from_pretrained(marian, device="cpu", dtype="bfloat16")
    assert half.identity()["dtype"] == "bfloat16"
    german, czech = (Translator.from_pretrained(nllb, target=code, device="cpu").identity() for code in ("de", "cs"))
    assert {name for name in german if german[name] != czech[name]} == {"target", "codes"}


def test_a_model_that_is_not_there_or_does_not_translate_is_refused(tmp_path, marian):
    with pytest.raises(TranslationError, match="cannot be loaded"):
        Translator.from_pretrained(tmp_path / "nothing")
    bert = BertModel(BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8))
    bert.save_pretrained(tmp_path / "bert")
    with pytest.raises(TranslationError, match="no translation model"):
        Translator.from_pretrained(tmp_path / "bert")
    with pytest.raises(TranslationError, match="BertModel is no encoder-decoder"):
        Translator(bert, None)
    with pytest.raises(LanguageError):
        Translator.from_pretrained(marian, target="cs", device="cpu")


def test_pickled_weights_are_not_read(tmp_path, marian):
    folder = tmp_path / "pickled"
    shutil.copytree(marian, folder)
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")
    with pytest.raises(TranslationError, match="Only safetensors are read"):
        Translator.from_pretrained(folder, device="cpu")


def test_a_batch_that_memory_is_not_for_is_cut(translator, captions, monkeypatch, caplog):
    texts = captions(9)
    expected = translator.translate(texts, batch_size=9, max_new_tokens=6)
    generate, passes, most = translator._generate, [], 2

    def small(inputs, *rest, **how):
        if len(inputs) > most:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        passes.append(len(inputs))
        return generate(inputs, *rest, **how)

    monkeypatch.setattr(translator, "_generate", small)
    assert translator.translate(texts, batch_size=9, max_new_tokens=6) == expected
    assert max(passes) == 2
    assert "Out of memory with 9 captions; they are translated 4 at a time." in caplog.text
    most = 0
    with pytest.raises(TranslationError, match="not enough memory to translate a caption of .* with 1 beams"):
        translator.translate(texts[:1], num_beams=1)
