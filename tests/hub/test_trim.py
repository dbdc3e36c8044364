"""Trimmed adapters and bases: smaller, and the same vectors of every text that counts, however the rows were trained."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoModel, AutoTokenizer, BertConfig, BertModel, PreTrainedTokenizerFast
from typer.testing import CliRunner

from ccr_adapters.cli.main import app
from ccr_adapters.configuration import VocabularyConfig
from ccr_adapters.dasd import DASDConfig
from ccr_adapters.errors import AdapterError, CaptionError, ConfigError, LanguageError
from ccr_adapters.hub import adapter_info
from ccr_adapters.hub.trim import read_corpora, trim_vocabulary
from ccr_adapters.modeling import CCRModel
from ccr_adapters.processing.captions import token_ids

RUSSIAN = ["собака бежит по снегу", "двое мужчин сидят на красной скамейке", "кошка спит"]
ROWS = {
    "all": {"train": "all"},
    "touched": {"train": "touched", "width": 20},
    "touched with a source": {"train": "touched", "source": True},
    "none": {"train": "none", "source": True, "projection": True},
    "none, of another width": {"train": "none", "source": True, "wide": True},
}


def of_width(width: int, folder: Path, english, german) -> Path:
    """A model as mBERT is: WordPiece of several scripts, and a table of its own."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", *("d" * i for i in range(3, 12)), "[UNK]", "[CLS]", "[SEP]"]
    trainer = trainers.WordPieceTrainer(vocab_size=600, special_tokens=special)
    tokenizer.train_from_iterator([*english, *german, *RUSSIAN] * 3, trainer)
    spec = json.loads(tokenizer.to_str())
    spec["added_tokens"] = [each for each in spec["added_tokens"] if each["content"][0] == "["]
    tokenizer = Tokenizer.from_str(json.dumps(spec))
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 12), ("[CLS]", 11))
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)
    torch.manual_seed(3)
    size = {"hidden_size": width, "intermediate_size": 64, "num_attention_heads": 4, "num_hidden_layers": 2}
    model = BertModel(BertConfig(vocab_size=len(wrapped), **size)).eval()
    model.save_pretrained(folder)
    wrapped.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def multilingual(english, german, tmp_path_factory) -> Path:
    """As wide as the bases."""
    return of_width(32, tmp_path_factory.mktemp("multilingual"), english, german)


@pytest.fixture(scope="module")
def wider(english, german, tmp_path_factory) -> Path:
    """Wider than the bases: its rows need a projection, whether a plan says so or not."""
    return of_width(48, tmp_path_factory.mktemp("wider"), english, german)


@pytest.fixture
def adapter(bases, multilingual, wider, german, stirred, tmp_path):
    """Function that saves an adapter for German with the multilingual vocabulary, and one for Czech with the base's."""

    def make(train, source=False, width=32, projection=None, wide=False):
        place = wider if wide else multilingual
        width = 48 if wide else width
        tokenizer = AutoTokenizer.from_pretrained(place)
        rows = AutoModel.from_pretrained(place).get_input_embeddings().weight.detach()
        table = rows if width == rows.shape[1] else None
        plan = VocabularyConfig(len(tokenizer), width, projection, train, str(place) if source else None)
        touched = {i for ids in token_ids(german, tokenizer, 24) for i in ids}
        model = CCRModel.from_base(bases["clip"])
        config = DASDConfig(r=4, generator_rank=4)
        own = {"tokenizer": tokenizer, "vocabulary": plan, "source": table}
        model.add_language("de", config, touched=touched if train == "touched" else None, **own)
        model.add_language("cs", DASDConfig(r=4, generator_rank=4))
        frozen = model.vocabularies["de"].table.weight.detach().clone()
        stirred(model)
        if train != "all":
            model.vocabularies["de"].table.weight.data.copy_(frozen)  # what is not trained stays
        model.save_pretrained(tmp_path / "adapter")
        return model

    return make


@pytest.mark.parametrize("case", ROWS)
def test_vectors_stay_the_same_to_the_bit(case, adapter, german, english, tmp_path):
    model = adapter(**ROWS[case])
    (told,) = trim_vocabulary(tmp_path / "adapter", tmp_path / "small", ["de", "cs"], {"de": german})
    small = CCRModel.from_pretrained(tmp_path / "small")
    assert told.tokens_after == small.config.languages["de"].vocabulary.size < told.tokens_before
    assert told.bytes_after < told.bytes_before
    assert told.texts == len(german)
    before = model.processor.token_ids(german, "de")
    after = small.processor.token_ids(german, "de")
    for whole, cut in zip(before, after, strict=True):
        rows = [model.embed_tokens(torch.tensor([whole]), "de"), small.embed_tokens(torch.tensor([cut]), "de")]
        assert torch.equal(*rows)
    for code, captions in (("de", german), ("cs", english), (None, english)):
        expected = model.encode_text(captions, code)
        torch.testing.assert_close(small.encode_text(captions, code), expected, rtol=0, atol=1e-6)
    assert small.config.languages["de"].vocabulary.source is None
    end = json.loads((tmp_path / "small/de/adapter_config.json").read_text(encoding="utf-8"))["pooling_token_id"]
    tokenizers = [each.processor.tokenizer_for("de") for each in (small, model)]
    assert end == tokenizers[0].sep_token_id < tokenizers[1].sep_token_id
    assert "Trimmed vocabulary" in (tmp_path / "small/README.md").read_text(encoding="utf-8")
    assert set(adapter_info(tmp_path / "small").languages) == {"de", "cs"}


def test_rows_that_were_trained_stay_without_a_corpus(adapter, german, tmp_path):
    model = adapter("touched", source=True)
    trim_vocabulary(tmp_path / "adapter", tmp_path / "small", ["de"])
    small = CCRModel.from_pretrained(tmp_path / "small")
    assert small.languages == ["de"]
    expected = model.encode_text(german, "de")
    torch.testing.assert_close(small.encode_text(german, "de"), expected, rtol=0, atol=1e-6)
    assert not set(small.processor.tokenizer_for("de").get_vocab()) & {"собака"}


def test_a_base_beside_the_adapter_is_found_from_the_new_place_too(adapter, bases, german, tmp_path, monkeypatch):
    model = adapter("all")
    shutil.copytree(bases["clip"], tmp_path / "base")
    for path in (tmp_path / "adapter/config.json", *(tmp_path / "adapter").glob("*/adapter_config.json")):
        values = json.loads(path.read_text(encoding="utf-8"))
        path.write_text(json.dumps({**values, "base_model_name_or_path": "../base"}), encoding="utf-8")
    (tmp_path / "far/away").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "far")
    trim_vocabulary(tmp_path / "adapter", "away/small", ["de", "cs"], {"de": german})
    for path in (Path("away/small/config.json"), *Path("away/small").glob("*/adapter_config.json")):
        assert json.loads(path.read_text(encoding="utf-8"))["base_model_name_or_path"] == "../../../base", path
    small = CCRModel.from_pretrained("away/small")
    expected = model.encode_text(german, "de")
    torch.testing.assert_close(small.encode_text(german, "de"), expected, rtol=0, atol=1e-6)


def test_half_precision_is_asked_for(adapter, german, tmp_path):
    adapter("all")
    (whole,) = trim_vocabulary(tmp_path / "adapter", tmp_path / "whole", ["de"], {"de": german})
    (half,) = trim_vocabulary(tmp_path / "adapter", tmp_path / "half", ["de"], {"de": german}, dtype=torch.float16)
    assert half.bytes_after < whole.bytes_after
    assert load_file(tmp_path / "half/de/vocabulary.safetensors")["table"].dtype == torch.float16
    assert CCRModel.from_pretrained(tmp_path / "half").encode_text(german, "de").shape == (6, 24)


def test_several_languages_of_a_base(multilingual, german, english, tmp_path):
    corpus = {"de": german, "ru": RUSSIAN}
    (told,) = trim_vocabulary(multilingual, tmp_path / "small", ["de", "ru"], corpus)
    before, after = AutoModel.from_pretrained(multilingual), AutoModel.from_pretrained(tmp_path / "small")
    whole, small = AutoTokenizer.from_pretrained(multilingual), AutoTokenizer.from_pretrained(tmp_path / "small")
    assert after.config.vocab_size == after.get_input_embeddings().num_embeddings == len(small) == told.tokens_after
    assert told.tokens_after < told.tokens_before
    for text in (*german, *RUSSIAN):
        with torch.inference_mode():
            vectors = [
                m(**t(text, return_tensors="pt")).last_hidden_state for m, t in ((before, whole), (after, small))
            ]
        assert torch.equal(*vectors)
    assert CCRModel.from_base(tmp_path / "small").encode_text(english, None).shape == (6, 32)


@pytest.mark.parametrize("kind", ["clip", "siglip", "xlmr"])
def test_a_base_of_another_family(kind, bases, english, tmp_path):
    trim_vocabulary(bases[kind], tmp_path / "small", ["en"], {"en": english[:3]})
    whole, small = CCRModel.from_base(bases[kind]), CCRModel.from_base(tmp_path / "small")
    expected = whole.encode_text(english[:3], None)
    torch.testing.assert_close(small.encode_text(english[:3], None), expected, rtol=0, atol=1e-6)
    assert small.base.num_parameters() < whole.base.num_parameters()


def test_a_base_that_reads_small_letters_through_a_tokenizer_that_keeps_capitals(
    base_tokenizer, bases, german, english, tmp_path
):
    """SigLIP 2 with Gemma's tokenizer: its captions become other pieces than the corpus has as it stands."""
    shutil.copytree(bases["siglip"], tmp_path / "base", ignore=shutil.ignore_patterns("*token*"))
    texts = [*german, *map(str.lower, german), *english]
    base_tokenizer.train_new_from_iterator([texts], 200).save_pretrained(tmp_path / "base")
    trim_vocabulary(tmp_path / "base", tmp_path / "small", ["de"], {"de": german})
    whole, small = CCRModel.from_base(tmp_path / "base"), CCRModel.from_base(tmp_path / "small")
    assert small.base.num_parameters() < whole.base.num_parameters()
    expected = whole.encode_text(german, None)
    torch.testing.assert_close(small.encode_text(german, None), expected, rtol=0, atol=1e-6)


def test_corpora(tmp_path):
    (tmp_path / "de.txt").write_text("ein Hund\n\n eine Katze \n", encoding="utf-8")
    (tmp_path / "all.txt.gz").write_bytes(gzip.compress(b"1 2 3\n"))
    found = read_corpora([f"de={tmp_path / 'de.txt'}", str(tmp_path / "all.txt.gz")], ["de", "fr"])
    assert found == {"de": ["ein Hund", "eine Katze", "1 2 3"], "fr": ["1 2 3"]}
    (tmp_path / "empty").write_text("\n", encoding="utf-8")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\x00")
    for name, message in (
        ("none.txt", "There is no file 'none.txt'"),
        (f"cs={tmp_path / 'de.txt'}", r"is for 'cs', which is not asked for \(de\)"),
        (str(tmp_path / "empty"), "holds no text"),
        (str(tmp_path / "bytes"), "no text file in UTF-8"),
    ):
        with pytest.raises(CaptionError, match=message):
            read_corpora([name], ["de"])


def test_what_cannot_be_trimmed_is_told(adapter, german, bases, tmp_path):
    adapter("all")
    folder, out = tmp_path / "adapter", tmp_path / "small"
    for languages, error, message in (
        (["cs"], AdapterError, "cs in .* share the base's vocabulary: there is nothing to trim"),
        (["de", "fr"], LanguageError, "has no language 'fr'. It has: cs, de"),
        ([], LanguageError, "No language is named"),
    ):
        with pytest.raises(error, match=message):
            trim_vocabulary(folder, out, languages, {"de": german})
    with pytest.raises(AdapterError, match="is there and not empty"):
        trim_vocabulary(folder, folder, ["de"])
    with pytest.raises((AdapterError, ConfigError)):
        trim_vocabulary(tmp_path, out, ["de"])
    with pytest.raises(AdapterError, match="'/no/such/folder' is not here"):
        trim_vocabulary("/no/such/folder", out, ["de"])
    assert not out.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter"]


def test_the_command(adapter, german, tmp_path):
    adapter("all")
    (tmp_path / "de.txt").write_text("\n".join(german), encoding="utf-8")
    words = ["trim-vocab", tmp_path / "adapter", "--languages", "de,cs", "--corpus", f"de={tmp_path / 'de.txt'}"]
    done = CliRunner().invoke(app, [str(word) for word in (*words, "--output", tmp_path / "small")])
    assert done.exit_code == 0, done.output
    assert "the same on 6 texts" in done.stdout
    assert "->" in done.stdout
    assert sorted(CCRModel.from_pretrained(tmp_path / "small").languages) == ["cs", "de"]
    again = CliRunner().invoke(app, [str(word) for word in (*words, "--output", tmp_path / "small")])
    assert again.exit_code == 1
    assert again.stderr.startswith("error: ")
