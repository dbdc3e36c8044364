"""`ccr-adapters evaluate` with captions that a machine translated: from files, a column or a model, and named wherever shown."""

from __future__ import annotations

import json
import unicodedata

import pytest
import torch
from datasets import Dataset
from PIL import Image
from transformers import M2M100Config, M2M100ForConditionalGeneration, NllbTokenizer
from typer.testing import CliRunner

from ccr_adapters.cli.main import app
from ccr_adapters.cli.query_translations import MadeTranslations, TranslationFiles
from ccr_adapters.cli.question_sets import Asked, load_sets
from ccr_adapters.cli.scoring import evaluate_model
from ccr_adapters.configuration import HeadConfig
from ccr_adapters.dasd import DASDConfig
from ccr_adapters.data.tiny_world import build_tiny_world
from ccr_adapters.errors import DataError
from ccr_adapters.evaluation.records import TRANSLATE, read_record
from ccr_adapters.modeling import CCRModel

PICTURES = 12
TINY = ("--benchmark", "tiny-world", "--limit", PICTURES, "--bootstrap", 0, "--languages", "de")
NAME = f"tiny-world-{PICTURES}"


def run(*arguments):
    return CliRunner().invoke(app, ["evaluate", *(str(argument) for argument in arguments)])


def ran(*arguments):
    found = run(*arguments)
    assert found.exit_code == 0, found.output
    return found


def save_adapter(folder, tokenizer, **language):
    torch.manual_seed(0)
    model = CCRModel.from_base("tiny_clip")
    model.add_language("de", DASDConfig(r=4, condition_dim=16, generator_rank=4), tokenizer=tokenizer, **language)
    for parameter in model.trainable("de"):
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def adapter(german_tokenizer, tmp_path_factory):
    """German in the base's space."""
    return save_adapter(tmp_path_factory.mktemp("translate") / "mine", german_tokenizer)


@pytest.fixture(scope="session")
def pairs():
    """Captions of the test scenes in German, and in English by somebody else."""
    rows = build_tiny_world("de", train=0, validation=0, test=PICTURES)["test"]
    german = [text for own in rows["target_caption"] for text in own]
    return german, [text for own in rows["caption"] for text in own]


@pytest.fixture(scope="module")
def expected(adapter, pairs, tmp_path_factory):
    """The adapter with perfect translations, as the library scores it."""
    return evaluate_model(CCRModel.from_pretrained(adapter), questions(), "de", translated=pairs[1], bootstrap=0)


@pytest.fixture
def table(pairs, tmp_path):
    """A folder with the translations of each language, as `ccr-adapters translate` would leave them."""
    german, _ = pairs
    rows = [{"caption": own, "translation": text, "translator": "somebody"} for own, text in zip(*pairs, strict=True)]
    (tmp_path / "english").mkdir()
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in dict(zip(german, rows, strict=True)).values())
    (tmp_path / "english" / "de.jsonl").write_text(lines, encoding="utf-8")
    return tmp_path / "english"


@pytest.fixture(scope="module")
def translator(tmp_path_factory):
    """Folder with a tiny NLLB that says letters."""
    folder = tmp_path_factory.mktemp("translator") / "nllb"
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    vocabulary = {piece: i for i, piece in enumerate(["<s>", "<pad>", "</s>", "<unk>", "▁", *letters])}
    tokenizer = NllbTokenizer(vocab=vocabulary, merges=[], model_max_length=64)
    torch.manual_seed(3)
    sizes = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32}
    sizes |= {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "max_position_embeddings": 64}
    ids = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "decoder_start_token_id": 2}
    model = M2M100ForConditionalGeneration(M2M100Config(**sizes, **ids, vocab_size=len(tokenizer)))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("language", "told"), [("zh-Hant", "zho_Hant"), ("zh", "zho_Hans"), ("sr-Latn", "srp_Cyrl"), ("de-AT", "deu_Latn")]
)
def test_the_model_is_told_the_script_that_it_knows(language, told, translator, tmp_path):
    made = MadeTranslations(str(translator), folder=tmp_path, device="cpu")
    assert made._translator(language).codes.source == told


def record_of(folder, *parts):
    return read_record(folder / f"{'__'.join((NAME, *parts))}.json")


def questions():
    return load_sets(Asked(benchmark="tiny-world", limit=PICTURES), ["de"])["de"]


def test_scores_are_those_of_the_library_and_say_what_they_are(adapter, table, pairs, tmp_path):
    command = [adapter, *TINY, "--translations", table, "--output", tmp_path / "out"]
    found = ran(*command, "--translate-test", "--baseline", "translate", "--before")
    model = CCRModel.from_pretrained(adapter)
    _, english = pairs
    both = evaluate_model(model, questions(), "de", translated=english, bootstrap=0)
    plain = evaluate_model(model, questions(), "de", bootstrap=0)
    rows = questions()
    rows.captions["de"] = english
    alone = evaluate_model(model, rows, None, captions="de", bootstrap=0)
    expected = {
        ("mine", "de"): (plain, "mine", None),
        ("mine", "de", "translate-test-fused"): (both, f"mine + {TRANSLATE}", "fused"),
        ("tiny_clip", "de", "translate-test-alone"): (alone, TRANSLATE, "alone"),
    }
    for parts, (scores, pretrained, how) in expected.items():
        record = record_of(tmp_path / "out", *parts)
        assert torch.equal(record.ranks().t2i, scores.ranks.t2i), parts
        assert torch.equal(record.ranks().i2t, scores.ranks.i2t), parts
        assert record.pretrained == pretrained
        facts = record.own["translate_test"]
        assert (facts and facts["how"]) == how
        assert record.row()["mt"] == ("yes" if how else "no")
    assert both.sum_r != plain.sum_r
    assert record_of(tmp_path / "out", "tiny_clip", "de").own["translate_test"] is None  # --before, on German
    for text in (
        "MT at inference",
        "mine + translate-test",
        "tiny_clip (translate-test)",
        "Captions in English by somebody",
    ):
        assert text in found.output
    report = CliRunner().invoke(app, ["report", str(tmp_path / "out")]).output
    assert "MT at inference" in report
    assert "published numbers are" in report


def test_it_is_off_by_default(adapter, tmp_path):
    found = ran(adapter, *TINY, "--output", tmp_path)
    assert "MT at inference" not in found.output
    assert [path.name for path in tmp_path.glob("*.json")] == [f"{NAME}__mine__de.json"]


def test_a_head_encodes_translations_with_its_own_network(german_tokenizer, table, pairs, tmp_path):
    head = HeadConfig(space=12, width=8, attention_heads=2)
    folder = save_adapter(tmp_path / "nrccr", german_tokenizer, head=head)
    ran(folder, *TINY, "--translations", table, "--translate-test", "--output", tmp_path / "out")
    both = evaluate_model(CCRModel.from_pretrained(folder), questions(), "de", translated=pairs[1], bootstrap=0)
    record = record_of(tmp_path / "out", "nrccr", "de", "translate-test-fused")
    assert torch.equal(record.ranks().t2i, both.ranks.t2i)


def test_a_model_translates_once_and_its_time_is_told(adapter, translator, tmp_path):
    command = [adapter, *TINY, "--translator", translator, "--baseline", "translate", "--output", tmp_path]
    found = ran(*command)
    record = record_of(tmp_path, "tiny_clip", "de", "translate-test-alone")
    facts = record.own["translate_test"]
    assert facts["translator"] == "nllb"
    assert facts["milliseconds"] > 0
    assert record.own["milliseconds_a_query"] > facts["milliseconds"]
    assert record_of(tmp_path, "mine", "de").own["milliseconds_a_query"] > 0
    assert "ms a query" in found.output
    # what is finished is not computed again; with --force it is, from the translations that are there
    before = record.path.stat().st_mtime_ns
    ran(*command)
    assert record.path.stat().st_mtime_ns == before
    (kept,) = (tmp_path / "translations").iterdir()
    ran(*command, "--force", "--translate-test")
    assert list((tmp_path / "translations").iterdir()) == [kept]
    again = record_of(tmp_path, "tiny_clip", "de", "translate-test-alone")
    assert again.own["translate_test"] == facts
    assert torch.equal(again.ranks().t2i, record.ranks().t2i)


def test_finished_translations_are_read_without_their_model(translator, tmp_path, monkeypatch):
    made = MadeTranslations(str(translator), folder=tmp_path, device="cpu")
    first = made.of(questions(), "de")

    def loads(*_, **__):
        raise RuntimeError("loaded")

    monkeypatch.setattr("ccr_adapters.cli.query_translations.load_translators", loads)
    assert made.of(questions(), "de") == first
    (folder,) = tmp_path.iterdir()
    job = json.loads((folder / "job.json").read_text())
    (folder / "job.json").write_text(json.dumps({**job, "summary": None}))
    with pytest.raises(RuntimeError, match="loaded"):
        made.of(questions(), "de")


def test_captions_that_translate_left_out_stand_for_themselves(pairs, tmp_path):
    german, english = pairs
    silent = german[3]
    kept = [row for row, text in enumerate(german) if text != silent]
    rows = Dataset.from_dict({"caption": [german[row] for row in kept], "translation": [english[row] for row in kept]})
    place = tmp_path / "made"
    rows.save_to_disk(str(place))
    with pytest.raises(DataError, match=r"lacks translations of .* if they were left out because .*--keep-empty"):
        TranslationFiles(str(place)).of(questions(), "de")
    summary = {"empty": 1, "dropped": len(german) - len(kept)}
    (place / "job.json").write_text(json.dumps({"translator": {}, "summary": summary}))
    found = TranslationFiles(str(place)).of(questions(), "de")
    assert found.texts == [silent if text == silent else own for text, own in zip(german, english, strict=True)]
    assert found.untranslated == german.count(silent)
    # more are missing than were left out: these are translations of something else
    rows.select(range(4)).save_to_disk(str(tmp_path / "few"))
    (tmp_path / "few" / "job.json").write_text((place / "job.json").read_text())
    with pytest.raises(DataError, match="lacks translations"):
        TranslationFiles(str(tmp_path / "few")).of(questions(), "de")


def test_accents_are_found_however_they_are_written(pairs, tmp_path):
    german, english = pairs
    assert any(unicodedata.normalize("NFD", text) != text for text in german)
    rows = {"caption": [unicodedata.normalize("NFD", text) for text in german], "translation": english}
    Dataset.from_dict(rows).save_to_disk(str(tmp_path / "made"))
    assert TranslationFiles(str(tmp_path / "made")).of(questions(), "de").texts == english


def test_a_column_without_texts(pairs, tmp_path):
    german, _ = pairs
    for name, value, message in (
        ("numbers", 3, "'translation' holds .*int64"),
        ("lists", ["x"], "'translation' holds"),
    ):
        Dataset.from_dict({"caption": german, "translation": [value] * len(german)}).save_to_disk(str(tmp_path / name))
        with pytest.raises(DataError, match=message):
            TranslationFiles(str(tmp_path / name)).of(questions(), "de")
    Dataset.from_dict({"caption": german, "translation": [None] * len(german)}).save_to_disk(str(tmp_path / "none"))
    assert TranslationFiles(str(tmp_path / "none")).of(questions(), "de").untranslated == len(german)


@pytest.mark.parametrize("kind", ["lines", "nrccr", "data set", "data set in a folder"])
def test_translations_in_every_form(kind, adapter, expected, pairs, tmp_path):
    german, english = pairs
    if kind == "lines":
        (tmp_path / "english.de.txt").write_text("\n".join(english) + "\n", encoding="utf-8")
        place = tmp_path / "english.{language}.txt"
    elif kind == "nrccr":
        lines = [f"x{row // 2}#de2enc#{row % 2} {text}" for row, text in enumerate(english)]
        (tmp_path / "test_de2enc.caption.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
        place = tmp_path / "test_{language}2enc.caption.txt"
    else:
        rows = Dataset.from_dict({"caption": german, "translation": english})
        place = tmp_path / "made"
        rows.save_to_disk(str(place / "de" if kind == "data set in a folder" else place))
    ran(adapter, *TINY, "--translations", place, "--translate-test", "--output", tmp_path / "out")
    found = record_of(tmp_path / "out", "mine", "de", "translate-test-fused")
    assert torch.equal(found.ranks().t2i, expected.ranks.t2i)


def test_other_translations_are_another_result(adapter, table, pairs, tmp_path):
    command = [adapter, *TINY, "--translations", table, "--translate-test", "--output", tmp_path / "out"]
    ran(*command)
    file = table / "de.jsonl"
    first = json.loads(file.read_text(encoding="utf-8").splitlines()[0])
    text = file.read_text(encoding="utf-8").replace(json.dumps(first["translation"])[1:-1], "", 1)
    file.write_text(text, encoding="utf-8")
    found = ran(*command)
    assert "computed again" in found.output
    untranslated = record_of(tmp_path / "out", "mine", "de", "translate-test-fused").own["translate_test"][
        "untranslated"
    ]
    assert untranslated == pairs[0].count(first["caption"]) > 0
    assert f"{untranslated} of 24 captions in de have an empty translation and stand for themselves" in found.output


def test_a_column_of_ones_own_table(adapter, tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    rows = ["file,text_de,english"]
    for colour, german in {"red": "etwas Rotes", "green": "etwas Grünes", "blue": "etwas Blaues"}.items():
        Image.new("RGB", (16, 16), colour).save(folder / f"{colour}.png")
        rows.append(f"{colour}.png,{german},something {colour}")
    (folder / "captions.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    columns = ["--column", "image=file", "--column", "caption=text_{language}", "--column", "translation=english"]
    command = [adapter, "--data", folder, *columns, "--languages", "de", "--bootstrap", 0, "--output", tmp_path / "out"]
    ran(*command, "--baseline", "translate")
    model = CCRModel.from_pretrained(adapter)
    seen = model.encode_image([folder / f"{colour}.png" for colour in ("red", "green", "blue")], None)
    asked = model.encode_text([f"something {colour}" for colour in ("red", "green", "blue")], None)
    ranks = (asked @ seen.T).argsort(dim=1, descending=True).argsort(dim=1).diagonal() + 1
    record = read_record(tmp_path / "out" / "photos__tiny_clip__de__translate-test-alone.json")
    assert torch.equal(record.ranks().t2i, ranks)
    refused = run(*command)
    assert "add one of them" in refused.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--translate-test"], "none was named"),
        (["--translate-test", "--translations", "a", "--translator", "b"], "--translations and --translator was named"),
        (["--translations", "a"], "add one of them"),
        (["--translate-test", "--translations", "{tmp}"], "no translations of 'de' captions at"),
        (["--translate-test", "--translations", "{tmp}/few.jsonl"], "lacks translations of 23 of 24 captions"),
        (["--translate-test", "--translations", "{tmp}/few.txt"], "has 1 lines, and tiny-world-12 24 captions"),
        (["--translate-test", "--translations", "{tmp}/other.csv"], "lacks the column translation"),
        (["--baseline", "translate", "--translator", "{tmp}/nowhere"], "cannot be loaded"),
    ],
)
def test_what_cannot_be_is_said_in_a_sentence(options, message, adapter, pairs, tmp_path):
    row = {"caption": pairs[0][0], "translation": "x"}
    (tmp_path / "few.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    (tmp_path / "few.txt").write_text("x\n", encoding="utf-8")
    (tmp_path / "other.csv").write_text("caption,english\na,b\n", encoding="utf-8")
    found = run(adapter, *TINY, *(option.format(tmp=tmp_path) for option in options), "--output", tmp_path / "out")
    assert found.exit_code == 1, found.output
    assert isinstance(found.exception, SystemExit), found.exception
    assert message in found.stderr.strip().splitlines()[-1]
