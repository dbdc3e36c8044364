"""The text tower of one language as a plain module: the same vectors as the model, and nothing of the other languages."""

from __future__ import annotations

import pytest
import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn
from transformers import AutoConfig, AutoModel

from ccr_adapters.configuration import LanguageConfig
from ccr_adapters.dasd import DASDConfig, DASDLayer
from ccr_adapters.errors import ExportError, LanguageError
from ccr_adapters.export import TextExport
from ccr_adapters.modeling import CCRModel
from ccr_adapters.processing import CCRProcessor
from ccr_adapters.processing.captions import pad_ids, pad_token_id

from .conftest import KINDS

FAMILIES = ["clip", "siglip", "bert", "xlmr"]
# every kind on the first family, and on the others those that meet what is special of them: padding, masks, positions
OTHERS = ["dynamic, published", "static", "full", "head", "padding read"]
CASES = [("clip", kind) for kind in KINDS] + [(family, kind) for family in FAMILIES[1:] for kind in OTHERS]


def inputs(model, captions, language):
    """Ids and mask as an export takes them, padded no further than the longest."""
    tokenizer = model.processor.tokenizer_for(language)
    rows = model.processor.token_ids(captions, language)
    batch = pad_ids(rows, pad_token_id(tokenizer))
    return batch.input_ids, batch.attention_mask


def same(found, expected):
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize(("family", "kind"), CASES)
def test_the_vectors_are_the_models(family, kind, make, captions):
    model = make(family, kind)
    tower = TextExport(model, "de")
    # of a batch whose padding is read, the model pads to its longest
    expected = model.encode_text(captions, "de")
    same(tower(*inputs(model, captions, "de")), expected)
    if kind != "head, padding":
        for size in (1, 3):
            same(tower(*inputs(model, captions[:size], "de")), expected[:size])


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", ["dynamic", "full"])
def test_the_base_is_a_language_too(family, kind, make, english):
    model = make(family, kind)
    same(TextExport(model, None)(*inputs(model, english, None)), model.encode_text(english, None))


@pytest.mark.parametrize("kind", KINDS)
def test_only_one_language_is_in_it(kind, make, captions):
    model = make("clip", kind)
    before = model.encode_text(captions, "cs")
    tower = TextExport(model, "de")
    names = [name for name, _ in tower.named_parameters()]
    assert not [name for name in names if ".cs." in name or "vision" in name]
    assert bool([name for name in names if "dasd_" in name]) == any(isinstance(m, DASDLayer) for m in tower.modules())
    assert all(isinstance(m, DASDLayer) for m in tower.modules() if isinstance(m, BaseTunerLayer))
    assert not [m for m in TextExport(model, None).modules() if isinstance(m, BaseTunerLayer)]
    # and the model is as it was
    assert torch.equal(model.encode_text(captions, "cs"), before)


def test_it_is_a_copy(make, captions):
    model = make("clip", "dynamic")
    tower = TextExport(model, "de")
    before = tower(*inputs(model, captions, "de"))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1)
    assert torch.equal(tower(*inputs(model, captions, "de")), before)


def test_half_precision_is_exported_in_single(make, captions):
    model = make("clip", "dynamic")
    expected = model.encode_text(captions, "de")
    tower = TextExport(model.to(torch.bfloat16), "de")
    found = tower(*inputs(model, captions, "de"))
    assert found.dtype == torch.float32
    assert (found * expected).sum(-1).min() > 0.99


def test_an_encoder_that_drops_keywords(base_tokenizer, english):
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4, "num_hidden_layers": 3}
    config = AutoConfig.for_model("mpnet", vocab_size=200, max_position_embeddings=26, pad_token_id=0, **sizes)
    model = CCRModel.from_base(
        AutoModel.from_config(config).eval(), processor=CCRProcessor(base_tokenizer, base_max_length=24)
    )
    model.add_language("de", DASDConfig(r=4, generator_rank=4, init_weights=False))
    tower, batch = TextExport(model, "de"), inputs(model, english, "de")
    same(tower(*batch), model.encode_text(english, "de"))
    program = torch.export.export(tower, tower.example(), dynamic_shapes=tower.dynamic_shapes())
    same(program.module()(*batch), model.encode_text(english, "de"))


def test_what_cannot_be_exported_is_said(make):
    model = make("clip", "padding read")
    with pytest.raises(LanguageError, match="'fr' has no adapter"):
        TextExport(model, "fr")
    own = model.config.languages["de"]
    model.config.languages["de"] = LanguageConfig(own.vocabulary, own.max_length, pad_to=10)
    with pytest.raises(ExportError, match="24 tokens.*padded to 10.*max_length=10"):
        TextExport(model, "de")
    model = make("clip", "LoRA")
    next(m for m in model.base.modules() if isinstance(m, BaseTunerLayer)).merge = refuse
    with pytest.raises(ExportError, match="cannot be merged into a Linear .*no"):
        TextExport(model, "de")


def refuse(**_: object) -> nn.Module:
    raise NotImplementedError("no")
