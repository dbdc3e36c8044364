"""Where a base lies: with the package, in a folder, beside the adapter that names it, or in a repository."""

from __future__ import annotations

import json

import pytest
from transformers import BertConfig

from ccr_adapters.dasd import DASDConfig
from ccr_adapters.data import tiny_clip_path
from ccr_adapters.errors import AdapterError
from ccr_adapters.modeling import CCRModel
from ccr_adapters.processing.bases import read_tokenizer, resolve_base


def test_places(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").mkdir()
    (tmp_path / "adapter/base").mkdir(parents=True)
    assert resolve_base("tiny_clip") == str(tiny_clip_path())
    assert resolve_base("here") == "here"
    assert resolve_base(tmp_path / "here") == str(tmp_path / "here")
    assert resolve_base("base", tmp_path / "adapter") == str(tmp_path / "adapter/base")
    assert resolve_base("../here", tmp_path / "adapter") == str(tmp_path / "adapter/../here")
    for repository in ("openai/clip-vit-base-patch32", "bert-base-uncased"):
        assert resolve_base(repository) == repository


@pytest.mark.parametrize("name", ["/no/such/base", "./base", "../base", "a/b/c"])
def test_a_path_to_nothing_is_no_repository(name, tmp_path):
    with pytest.raises(AdapterError, match=rf"The base '{name}' is not here.*`base=`"):
        resolve_base(name, tmp_path)


def test_a_language_whose_tokenizer_knows_no_words_is_refused(tmp_path):
    BertConfig().save_pretrained(tmp_path)  # from which transformers makes a tokenizer without a vocabulary
    with pytest.raises(AdapterError, match="knows no words; its files are missing"):
        read_tokenizer(tmp_path)


def test_an_adapter_names_the_packaged_base_and_not_this_machine(tmp_path):
    model = CCRModel.from_base("tiny_clip")
    model.add_language("de", DASDConfig(r=2, generator_rank=2))
    model.save_pretrained(tmp_path)
    for name in ("config.json", "adapter_config.json"):
        text = (tmp_path / name).read_text(encoding="utf-8")
        assert json.loads(text)["base_model_name_or_path"] == "tiny_clip"
        assert str(tiny_clip_path()) not in text
    loaded = CCRModel.from_pretrained(tmp_path)
    assert loaded.config.base_model_name_or_path == "tiny_clip"
    assert loaded.encode_text(["a red circle"], "de").shape == (1, model.embedding_dim)
