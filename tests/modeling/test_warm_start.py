"""A language that starts from a trained one computes what that one does, and leaves no trace of it in the model."""

from __future__ import annotations

import pytest
import torch
from peft import LoraConfig

from ccr_adapters.configuration import HeadConfig, VocabularyConfig
from ccr_adapters.dasd import DASDConfig
from ccr_adapters.errors import AdapterError, LanguageError
from ccr_adapters.modeling import CCRModel
from ccr_adapters.modeling.warm_start import SHARE, find_start
from ccr_adapters.processing.shared_tokens import shared_tokens
from ccr_adapters.processing.vocabulary import train_tokenizer

CZECH = ["pes běží sněhem", "dva muži sedí na červené lavičce", "hund kočka spí"]


@pytest.fixture
def trained(bases, stir, german, tmp_path):
    """Function that saves a trained German, as the adapter or the parts that are asked for make it."""

    def make(family: str = "clip", adapter=None, **parts) -> CCRModel:
        model = CCRModel.from_base(bases[family])
        model.add_language("de", adapter or DASDConfig(r=4, generator_rank=4), **parts)
        stir(model).save_pretrained(tmp_path / "de")
        return model

    return make


@pytest.mark.parametrize("adapter", [DASDConfig(r=4, generator_rank=4), LoraConfig(r=2)], ids=["dasd", "lora"])
def test_with_the_base_s_tokens_it_computes_what_the_neighbour_does(adapter, trained, bases, tmp_path, family):
    before = trained(family, adapter)
    wanted = before.encode_text(["a dog in the snow", "two men"], "de")
    model = CCRModel.from_base(bases[family])
    model.add_language("cs", adapter)
    assert not torch.allclose(model.encode_text(["a dog in the snow", "two men"], "cs"), wanted, atol=1e-3)
    assert model.start_from(tmp_path / "de", "cs") == 0
    torch.testing.assert_close(model.encode_text(["a dog in the snow", "two men"], "cs"), wanted)
    assert model.languages == model.loaded_languages == ["cs"]
    assert not [name for name, _ in model.named_parameters() if "warm" in name]
    # trained on its own, and not the neighbour's tensors
    trainable = model.trainable("cs")
    assert trainable
    for parameter in trainable:
        parameter.data.zero_()
    torch.testing.assert_close(CCRModel.from_pretrained(tmp_path / "de").encode_text(["two men"]), wanted[1:])


@pytest.mark.parametrize("train", ["all", "touched"])
def test_rows_of_shared_tokens_meet_half_way(train, trained, bases, german, tmp_path):
    own = train_tokenizer(german, size=200)
    german_model = trained(tokenizer=own)
    czech = train_tokenizer([*CZECH, "ein hund"], size=200)
    model = CCRModel.from_base(bases["clip"])
    width = german_model.vocabularies["de"].config.width
    plan = VocabularyConfig(size=len(czech), width=width, train=train)
    touched = range(0, len(czech), 2) if train == "touched" else None
    model.add_language("cs", DASDConfig(r=4, generator_rank=4), tokenizer=czech, vocabulary=plan, touched=touched)
    every = torch.arange(len(czech))
    before = model.vocabularies["cs"].rows_of(every)
    here, there = shared_tokens(czech, own)
    assert model.start_from(tmp_path / "de", "cs") == len(here) > 5
    expected = before.clone()
    for mine, theirs in zip(here.tolist(), there.tolist(), strict=True):
        if touched is None or mine in touched:
            expected[mine] += SHARE * (
                german_model.vocabularies["de"].rows_of(torch.tensor([theirs]))[0] - expected[mine]
            )
    torch.testing.assert_close(model.vocabularies["cs"].rows_of(every), expected)


def test_the_same_language_goes_on_with_all_of_its_rows(trained, bases, german, tmp_path):
    own = train_tokenizer(german, size=200)
    wanted = trained(tokenizer=own).encode_text(german, "de")
    model = CCRModel.from_base(bases["clip"])
    model.add_language("de", DASDConfig(r=4, generator_rank=4), tokenizer=own)
    model.start_from(tmp_path / "de", "de")
    # special tokens have no text, and start where the new table starts them
    special = torch.tensor(own.all_special_ids)
    fresh = CCRModel.from_pretrained(tmp_path / "de").vocabularies["de"].rows_of(special)
    model.vocabularies["de"].mix(special, fresh, 1.0)
    torch.testing.assert_close(model.encode_text(german, "de"), wanted, atol=1e-5, rtol=1e-4)


def test_a_head_is_taken_over(trained, bases, tmp_path):
    head = HeadConfig(space=16)
    wanted = trained(head=head).encode_text(["two men"], "de")
    model = CCRModel.from_base(bases["clip"])
    model.add_language("cs", DASDConfig(r=4, generator_rank=4), head=head)
    model.start_from(tmp_path / "de", "cs")
    # heads are not stirred: they start at random
    torch.testing.assert_close(model.encode_text(["two men"], "cs"), wanted)


@pytest.mark.parametrize(
    ("adapter", "message"),
    [
        (LoraConfig(r=2), "an adapter of DASD, which cannot start one of LORA"),
        (DASDConfig(r=8, generator_rank=4), "`r=4`, the new one `r=8`"),
        (DASDConfig(r=4, generator_rank=8), "`generator_rank=4`, the new one `generator_rank=8`"),
    ],
)
def test_another_method_or_size_is_refused_and_the_language_stays(adapter, message, trained, bases, tmp_path):
    trained()
    model = CCRModel.from_base(bases["clip"])
    model.add_language("cs", adapter)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(AdapterError, match=message):
        model.start_from(tmp_path / "de", "cs")
    assert model.languages == ["cs"]
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "vocabulary.safetensors"])
def test_a_truncated_neighbour_is_found_before_anything_is_loaded(name, trained, german, tmp_path):
    trained(tokenizer=train_tokenizer(german, size=200))
    file = tmp_path / "de" / name
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(AdapterError, match=f"{name}' is truncated"):
        find_start(tmp_path / "de", None, DASDConfig(r=4, generator_rank=4))


def test_another_base_is_refused(trained, bases, tmp_path):
    trained("clip")
    torch.manual_seed(5)
    model = CCRModel.from_base(bases["clip"])
    model.add_language("cs", DASDConfig(r=4, generator_rank=4))
    with torch.no_grad():
        model.base.text_model.encoder.layers[0].mlp.fc1.bias += 1
    with pytest.raises(AdapterError, match="other weights"):
        model.start_from(tmp_path / "de", "cs")


def test_of_several_languages_one_is_named(bases, build, tmp_path):
    build("clip", "de", "fr").save_pretrained(tmp_path / "many")
    model = build("clip", "cs")
    with pytest.raises(AdapterError, match="several languages.*say which"):
        model.start_from(tmp_path / "many", "cs")
    with pytest.raises(LanguageError, match="'sw'"):
        model.start_from(tmp_path / "many", "cs", "sw")
    assert model.start_from(tmp_path / "many", "cs", "fr") == 0
