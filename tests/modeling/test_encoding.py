"""Captions and pictures in, normalised vectors out: in order, whatever they are encoded with, checked before any work."""

from __future__ import annotations

import copy
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest
import torch
from peft import LoraConfig
from PIL import Image
from transformers import AutoTokenizer

from ccr_adapters.configuration import HeadConfig
from ccr_adapters.dasd import DASDConfig, DASDLayer
from ccr_adapters.errors import CaptionError, ConfigError, ImageError, LanguageError
from ccr_adapters.full import FullConfig
from ccr_adapters.modeling import CCRModel
from ccr_adapters.pixels import as_rgb

TOLERANCE = {"rtol": 0.0, "atol": 1e-5}


@pytest.fixture
def model(family, build, german_tokenizer, bases, stir):
    """`de` and `cs` share the base's tokenizer, `zh` and `sw` have their own; all changed."""
    model = build(family, "de")
    model.add_language("cs", DASDConfig(r=3, mode="static"), max_length=12)
    model.add_language("zh", DASDConfig(r=4), tokenizer=german_tokenizer)
    other = AutoTokenizer.from_pretrained(bases[family], pad_token="[EOS]")
    model.add_language("sw", DASDConfig(r=5, prefix_blocks=1), tokenizer=other)
    return stir(model)


@pytest.fixture
def calls(model):
    """How many passes the base has made."""
    counts = []
    first = next(module for module in model.modules() if isinstance(module, DASDLayer))
    first.register_forward_pre_hook(lambda *_: counts.append(1))
    return counts


@pytest.mark.parametrize("code", [None, "de", "cs", "zh", "sw"])
def test_vectors_come_in_order_and_normalised(code, model, english):
    found = model.encode_text(english, code, batch_size=2)
    assert found.shape == (6, model.embedding_dim)
    assert found.dtype == torch.float32
    assert not found.requires_grad
    torch.testing.assert_close(found.norm(dim=-1), torch.ones(6))
    for row, caption in enumerate(english):
        torch.testing.assert_close(model.encode_text(caption, code)[0], found[row], **TOLERANCE)
    order = [4, 2, 0, 5, 1, 3]
    torch.testing.assert_close(model.encode_text([english[i] for i in order], code), found[order], **TOLERANCE)
    assert (found - found[:1]).abs().amax(1)[1:].min() > 1e-3  # captions differ


def test_mixed_languages_equal_the_languages_apart(model, english, german):
    captions = [*english, *german]
    codes = ["de", None, "zh", "cs", "sw", "en", "zh", "sw", "de", "cs", "de", "zh"]
    expected = torch.cat([model.encode_text([text], code) for text, code in zip(captions, codes, strict=True)])
    for size in (2, 5, 64):
        torch.testing.assert_close(model.encode_text(captions, codes, batch_size=size), expected, **TOLERANCE)
    model.set_language("zh")
    active = [code if code != "zh" else "active" for code in codes]
    torch.testing.assert_close(model.encode_text(captions, active), expected, **TOLERANCE)


def test_a_large_padding_id_does_no_harm_to_a_small_table(family, bases, german, german_tokenizer, stir):
    model = CCRModel.from_base(bases[family])
    model.add_language("zh", DASDConfig(r=4), tokenizer=german_tokenizer)
    large = copy.deepcopy(german_tokenizer)
    large.add_special_tokens({"pad_token": "<last>"})
    model.add_language("sw", DASDConfig(r=4), tokenizer=large)
    assert large.pad_token_id >= len(german_tokenizer)
    stir(model)
    codes = ["sw", "zh"] * 3
    expected = torch.cat([model.encode_text([text], code) for text, code in zip(german, codes, strict=True)])
    torch.testing.assert_close(model.encode_text(german, codes), expected, **TOLERANCE)


def test_languages_share_passes(model, calls, english):
    model.encode_text(english, ["de", "cs", "de", "cs", "de", "de"])
    assert len(calls) == 1
    calls.clear()
    model.encode_text(english, ["zh", "sw", "zh", "sw", "zh", "sw"])
    assert len(calls) == 1


@pytest.mark.parametrize("length", [8, 24])
def test_languages_of_another_length_do_not_change_each_other(length, family, build, english):
    model = build(family, "de")
    model.add_language("cs", DASDConfig(r=4), max_length=length)
    alone = model.encode_text(english, "de")
    codes = ["de", "cs"] * 3
    mixed = model.encode_text(english, codes)
    torch.testing.assert_close(mixed[::2], alone[::2], **TOLERANCE)
    torch.testing.assert_close(mixed[1::2], model.encode_text(english[1::2], "cs"), **TOLERANCE)


@pytest.mark.parametrize("captions", [[], (), iter([])])
@pytest.mark.parametrize("code", ["de", None])
def test_nothing_in_nothing_out(captions, code, model):
    found = model.encode_text(captions, code)
    assert found.shape == (0, model.embedding_dim)
    assert found.dtype == torch.float32


def test_captions_may_come_as_any_sequence(model, english):
    expected = model.encode_text(english, "de")
    for captions in (tuple(english), iter(english), (text for text in english), np.array(english)):
        assert torch.equal(model.encode_text(captions, "de"), expected)


@pytest.mark.parametrize(
    ("captions", "message"),
    [
        (["a dog", ""], "Caption 1 is empty"),
        (["a dog", " \n\t"], "Caption 1 is empty"),
        ("", "Caption 0 is empty"),
        (["a dog", None], "Caption 1 is a NoneType, not a text"),
        ([3], "Caption 0 is a int"),
        ([["a dog"]], "Caption 0 is a list"),
        ([b"a dog"], "Caption 0 is a bytes"),
        (["a dog", float("nan")], "Caption 1 is a float"),
    ],
)
def test_a_bad_caption_is_named_before_any_work(captions, message, model, calls):
    for code in ("de", None, "zh"):
        with pytest.raises(CaptionError, match=message):
            model.encode_text(captions, code)
    assert not calls


def test_a_language_without_an_adapter_is_named_with_those_there_are(model, calls, english):
    for languages in ("fr", ["de", "zh", "fr", "de", "de", "de"]):
        with pytest.raises(LanguageError, match="'fr' has no adapter. Loaded: cs, de, sw, zh. Load one with"):
            model.encode_text(english, languages)
    with pytest.raises(LanguageError, match="'fr'"):
        model.encode_text([], "fr")
    with pytest.raises(CaptionError, match="2 languages for 6 captions"):
        model.encode_text(english, ["de", "cs"])
    assert not calls


def test_the_active_language_is_the_default(model, english):
    model.set_language("cs")
    assert torch.equal(model.encode_text(english), model.encode_text(english, "cs"))
    model.set_language("en")
    assert torch.equal(model.encode_text(english), model.encode_text(english, None))


def test_a_long_caption_is_cut_with_its_end_kept(model, english):
    long = " ".join(english)
    for code in (None, "de", "cs", "zh"):
        vectors = model.encode_text([long, english[0]], code)
        ids = model.processor.token_ids([long], code)[0]
        assert len(ids) == (12 if code == "cs" else 24)
        assert torch.isfinite(vectors).all()
        torch.testing.assert_close(vectors[1], model.encode_text(english[0], code)[0], **TOLERANCE)


@pytest.mark.parametrize("family", ["clip", "bert"], indirect=True)
def test_features_that_average_over_padding_do_not_follow_the_batch(family, bases, english, german_tokenizer, stir):
    model = CCRModel.from_base(bases[family])
    model.add_language("de", DASDConfig(r=4, sa_all_positions=True), tokenizer=german_tokenizer, max_length=20)
    stir(model, scale=0.5)
    assert model.config.languages["de"].pad_to == 20
    together = model.encode_text(english, "de")
    for row, caption in enumerate(english):
        torch.testing.assert_close(model.encode_text(caption, "de")[0], together[row], **TOLERANCE)


def test_languages_in_an_array(model, english):
    codes = ["de", "zh", "cs"] * 2
    assert torch.equal(model.encode_text(np.array(english), np.array(codes)), model.encode_text(english, codes))


def test_a_head_is_of_the_precision_of_its_base(bases, english):
    model = CCRModel.from_base(bases["clip"], dtype=torch.bfloat16)
    model.add_language("de", DASDConfig(r=4), head=HeadConfig(space=20, width=16, attention_heads=2))
    assert model.encode_text(english, "de").shape == (6, 20)


@pytest.mark.parametrize("code", [None, "de", "zh"])
def test_ids_that_come_without_their_ends(code, model, english):
    batch = dict(model.processor(english, language=code))
    batch.pop("pooled_at", None)
    with torch.no_grad():
        vectors = model.get_text_features(**batch, language=code).pooler_output
    expected = model.encode_text(english, code)
    torch.testing.assert_close(torch.nn.functional.normalize(vectors, dim=-1), expected, **TOLERANCE)


@pytest.mark.parametrize("code", ["de", "zh"])
def test_captions_padded_on_the_left_are_refused(code, model):
    ids = torch.tensor([[0, 5, 6, 2], [5, 6, 7, 2]])
    mask = torch.tensor([[0, 1, 1, 1], [1, 1, 1, 1]])
    with pytest.raises(ConfigError, match="padded on the left. Pad them on the right"):
        model.get_text_features(ids, attention_mask=mask, language=code)


@pytest.mark.parametrize("code", ["de", "zh"])
def test_features_of_plain_tensors_follow_transformers(code, model, english):
    batch = model.processor(english, language=code)
    with torch.no_grad():
        output = model.get_text_features(**batch, language=code)
    vectors = torch.nn.functional.normalize(output.pooler_output, dim=-1)
    torch.testing.assert_close(vectors, model.encode_text(english, code), **TOLERANCE)
    assert output.last_hidden_state.shape[:2] == batch["input_ids"].shape


@pytest.mark.parametrize("code", ["de", "zh"])
def test_without_a_mask_a_causal_encoder_still_finds_the_end(code, build, german_tokenizer, stir, english):
    model = build("clip", "de")
    model.add_language("zh", DASDConfig(r=4), tokenizer=german_tokenizer)
    stir(model)
    batch = model.processor(english, language=code)
    with torch.no_grad():
        expected = model.get_text_features(**batch, language=code).pooler_output
        found = model.get_text_features(batch["input_ids"], language=code).pooler_output
        model.processor = None
        bare = model.get_text_features(batch["input_ids"], language=code).pooler_output
    torch.testing.assert_close(found, expected, **TOLERANCE)
    torch.testing.assert_close(bare, expected, **TOLERANCE)


def test_two_threads_encode_two_languages(model, english):
    expected = {code: model.encode_text(english, code) for code in ("de", "cs", "zh", None)}
    with ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            found = pool.map(lambda code: model.encode_text(english, code, show_progress=False), expected)
            for code, vectors in zip(expected, found, strict=True):
                torch.testing.assert_close(vectors, expected[code], **TOLERANCE)


@pytest.mark.parametrize(
    "method", [lambda: LoraConfig(r=4, target_modules=["q_proj", "v_proj", "query", "value"]), FullConfig]
)
@pytest.mark.parametrize("family", ["clip"], indirect=True)
def test_threads_do_not_get_each_others_language_where_layers_are_switched(method, family, bases, english, pictures):
    model = CCRModel.from_base(bases[family])
    for seed, code in enumerate(("de", "cs")):
        model.add_language(code, method())
        torch.manual_seed(seed)
        for parameter in model.trainable(code):
            parameter.data += 0.2 * torch.randn_like(parameter)
    work = {code: partial(model.encode_text, english, code, show_progress=False) for code in ("de", "cs", None)}
    work["pictures"] = partial(model.encode_image, pictures, show_progress=False)
    expected = {name: encode() for name, encode in work.items()}
    assert not torch.allclose(expected["de"], expected["cs"], atol=1e-2)
    with ThreadPoolExecutor(4) as pool:
        for _ in range(20):
            found = pool.map(lambda name: work[name](), expected)
            for name, vectors in zip(expected, found, strict=True):
                torch.testing.assert_close(vectors, expected[name], **TOLERANCE, msg=str(name))


# ------------------------------------------------------------------------------------------------------------- pictures


@pytest.fixture(params=["clip", "siglip"])
def seeing(request, bases) -> CCRModel:
    """A model with an image tower."""
    return CCRModel.from_base(bases[request.param])


def test_pictures_come_in_order_from_wherever(seeing, pictures, tmp_path):
    paths = []
    for index, picture in enumerate(pictures):
        paths.append(tmp_path / f"{index}.png")
        picture.save(paths[-1])
    expected = seeing.encode_image(pictures, batch_size=3)
    assert expected.shape == (4, 24)
    torch.testing.assert_close(expected.norm(dim=-1), torch.ones(4))
    assert torch.equal(seeing.encode_image(paths, batch_size=3), expected)
    assert torch.equal(seeing.encode_image([str(path) for path in paths], batch_size=3), expected)
    arrays = [np.array(as_rgb(picture)) for picture in pictures]
    assert torch.equal(seeing.encode_image(arrays, batch_size=3), expected)
    tensors = [torch.from_numpy(array).permute(2, 0, 1) for array in arrays]
    torch.testing.assert_close(seeing.encode_image(tensors, batch_size=3), expected, **TOLERANCE)
    for one in (pictures[0], paths[0], str(paths[0]), arrays[0], tensors[0]):
        torch.testing.assert_close(seeing.encode_image(one)[0], expected[0], **TOLERANCE)
    same = np.stack([arrays[1]] * 3)
    assert seeing.encode_image(same).shape == (3, 24)
    assert seeing.encode_image([]).shape == (0, 24)


def test_an_unreadable_picture_among_good_ones_stops_before_any_work(seeing, pictures, tmp_path):
    good, bad = tmp_path / "good.png", tmp_path / "bad.jpg"
    pictures[0].save(good)
    bad.write_bytes(b"no picture at all")
    passes = []
    seeing.base.vision_model.register_forward_pre_hook(lambda *_: passes.append(1))
    for wrong, message in (
        (bad, r"Picture 40 cannot be read: '.*bad\.jpg'"),
        (tmp_path / "gone.png", r"Picture 40 is missing: '.*gone\.png'"),
        (3, "Picture 40 is a int"),
    ):
        with pytest.raises(ImageError, match=message):
            seeing.encode_image([good] * 40 + [wrong, good])
    assert not passes


def test_half_precision_bases_give_full_precision_vectors(bases, english):
    model = CCRModel.from_base(bases["clip"], dtype=torch.bfloat16)
    model.add_language("de", DASDConfig(r=4))
    for vectors in (model.encode_text(english), model.encode_image(Image.new("RGB", (16, 16)))):
        assert vectors.dtype == torch.float32
        torch.testing.assert_close(vectors.norm(dim=-1), torch.ones(len(vectors)))
