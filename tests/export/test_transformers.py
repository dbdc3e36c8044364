"""The Auto classes and pipelines of peft and transformers on a saved language."""

from __future__ import annotations

import pytest
import torch
from peft import AutoPeftModel
from transformers import AutoModel, AutoProcessor, pipeline


@pytest.fixture
def saved(make, tmp_path):
    """A saved model with one language, loaded by the Auto classes."""
    model = make("clip", "static")
    model.save_pretrained(tmp_path, language="de")
    return AutoModel.from_pretrained(tmp_path), AutoProcessor.from_pretrained(tmp_path)


def test_pipelines_of_features(saved, captions, pictures):
    model, processor = saved
    read = pipeline("feature-extraction", model=model, tokenizer=processor.tokenizer_for("de"))
    found = read(captions[:-1])
    torch.testing.assert_close(torch.tensor(found)[:, 0], model.encode_text(captions[:-1], "de"), rtol=0, atol=2e-6)
    look = pipeline("image-feature-extraction", model=model, image_processor=processor.image_processor)
    found = look(pictures[:2])
    torch.testing.assert_close(torch.tensor(found)[:, 0], model.encode_image(pictures[:2]), rtol=0, atol=2e-6)


@pytest.mark.parametrize(
    ("family", "kind"), [("clip", "dynamic"), ("clip", "LoRA"), ("siglip", "full"), ("bert", "dynamic")]
)
def test_auto_peft_finds_the_base(family, kind, make, english, tmp_path):
    model = make(family, kind)
    model.save_pretrained(tmp_path, language="de")
    plain = AutoPeftModel.from_pretrained(str(tmp_path), dtype=torch.float32).eval()
    assert type(plain.get_base_model()) is type(model.base)
    batch = dict(model.processor(english, language="de"))
    with torch.no_grad():
        expected = model.get_text_features(**batch, language="de")
        if family == "bert":
            found = plain(**batch).last_hidden_state
            real = batch["attention_mask"].bool()
            torch.testing.assert_close(found[real], expected.last_hidden_state[real], rtol=0, atol=1e-5)
        else:
            found = plain.get_base_model().get_text_features(**batch).pooler_output
            torch.testing.assert_close(found, expected.pooler_output, rtol=0, atol=1e-5)
