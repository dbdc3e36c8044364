"""A language in the shape of open_clip, used as CLIP_benchmark uses one."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from ccr_adapters.errors import CaptionError, LanguageError
from ccr_adapters.export import open_clip_form


def same(found, expected):
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("family", ["clip", "siglip", "bert"])
@pytest.mark.parametrize("kind", ["dynamic", "static", "LoRA", "head"])
@torch.no_grad()
def test_captions(family, kind, make, captions):
    model = make(family, kind)
    for language in ("de", None):
        form, _, tokenizer = open_clip_form(model, language)
        tokens = tokenizer(captions)
        assert tokens.shape == (len(captions), tokenizer.context_length)
        assert tokens.dtype == torch.long
        same(form.encode_text(tokens, normalize=True), model.encode_text(captions, language))
        same(F.normalize(form.encode_text(tokens), dim=-1), model.encode_text(captions, language))
    assert tokenizer(captions, context_length=5).shape == (len(captions), 5)
    assert tokenizer("Hund").shape == (1, tokenizer.context_length)


@pytest.mark.parametrize("family", ["clip", "siglip"])
@torch.no_grad()
def test_zero_shot_as_its_users_write_it(family, make, captions, pictures):
    model = make(family, "dynamic")
    form, transform, tokenizer = open_clip_form(model, "de")
    pixels = torch.stack([transform(picture) for picture in pictures])
    same(form.encode_image(pixels, normalize=True), model.encode_image(pictures))
    images, texts, scale = form(pixels, tokenizer(captions))
    logits = scale * images @ texts.T + (0 if form.logit_bias is None else form.logit_bias)
    output = model(**model.processor(captions, pictures, language="de"), language="de")
    torch.testing.assert_close(logits, output.logits_per_image, rtol=0, atol=1e-4)


@torch.no_grad()
def test_a_head_maps_pictures_too(make, pictures):
    model = make("clip", "head")
    form, transform, _ = open_clip_form(model, "de")
    pixels = torch.stack([transform(picture) for picture in pictures])
    same(form.encode_image(pixels), model.encode_image(pictures, "de"))


def test_tokens_are_marked_up_to_their_end(make):
    _, _, tokenizer = open_clip_form(make("clip", "static"), "de")
    end = tokenizer.end_id
    tokens = torch.tensor([[7, 8, end, 0, end], [7, 8, 9, 9, end], [7, 8, 9, 9, 9]])
    assert tokenizer.mask(tokens).sum(dim=1).tolist() == [3, 5, 5]


def test_what_is_wrong_is_said(make):
    model = make("clip", "dynamic")
    with pytest.raises(LanguageError, match="'fr' has no adapter"):
        open_clip_form(model, "fr")
    with pytest.raises(CaptionError, match="Caption 1 is empty"):
        open_clip_form(model, "de")[2](["Hund", " "])
