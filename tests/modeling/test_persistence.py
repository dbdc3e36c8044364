"""Adapter repositories: written whole, and read back to the same numbers, by name of their base."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from pathlib import Path

import peft
import pytest
import torch
from peft import LoraConfig
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModel, AutoProcessor, AutoTokenizer

from ccr_adapters.configuration import CCRConfig, VocabularyConfig
from ccr_adapters.dasd import DASDConfig
from ccr_adapters.errors import AdapterError, ConfigError, LanguageError
from ccr_adapters.modeling import CCRModel
from ccr_adapters.modeling.upload import check_folder
from ccr_adapters.modeling.vocabulary_source import source_table
from ccr_adapters.processing import CCRProcessor
from ccr_adapters.processing.devices import default_device

ADAPTER = ["adapter_config.json", "adapter_model.safetensors"]


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def same(found, expected):
    """Equal but for the rounding of kernels that look at where in memory a weight lies."""
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


def settings(path):
    return json.loads(path.read_text(encoding="utf-8"))


def test_one_language_lies_at_the_top(family, build, bases, english, tmp_path):
    model = build(family, "de")
    expected = model.encode_text(english)
    model.save_pretrained(tmp_path / "out")
    assert files(tmp_path / "out") == ["README.md", *ADAPTER, "config.json"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]  # nothing is left beside it
    loaded = CCRModel.from_pretrained(tmp_path / "out")
    assert loaded.languages == ["de"]
    assert loaded.active_language == "de"
    assert not loaded.training
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    same(loaded.encode_text(english), expected)
    same(loaded.encode_text(english, None), model.encode_text(english, None))
    written = settings(tmp_path / "out/config.json")
    assert written["base_model_name_or_path"] == str(bases[family])
    assert written["base_sha256"] == model.base_sha256()
    assert written["base_config"]["model_type"] == family
    assert written["architectures"] == ["CCRModel"]
    assert settings(tmp_path / "out/adapter_config.json")["base_model_name_or_path"] == str(bases[family])


def test_a_base_named_by_a_path_from_here_is_found_from_anywhere(bases, english, tmp_path, monkeypatch):
    """`models/clip` beside where one works, which is no repository and lies elsewhere from the adapter's folder."""
    (tmp_path / "models").mkdir()
    shutil.copytree(bases["clip"], tmp_path / "models/clip")
    monkeypatch.chdir(tmp_path)
    model = CCRModel.from_base("models/clip")
    model.add_language("de", DASDConfig(r=4))
    model.save_pretrained("runs/de")
    assert settings(tmp_path / "runs/de/config.json")["base_model_name_or_path"] == "../../models/clip"
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    loaded = CCRModel.from_pretrained("../runs/de")
    same(loaded.encode_text(english), model.encode_text(english))


def test_several_languages_get_a_folder_each(family, build, english, german, german_tokenizer, stir, tmp_path):
    model = build(family, "de", "cs")
    model.add_language("zh", DASDConfig(mode="static", r=4), tokenizer=german_tokenizer, max_length=14)
    stir(model)
    codes = ["de", "zh", None, "cs", "zh", "de"]
    expected = model.encode_text(english, codes)
    model.save_pretrained(str(tmp_path))
    found = files(tmp_path)
    assert [name for name in found if "token" not in name] == sorted(
        [
            *(f"{code}/{name}" for code in ("cs", "de", "zh") for name in ADAPTER),
            *("README.md", "config.json", "zh/vocabulary.safetensors"),
        ]
    )
    loaded = CCRModel.from_pretrained(tmp_path)
    assert sorted(loaded.languages) == ["cs", "de", "zh"]
    same(loaded.encode_text(english, codes), expected)
    same(loaded.encode_text(german, "zh"), model.encode_text(german, "zh"))
    assert loaded.config.languages["zh"].max_length == 14
    assert len(loaded.processor.token_ids([" ".join(german)], "zh")[0]) == 14
    model.save_pretrained(tmp_path / "one", language="cs")
    one = CCRModel.from_pretrained(tmp_path / "one")
    assert one.languages == ["cs"]
    same(one.encode_text(english), model.encode_text(english, "cs"))


def test_only_adapters_are_written(build, tmp_path):
    model = build("clip", "de", "cs")
    model.save_pretrained(tmp_path)
    for code in ("de", "cs"):
        with safe_open(tmp_path / code / "adapter_model.safetensors", framework="pt") as file:
            keys = list(file.keys())
            assert file.metadata() == {"format": "pt"}
        assert keys
        assert all("dasd_" in key and f".{code}" not in key for key in keys)
    assert sum(path.stat().st_size for path in tmp_path.rglob("*.safetensors")) < 300_000


def test_the_auto_classes_know_the_folder(build, bases, german_tokenizer, english, german, stir, tmp_path):
    model = build("clip", "de")
    model.add_language("zh", DASDConfig(r=4), tokenizer=german_tokenizer)
    stir(model).save_pretrained(tmp_path)
    assert type(AutoConfig.from_pretrained(tmp_path)) is CCRConfig
    loaded = AutoModel.from_pretrained(tmp_path)
    assert type(loaded) is CCRModel
    same(loaded.encode_text(german, "zh"), model.encode_text(german, "zh"))
    processor = AutoProcessor.from_pretrained(tmp_path)
    assert type(processor) is CCRProcessor
    for code in (None, "de", "zh"):
        for key, value in model.processor(english, language=code).items():
            same(processor(english, language=code)[key], value)


def test_lora_makes_the_round_trip_too(build, bases, english, stir, tmp_path):
    model = CCRModel.from_base(bases["clip"])
    for code in ("de", "cs"):
        model.add_language(code, LoraConfig(r=4))
    stir(model, scale=0.3)
    codes = ["de", "cs", None] * 2
    expected = model.encode_text(english, codes)
    for row, code in enumerate(codes):
        torch.testing.assert_close(model.encode_text(english[row], code)[0], expected[row], rtol=0, atol=1e-5)
    assert (expected[0] - model.encode_text(english[0], None)[0]).abs().max() > 1e-3
    model.save_pretrained(tmp_path)
    same(CCRModel.from_pretrained(tmp_path).encode_text(english, codes), expected)


@pytest.mark.parametrize(
    "adapter",
    [peft.IA3Config(target_modules=["k_proj", "v_proj", "fc2"], feedforward_modules=["fc2"]), peft.LoHaConfig(r=4)],
)
def test_other_methods_of_peft_make_the_round_trip(adapter, bases, english, tmp_path):
    model = CCRModel.from_base(bases["clip"])
    model.add_language("de", adapter)
    with torch.no_grad():
        for parameter in model.trainable("de"):
            parameter += 0.05 * torch.randn_like(parameter)
    expected = model.encode_text(english)
    assert (expected - model.encode_text(english, None)).abs().max() > 1e-3
    model.save_pretrained(tmp_path)
    same(CCRModel.from_pretrained(tmp_path).encode_text(english), expected)


@pytest.mark.parametrize(
    ("adapter", "why"),
    [
        (peft.OFTConfig(r=0, oft_block_size=8), "meta tensor"),
        (peft.FourierFTConfig(n_frequency=100), "meta tensor"),
        (peft.ShiraConfig(r=4), "meta tensor"),
        (peft.VeraConfig(r=4), "shared state"),
        (peft.XLoraConfig(), "nothing to train"),
        (LoraConfig(r=4, rank_pattern={"(q|v)_proj": 8}), "`rank_pattern` of the LORA adapter"),
    ],
    ids=["OFT", "FourierFT", "SHiRA", "VeRA", "X-LoRA", "pattern"],
)
def test_a_method_that_could_not_be_loaded_again_is_refused_before_training(adapter, why, bases, english):
    model = CCRModel.from_base(bases["clip"])
    before = model.encode_text(english)
    with pytest.raises(ConfigError, match=f"{why}.*(Use another method|name modules plainly)"):
        model.add_language("de", adapter)
    assert model.languages == []
    model.add_language("de", DASDConfig(r=4))
    same(model.encode_text(english, None), before)


def test_half_precision_halves_the_download(build, english, german_tokenizer, stir, tmp_path):
    model = build("clip")
    model.add_language("de", DASDConfig(r=8), tokenizer=german_tokenizer)
    stir(model)
    for name, dtype in (("full", None), ("half", torch.float16)):
        model.save_pretrained(tmp_path / name, dtype=dtype)
    for name in ("adapter_model.safetensors", "vocabulary.safetensors"):
        sizes = [(tmp_path / kind / name).stat().st_size for kind in ("full", "half")]
        assert 0.4 < sizes[1] / sizes[0] < 0.7
        assert {tensor.dtype for tensor in load_file(tmp_path / "half" / name).values()} == {torch.float16}
    loaded = CCRModel.from_pretrained(tmp_path / "half")
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.float32}
    difference = (loaded.encode_text(english) - model.encode_text(english)).abs().max()
    assert 0 < difference < 5e-3
    assert model.base.dtype == torch.float32  # saving changed nothing here
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_the_precision_of_the_base_can_be_chosen(build, english, tmp_path):
    model = build("clip", "de")
    model.save_pretrained(tmp_path)
    loaded = CCRModel.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert loaded.base.dtype == torch.bfloat16
    assert (loaded.encode_text(english) - model.encode_text(english)).abs().max() < 0.1
    with pytest.raises(AdapterError, match="float16 cannot be checked.*bfloat16 or float32"):
        CCRModel.from_pretrained(tmp_path, dtype=torch.float16)


@pytest.mark.parametrize("lost", ["half", "loaded"])
def test_a_base_whose_hash_was_lost_to_float16_is_not_saved(lost, build, bases, english, tmp_path):
    if lost == "half":
        model = build("clip", "de").half()
    else:
        model = CCRModel.from_base(bases["clip"], dtype=torch.float16)
        model.add_language("de", DASDConfig(r=4))
    with pytest.raises(ConfigError, match="in float16.*is not that of the base. Load it in float32 or bfloat16"):
        model.save_pretrained(tmp_path / "de")
    assert not (tmp_path / "de").exists()
    build("clip", "de").save_pretrained(tmp_path / "de")
    loaded = CCRModel.from_pretrained(tmp_path / "de").half()  # its hash is known
    loaded.save_pretrained(tmp_path / "again")
    assert CCRModel.from_pretrained(tmp_path / "again").encode_text(english).shape == (6, 24)


def test_a_vocabulary_on_a_base_in_bfloat16_comes_back_as_it_was(bases, german, german_tokenizer, stir, tmp_path):
    model = CCRModel.from_base(bases["clip"], dtype=torch.bfloat16)
    model.add_language("de", DASDConfig(r=4), tokenizer=german_tokenizer)
    stir(model).save_pretrained(tmp_path)
    loaded = CCRModel.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert torch.equal(loaded.encode_text(german), model.encode_text(german))


def test_saving_again_replaces_what_was_there(build, english, german_tokenizer, stir, tmp_path):
    model = build("clip")
    model.add_language("de", DASDConfig(r=4), tokenizer=german_tokenizer)
    model.save_pretrained(tmp_path)
    stir(model).save_pretrained(tmp_path)
    same(CCRModel.from_pretrained(tmp_path).encode_text(english), model.encode_text(english))
    # a language without a vocabulary of its own, over one that had one
    other = build("clip", "cs")
    other.save_pretrained(tmp_path)
    same(CCRModel.from_pretrained(tmp_path).encode_text(english), other.encode_text(english))
    several = build("clip", "de", "cs")
    several.save_pretrained(tmp_path)
    loaded = CCRModel.from_pretrained(tmp_path)
    assert sorted(loaded.languages) == ["cs", "de"]
    same(loaded.encode_text(english, "cs"), several.encode_text(english, "cs"))


def test_a_save_that_fails_leaves_the_folder_as_it_was(build, stir, tmp_path):
    folder = tmp_path / "out"
    model = build("clip", "de")
    model.save_pretrained(folder)
    before = {name: (folder / name).read_bytes() for name in files(folder)}
    stir(model)
    with pytest.raises(TypeError):
        model.save_pretrained(folder, evidence={"datasets": {"no", "list"}})
    with pytest.raises(LanguageError, match="'cs' has no adapter. Loaded: de"):
        model.save_pretrained(folder, language="cs")
    assert {name: (folder / name).read_bytes() for name in files(folder)} == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    (tmp_path / "file").write_text("x")
    with pytest.raises(AdapterError, match="'.*file' is a file; expected a folder"):
        model.save_pretrained(tmp_path / "file")
    with pytest.raises(LanguageError, match="no language to save"):
        build("clip").save_pretrained(folder)


@pytest.mark.parametrize("codes", [["de"], ["de", "cs"]])
def test_a_save_that_is_killed_leaves_no_mixture(codes, build, german_tokenizer, stir, tmp_path, monkeypatch):
    """Between any two moves of its files, over an adapter of the same sizes, and into an empty folder: it is refused,
    nothing is lost, and what it says makes it whole."""
    model, real, left = build("clip"), os.replace, 0
    for code in codes:
        model.add_language(code, DASDConfig(r=4), tokenizer=german_tokenizer)
    model.save_pretrained(tmp_path / "first")
    stir(model)

    def replace(source, target):
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt
        real(source, target)

    for moves in range(len(files(tmp_path / "first"))):
        shutil.copytree(tmp_path / "first", tmp_path / f"used{moves}")
        for folder in (tmp_path / f"used{moves}", tmp_path / f"fresh{moves}"):
            left = moves
            with monkeypatch.context() as patched:
                patched.setattr(os, "replace", replace)
                with pytest.raises(KeyboardInterrupt):
                    model.save_pretrained(folder)
            with pytest.raises(AdapterError, match=r"'config\.json' is missing") as told:
                CCRModel.from_pretrained(folder)
            left_behind = Path(re.search(r"copy what '(.+)' holds over the folder", str(told.value)).group(1))
            shutil.copytree(left_behind, folder, dirs_exist_ok=True)
            mended = CCRModel.from_pretrained(folder)
            for code in codes:
                same(mended.encode_text("Ein Hund", code), model.encode_text("Ein Hund", code))
            assert not any(name.startswith(".") for name in check_folder(folder))
            model.save_pretrained(folder)
            assert sorted(CCRModel.from_pretrained(folder).languages) == sorted(codes)
    assert not list(tmp_path.rglob(".*"))


def test_a_folder_on_another_file_system_is_saved_into(build, tmp_path, monkeypatch):
    """A link to it, and a place where it is mounted: nothing can be renamed into it from outside."""
    (tmp_path / "drive/out").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "drive/out")
    real, drive = os.replace, str(tmp_path / "drive/out")

    def replace(source, target):
        if str(source).startswith(drive) != str(target).startswith(drive):
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    for name in ("link", "drive/out"):
        build("clip", "de").save_pretrained(tmp_path / name)
        assert CCRModel.from_pretrained(tmp_path / name).languages == ["de"]
    assert files(tmp_path / "drive/out") == ["README.md", *ADAPTER, "config.json"]
    assert [path.name for path in (tmp_path / "drive").iterdir()] == ["out"]


def test_languages_of_several_repositories_meet_in_one_model(build, english, stir, tmp_path):
    expected = {}
    for seed, code in enumerate(("de", "cs", "zh"), start=5):
        model = stir(build("clip", code), seed=seed)
        expected[code] = model.encode_text(english)
        model.save_pretrained(tmp_path / code)
    model = CCRModel.from_pretrained(tmp_path / "de")
    assert model.load_language(tmp_path / "cs") == ["cs"]
    assert model.load_language(str(tmp_path / "zh"), "zh") == ["zh"]
    assert model.languages == ["de", "cs", "zh"]
    for code, vectors in expected.items():
        same(model.encode_text(english, code), vectors)
    with pytest.raises(LanguageError, match="'cs' is already there"):
        model.load_language(tmp_path / "cs")
    with pytest.raises(LanguageError, match="has no language 'fr'. It has: cs"):
        model.load_language(tmp_path / "cs", "fr")
    model.delete_language("cs")
    assert model.load_language(tmp_path / "cs") == ["cs"]
    same(model.encode_text(english, "cs"), expected["cs"])


def test_a_repository_of_several_is_loaded_wholly_or_not_at_all(build, english, tmp_path):
    build("clip", "de", "cs").save_pretrained(tmp_path)
    (tmp_path / "de/adapter_model.safetensors").unlink()
    model = build("clip", "zh")
    before = model.encode_text(english)
    with pytest.raises(AdapterError, match="adapter_model.safetensors"):
        model.load_language(tmp_path)
    assert model.languages == ["zh"]
    same(model.encode_text(english), before)
    assert model.load_language(tmp_path, "cs") == ["cs"]


def test_an_adapter_for_another_base_is_refused(build, bases, english, tmp_path):
    build("clip", "de").save_pretrained(tmp_path / "adapter")
    base = AutoModel.from_pretrained(bases["clip"], dtype=torch.float32)
    with torch.no_grad():
        next(base.parameters()).view(-1)[0] += 1.0
    message = r"has other weights than the one that this adapter was trained on \(sha256 .*Load the right one"
    for wrong in (base, AutoModel.from_pretrained(bases["siglip"], dtype=torch.float32)):
        with pytest.raises(AdapterError, match=message):
            CCRModel.from_pretrained(tmp_path / "adapter", base=wrong)
    other = CCRModel.from_base(base)
    with pytest.raises(AdapterError, match=message):
        other.load_language(tmp_path / "adapter")
    assert other.languages == []
    shutil.copytree(bases["clip"], tmp_path / "copy")
    base.save_pretrained(tmp_path / "copy")
    with pytest.raises(AdapterError, match=message):
        CCRModel.from_pretrained(tmp_path / "adapter", base=tmp_path / "copy")


def test_the_base_may_lie_elsewhere(build, bases, english, tmp_path):
    model = build("clip", "de")
    model.config.base_model_name_or_path = "base"
    model.save_pretrained(tmp_path / "adapter")
    expected = model.encode_text(english)
    with pytest.raises(AdapterError, match="The base 'base' that this adapter needs cannot be loaded.*`base=`"):
        CCRModel.from_pretrained(tmp_path / "adapter")
    for base in (bases["clip"], str(bases["clip"])):
        same(CCRModel.from_pretrained(tmp_path / "adapter", base=base).encode_text(english), expected)
    # a base that a repository carries along is found beside its files, by model and processor
    shutil.copytree(bases["clip"], tmp_path / "adapter/base")
    same(CCRModel.from_pretrained(tmp_path / "adapter").encode_text(english), expected)
    shutil.move(tmp_path / "adapter", tmp_path / "moved")
    same(AutoModel.from_pretrained(tmp_path / "moved").encode_text(english), expected)
    ids = AutoProcessor.from_pretrained(tmp_path / "moved")(english)["input_ids"]
    same(ids, model.processor(english)["input_ids"])


def test_a_base_at_hand_needs_no_files(tiny_clip, base_tokenizer, english, stir, tmp_path):
    processor = CCRProcessor(base_tokenizer, base_max_length=24)
    model = CCRModel.from_base(tiny_clip(), processor=processor)
    model.add_language("de", DASDConfig(r=4))
    stir(model).save_pretrained(tmp_path)
    with pytest.raises(AdapterError, match="does not name its base; pass it with `base=`"):
        CCRModel.from_pretrained(tmp_path)
    other = CCRProcessor(base_tokenizer, base_max_length=24)
    loaded = CCRModel.from_pretrained(tmp_path, base=tiny_clip(), processor=other)
    same(loaded.encode_text(english), model.encode_text(english))


def test_a_tokenizer_is_refused_where_there_is_no_processor_to_keep_it(
    tiny_clip, bases, build, german_tokenizer, tmp_path
):
    with pytest.raises(ConfigError, match="has no processor to keep the language's `tokenizer`"):
        CCRModel.from_base(tiny_clip()).add_language("de", DASDConfig(r=4), tokenizer=german_tokenizer)
    model = build("clip")
    model.add_language("de", DASDConfig(r=4), tokenizer=german_tokenizer)
    model.save_pretrained(tmp_path / "de")
    model.processor = None
    with pytest.raises(ConfigError, match="'de' has a vocabulary of its own, and the model no processor"):
        model.save_pretrained(tmp_path / "again")


@pytest.mark.parametrize("name", ["", "/no/such/place", "no_such_folder", "a/b/c", "../../etc"])
def test_a_place_that_is_none_is_refused(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(AdapterError, match="neither a folder here nor|is missing in"):
        CCRModel.from_pretrained(name)


def test_a_base_beside_a_run_is_found_wherever_the_adapter_goes(build, bases, english, tmp_path, monkeypatch):
    model = build("clip", "de")
    shutil.copytree(bases["clip"], tmp_path / "run/base")
    model.config.base_model_name_or_path = "../base"
    model.save_pretrained(tmp_path / "run/adapter")
    loaded = CCRModel.from_pretrained(tmp_path / "run/adapter")
    assert loaded.config.base_model_name_or_path == "../base"
    monkeypatch.chdir(tmp_path)
    shutil.copytree(bases["siglip"], tmp_path / "base")  # another one where the user happens to be
    for place in ("run/again", "some/where/else"):
        loaded.save_pretrained(place)
        same(CCRModel.from_pretrained(place).encode_text(english), model.encode_text(english))
    assert settings(tmp_path / "run/again/config.json")["base_model_name_or_path"] == "../base"
    shutil.move(tmp_path / "run", tmp_path / "moved")
    same(CCRModel.from_pretrained("moved/again").encode_text(english), model.encode_text(english))


def test_half_precision_by_its_name(build, english, tmp_path):
    model = build("clip", "de")
    model.save_pretrained(tmp_path / "whole")
    model.save_pretrained(tmp_path / "half", dtype="float16")
    tensors = load_file(tmp_path / "half/adapter_model.safetensors")
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float16}
    sizes = [(tmp_path / name / "adapter_model.safetensors").stat().st_size for name in ("half", "whole")]
    assert sizes[0] < 0.6 * sizes[1]
    loaded = CCRModel.from_pretrained(tmp_path / "half")
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.float32}
    torch.testing.assert_close(loaded.encode_text(english), model.encode_text(english), rtol=0, atol=5e-3)
    for name in ("int8", "float8", "half precision", torch.float64):
        with pytest.raises(ConfigError, match="`dtype` is .*expected 'float32', 'float16' or 'bfloat16'"):
            model.save_pretrained(tmp_path / "none", dtype=name)


def test_a_value_that_a_precision_cannot_hold_is_told_before_anything_is_written(build, tmp_path):
    model = build("clip", "de")
    next(p for name, p in model.named_parameters() if "dasd_" in name).data[0] = 1e6
    with pytest.raises(AdapterError, match="holds a value that float16 cannot hold"):
        model.save_pretrained(tmp_path / "out", dtype="float16")
    assert not list(tmp_path.iterdir())
    model.save_pretrained(tmp_path / "out", dtype="bfloat16")


@pytest.mark.parametrize("train", ["all", "touched"])
def test_rows_that_did_not_move_are_left_to_the_source(train, bases, english, stir, tmp_path):
    source = AutoModel.from_pretrained(bases["bert"]).get_input_embeddings().weight.detach()
    tokenizer = AutoTokenizer.from_pretrained(bases["bert"])
    plan = VocabularyConfig(len(source), source.shape[1], train=train, source=str(bases["bert"]))
    own = {"tokenizer": tokenizer, "vocabulary": plan, "source": source, "touched": range(50)}
    model = CCRModel.from_base(bases["clip"])
    model.add_language("de", DASDConfig(r=4, generator_rank=4), **own)
    rows = model.vocabularies["de"].table.weight if train == "all" else model.vocabularies["de"].rows
    rows.data[[3, 7, 20]] += 0.01
    rows.data[[4, 5]] += 1e-5
    expected = model.encode_text(english, "de")
    model.save_pretrained(tmp_path / "whole")
    model.save_pretrained(tmp_path / "moved", row_tolerance=1e-3)
    tensors = load_file(tmp_path / "moved/vocabulary.safetensors")
    assert tensors["ids"].tolist() == [3, 7, 20]
    assert model.config.languages["de"].vocabulary.train == train  # the model itself stays as it was
    loaded = CCRModel.from_pretrained(tmp_path / "moved")
    assert loaded.config.languages["de"].vocabulary.train == "touched"
    torch.testing.assert_close(loaded.encode_text(english, "de"), expected, rtol=0, atol=1e-3)
    model.save_pretrained(tmp_path / "exact", row_tolerance=0.0)
    assert load_file(tmp_path / "exact/vocabulary.safetensors")["ids"].tolist() == [3, 4, 5, 7, 20]
    same(CCRModel.from_pretrained(tmp_path / "exact").encode_text(english, "de"), expected)
    model.save_pretrained(tmp_path / "none", row_tolerance=1.0)
    assert CCRModel.from_pretrained(tmp_path / "none").config.languages["de"].vocabulary.train == "none"
    with pytest.raises(ConfigError, match="`row_tolerance` is -1"):
        model.save_pretrained(tmp_path / "bad", row_tolerance=-1)


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda folder: CCRModel.from_pretrained(folder, language="de"), "language"),
        (lambda folder: CCRModel.from_pretrained(folder, torch_dtype=torch.float16), "torch_dtype"),
        (lambda folder: CCRModel.from_pretrained(folder).load_language(folder, codes=["de"]), "codes"),
        (lambda folder: CCRModel.from_pretrained(folder).save_pretrained(folder, languages="de"), "languages"),
        (lambda folder: CCRProcessor.from_pretrained(folder, language="de"), "language"),
    ],
)
def test_an_argument_that_there_is_not_is_no_argument_that_is_dropped(call, name, build, tmp_path):
    build("clip", "de").save_pretrained(tmp_path)
    with pytest.raises(TypeError, match=f"'{name}'"):
        call(tmp_path)


def test_a_base_is_loaded_by_its_name_too(bases, english):
    model = CCRModel.from_pretrained(bases["clip"])
    assert model.languages == []
    same(model.encode_text(english, None), CCRModel.from_base(bases["clip"]).encode_text(english, None))
    assert CCRModel.from_pretrained("tiny_clip").languages == []
    with pytest.raises(AdapterError, match="The base 'org/nowhere' cannot be loaded"):
        CCRModel.from_base("org/nowhere", local_files_only=True)
    with pytest.raises(ConfigError, match="`pooling` and `visual_dim` are for a text encoder alone"):
        CCRModel.from_base(bases["clip"], pooling="mean")


def test_where_it_runs_and_how_it_attends(build, tmp_path):
    build("clip", "de").save_pretrained(tmp_path)
    model = CCRModel.from_pretrained(tmp_path, device_map="auto", attn_implementation="eager")
    assert model.base.config._attn_implementation == "eager"
    assert model.device == default_device()
    assert CCRModel.from_pretrained(tmp_path, device_map={"": "cpu"}).device == torch.device("cpu")
    by_auto = AutoModel.from_pretrained(tmp_path, attn_implementation="eager")
    assert by_auto.base.config._attn_implementation == "eager"
    with pytest.raises(ConfigError, match="the whole model goes to one device"):
        CCRModel.from_pretrained(tmp_path, device_map={"base": 0})


def test_rows_that_come_from_a_model_which_has_changed_are_refused(bases, german_tokenizer, english, tmp_path):
    """The adapter has only what was trained; the rest of the table is whatever lies there now."""
    shutil.copytree(bases["bert"], tmp_path / "source")
    table = source_table(tmp_path / "source")
    plan = VocabularyConfig(*table.shape, train="touched", source=str(tmp_path / "source"))
    model = CCRModel.from_base(bases["clip"])
    own = {"tokenizer": german_tokenizer, "vocabulary": plan, "source": table, "touched": range(50)}
    model.add_language("de", DASDConfig(r=4), **own)
    model.save_pretrained(tmp_path / "adapter")
    same(CCRModel.from_pretrained(tmp_path / "adapter").encode_text(english, "de"), model.encode_text(english, "de"))
    weights = load_file(tmp_path / "source/model.safetensors")
    name = next(name for name in weights if name.endswith("word_embeddings.weight"))
    save_file({**weights, name: weights[name] + 0.1}, tmp_path / "source/model.safetensors", metadata={"format": "pt"})
    with pytest.raises(AdapterError, match=r"has changed since the adapter was made from it \(sha256"):
        CCRModel.from_pretrained(tmp_path / "adapter")
    shutil.rmtree(tmp_path / "source")
    with pytest.raises(AdapterError, match="from which a vocabulary's rows come, cannot be loaded"):
        CCRModel.from_pretrained(tmp_path / "adapter")


@pytest.mark.parametrize("where", ["base", "tokenizer"])
def test_no_repositorys_code_is_run_or_asked_about(where, build, bases, german_tokenizer, stir, tmp_path, monkeypatch):
    """Left to itself transformers asks at the terminal; whoever presses y runs what an adapter named."""
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked"))
    shutil.copytree(bases["clip"], tmp_path / "base")
    model = CCRModel.from_base(tmp_path / "base")
    model.add_language("de", DASDConfig(r=4), tokenizer=german_tokenizer)
    stir(model).save_pretrained(tmp_path / "adapter")
    folder, name = (
        (tmp_path / "base", "config.json") if where == "base" else (tmp_path / "adapter", "tokenizer_config.json")
    )
    values = json.loads((folder / name).read_text(encoding="utf-8"))
    own = (
        {"AutoConfig": "evil.Config", "AutoModel": "evil.Model"}
        if where == "base"
        else {"AutoTokenizer": ["evil.Own", None]}
    )
    values["auto_map"] = own
    values.update({"model_type": "evil"} if where == "base" else {"tokenizer_class": "Own"})
    (folder / name).write_text(json.dumps(values), encoding="utf-8")
    (folder / "evil.py").write_text("raise SystemExit('run')", encoding="utf-8")
    with pytest.raises(AdapterError, match="cannot be (loaded|read)"):
        CCRModel.from_pretrained(tmp_path / "adapter")


def test_an_error_that_says_nothing_is_told_by_its_kind(monkeypatch):
    def silent(*_, **__):
        raise OSError

    monkeypatch.setattr(AutoModel, "from_pretrained", silent)
    with pytest.raises(AdapterError, match=r"The base 'org/base' cannot be loaded \(OSError\)"):
        CCRModel.from_base("org/base")
