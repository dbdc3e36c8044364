"""The processor: each language through its own tokenizer, pictures through the base's, as transformers' processors do."""

from __future__ import annotations

import shutil

import pytest
import torch
from PIL import Image
from transformers import AutoConfig

from ccr_adapters.configuration import CCRConfig, LanguageConfig, VocabularyConfig
from ccr_adapters.errors import AdapterError, CaptionError, ConfigError, ImageError, LanguageError
from ccr_adapters.processing import CCRProcessor


@pytest.fixture(params=["clip", "siglip", "bert"])
def processor(request, bases, german_tokenizer) -> CCRProcessor:
    """`de` shares the base's tokenizer, `zh` has its own."""
    folder = bases[request.param]
    found = CCRProcessor.for_base(folder, AutoConfig.from_pretrained(folder))
    found.add_language("de", None, 12)
    found.add_language("zh", german_tokenizer, 20)
    return found


def test_a_base_says_how_long_its_captions_are(bases):
    lengths = {name: CCRProcessor.for_base(path, AutoConfig.from_pretrained(path)) for name, path in bases.items()}
    # RoBERTa's positions start behind the padding id
    assert {name: found.base_max_length for name, found in lengths.items()} == dict.fromkeys(bases, 24)
    assert [name for name, found in lengths.items() if found.pad_to_max_length] == ["siglip"]
    assert [name for name, found in lengths.items() if found.image_processor is not None] == ["clip", "siglip"]


@pytest.mark.parametrize("name", ["clip", "siglip", "bert", "xlmr"])
def test_a_base_without_its_tokenizer_is_refused(name, bases, tmp_path):
    """transformers makes an empty tokenizer where the files are missing, to which all words are one."""
    folder = tmp_path / "base"
    shutil.copytree(bases[name], folder, ignore=shutil.ignore_patterns("*token*"))
    with pytest.raises(AdapterError, match=r"[Tt]okenizer.*Save it beside the model.*or pass `processor=`"):
        CCRProcessor.for_base(folder, AutoConfig.from_pretrained(folder))


def test_a_base_without_its_image_processor_is_refused(bases, tmp_path):
    folder = tmp_path / "base"
    shutil.copytree(bases["clip"], folder, ignore=shutil.ignore_patterns("preprocessor_config.json"))
    with pytest.raises(
        AdapterError, match="The image processor of the base .* cannot be read.*Save it beside the model"
    ):
        CCRProcessor.for_base(folder, AutoConfig.from_pretrained(folder))


def test_captions(processor, english, german):
    batch = processor(english)
    fixed = processor.pad_to_max_length
    assert set(batch) == ({"input_ids"} if fixed else {"input_ids", "attention_mask"})
    assert batch["input_ids"].shape[1] == (24 if fixed else max(len(row) for row in processor.token_ids(english)))
    assert processor("a dog")["input_ids"].shape[0] == 1
    own = processor(german, language="zh")
    assert set(own) == {"input_ids", "attention_mask", "pooled_at"}
    rows = torch.arange(6)
    assert (own["input_ids"][rows, own["pooled_at"]] == processor.tokenizer_for("zh").eos_token_id).all()
    assert torch.equal(own["attention_mask"].sum(1) - 1, own["pooled_at"])
    for name in (None, "en", "__base__"):
        assert torch.equal(processor(english, language=name)["input_ids"], batch["input_ids"])
        assert processor.tokenizer_for(name) is processor.tokenizer


def test_lengths_are_those_of_the_language(processor, english, german):
    long = " ".join(english)
    assert [len(processor.token_ids([long], code)[0]) for code in (None, "de", "zh")] == [24, 12, 20]
    # a base of fixed length gets it, whatever the language allows
    width = processor([long], language="de")["input_ids"].shape[1]
    assert width == (24 if processor.pad_to_max_length else 12)


def test_errors_name_the_thing(processor):
    with pytest.raises(LanguageError, match="'fr' has no adapter here. Loaded: de, zh. Load one"):
        processor("un chien", language="fr")
    with pytest.raises(CaptionError, match="Caption 1 is empty"):
        processor(["a", " "])
    with pytest.raises(ConfigError, match="`return_tensors` is 'np'; only 'pt'"):
        processor("a", return_tensors="np")
    with pytest.raises(ConfigError, match="Nothing to process"):
        processor()
    processor.remove_language("zh")
    with pytest.raises(LanguageError, match="'zh' has no adapter here. Loaded: de"):
        processor("a", language="zh")


def test_pictures(processor, tmp_path):
    picture = Image.new("RGB", (20, 30), "red")
    if processor.image_processor is None:
        with pytest.raises(ImageError, match="no image tower"):
            processor(images=picture)
        return
    assert processor(images=[picture, picture])["pixel_values"].shape == (2, 3, 16, 16)
    both = processor("a dog", picture)
    assert {"input_ids", "pixel_values"} <= set(both)
    with pytest.raises(ImageError, match="Picture 1 is missing"):
        processor(images=[picture, tmp_path / "gone.png"])


def test_a_strip_is_refused_before_it_is_enlarged(processor):
    if processor.image_processor is None:
        return
    assert processor(images=[Image.new("RGB", (2, 200))])["pixel_values"].shape == (1, 3, 16, 16)
    for size in ((1, 40_000_000), (300, 2)):
        with pytest.raises(ImageError, match=f"A picture of {size[0]} x {size[1]} pixels is a strip"):
            processor(images=[Image.new("RGB", size)])


def test_a_tokenizer_without_an_end_is_refused_when_it_is_added(processor, base_tokenizer):
    from copy import deepcopy

    bare = deepcopy(base_tokenizer)
    bare.eos_token = None
    with pytest.raises(ConfigError, match="neither an end-of-sequence"):
        processor.add_language("cs", bare, 10)
    assert list(processor.languages) == ["de", "zh"]


def test_tokenizers_of_languages_come_back(processor, german, bases, german_tokenizer, tmp_path):
    german = [caption.lower() for caption in german]  # SigLIP's own captions are
    processor.add_language("sw", german_tokenizer, 9)
    written = processor.save_pretrained(tmp_path)
    assert {path.split("/")[-2] for path in written} == {"zh", "sw"}
    base = bases["clip"]
    config = CCRConfig(
        base_model_name_or_path=str(base),
        base_config=AutoConfig.from_pretrained(base).to_dict(),
        languages={
            "zh": LanguageConfig(VocabularyConfig(120, 32), 20, "zh"),
            "sw": LanguageConfig(VocabularyConfig(120, 32), 9, "sw"),
            "de": LanguageConfig(None, 12, "de"),
        },
    )
    config.save_pretrained(tmp_path)
    loaded = CCRProcessor.from_pretrained(tmp_path)
    for code in ("zh", "sw", "de"):
        assert loaded.token_ids(german, code) == processor.token_ids(german, code)
    CCRConfig().save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="does not say what its base is"):
        CCRProcessor.from_pretrained(tmp_path)
    for described, message in (
        ({}, "does not say which `model_type`"),
        ({"model_type": "no-such"}, "none that transformers"),
    ):
        CCRConfig(base_model_name_or_path=str(base), base_config=described).save_pretrained(tmp_path)
        with pytest.raises(ConfigError, match=message):
            CCRProcessor.from_pretrained(tmp_path)


def test_one_language_lies_at_the_top(processor, tmp_path):
    processor.save_pretrained(tmp_path, "zh")
    assert (tmp_path / "tokenizer.json").is_file()
    assert processor.save_pretrained(tmp_path / "none", "de") == []
    with pytest.raises(LanguageError, match="'fr'"):
        processor.save_pretrained(tmp_path, "fr")
