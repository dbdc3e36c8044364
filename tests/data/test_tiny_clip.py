"""The tiny CLIP that ships: it loads with PIL alone, pools where it should, and finds pictures by English captions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import AutoImageProcessor, AutoProcessor, CLIPModel, CLIPProcessor

from ccr_adapters.data import build_tiny_world, tiny_clip_path


@pytest.fixture(scope="module")
def model():
    return CLIPModel.from_pretrained(tiny_clip_path(), dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def processor():
    return AutoProcessor.from_pretrained(tiny_clip_path())


def test_it_is_small_and_complete():
    files = {path.name: path.stat().st_size for path in tiny_clip_path().iterdir()}
    assert {"config.json", "model.safetensors", "preprocessor_config.json", "tokenizer.json"} <= files.keys()
    assert sum(files.values()) <= 6_000_000


def test_the_processor_needs_no_torchvision(processor):
    assert isinstance(processor, CLIPProcessor)
    image = build_tiny_world(train=1, validation=0, test=0)["train"][0]["image"]
    pixels = AutoImageProcessor.from_pretrained(tiny_clip_path())(image, return_tensors="pt")["pixel_values"]
    # What training used: pixels scaled to [-1, 1].
    expected = torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)[None].float() / 127.5 - 1
    assert torch.allclose(pixels, expected, atol=1e-6)


def test_the_tokenizer_ends_captions_and_spells_any_language(processor):
    tokenizer = processor.tokenizer
    for text in ("A red star.", "Rudá hvězda", "一颗红色的星星"):
        ids = tokenizer(text)["input_ids"]
        assert (ids[0], ids[-1]) == (tokenizer.bos_token_id, tokenizer.eos_token_id)
        assert tokenizer.unk_token_id not in ids
    assert tokenizer.decode(tokenizer("A RED star")["input_ids"], skip_special_tokens=True).strip() == "a red star"


def test_it_pools_at_the_end_of_the_caption(model, processor):
    tokenizer = processor.tokenizer
    assert model.config.text_config.eos_token_id == tokenizer.eos_token_id != 2
    long, short = "a small red star left of a large blue house", "a red star"
    with torch.no_grad():
        alone = model.text_model(**tokenizer(short, return_tensors="pt"))
        padded = model.text_model(**tokenizer([short, long], padding=True, return_tensors="pt"))
    assert torch.allclose(alone.pooler_output[0], padded.pooler_output[0], atol=1e-5)
    last = len(tokenizer(short)["input_ids"]) - 1
    assert torch.equal(alone.pooler_output[0], alone.last_hidden_state[0, last])


def test_english_finds_its_pictures(model, processor):
    """R@1 on the 1,000 held-out pictures: there is something to lose, and something to win."""
    rows = build_tiny_world(train=0, validation=0, test=1000)["test"]
    captions = [caption for row in rows["caption"] for caption in row]
    owner = torch.arange(len(rows)).repeat_interleave(2)
    with torch.no_grad():
        inputs = processor(text=captions, images=rows["image"][:], padding=True, return_tensors="pt")
        output = model(**inputs)
    scores = output.text_embeds @ output.image_embeds.T
    recall = (scores.argmax(dim=1) == owner).float().mean().item()
    assert 0.60 <= recall <= 0.95
