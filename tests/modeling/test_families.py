"""Every family of encoders: built tiny from its configuration, adapted, trained, saved and loaded, its base untouched.

The reference is transformers alone: its tokenizer, its padding, its `get_text_features`. Tokenizers have the special
tokens of the real ones at the same places, because families differ there most.
"""

from __future__ import annotations

import copy
import json
import logging
import pickle
import re
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import get_peft_model
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
from torch import nn
from torch.nn import functional as F
from transformers import (
    AltCLIPConfig,
    AutoConfig,
    AutoModel,
    AutoTokenizer,
    CamembertConfig,
    ChineseCLIPConfig,
    CLIPConfig,
    CLIPTextConfig,
    DistilBertConfig,
    MetaClip2Config,
    MPNetConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    RobertaConfig,
    Siglip2Config,
    SiglipConfig,
    VisionTextDualEncoderConfig,
    XCLIPConfig,
    XLMRobertaConfig,
)
from transformers.models.clip import CLIPImageProcessorPil
from transformers.models.siglip2.image_processing_pil_siglip2 import Siglip2ImageProcessorPil

from ccr_adapters.configuration import VocabularyConfig
from ccr_adapters.dasd import DASDConfig, DASDLayer, find_text_encoder
from ccr_adapters.dasd.families import ANATOMIES, caption_limit
from ccr_adapters.errors import ConfigError, ImageError
from ccr_adapters.modeling import CCRModel

WIDTH, EMBEDDING, POSITIONS = 16, 12, 24
_BLOCKS = {"num_attention_heads": 2, "num_hidden_layers": 3}
_TEXT = {**_BLOCKS, "hidden_size": WIDTH, "intermediate_size": 20, "max_position_embeddings": POSITIONS}
_VISION = {**_BLOCKS, "hidden_size": 8, "intermediate_size": 10, "image_size": 16, "patch_size": 8}

_CLIP = ("<|startoftext|>", "<|endoftext|>")
SPECIAL = {
    "bert": ["[PAD]", "[UNK]", "[CLS]", "[SEP]"],
    "xlmr": ["<s>", "<pad>", "</s>", "<unk>"],
    "gemma": ["<pad>", "<eos>", "<bos>", "<unk>"],
    "clip": ["<unk>"],
}

CAPTIONS = [
    "ein Hund rennt durch den Schnee",
    "Zwei Männer sitzen auf einer roten Bank",
    "die Katze",
    "EIN Kind hält im Park einen blauen Ballon",
    "Vögel",
    "a woman reads a book",
]


def _of_the_documentation() -> types.ModuleType:
    """M-CLIP's class, which transformers lacks, as `docs/backbones.md` shows it."""
    text = (Path(__file__).parents[2] / "docs" / "backbones.md").read_text(encoding="utf-8")
    code = next(
        block for block in re.findall(r"^```python\n(.+?)^```$", text, re.DOTALL | re.MULTILINE) if "MCLIP" in block
    )
    module = types.ModuleType("mclip_of_the_documentation")
    sys.modules[module.__name__] = module  # transformers looks a model's module up
    exec(code, module.__dict__)
    return module


MCLIPConfig = _of_the_documentation().MCLIPConfig


def dual(config_class: type, text: dict[str, Any], vision: dict[str, Any] | None = None) -> PreTrainedConfig:
    projections = {
        key: {**value, "projection_dim": EMBEDDING} for key, value in (("t", text), ("v", vision or _VISION))
    }
    return config_class(text_config=projections["t"], vision_config=projections["v"], projection_dim=EMBEDDING)


def composed(text: PreTrainedConfig, vision: str = "vit") -> PreTrainedConfig:
    return VisionTextDualEncoderConfig(
        text_config=text.to_dict(), vision_config={"model_type": vision, **_VISION}, projection_dim=EMBEDDING
    )


def _clip_text(ids: dict[str, int]) -> dict[str, Any]:
    return {**_TEXT, **ids}


def _siglip(config_class: type, ids: dict[str, int], **vision: Any) -> PreTrainedConfig:
    text = {**_TEXT, **ids, "projection_size": EMBEDDING, "max_position_embeddings": 64}
    return config_class(text_config=text, vision_config={**_VISION, "hidden_size": EMBEDDING, **vision})


def _roberta(ids: dict[str, int]) -> dict[str, Any]:
    return {**_TEXT, **ids, "max_position_embeddings": POSITIONS + 2, "type_vocab_size": 1}


def _mclip(ids: dict[str, int]) -> PreTrainedConfig:
    return MCLIPConfig(_roberta(ids), {**_VISION, "projection_dim": EMBEDDING}, EMBEDDING)


def _xclip(ids: dict[str, int]) -> XCLIPConfig:
    mit = {"mit_hidden_size": EMBEDDING, "mit_intermediate_size": 10, "mit_num_attention_heads": 2, "num_frames": 2}
    config = dual(XCLIPConfig, {**_clip_text(ids), "eos_token_id": 2}, {**_VISION, **mit})
    config.prompt_num_attention_heads = 2
    return config


# name: (style of the tokenizer, configuration from the ids of its special tokens)
FAMILIES: dict[str, tuple[str, Callable[[dict[str, int]], PreTrainedConfig]]] = {
    "clip": ("clip", lambda ids: dual(CLIPConfig, {**_clip_text(ids), "hidden_act": "gelu"})),  # open_clip's activation
    "clip before 4.31": ("clip", lambda ids: dual(CLIPConfig, {**_clip_text(ids), "eos_token_id": 2})),
    "siglip2 fixed": ("gemma", lambda ids: _siglip(SiglipConfig, ids)),
    "siglip2 naflex": ("gemma", lambda ids: _siglip(Siglip2Config, ids, num_patches=4)),
    "chinese_clip": ("bert", lambda ids: dual(ChineseCLIPConfig, {**_TEXT, **ids, "max_position_embeddings": 60})),
    "altclip": ("xlmr", lambda ids: dual(AltCLIPConfig, {**_roberta(ids), "project_dim": 14})),
    "metaclip_2": ("xlmr", lambda ids: dual(MetaClip2Config, _clip_text(ids))),
    "xclip": ("clip", _xclip),
    "composed of BERT and ViT": ("bert", lambda ids: composed(AutoConfig.for_model("bert", **_TEXT, **ids))),
    "composed of XLM-R and CLIP": (
        "xlmr",
        lambda ids: composed(XLMRobertaConfig(**_roberta(ids)), "clip_vision_model"),
    ),
    "composed of CLIP's text and ViT": ("clip", lambda ids: composed(CLIPTextConfig(**_clip_text(ids)))),
    "m-clip": ("xlmr", _mclip),
    "bert": ("bert", lambda ids: AutoConfig.for_model("bert", **_TEXT, **ids)),
    "electra": (
        "bert",
        lambda ids: AutoConfig.for_model("electra", **_TEXT, **ids, embedding_size=10),
    ),  # narrow, as in its small size
    "xlm-roberta": ("xlmr", lambda ids: XLMRobertaConfig(**_roberta(ids))),
    "distilbert": (
        "bert",
        lambda ids: DistilBertConfig(
            dim=WIDTH, n_layers=3, n_heads=2, hidden_dim=20, max_position_embeddings=POSITIONS, **ids
        ),
    ),
    "mpnet": ("xlmr", lambda ids: MPNetConfig(**{**_TEXT, "max_position_embeddings": POSITIONS + 2}, **ids)),
    "roberta": ("xlmr", lambda ids: RobertaConfig(**_roberta(ids))),
    "camembert": ("xlmr", lambda ids: CamembertConfig(**_roberta(ids))),
}
SENTENCE_ENCODERS = ["bert", "electra", "xlm-roberta", "distilbert", "mpnet", "roberta", "camembert"]
FIXED_LENGTH = ["siglip2 fixed", "siglip2 naflex"]
SEES = [name for name in FAMILIES if name not in SENTENCE_ENCODERS and name != "xclip"]


def make_tokenizer(style: str) -> PreTrainedTokenizerFast:
    """A small tokenizer with the special tokens of a family where the real one has them."""
    special = SPECIAL[style]
    unknown = next(token for token in special if "unk" in token.lower())
    raw = Tokenizer(models.BPE(unk_token=unknown))
    raw.pre_tokenizer = pre_tokenizers.Metaspace()
    texts = [*CAPTIONS, *(caption.lower() for caption in CAPTIONS)]
    raw.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=110, special_tokens=special))
    if style == "clip":
        raw.add_special_tokens(list(_CLIP))  # the highest ids, and padding is the end token again
    first, last = {"bert": ("[CLS]", "[SEP]"), "xlmr": ("<s>", "</s>"), "gemma": ("", "<eos>"), "clip": _CLIP}[style]
    marks = [(token, raw.token_to_id(token)) for token in (first, last) if token]
    raw.post_processor = processors.TemplateProcessing(single=f"{first} $A {last}".strip(), special_tokens=marks)
    names = {
        "bert": {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"},
        "xlmr": {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>"},
        "gemma": {"pad_token": "<pad>", "eos_token": "<eos>", "padding_side": "right"},
        "clip": {"pad_token": last, "bos_token": first, "eos_token": last},
    }[style]
    return PreTrainedTokenizerFast(tokenizer_object=raw, unk_token=unknown, **names)


@pytest.fixture(scope="session")
def home(tmp_path_factory) -> Callable[[str], Any]:
    """Function from a family to the folder with its base; made when first asked for."""
    root, made = tmp_path_factory.mktemp("families"), {}

    def folder(name: str) -> Any:
        if name not in made:
            style, configure = FAMILIES[name]
            tokenizer = make_tokenizer(style)
            ids = {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
            if tokenizer.eos_token_id is not None:
                ids["eos_token_id"] = tokenizer.eos_token_id
            with torch.random.fork_rng():
                torch.manual_seed(5)
                model = AutoModel.from_config(configure(ids)).eval()
                # trained norms and biases are not the identity, and trained maps are not close to zero
                for parameter in model.parameters():
                    parameter.data.add_(0.1 * torch.randn_like(parameter))
            model.save_pretrained(root / name)
            tokenizer.save_pretrained(root / name)
            size = {"height": 16, "width": 16}
            if name == "siglip2 naflex":
                Siglip2ImageProcessorPil(patch_size=8, max_num_patches=4).save_pretrained(root / name)
            elif name not in SENTENCE_ENCODERS:
                CLIPImageProcessorPil(size=size, crop_size=size, do_center_crop=False).save_pretrained(root / name)
            made[name] = root / name
        return made[name]

    return folder


@torch.no_grad()
def by_transformers(folder: Any, name: str, captions: list[str]) -> torch.Tensor:
    """What the family's own code makes of captions. (N, d)"""
    model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    if name in FIXED_LENGTH:
        lower = [caption.lower() for caption in captions]
        ids = tokenizer(lower, padding="max_length", max_length=64, truncation=True, return_tensors="pt").input_ids
        return model.get_text_features(input_ids=ids).pooler_output
    batch = tokenizer(captions, padding=True, return_tensors="pt")
    inputs = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}
    if name in SENTENCE_ENCODERS:
        states, mask = model(**inputs).last_hidden_state, batch.attention_mask.unsqueeze(-1)
        return (states * mask).sum(1) / mask.sum(1)
    output = model.get_text_features(**inputs)
    return output if isinstance(output, torch.Tensor) else output.pooler_output


def adapter(mode: str) -> DASDConfig:
    return DASDConfig(r=4) if mode == "dynamic" else DASDConfig(mode="static", r=4)


def weights_of(base: nn.Module) -> dict[str, torch.Tensor]:
    """The base's own weights, by the names that they have without adapters."""
    values = {name: value for name, value in base.state_dict().items() if "dasd_" not in name}
    return {name.replace(".base_layer", ""): value.clone() for name, value in values.items()}


@pytest.mark.parametrize("mode", ["dynamic", "static"])
@pytest.mark.parametrize("name", FAMILIES)
def test_from_the_base_to_a_trained_adapter_and_back(name, mode, home, stir, tmp_path):
    folder = home(name)
    raw = by_transformers(folder, name, CAPTIONS)
    expected = F.normalize(raw, dim=-1)
    assert torch.pdist(expected).min() > 1e-3  # so that a mix-up shows
    model = CCRModel.from_base(folder)
    bare = weights_of(model.base)
    model.add_language("de", adapter(mode))

    # 1. an adapter that is the identity, on the target's own path: the base's numbers, whatever the padding
    for size in (1, 4, 6):
        torch.testing.assert_close(model.encode_text(CAPTIONS, "de", batch_size=size), expected, rtol=0, atol=1e-5)

    # 2. one step of training reaches all of the adapter and nothing else
    stir(model, scale=0.3)
    model.trainable("de")
    model.train()
    before = model.encode_text(CAPTIONS, "de")
    batch = model.processor(CAPTIONS, language="de")
    features, _, _ = model.target_features(batch["input_ids"], batch.get("attention_mask"), None, "de")
    F.mse_loss(features, torch.ones_like(features)).backward()
    trained = {key: part for key, part in model.base.named_parameters() if part.requires_grad}
    assert trained
    assert all("dasd_" in key and part.grad.abs().sum() > 0 for key, part in trained.items())
    torch.optim.SGD(trained.values(), lr=0.1).step()
    model.eval()
    after = model.encode_text(CAPTIONS, "de")
    assert (after - before).abs().max() > 1e-4
    now = weights_of(model.base)
    assert now.keys() == bare.keys()
    assert all(torch.equal(value, now[key]) for key, value in bare.items())

    # 3. the base's own captions come out bit for bit
    for language in (None, "en"):
        assert torch.equal(model.encode_text(CAPTIONS, language), expected)
    assert not torch.allclose(after, expected, atol=1e-3)

    # 4. a caption does not depend on its batch mates
    alone = torch.cat([model.encode_text([caption], "de") for caption in CAPTIONS])
    torch.testing.assert_close(alone, after, rtol=0, atol=1e-5)

    # 5. saved and loaded, all of it the same
    model.save_pretrained(tmp_path)
    loaded = CCRModel.from_pretrained(tmp_path)
    assert torch.equal(loaded.encode_text(CAPTIONS, "de"), after)
    assert torch.equal(loaded.encode_text(CAPTIONS, None), expected)


@pytest.mark.parametrize("name", [name for name in FAMILIES if name not in FIXED_LENGTH])
def test_a_vocabulary_of_its_own_takes_the_same_way(name, home, tmp_path):
    """A table that holds the base's rows in another order, with ids that mean something else to the base."""
    folder = home(name)
    model = CCRModel.from_base(folder)
    rows = find_text_encoder(model.base).token_embedding.weight.detach()
    tokenizer = reversed_ids(model.processor.tokenizer)
    order = [
        model.processor.tokenizer.convert_tokens_to_ids(tokenizer.convert_ids_to_tokens(i)) for i in range(len(rows))
    ]
    assert order != sorted(order)
    vocabulary = VocabularyConfig(size=len(tokenizer), width=rows.shape[1])
    model.add_language("de", adapter("dynamic"), tokenizer=tokenizer, vocabulary=vocabulary, source=rows[order])
    expected = F.normalize(by_transformers(folder, name, CAPTIONS), dim=-1)
    for size in (1, 4):
        torch.testing.assert_close(model.encode_text(CAPTIONS, "de", batch_size=size), expected, rtol=0, atol=1e-5)
    # two languages with tables of their own in one pass
    model.add_language("cs", adapter("dynamic"), tokenizer=tokenizer, vocabulary=vocabulary, source=rows[order])
    mixed = model.encode_text(CAPTIONS, ["de", "cs"] * 3)
    torch.testing.assert_close(mixed, expected, rtol=0, atol=1e-5)
    model.save_pretrained(tmp_path)
    assert torch.equal(CCRModel.from_pretrained(tmp_path).encode_text(CAPTIONS, ["de", "cs"] * 3), mixed)


def reversed_ids(tokenizer: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    """The same tokens, numbered from the other end."""
    values = json.loads(tokenizer.backend_tokenizer.to_str())
    ids = {token: len(tokenizer) - 1 - index for token, index in tokenizer.get_vocab().items()}
    merges = [tuple(pair) for pair in values["model"]["merges"]]
    raw = Tokenizer(models.BPE(vocab=ids, merges=merges, unk_token=tokenizer.unk_token))
    raw.pre_tokenizer = pre_tokenizers.Metaspace()
    first, last = tokenizer.bos_token or tokenizer.cls_token, tokenizer.eos_token or tokenizer.sep_token
    marks = [(token, ids[token]) for token in (first, last)]
    raw.post_processor = processors.TemplateProcessing(single=f"{first} $A {last}", special_tokens=marks)
    names = {"unk_token": tokenizer.unk_token, "pad_token": tokenizer.pad_token, "bos_token": first, "eos_token": last}
    return PreTrainedTokenizerFast(tokenizer_object=raw, **names)


@pytest.mark.parametrize("mode", ["dynamic", "static"])
@pytest.mark.parametrize("name", [*SENTENCE_ENCODERS, "altclip", "composed of BERT and ViT"])
def test_peft_alone_gives_each_caption_its_own_adapter(name, mode, home, stir):
    """Plain peft, without our model: the names must reach the blocks through whatever the encoder drops."""
    folder = home(name)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    batch = tokenizer(CAPTIONS, padding=True, return_tensors="pt")
    inputs = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}
    model = get_peft_model(AutoModel.from_pretrained(folder, dtype=torch.float32), adapter(mode), "de")
    text = find_text_encoder(model.base_model.model).module

    def states(**kwargs: Any) -> torch.Tensor:
        return text(**inputs, **kwargs).last_hidden_state

    with torch.no_grad():
        bare = states(adapter_names=["__base__"] * 6)
        assert torch.equal(states(), bare)  # the identity
        model.add_adapter("cs", adapter(mode))
        stir(model, scale=0.1).eval()
        apart = {code: states(adapter_names=[code] * 6) for code in ("de", "cs", "__base__")}
        assert torch.equal(apart["__base__"], bare)
        codes = ["cs", "de", "__base__", "de", "cs", "__base__"]
        mixed = states(adapter_names=codes)
        for row, code in enumerate(codes):
            torch.testing.assert_close(mixed[row], apart[code][row], rtol=0, atol=1e-5)
        assert (apart["cs"] - apart["de"]).abs().max() > 1e-2
        copied = pickle.loads(pickle.dumps(copy.deepcopy(text)))
        assert torch.equal(copied(**inputs, adapter_names=codes).last_hidden_state, mixed)
        with model.disable_adapter():
            assert torch.equal(states(), bare)
        plain = model.unload()
        assert not any(part._forward_pre_hooks for part in plain.modules())
        assert torch.equal(find_text_encoder(plain).module(**inputs).last_hidden_state, bare)


@pytest.mark.parametrize("name", [name for name in FAMILIES if name not in SENTENCE_ENCODERS])
def test_the_base_called_directly_with_its_adapter_is_our_way(name, home, stir):
    """There the pooled token is found by its id: MetaCLIP 2's end token is 2, which means another one to an old CLIP."""
    model = CCRModel.from_base(home(name))
    model.add_language("de", adapter("dynamic"))
    stir(model, scale=0.3)
    inputs = model.processor(CAPTIONS, language="de")
    with torch.no_grad():
        output = model.base.get_text_features(**{"attention_mask": None, **inputs})
        ours = model.get_text_features(**inputs, language="de").pooler_output
    direct = output if isinstance(output, torch.Tensor) else output.pooler_output
    torch.testing.assert_close(direct, ours, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", SEES)
def test_pictures_are_those_of_the_base(name, home, pictures, stir):
    folder = home(name)
    model = CCRModel.from_base(folder)
    model.add_language("de", adapter("static"))
    stir(model, scale=0.5)
    base = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        output = base.get_image_features(**model.processor(images=pictures))
    expected = output if isinstance(output, torch.Tensor) else output.pooler_output
    assert model.modalities == ["text", "image"]
    assert torch.equal(model.encode_image(pictures), F.normalize(expected, dim=-1))
    assert model.encode_image(pictures).shape == (len(pictures), model.embedding_dim) == (4, EMBEDDING)


def test_videos_are_those_of_the_base(home, pictures):
    model = CCRModel.from_base(home("xclip"))
    assert model.modalities == ["text", "video"]
    videos = torch.randn(2, 2, 3, 16, 16)
    with torch.no_grad():
        found = model.get_video_features(videos).pooler_output
        assert torch.equal(found, model.base.get_video_features(videos).pooler_output)
    assert found.shape == (2, EMBEDDING)
    with pytest.raises(ImageError, match="no image tower for pictures. It encodes videos: encode_video"):
        model.encode_image(pictures)
    with pytest.raises(ImageError, match="no video tower"):
        CCRModel.from_base(home("clip")).get_video_features(videos)


# ------------------------------------------------------------------------------------------------------------ captions


def test_captions_are_made_as_the_family_wants_them(home):
    models = {name: CCRModel.from_base(home(name)) for name in FAMILIES}
    found = {name: model.processor for name, model in models.items()}
    assert [name for name, own in found.items() if own.pad_to_max_length] == FIXED_LENGTH
    assert [name for name, own in found.items() if own.lowercase] == FIXED_LENGTH
    lengths = {name: own.base_max_length for name, own in found.items()}
    # 64 tokens for SigLIP 2; 60 positions for this Chinese-CLIP, but 52 in training; RoBERTa's kin start behind the
    # padding, and so have fewer tokens than positions
    assert lengths == {**dict.fromkeys(FAMILIES, POSITIONS), **dict.fromkeys(FIXED_LENGTH, 64), "chinese_clip": 52}
    long = " ".join(CAPTIONS * 3)
    for name, own in found.items():
        assert len(own.token_ids([long])[0]) == own.base_max_length
        assert models[name].encode_text([long], None).isfinite().all()  # the longest caption has its positions


@pytest.mark.parametrize("name", FIXED_LENGTH)
def test_capitals_mean_nothing_to_siglip_2(name, home, german_tokenizer):
    model = CCRModel.from_base(home(name))
    model.add_language("de", adapter("dynamic"))
    model.add_language("zh", adapter("dynamic"), tokenizer=german_tokenizer)
    lower = [caption.lower() for caption in CAPTIONS]
    processor = model.processor
    # transformers gives a base of type `siglip2` a tokenizer that writes small, and one of type `siglip` what it came with
    same = processor.tokenizer(CAPTIONS)["input_ids"] == processor.tokenizer(lower)["input_ids"]
    assert same == (name == "siglip2 naflex")
    for language in (None, "de"):
        assert torch.equal(processor(CAPTIONS, language=language)["input_ids"], processor(lower)["input_ids"])
        assert processor(CAPTIONS, language=language)["input_ids"].shape == (6, 64)
    # a tokenizer of the language's own knows best
    assert processor.token_ids(CAPTIONS, "zh") == german_tokenizer(CAPTIONS)["input_ids"]


def test_a_tokenizer_may_say_less_than_there_is_room_for(home, tmp_path):
    folder = home("distilbert")
    model, tokenizer = AutoModel.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    tokenizer.model_max_length = 9
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    assert CCRModel.from_base(tmp_path).processor.base_max_length == 9
    without = CCRModel.from_base(model)
    without.add_language("de")
    assert without.config.languages["de"].max_length == POSITIONS


@pytest.mark.parametrize(
    ("config", "longest"),
    [
        (CLIPConfig(), 77),
        (SiglipConfig(), 64),
        (Siglip2Config(), 64),
        (ChineseCLIPConfig(), 52),
        (AltCLIPConfig(), 512),
        (MetaClip2Config(), 77),
        (XCLIPConfig(), 77),
        (RobertaConfig(max_position_embeddings=514), 512),
        (XLMRobertaConfig(max_position_embeddings=514), 512),
        (CamembertConfig(max_position_embeddings=514), 512),
        (MPNetConfig(max_position_embeddings=514), 512),
        (DistilBertConfig(), 512),
    ],
    ids=lambda value: getattr(value, "model_type", value),
)
def test_the_longest_caption_of_the_real_sizes(config, longest):
    assert caption_limit(config) == longest


# ------------------------------------------------------------------------------------------------- families not known


class OwnConfig(PreTrainedConfig):
    """A family that nobody has heard of."""

    model_type = "own-dual"
    sub_configs = {"text_config": XLMRobertaConfig}  # noqa: RUF012

    def __init__(self, text_config=None, projection_dim=EMBEDDING, pooling="first", **kwargs):
        self.text_config = XLMRobertaConfig(**(text_config or {}))
        self.projection_dim = projection_dim
        self.pooling = pooling
        super().__init__(**kwargs)


class OwnModel(PreTrainedModel):
    config_class = OwnConfig

    def __init__(self, config):
        super().__init__(config)
        self.writing = AutoModel.from_config(config.text_config)
        self.text_projection = nn.Linear(config.text_config.hidden_size, config.projection_dim)
        self.post_init()

    def get_text_features(self, input_ids=None, attention_mask=None, **kwargs):
        output = self.writing(input_ids=input_ids, attention_mask=attention_mask, **kwargs)
        states, mask = output.last_hidden_state, attention_mask.unsqueeze(-1)
        pooled = {
            "first": lambda: states[:, 0],
            "mean": lambda: (states * mask).sum(1) / mask.sum(1),
            "pooler": lambda: output.pooler_output,
            "highest": lambda: (states - 9 * (1 - mask)).amax(1),
        }[self.config.pooling]()
        return self.text_projection(pooled)


@pytest.fixture
def table(monkeypatch) -> dict[str, Any]:
    """The table of families, as it was before the test afterwards."""
    monkeypatch.setattr("ccr_adapters.modeling.recognise.ANATOMIES", ANATOMIES)
    before = dict(ANATOMIES)
    yield ANATOMIES
    ANATOMIES.clear()
    ANATOMIES.update(before)


def unknown(pooling: str) -> OwnModel:
    model = OwnModel(OwnConfig(_roberta({"vocab_size": 100, "pad_token_id": 1}), pooling=pooling)).eval()
    for parameter in model.parameters():
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    return model


def clipseg() -> PreTrainedModel:
    config = AutoConfig.for_model(
        "clipseg",
        text_config={**_TEXT, "vocab_size": 100, "pad_token_id": 1, "bos_token_id": 98, "eos_token_id": 99},
        vision_config=_VISION,
        projection_dim=EMBEDDING,
    )
    return AutoModel.from_config(config).eval()


def align() -> PreTrainedModel:
    config = AutoConfig.for_model(
        "align", text_config={**_TEXT, "vocab_size": 100}, vision_config={}, projection_dim=EMBEDDING
    )
    model = AutoModel.from_config(config)
    model.vision_model = nn.Identity()  # an EfficientNet, which takes seconds and is not looked at
    return model.eval()


@pytest.mark.parametrize(
    ("build", "pooling"),
    [
        (lambda: unknown("first"), "first"),
        (lambda: unknown("mean"), "mean"),
        (lambda: unknown("pooler"), "first"),
        (clipseg, "eos"),
        (align, "first"),
        (lambda: AutoModel.from_config(AutoConfig.for_model("ernie", **_TEXT, vocab_size=100)).eval(), "first"),
    ],
    ids=["first", "mean", "pooler", "clipseg", "align", "ernie"],
)
def test_an_unknown_family_is_tried_by_structure(build, pooling, table, caplog):
    base = build()
    kind = base.config.model_type
    assert kind not in table
    with caplog.at_level(logging.WARNING):
        model = CCRModel.from_base(base)
    assert f"'{kind}' is no family that is known" in caplog.text
    assert table[kind].pooling == pooling
    model.add_language("de", adapter("dynamic"))
    ids = torch.tensor([[60, 61, 62, 99, 1, 1], [70, 71, 72, 73, 74, 99]])
    mask = torch.tensor([[1, 1, 1, 1, 0, 0], [1] * 6])
    with torch.no_grad():
        expected = model.get_text_features(ids, mask, language=None).pooler_output
        found = model.get_text_features(ids, mask, language="de").pooler_output
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_one_that_is_made_otherwise_is_refused_with_what_to_write(table):
    with pytest.raises(ConfigError, match=r"ANATOMIES\['own-dual'\] = Anatomy\(blocks='encoder.layer'"):
        CCRModel.from_base(unknown("highest"))
    assert "own-dual" not in table


def test_blocks_that_were_never_told_are_noticed(table, home, monkeypatch):
    """MPNet drops unknown keywords; without the carrier of its row the adapter would run where it must not."""
    from dataclasses import replace

    monkeypatch.setitem(table, "mpnet", replace(table["mpnet"], carrier=None))
    model = CCRModel.from_base(home("mpnet"))
    model.add_language("de", adapter("static"))
    with pytest.raises(ConfigError, match="MPNetModel does not hand keywords on to its blocks.*`carrier=`"):
        model.encode_text(CAPTIONS, None)


def test_a_composed_model_needs_a_pooler(table):
    text = DistilBertConfig(vocab_size=50, dim=WIDTH, n_layers=1, n_heads=2, hidden_dim=20)
    with pytest.raises(ValueError, match="`pooler_output` of its text encoder, and a DistilBertModel has no pooler"):
        CCRModel.from_base(AutoModel.from_config(composed(text)))


def test_a_text_tower_without_its_projection_is_refused():
    config = CLIPTextConfig(**_TEXT, vocab_size=50, projection_dim=EMBEDDING)
    with pytest.raises(ConfigError, match="A CLIPTextModel has no 'text_projection'.*CLIPTextModelWithProjection"):
        CCRModel.from_base(AutoModel.from_config(config))


def test_all_blocks_are_wrapped_and_no_others(home):
    for name in FAMILIES:
        model = CCRModel.from_base(home(name))
        model.add_language("de", adapter("static"))
        wrapped = [path for path, part in model.base.named_modules() if isinstance(part, DASDLayer)]
        assert len(wrapped) == 3
        assert not any("vision" in path or "mit" in path for path in wrapped)
