"""sentence-transformers: the model's vectors in memory, from a folder beside the base, and merged into the base."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

import ccr_adapters
from ccr_adapters.errors import ExportError, LanguageError
from ccr_adapters.export import TextExport, open_clip_form, save_sentence_transformer, to_sentence_transformer
from ccr_adapters.modeling import CCRModel


def same(found, expected, atol=2e-6):
    np.testing.assert_allclose(found, expected.numpy(), rtol=0, atol=atol)


def encode(model, items):
    return model.encode(items, show_progress_bar=False)


@pytest.mark.parametrize("family", ["clip", "siglip", "bert"])
@pytest.mark.parametrize("kind", ["dynamic", "LoRA, own tokens", "head"])
def test_in_memory(family, kind, make, captions, pictures):
    model = make(family, kind)
    for language in ("de", None):
        made = to_sentence_transformer(model, language)
        same(encode(made, captions), model.encode_text(captions, language))
        assert made.get_embedding_dimension() == model.dim_of(language)
        assert made.max_seq_length == 24
    if family != "bert":
        made = to_sentence_transformer(model, "de")
        assert made.modalities == ["text", "image"]
        same(encode(made, pictures), model.encode_image(pictures, "de"))
        assert made.similarity(encode(made, captions), encode(made, pictures)).shape == (len(captions), len(pictures))


def test_prompts_and_the_name_at_the_top(make):
    model = make("clip", "dynamic")
    made = ccr_adapters.to_sentence_transformer(model, "de")
    found = made.encode(["Hund"], prompt="ein ", show_progress_bar=False)
    same(found, model.encode_text(["ein Hund"], "de"))


@pytest.mark.parametrize("kind", ["static", "head"])
def test_a_folder_beside_the_base(kind, make, captions, pictures, tmp_path):
    model = make("clip", kind)
    (tmp_path / "de").mkdir()
    save_sentence_transformer(model, tmp_path / "de", "de")
    assert [path.name for path in tmp_path.iterdir()] == ["de"]
    with pytest.raises(ValueError, match="trust_remote_code=True"):
        SentenceTransformer(str(tmp_path / "de"), device="cpu")
    loaded = SentenceTransformer(str(tmp_path / "de"), trust_remote_code=True, device="cpu")
    same(encode(loaded, captions), model.encode_text(captions, "de"))
    same(encode(loaded, pictures), model.encode_image(pictures, "de"))
    # and it is an adapter repository still, with its own card
    again = CCRModel.from_pretrained(tmp_path / "de")
    assert again.languages == ["de"]
    same(again.encode_text(captions).numpy(), model.encode_text(captions, "de"))
    assert "ccr-adapters" in (tmp_path / "de" / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("family", "kind"), [("clip", "LoRA"), ("clip", "LoRA, own tokens"), ("clip", "full"), ("bert", "LoRA")]
)
def test_merged_it_needs_nothing_of_ours(family, kind, make, captions, pictures, tmp_path):
    model = make(family, kind)
    before = model.encode_text(captions, "de")
    save_sentence_transformer(model, tmp_path / "de", "de", merged=True)
    types = [module["type"] for module in json.loads((tmp_path / "de" / "modules.json").read_text(encoding="utf-8"))]
    assert all(name.startswith("sentence_transformers.") for name in types)
    loaded = SentenceTransformer(str(tmp_path / "de"), device="cpu")
    same(encode(loaded, captions), before, atol=1e-5)
    if family == "clip":
        same(encode(loaded, pictures), model.encode_image(pictures))  # transparent ones too, on white
    assert torch.equal(model.encode_text(captions, "de"), before)


@pytest.mark.parametrize("first", [True, False])
def test_one_form_over_the_other_leaves_nothing_of_it(first, make, captions, tmp_path):
    model = make("clip", "LoRA, own tokens")
    (tmp_path / "de").mkdir()
    (tmp_path / "de" / "modules.json").write_text("[]", encoding="utf-8")
    (tmp_path / "de" / "notes.txt").write_text("mine", encoding="utf-8")
    for folder, merged in (("de", first), ("de", not first), ("fresh", not first)):
        save_sentence_transformer(model, tmp_path / folder, "de", merged=merged)
    names = [{path.name for path in (tmp_path / folder).rglob("*") if path.is_file()} for folder in ("de", "fresh")]
    assert names[0] - {"README.md"} == (names[1] | {"notes.txt"}) - {"README.md"}
    loaded = SentenceTransformer(str(tmp_path / "de"), device="cpu", trust_remote_code=first)
    same(encode(loaded, captions), model.encode_text(captions, "de"), atol=1e-5)


@pytest.mark.parametrize(
    ("family", "kind", "message"),
    [
        ("clip", "dynamic", "cannot be merged into them.*trust_remote_code"),
        ("clip", "static", "cannot be merged into them"),
        ("siglip", "LoRA", "reads captions of a SiglipModel in another way"),
    ],
)
def test_what_cannot_be_merged_is_not_written(family, kind, message, make, tmp_path):
    with pytest.raises(ExportError, match=message):
        save_sentence_transformer(make(family, kind), tmp_path / "de", "de", merged=True)
    assert list(tmp_path.iterdir()) == []


def test_the_base_is_not_saved(make, tmp_path):
    with pytest.raises(LanguageError, match="no adapter to save"):
        save_sentence_transformer(make("clip", "dynamic"), tmp_path / "base", None)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["dynamic", "head"])
def test_a_language_that_is_loaded_when_it_is_asked_for(kind, make, captions, pictures, tmp_path):
    """The other forms too: whatever is made of a model has its language loaded first."""
    make("clip", kind).save_pretrained(tmp_path / "both")
    expected = CCRModel.from_pretrained(tmp_path / "both")
    lazy = CCRModel.from_pretrained(tmp_path / "both", lazy=True, max_languages=1)
    encoder = to_sentence_transformer(lazy, "de")
    form, _, tokenizer = open_clip_form(lazy, "cs")  # which "de" makes room for
    same(encode(encoder, captions), expected.encode_text(captions, "de"))
    same(encode(encoder, pictures), expected.encode_image(pictures, "de"))
    with torch.no_grad():
        same(form.encode_text(tokenizer(captions), normalize=True).numpy(), expected.encode_text(captions, "cs"))
    assert lazy.loaded_languages == ["cs"]
    assert TextExport(lazy, "de").language == "de"
    save_sentence_transformer(lazy, tmp_path / "cs", "cs")
