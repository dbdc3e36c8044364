"""Converted checkpoints of DASD: the vectors are those of the paper's equations, computed without the library."""

from __future__ import annotations

import json
import math

import pytest
import torch
import torch.nn.functional as F
from original_dasd import BLOCKS, NARROW, WIDTH, plain_dasd, save_clip, under_openais_names
from transformers import CLIPModel

from ccr_adapters.dasd import DASDConfig
from ccr_adapters.errors import AdapterError, ConfigError
from ccr_adapters.hub import convert_checkpoint
from ccr_adapters.modeling import CCRModel
from ccr_adapters.modeling.upload import check_folder

CLOSE = {"atol": 1e-5, "rtol": 1e-5}


def convert(path, output, public, tokens, language="de", **values):
    arguments = {"method": "dasd", "base": public, "tokenizer": tokens, **values}
    return convert_checkpoint(path, language, output, **arguments)


@pytest.fixture(scope="session")
def converted(dasd, public, tokens, tmp_path_factory):
    """Function that gives a converted folder and the tensors it came from. Not to be written to."""
    made = {}

    def get(seed: int, code: str = "de"):
        if (seed, code) not in made:
            path, clip, state = dasd(seed)
            folder = tmp_path_factory.mktemp("converted") / "adapter"
            made[seed, code] = folder, clip, state, convert(path, folder, public, tokens, code)
        return made[seed, code]

    return get


@pytest.mark.parametrize("seed", [5, 6], ids=["on the public CLIP", "on a fine-tuned CLIP"])
@pytest.mark.parametrize("code", ["de", "fr"])
def test_captions_of_dasd_are_those_of_the_equations(seed, code, converted, german, german_tokenizer):
    folder, _, state, _ = converted(seed, code)
    found = CCRModel.from_pretrained(folder).encode_text(german, code)
    ids = german_tokenizer(german)["input_ids"]
    assert len({len(row) for row in ids}) > 2
    expected = torch.stack([plain_dasd(row, german_tokenizer.pad_token_id, state, code) for row in ids])
    torch.testing.assert_close(found, expected, **CLOSE)


@pytest.mark.parametrize("seed", [5, 6], ids=["on the public CLIP", "on a fine-tuned CLIP"])
def test_pictures_and_english_are_the_checkpoints(seed, converted, english, base_tokenizer):
    folder, clip, _, _ = converted(seed)
    model = CCRModel.from_pretrained(folder)
    pixels = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        pictures = clip.get_image_features(pixel_values=pixels).pooler_output
        source = clip.get_text_features(**base_tokenizer(english[:1], return_tensors="pt")).pooler_output
    torch.testing.assert_close(model.get_image_features(pixels).pooler_output, pictures, **CLOSE)
    torch.testing.assert_close(model.encode_text(english[:1], None), F.normalize(source, dim=-1), **CLOSE)


def test_the_base_is_named_where_it_is_public_and_carried_where_not(converted, public):
    for seed, carried in ((5, False), (6, True)):
        folder, _, _, result = converted(seed)
        values = json.loads((folder / "config.json").read_text())
        assert values["base_model_name_or_path"] == ("base" if carried else str(public))
        assert (folder / "base" / "model.safetensors").is_file() == carried
        assert (result.difference > 0.01) == carried
        assert ("differ" in result.to_text()) == carried
        check_folder(folder)  # what push asks for


def test_what_no_vector_depends_on_is_left_out_and_told(converted):
    *_, result = converted(5)
    assert result.dropped["sigma_projection"] == 1
    assert result.dropped["transformer.resblocks.*.acquirer.de.mlp_sr.c_fc.weight"] == BLOCKS
    assert result.dropped["transformer.resblocks.*.acquirer.fr.mlp_beforez.c_fc.weight"] == BLOCKS
    assert not any("mlp_zi" in name or ".de.mlp_beforez" in name for name in result.dropped)
    assert all(name in result.to_text() for name in result.dropped)


def test_the_card_claims_no_figures(converted):
    folder, *_ = converted(5)
    card = (folder / "README.md").read_text()
    assert "Recalls: not measured here." in card
    assert "No evaluation was recorded" in card
    assert "github.com/HuiGuanLab/DASD" in card
    assert "`pytorch_model.bin.500`, sha256" in card
    assert json.loads((folder / "config.json").read_text())["languages"]["de"]["recipe"]["method"] == "dasd"


def test_a_caption_does_not_depend_on_its_batch(converted, german):
    model = CCRModel.from_pretrained(converted(5)[0])
    alone = torch.cat([model.encode_text([caption], "de") for caption in german])
    torch.testing.assert_close(model.encode_text(german, "de"), alone, **CLOSE)
    torch.testing.assert_close(model.encode_text(german, "de", batch_size=2), alone, **CLOSE)


def test_languages_of_one_checkpoint_share_a_base_and_a_batch(converted, german, english, german_tokenizer):
    model = CCRModel.from_pretrained(converted(5)[0])
    assert model.load_language(converted(5, "fr")[0]) == ["fr"]
    adapter = DASDConfig(r=4, generator_rank=4, init_weights=False)
    model.add_language("cs", adapter, tokenizer=german_tokenizer)
    codes = ["de", "fr", "cs", None, "cs", "de"]
    apart = [model.encode_text([caption], code) for caption, code in zip(german, codes, strict=True)]
    torch.testing.assert_close(model.encode_text(german, codes), torch.cat(apart), **CLOSE)


def test_ids_without_a_mask_are_padded_too(converted, german, german_tokenizer):
    folder, _, state, _ = converted(5)
    model = CCRModel.from_pretrained(folder)
    ids = german_tokenizer(german[2:3])["input_ids"]
    found = model.get_text_features(torch.tensor(ids), language="de").pooler_output[0]
    torch.testing.assert_close(F.normalize(found, dim=0), plain_dasd(ids[0], 3, state, "de"), **CLOSE)


def test_adapters_without_clip_stand_on_the_base_that_is_named(dasd, public, tokens, german, converted, tmp_path):
    _, _, state = dasd()
    clip = set(under_openais_names(CLIPModel.from_pretrained(public)))
    path = tmp_path / "adapters.pt"
    torch.save({f"module.{name}": value for name, value in state.items() if name not in clip}, path)
    result = convert(path, tmp_path / "out", public, tokens)
    assert result.difference is None
    assert "no frozen weights" in result.to_text()
    expected = CCRModel.from_pretrained(converted(5)[0]).encode_text(german, "de")
    assert torch.equal(CCRModel.from_pretrained(tmp_path / "out").encode_text(german, "de"), expected)
    with pytest.raises(AdapterError, match="which CLIP it was trained on.*--base"):
        convert(path, tmp_path / "none", None, tokens)


BLOCK = "transformer.resblocks.1"
BROKEN = {
    "missing": (
        lambda s: s.pop(f"{BLOCK}.mlp_zi.c_fc1.bias"),
        r"1 missing \(transformer.resblocks.1.mlp_zi.c_fc1.bias\)",
    ),
    "missing at the start": (lambda s: s.pop("sr_projection"), "lacks sr_projection"),
    "missing in CLIP": (
        lambda s: s.pop("visual.proj"),
        r"CLIP in the checkpoint.*1 missing \(visual_projection.weight\)",
    ),
    "unexpected": (lambda s: s.update(extra=torch.ones(1)), r"1 unexpected \(extra\)"),
    "wrong shape": (
        lambda s: s.update({f"{BLOCK}.acquirer.de.mlp_afterz.c_proj2.weight": torch.ones(WIDTH, 3)}),
        r"'transformer.resblocks.1.acquirer.de.mlp_afterz.c_proj2.weight' has shape \(128, 3\), expected \(128, 4\)",
    ),
    "of another CLIP": (lambda s: s.update(positional_embedding=torch.ones(9, WIDTH)), "Name another CLIP with --base"),
    "not finite": (lambda s: s["ln_mu.weight"].fill_(math.inf), "'ln_mu.weight' holds values that are not finite"),
    "a CLIP alone": (lambda s: [s.pop(k) for k in list(s) if "acquirer" in k], "a CLIP without adapters"),
    "static": (lambda s: [s.pop(k) for k in list(s) if "mlp_beforez" in k], "static acquirers"),
    "no tensor": (lambda s: s.update(epoch=3), "no state dict"),
    "another table": (
        lambda s: s.update({"multilingual_embedding.weight": torch.ones(7, NARROW)}),
        "tokens, the checkpoint's table 7 rows",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_checkpoint_that_does_not_fit_is_told_in_a_sentence(case, dasd, public, tokens, tmp_path):
    change, message = BROKEN[case]
    _, _, state = dasd()
    change(state)
    torch.save(state, tmp_path / "broken.pt")
    with pytest.raises(AdapterError, match=message):
        convert(tmp_path / "broken.pt", tmp_path / "out", public, tokens)
    assert [path.name for path in tmp_path.iterdir()] == ["broken.pt"]


def test_a_language_that_is_not_there(dasd, public, tokens, tmp_path):
    with pytest.raises(AdapterError, match="no language 'cs'. It has: de, fr"):
        convert(dasd()[0], tmp_path / "out", public, tokens, "cs")


def test_a_base_that_computes_something_else_is_refused(dasd, clip_of, base_tokenizer, tokens, tmp_path):
    clip = clip_of(5)
    clip.config.text_config.hidden_act = "gelu"
    folder = save_clip(clip, base_tokenizer, tmp_path / "gelu")
    with pytest.raises(AdapterError, match="'gelu'; OpenAI's CLIP has heads of width 64 and 'quick_gelu'"):
        convert(dasd()[0], tmp_path / "out", folder, tokens)


def test_arguments_that_cannot_work(dasd, public, tokens, bases, tmp_path):
    path, _, _ = dasd()
    with pytest.raises(AdapterError, match="is a 'bert' model; the checkpoint needs OpenAI's CLIP"):
        convert(path, tmp_path / "out", bases["bert"], tokens)
    with pytest.raises(AdapterError, match="The base .* cannot be loaded"):
        convert(path, tmp_path / "out", tmp_path / "nowhere", tokens)
    with pytest.raises(AdapterError, match="tokenizer .* cannot be loaded|is not here"):
        convert(path, tmp_path / "out", public, tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="expected one of dasd, nrccr"):
        convert(path, tmp_path / "out", public, tokens, method="mla")
    with pytest.raises(ConfigError, match="`images` is not for dasd"):
        convert(path, tmp_path / "out", public, tokens, images=public)
    (tmp_path / "full").mkdir()
    (tmp_path / "full/notes.txt").write_text("mine")
    with pytest.raises(AdapterError, match="holds files already"):
        convert(path, tmp_path / "full", public, tokens)
