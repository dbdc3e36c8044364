"""The English fine-tune: InfoNCE over the base itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from ccr_adapters.dasd import DASDConfig
from ccr_adapters.errors import ConfigError
from ccr_adapters.methods import EnglishFineTune
from ccr_adapters.modeling import CCRModel
from ccr_adapters.objectives import info_nce
from ccr_adapters.processing.collator import SourceCollator

IMAGE_INDEX = np.array([0, 0, 1, 2, 3, 3])


@pytest.fixture
def setting(request, bases, english):
    """A model, pictures or their vectors, and a batch of six captions of four pictures."""
    model = CCRModel.from_base(bases[request.param])
    noise = np.random.default_rng(0)
    pictures = [Image.fromarray(noise.integers(0, 255, (16, 16, 3), dtype=np.uint8)) for _ in range(4)]
    visual = noise.normal(size=(4, model.embedding_dim)).astype("float32")
    sees = "image" in model.modalities
    collate = SourceCollator(model.processor, IMAGE_INDEX, pictures if sees else None, None if sees else visual)
    batch = collate([{"row": row, "caption": text} for row, text in enumerate(english)])
    return model, pictures if sees else torch.from_numpy(visual), batch


every_family = pytest.mark.parametrize("setting", ["clip", "siglip", "bert", "xlmr"], indirect=True)


@every_family
def test_it_is_info_nce_between_what_retrieval_encodes(setting, english):
    model, pictures, batch = setting
    visual = model.encode_image(pictures) if isinstance(pictures, list) else pictures
    expected = info_nce(
        model.encode_text(english, None), visual[IMAGE_INDEX], scale=20.0, ids=torch.from_numpy(IMAGE_INDEX)
    )
    method = EnglishFineTune(model, scale=20.0).eval()
    found = method(**batch)
    assert set(found) == {"contrastive"}
    assert method.observed().keys() >= {"mean_cosine", "alignment", "uniformity"}  # or a collapse would go on unseen
    assert found["contrastive"].item() == pytest.approx(expected.item(), abs=1e-4)


@every_family
def test_the_whole_base_learns(setting):
    model, _, batch = setting
    method = EnglishFineTune(model)
    method.train()
    method(**batch)["contrastive"].backward()
    without = {name for name, p in method.named_parameters() if p.grad is None or not p.grad.abs().sum()}
    # what does not take part in the vectors, and the keys' biases, which no softmax can see
    blind = ("logit_scale", "logit_bias", "pooler.dense", "k_proj.bias", "key.bias", "token_type", "position")
    assert [name for name in without if not any(part in name for part in blind)] == []
    assert method.trainable_state().keys() == {name for name, _ in method.named_parameters()}
    assert method.modules_of("vocabulary") == method.modules_of("auxiliary") == []


@pytest.mark.parametrize("setting", ["bert"], indirect=True)
def test_its_dropout_is_on_and_a_frozen_bases_is_off(setting, bases):
    method = EnglishFineTune(setting[0]).train()
    assert all(module.training for module in method.modules() if isinstance(module, nn.Dropout))
    frozen = CCRModel.from_base(bases["bert"]).train()
    assert not any(module.training for module in frozen.modules() if isinstance(module, nn.Dropout))


def test_a_base_with_a_language_is_refused_and_stays_frozen(bases):
    model = CCRModel.from_base(bases["bert"])
    model.add_language("de", DASDConfig(r=4))
    before = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    with pytest.raises(ConfigError, match="de.*before adding"):
        EnglishFineTune(model)
    assert {name: parameter.requires_grad for name, parameter in model.named_parameters()} == before
