"""Files that are missing, broken, or made to harm: one sentence naming them, nothing loaded, nothing allocated."""

from __future__ import annotations

import json
import pickle
import resource
import struct
from pathlib import Path

import pytest
import torch
from peft import LoraConfig
from safetensors.torch import load_file, save_file
from transformers import AutoModel

from ccr_adapters.configuration import VocabularyConfig
from ccr_adapters.dasd import DASDConfig
from ccr_adapters.errors import AdapterError, CCRError, ConfigError
from ccr_adapters.modeling import CCRModel, Vocabulary
from ccr_adapters.processing import CCRProcessor

WEIGHTS, VOCABULARY = "adapter_model.safetensors", "vocabulary.safetensors"
CONFIG, ADAPTER = "config.json", "adapter_config.json"
UP = "base_model.model.text_model.encoder.layers.1.dasd_bottleneck.up.weight"
HUGE = 10**9
SLOW = "(([a-z_]+)+[0-9.]*)+!"


@pytest.fixture(params=["all", "touched"])
def folder(request, bases, german_tokenizer, stir, tmp_path) -> Path:
    """A good repository with a vocabulary of its own, to be broken."""
    model = CCRModel.from_base(bases["clip"])
    vocabulary = VocabularyConfig(120, 20, train=request.param)
    touched = range(40, 60) if request.param == "touched" else None
    model.add_language(
        "de", DASDConfig(r=4), tokenizer=german_tokenizer, vocabulary=vocabulary, touched=touched, max_length=20
    )
    stir(model).save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


def edit(name, *path, value):
    """A change of one value in a JSON file."""

    def change(folder):
        values = json.loads((folder / name).read_text(encoding="utf-8"))
        place = values
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value
        (folder / name).write_text(json.dumps(values), encoding="utf-8")

    return change


def rename_language(code):
    """A change of the language's code, its folder as it was."""

    def change(folder):
        values = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        values["languages"] = {code: values["languages"].pop("de")}
        (folder / CONFIG).write_text(json.dumps(values), encoding="utf-8")

    return change


def tensors(name, change):
    """A change of the tensors in a file, by a function on their dictionary."""

    def rewrite(folder):
        found = load_file(folder / name)
        change(found)
        save_file(found, folder / name)

    return rewrite


def write(name, content):
    return lambda folder: (folder / name).write_bytes(content)


def cut(name, keep):
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:keep])


def remove(name):
    return lambda folder: (folder / name).unlink()


def only_a_pickle(folder):
    (folder / WEIGHTS).rename(folder / "adapter_model.bin")


def fill(key, value):
    return lambda found: found[key].view(-1)[:1].fill_(value)


BAD = {
    # what is not there
    "no config": (remove(CONFIG), r"'config\.json' is missing in .*adapter repository\?"),
    "no adapter config": (remove(ADAPTER), r"'adapter_config\.json' is missing"),
    "no weights": (remove(WEIGHTS), r"'adapter_model\.safetensors' is missing"),
    "no vocabulary": (remove(VOCABULARY), r"'vocabulary\.safetensors' is missing"),
    "no tokenizer": (remove("tokenizer.json"), "tokenizer"),
    "only a pickle": (only_a_pickle, r"adapter_model\.bin, but pickles are never opened"),
    # what is broken
    "config no JSON": (write(CONFIG, b"{"), r"config\.json' is no valid JSON"),
    "config no text": (write(CONFIG, b"\xff\xfe{}"), r"config\.json' is no valid JSON"),
    "config a list": (write(CONFIG, b"[]"), "holds a list; expected a JSON object"),
    "adapter config no JSON": (cut(ADAPTER, 40), r"adapter_config\.json' is no valid JSON"),
    "weights empty": (write(WEIGHTS, b""), r"adapter_model\.safetensors' is truncated"),
    "weights cut in the header": (cut(WEIGHTS, 100), r"adapter_model\.safetensors' is truncated"),
    "weights cut in the data": (cut(WEIGHTS, -3), r"adapter_model\.safetensors' is truncated"),
    "weights a pickle": (write(WEIGHTS, pickle.dumps({"a": 1})), "is truncated or no safetensors file"),
    "a header without end": (write(WEIGHTS, struct.pack("<Q", 2**62) + b"{}"), "is truncated or no safetensors"),
    "vocabulary cut": (cut(VOCABULARY, -3), r"vocabulary\.safetensors' is truncated"),
    "tokenizer no JSON": (cut("tokenizer.json", 200), "tokenizer"),
    # what is unknown
    "another model": (
        edit(CONFIG, "model_type", value="bert"),
        "The base '.*adapter' cannot be loaded|holds a 'bert' model",
    ),
    "no model": (edit(CONFIG, "model_type", value=None), "holds a None model"),
    "unknown key": (edit(CONFIG, "langauges", value={}), "Unknown key .*langauges"),
    "unknown language key": (edit(CONFIG, "languages", "de", "lenght", value=3), "Unknown key .*lenght"),
    "unknown adapter key": (edit(ADAPTER, "rank", value=3), r"Unknown key in '.*adapter_config\.json': rank"),
    "unknown method": (edit(ADAPTER, "peft_type", value="MAGIC"), "method 'MAGIC', which peft does not know"),
    "no method": (edit(ADAPTER, "peft_type", value=None), "method None"),
    "a list for a method": (edit(ADAPTER, "peft_type", value=["DASD"]), "method"),
    "another kind of method": (edit(ADAPTER, "peft_type", value="PROMPT_TUNING"), "adapter_config"),
    # what does not fit
    "mode": (edit(ADAPTER, "mode", value="both"), r"adapter_config\.json': `mode` is 'both'"),
    "size no number": (edit(ADAPTER, "r", value="4"), r"adapter_config\.json': `r` is '4'"),
    "blocks": (edit(ADAPTER, "target_modules", value=["nowhere"]), "nowhere"),
    "rank": (edit(ADAPTER, "r", value=8), r"has shape \(.*\), expected \("),
    "fewer blocks": (edit(ADAPTER, "target_modules", value=["layers.0"]), "unexpected|no block"),
    "static": (edit(ADAPTER, "mode", value="static"), "0 missing .*unexpected .*dasd_"),
    "key missing": (tensors(WEIGHTS, lambda found: found.pop(UP)), r"1 missing \(.*up\.weight\), 0 unexpected"),
    "key extra": (tensors(WEIGHTS, lambda found: found.update(evil=torch.ones(1))), r"1 unexpected \(evil\)"),
    "shape": (tensors(WEIGHTS, lambda found: found.update({UP: torch.ones(3, 3)})), r"up\.weight' has shape \(3, 3\)"),
    "transposed": (tensors(WEIGHTS, lambda f: f.update({UP: f[UP].T.contiguous()})), "has shape"),
    "not a number": (tensors(WEIGHTS, fill(UP, float("nan"))), r"not finite, in .*up\.weight"),
    "infinite": (tensors(WEIGHTS, fill(UP, float("inf"))), "not finite"),
    "integers": (tensors(WEIGHTS, lambda found: found.update({UP: found[UP].long()})), r"up\.weight.*int64"),
    "vocabulary not finite": (tensors(VOCABULARY, fill("projection.bias", float("nan"))), "not finite, in proj"),
    "no projection": (
        tensors(VOCABULARY, lambda found: found.pop("projection.weight")),
        r"missing .*projection\.weight",
    ),
    "vocabulary extra": (tensors(VOCABULARY, lambda f: f.update(x=torch.ones(1))), r"unexpected .*x"),
    "vocabulary width": (edit(CONFIG, "languages", "de", "vocabulary", "width", value=24), r"\(.*20\).*24"),
    "small table": (edit(CONFIG, "languages", "de", "vocabulary", "size", value=60), "tokenizer|table|rows"),
    # what would do harm
    "climbs out": (edit(CONFIG, "languages", "de", "folder", value="../x"), "points outside its repository: '../x'"),
    "absolute": (edit(CONFIG, "languages", "de", "folder", value="/etc"), "points outside its repository: '/etc'"),
    "a code that climbs out": (rename_language("../../x"), "names '../../x', which is no language code"),
    "a code that is a place": (rename_language("/etc"), "names '/etc', which is no language code"),
    "other slashes": (edit(CONFIG, "languages", "de", "folder", value="..\\x"), "points outside its repository"),
    "no folder": (edit(CONFIG, "languages", "de", "folder", value=7), "`folder` is 7"),
    "a folder no system can name": (
        edit(CONFIG, "languages", "de", "folder", value="a\0b"),
        r"'a.x00b', which is no path",
    ),
    "a base no name": (edit(CONFIG, "base_model_name_or_path", value=5), "`base_model_name_or_path` is 5"),
    "a hash no text": (edit(CONFIG, "base_sha256", value=5), "`base_sha256` is 5"),
    "a base's configuration no object": (edit(CONFIG, "base_config", value=[]), "`base_config` is \\[\\]"),
    "a width no number": (edit(CONFIG, "visual_dim", value="x"), "`visual_dim` is 'x'"),
    "a recipe no object": (edit(CONFIG, "languages", "de", "recipe", value="x"), "`recipe` is 'x'"),
    "a source no text": (edit(CONFIG, "languages", "de", "vocabulary", "source", value=5), "`source` is 5"),
    "a huge head": (
        edit(CONFIG, "languages", "de", "head", value={"space": 2**62}),
        "does not fit the base, or is too",
    ),
    "a pattern without end": (
        edit(ADAPTER, "target_modules", value=SLOW),
        "`target_modules` is .*no regular expression",
    ),
    "a pattern in a list": (edit(ADAPTER, "exclude_modules", value=[SLOW]), "`exclude_modules`.*no regular expression"),
    "a pattern that is none": (edit(ADAPTER, "target_modules", value="("), "no regular expression"),
    "modules no names": (edit(ADAPTER, "target_modules", value=5), "`target_modules` is '5'; expected plain names"),
    "a tokenizer of no kind": (
        edit("tokenizer.json", "model", value={"type": "x"}),
        "The tokenizer in .* cannot be read",
    ),
    "tokens beyond the table": (edit("tokenizer.json", "model", "vocab", "[UNK]", value=5000), "token of the id 5000"),
    "much padding": (edit(CONFIG, "languages", "de", "pad_to", value=10**9), "`pad_to` is 1000000000.*24"),
    "long captions": (edit(CONFIG, "languages", "de", "max_length", value=5000), "`max_length` is 5000.*24"),
    "other modules": (edit(ADAPTER, "modules_to_save", value=["final_layer_norm"]), "would change the base"),
    "huge rank": (edit(ADAPTER, "r", value=10**5), "has shape|huge|large"),
    "absurd rank": (edit(ADAPTER, "r", value=HUGE), "has shape|huge|large"),
    "huge condition": (edit(ADAPTER, "condition_dim", value=HUGE), "has shape"),
    "huge features": (edit(ADAPTER, "embedding_dim", value=HUGE), "has shape"),
    "huge generator": (edit(ADAPTER, "generator_rank", value=HUGE), "has shape"),
    "huge table": (edit(CONFIG, "languages", "de", "vocabulary", "size", value=HUGE), "1000000000"),
    "wide table": (edit(CONFIG, "languages", "de", "vocabulary", "width", value=HUGE), "1000000000"),
}


@pytest.mark.parametrize("case", BAD)
@pytest.mark.parametrize("folder", ["all"], indirect=True)
def test_a_bad_file_is_named_and_nothing_is_loaded(case, folder, build, english):
    change, message = BAD[case]
    model = build("clip", "cs")
    before = model.encode_text(english, "cs")
    change(folder)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for load in (CCRModel.from_pretrained, model.load_language):
        with pytest.raises(CCRError, match=message):
            load(folder)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < 300_000  # kilobytes
    assert model.languages == ["cs"]
    assert list(model.base.peft_config) == ["cs"]
    assert list(model.processor.languages) == ["cs"]
    assert list(model.vocabularies) == []
    assert not [name for name, _ in model.named_parameters() if ".de." in name]
    assert torch.equal(model.encode_text(english, "cs"), before)


@pytest.mark.parametrize("folder", ["all"], indirect=True)
def test_settings_of_transformers_are_not_read_from_an_adapter(folder, german):
    """How to attend may name code of the Hub, and a precision that there is not would only be found deep inside."""
    expected = CCRModel.from_pretrained(folder).encode_text(german)
    for key, value in (
        ("attn_implementation", "org/kernel"),
        ("_attn_implementation", "org/kernel"),
        ("dtype", "foo"),
        ("id2label", {"x": 1}),
    ):
        edit(CONFIG, key, value=value)(folder)
    loaded = AutoModel.from_pretrained(folder)
    assert loaded.config._attn_implementation == "sdpa"
    assert torch.equal(loaded.encode_text(german), expected)


@pytest.mark.parametrize("folder", ["all"], indirect=True)
def test_an_adapter_is_no_base(folder):
    for name in (".", str(folder)):
        edit(CONFIG, "base_model_name_or_path", value=name)(folder)
        with pytest.raises(AdapterError, match="is an adapter itself.*`base=`"):
            CCRModel.from_pretrained(folder)


@pytest.mark.parametrize("folder", ["all"], indirect=True)
def test_a_language_whose_head_failed_can_be_loaded_once_it_is_whole(folder, build, german):
    model = build("clip", "cs")
    good = (folder / CONFIG).read_bytes()
    edit(CONFIG, "languages", "de", "head", value={"space": 2**62})(folder)
    with pytest.raises(AdapterError, match="too large"):
        model.load_language(folder)
    (folder / CONFIG).write_bytes(good)
    assert model.load_language(folder) == ["de"]
    assert model.encode_text(german, "de").shape == (6, 24)


def test_modules_chosen_by_a_pattern_are_written_by_name(bases, english, stir, tmp_path):
    model = CCRModel.from_base(bases["clip"])
    model.add_language(
        "de", LoraConfig(r=4, target_modules=r".*text_model.*\.(q|v)_proj", exclude_modules=r".*\.0\..*")
    )
    stir(model).save_pretrained(tmp_path)
    names = json.loads((tmp_path / ADAPTER).read_text(encoding="utf-8"))["target_modules"]
    assert names
    assert all(name.endswith(("q_proj", "v_proj")) and ".0." not in name for name in names)
    found = CCRModel.from_pretrained(tmp_path).encode_text(english)
    torch.testing.assert_close(found, model.encode_text(english), rtol=0, atol=1e-6)


def test_a_crafted_lora_does_not_rewrite_the_base(bases, english, tmp_path):
    """Its file asks peft to cut the base's weights down at the first caption, after their hash was compared."""
    model = CCRModel.from_base(bases["clip"])
    model.add_language("de", LoraConfig(r=4))
    model.save_pretrained(tmp_path / "lora")
    assert CCRModel.from_pretrained(tmp_path / "lora").languages == ["de"]
    for key, value in (("kasa_config", {}), ("init_lora_weights", "PiSSA"), ("layer_replication", [[0, 2]])):
        edit(ADAPTER, key, value=value)(tmp_path / "lora")
        with pytest.raises(CCRError, match=f"{key}.*(would|could) change the base"):
            CCRModel.from_pretrained(tmp_path / "lora")
        edit(ADAPTER, key, value=None if key != "init_lora_weights" else True)(tmp_path / "lora")


@pytest.mark.parametrize("folder", ["all"], indirect=True)
def test_a_processor_writes_nothing_outside_its_folder(folder, tmp_path):
    rename_language("../../other")(folder)
    with pytest.raises(CCRError, match="no language code"):
        CCRProcessor.from_pretrained(folder)


TOUCHED = {
    "id outside": (lambda found: found["ids"].__setitem__(-1, 400), "400"),
    "id below": (lambda found: found["ids"].__setitem__(0, -1), "-1"),
    "id twice": (lambda found: found["ids"].__setitem__(1, 40), "ids"),
    "ids out of order": (lambda found: found.update(ids=found["ids"].flip(0)), "ids"),
    "ids no numbers": (lambda found: found.update(ids=found["ids"].float() + 0.5), "ids"),
    "ids a square": (lambda found: found.update(ids=found["ids"].view(4, 5)), "ids"),
    "no ids": (lambda found: found.pop("ids"), "ids"),
    "rows missing": (lambda found: found.update(rows=found["rows"][1:].contiguous()), "rows"),
}


@pytest.mark.parametrize("case", TOUCHED)
@pytest.mark.parametrize("folder", ["touched"], indirect=True)
def test_a_bad_list_of_trained_rows_is_refused(case, folder):
    change, message = TOUCHED[case]
    tensors(VOCABULARY, change)(folder)
    with pytest.raises(AdapterError, match=message):
        CCRModel.from_pretrained(folder)


@pytest.mark.parametrize("folder", ["touched"], indirect=True)
@pytest.mark.parametrize("key", ["size", "width"])
def test_a_table_is_never_larger_than_its_tokenizer_needs(key, folder):
    edit(CONFIG, "languages", "de", "vocabulary", key, value=HUGE)(folder)
    with pytest.raises((AdapterError, ConfigError), match="1000000000"):
        CCRModel.from_pretrained(folder)


def test_the_good_folder_is_good(folder, german):
    # or all the refusals above would prove nothing
    assert CCRModel.from_pretrained(folder).encode_text(german).shape == (6, 24)


def test_a_subfolder_stays_inside(folder):
    assert CCRModel.from_pretrained(folder.parent, subfolder="adapter").languages == ["de"]
    with pytest.raises(AdapterError, match="points outside"):
        CCRModel.from_pretrained(folder, subfolder="../adapter")


@pytest.mark.parametrize(
    "case", ["no weights", "weights cut in the data", "vocabulary cut", "huge table", "wide table"]
)
@pytest.mark.parametrize("folder", ["all"], indirect=True)
def test_what_is_loaded_later_is_whole_now(case, folder, build):
    model = build("clip", "cs")
    change, message = BAD[case]
    change(folder)
    with pytest.raises(AdapterError, match=message):
        model.load_language(folder, lazy=True)
    assert model.languages == ["cs"]
    remove(ADAPTER)(folder)  # not downloaded yet: told when it is asked for
    assert model.load_language(folder, lazy=True) == ["de"]


@pytest.mark.parametrize("projection", [False, True, "false"])
@pytest.mark.parametrize("folder", ["touched"], indirect=True)
def test_rows_too_wide_for_any_encoder_are_refused_before_a_table_is_made(projection, folder, monkeypatch):
    """One trained row is as wide as the file says, and all the others would be made here."""
    width = 100_000

    def change(found):
        found["rows"], found["ids"] = torch.zeros(1, width), torch.tensor([0])
        if projection:
            found["projection.weight"] = torch.zeros(32, width)
        else:
            del found["projection.weight"], found["projection.bias"]

    tensors(VOCABULARY, change)(folder)
    edit(CONFIG, "languages", "de", "vocabulary", "width", value=width)(folder)
    edit(CONFIG, "languages", "de", "vocabulary", "projection", value=projection)(folder)
    monkeypatch.setattr(Vocabulary, "_fill", lambda *_, **__: pytest.fail("a table was made"))
    with pytest.raises((AdapterError, ConfigError), match="of width 100000|`projection` is 'false'"):
        CCRModel.from_pretrained(folder)
