"""A language with a space of its own: what maps into it, what stays as it was, and how it is written and read."""

from __future__ import annotations

import json

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from ccr_adapters.configuration import HeadConfig
from ccr_adapters.dasd import DASDConfig
from ccr_adapters.errors import AdapterError, ConfigError, LanguageError
from ccr_adapters.modeling import CCRModel
from ccr_adapters.modeling.heads import GlobalBatchNorm, Head, TextHead, VisualHead

SMALL = HeadConfig(space=20, width=16, attention_heads=2, positions=12)
FAMILIES = ["clip", "siglip", "bert", "xlmr"]


@pytest.fixture
def build(bases, german_tokenizer):
    """Function that builds a model whose German has a head, with weights as after training."""

    def make(family: str = "bert", own: bool = True, **values) -> CCRModel:
        torch.manual_seed(2)
        model = CCRModel.from_base(bases[family])
        tokenizer = german_tokenizer if own else None
        head = HeadConfig(**{"space": 20, "width": 16, "attention_heads": 2, **values})
        model.add_language("de", DASDConfig(r=4, init_weights=False), tokenizer=tokenizer, head=head)
        with torch.no_grad():
            model.heads["de"].text.norm.running_mean.normal_()
            model.heads["de"].text.norm.running_var.uniform_(0.5, 2)
        return model.eval()

    return make


# ---------------------------------------------------------------------------------------------------------- the modules


def attention_by_hand(attention, queries, keys):
    """One caption's attention, head by head. (Q, h), (K, h) -> (Q, h)"""
    width, heads = queries.shape[1], attention.num_heads
    weight, bias = attention.in_proj_weight, attention.in_proj_bias
    q = queries @ weight[:width].T + bias[:width]
    k = keys @ weight[width : 2 * width].T + bias[width : 2 * width]
    v = keys @ weight[2 * width :].T + bias[2 * width :]
    step, found = width // heads, []
    for index in range(heads):
        part = slice(index * step, (index + 1) * step)
        found.append(F.softmax(q[:, part] @ k[:, part].T / step**0.5, dim=-1) @ v[:, part])
    return torch.cat(found, dim=-1) @ attention.out_proj.weight.T + attention.out_proj.bias


def test_a_caption_by_hand():
    head = TextHead(SMALL, 10).eval()
    states, mask = torch.randn(3, 5, 10), torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1], [1, 0, 0, 0, 0]])
    found = head(states, mask)
    for row, length in enumerate((3, 5, 1)):
        entry = head.entry(states[row, :length]) + head.layer.positions[:length]
        tokens = entry + attention_by_hand(head.layer.attention, entry, entry)
        expected = F.normalize(head.norm(head.exit(tokens.mean(0))[None])[0], dim=-1)
        torch.testing.assert_close(found[row], expected, atol=1e-5, rtol=1e-5)


def test_the_cross_view_by_hand():
    head = TextHead(SMALL, 10).eval()
    source, target = torch.randn(2, 4, 16), torch.randn(2, 3, 16)
    source_mask, target_mask = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1]]), torch.tensor([[1, 1, 1], [1, 1, 0]])
    found = head.cross_view(source, target, source_mask, target_mask)
    for row, (ls, lt) in enumerate([(2, 3), (4, 2)]):
        asked = attention_by_hand(head.layer.attention, source[row, :ls], target[row, :lt])
        both = torch.cat([asked, target[row, :lt]])
        expected = F.normalize(head.norm(head.exit(both.mean(0))[None])[0], dim=-1)
        torch.testing.assert_close(found[row], expected, atol=1e-5, rtol=1e-5)


def test_pictures_go_through_one_linear_map():
    head = VisualHead(SMALL, 6)
    vectors = torch.randn(3, 6)
    unit = vectors / vectors.norm(dim=-1, keepdim=True)
    expected = F.normalize(unit @ head.exit.weight.T + head.exit.bias, dim=-1)
    torch.testing.assert_close(head(vectors), expected)
    torch.testing.assert_close(head(3 * vectors), expected)
    with pytest.raises(ConfigError, match="frames"):
        head(vectors[:, None])


def test_frames_are_attended_and_their_order_counts():
    torch.manual_seed(0)
    head = VisualHead(HeadConfig(space=20, width=16, attention_heads=2, frames=6), 8)
    with torch.no_grad():
        head.layer.positions.normal_()
    frames = torch.randn(2, 5, 8)
    mask = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])
    found = head(frames, mask)
    torch.testing.assert_close(found[:1], head(frames[:1, :3]), atol=1e-5, rtol=1e-5)  # padding does not count
    assert (head(frames.flip(1)) - head(frames)).abs().max() > 1e-3
    with pytest.raises(ConfigError, match="7 tokens or frames.*positions for 6"):
        head(torch.randn(1, 7, 8))


def test_batch_norm_of_one_process_is_torchs():
    own, theirs = GlobalBatchNorm(4), torch.nn.BatchNorm1d(4)
    for _ in range(3):
        rows = torch.randn(5, 4)
        torch.testing.assert_close(own(rows), theirs(rows))
    assert all(torch.equal(a, b) for a, b in zip(own.buffers(), theirs.buffers(), strict=True))


# ------------------------------------------------------------------------------------------------------------ the model


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("own", [False, True], ids=["shared tokens", "own tokens"])
def test_a_caption_does_not_depend_on_its_batch(family, own, build, german):
    model = build(family, own)
    together = model.encode_text(german, "de")
    assert together.shape == (6, 20)
    for row, caption in enumerate(german):
        torch.testing.assert_close(together[row], model.encode_text(caption, "de")[0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_base_is_untouched(family, build, bases, english):
    model, bare = build(family), CCRModel.from_base(bases[family])
    assert torch.equal(model.encode_text(english, None), bare.encode_text(english, None))
    vectors = F.normalize(torch.randn(3, model.embedding_dim), dim=-1)
    torch.testing.assert_close(model.map_visual(vectors, None), vectors)
    assert model.map_visual(vectors, "de").shape == (3, 20)
    assert (model.dim_of("de"), model.dim_of(None), model.space("de"), model.space(None)) == (
        20,
        model.embedding_dim,
        "de",
        None,
    )


def test_pictures_of_the_active_language_fit_its_captions(build, german):
    from PIL import Image

    model = build("clip")
    pictures = [Image.new("RGB", (16, 16), color) for color in ("red", "blue")]
    mapped = model.encode_image(pictures)
    assert model.similarity(model.encode_text(german), mapped).shape == (6, 2)
    base = model.encode_image(pictures, None)
    torch.testing.assert_close(mapped, model.map_visual(base, "de"))
    with pytest.raises(ConfigError, match="width 20.*width .*encode_image"):
        model.similarity(model.encode_text(german), base)
    inputs = model.processor(german, pictures, language="de")
    logits = model(**inputs, language="de").logits_per_text / model.logit_scale
    torch.testing.assert_close(logits, model.similarity(model.encode_text(german), mapped), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_source_captions_share_the_network(family, build, english):
    model = build(family)
    found = model.encode_source(english, "de")
    assert found.shape == (6, 20)
    for row, caption in enumerate(english):
        torch.testing.assert_close(found[row], model.encode_source(caption, "de")[0], atol=1e-5, rtol=0)
    # the adapter is in their way: not what the head would make of the bare base
    ids = model.processor.token_ids(english[:1])
    batch = model.processor.pad(ids)
    if model.processor.pad_to_max_length:
        batch.attention_mask.fill_(1)
    bare = model.token_states(batch.input_ids, batch.attention_mask, batch.pooled_at, "__base__", source=True)
    assert (model.heads["de"].text(bare, batch.attention_mask)[0] - found[0]).abs().max() > 1e-3
    # without a head, the base is the space
    assert torch.equal(model.encode_source(english, None), model.encode_text(english, None))


def test_languages_of_different_spaces_do_not_mix(build, german):
    model = build()
    model.add_language("cs", DASDConfig(r=4))
    with pytest.raises(LanguageError, match="do not share a space"):
        model.encode_text(german[:2], ["de", "cs"])
    assert model.encode_text(german[:2], "cs").shape == (2, model.embedding_dim)


# ------------------------------------------------------------------------------------------------------------ the files


@pytest.mark.parametrize("own", [False, True], ids=["shared tokens", "own tokens"])
def test_saved_and_loaded(own, build, german, english, tmp_path):
    model = build("bert", own)
    model.save_pretrained(tmp_path / "a")
    loaded = CCRModel.from_pretrained(tmp_path / "a")
    assert loaded.heads["de"].config == model.heads["de"].config
    assert torch.equal(loaded.encode_text(german, "de"), model.encode_text(german, "de"))
    assert torch.equal(loaded.encode_source(english, "de"), model.encode_source(english, "de"))
    vectors = torch.randn(3, model.embedding_dim)
    assert torch.equal(loaded.map_visual(vectors, "de"), model.map_visual(vectors, "de"))
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    model.save_pretrained(tmp_path / "half", dtype=torch.float16)
    half = CCRModel.from_pretrained(tmp_path / "half").encode_text(german, "de")
    torch.testing.assert_close(half, model.encode_text(german, "de"), atol=1e-2, rtol=0)


def change(tensors, kind):
    name = "visual.exit.weight"
    if kind == "missing":
        del tensors[name]
    elif kind == "extra":
        tensors["more"] = torch.zeros(1)
    elif kind == "shape":
        tensors[name] = tensors[name][:, :-1].contiguous()
    elif kind == "type":
        tensors[name] = tensors[name].long()
    else:
        tensors[name][0, 0] = torch.nan


@pytest.mark.parametrize("kind", ["missing", "extra", "shape", "type", "nan", "absent", "truncated"])
def test_a_file_that_does_not_fit_is_refused(kind, build, tmp_path):
    build().save_pretrained(tmp_path)
    path = tmp_path / "head.safetensors"
    if kind == "absent":
        path.unlink()
    elif kind == "truncated":
        path.write_bytes(path.read_bytes()[:-10])
    else:
        tensors = load_file(path)
        change(tensors, kind)
        save_file(tensors, path)
    with pytest.raises(AdapterError, match="head.safetensors"):
        CCRModel.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"space": 10**9}, "head.safetensors"),  # nothing is allocated for it
        ({"positions": -1}, "positions"),
        ({"width": 15}, "divide"),
        ({"frames": True}, "frames"),
        ({"dropout": 1}, "dropout"),
        ({"wide": 1}, "wide"),
        ({"post_norm": True}, "head.safetensors"),
        ({"post_norm": 1}, "post_norm"),
        ({"read_padding": "yes"}, "read_padding"),
        ({"normalize_visual": None}, "normalize_visual"),
        ({"visual_width": 0}, "visual_width"),
        ({"visual_width": 10**9}, "head.safetensors"),
        ({"visual_width": 15, "frames": 4}, "divide"),
    ],
)
def test_a_crafted_configuration_is_refused(values, message, build, tmp_path):
    build().save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["languages"]["de"]["head"].update(values)
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises((AdapterError, ConfigError), match=message):
        CCRModel.from_pretrained(tmp_path)


# ----------------------------------------------------------------------------------------------- what serves training


def test_an_auxiliary_network_leaves_no_trace(build, german, tmp_path):
    model = build()
    before = model.encode_text(german, "de")
    keys = list(model.state_dict())
    model.add_auxiliary("de_teacher", "de")
    model.trainable("de")
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert any("de_teacher" in name for name in trained)
    assert {"heads.de_teacher.text.exit.weight", "vocabularies.de_teacher.table.weight"} <= set(trained)
    with pytest.raises(LanguageError):
        model.encode_text(german, "de_teacher")
    model.save_pretrained(tmp_path / "with")
    model.remove_auxiliary("de_teacher")
    assert list(model.state_dict()) == keys
    model.save_pretrained(tmp_path / "without")
    assert torch.equal(model.eval().encode_text(german, "de"), before)
    for path in (tmp_path / "without").rglob("*.safetensors"):
        assert path.read_bytes() == (tmp_path / "with" / path.name).read_bytes()


def test_a_head_is_trained_with_its_language(build):
    model = build()
    parameters = model.trainable("de")
    assert {id(p) for p in model.heads["de"].parameters()} <= {id(p) for p in parameters}
    model.train()
    assert model.heads["de"].text.dropout.training
    assert isinstance(model.heads["de"], Head)
    model.delete_language("de")
    assert not len(model.heads)
