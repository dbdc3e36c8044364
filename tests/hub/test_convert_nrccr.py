"""Converted checkpoints of NRCCR: the vectors are those of the paper's equations, computed without the library."""

from __future__ import annotations

import pytest
import torch
from original_nrccr import (
    FEATURES,
    NRCCR_ENGLISH,
    NRCCR_GERMAN,
    SPACE,
    TEXT,
    fine_tuned,
    nrccr_checkpoint,
    plain_captions,
    plain_encoder,
    plain_map,
    plain_parts,
)
from transformers import BertModel

from ccr_adapters.errors import AdapterError, ConfigError
from ccr_adapters.hub import convert_checkpoint
from ccr_adapters.modeling import CCRModel
from ccr_adapters.modeling.upload import check_folder

CLOSE = {"atol": 1e-5, "rtol": 1e-5}


@pytest.fixture(scope="session")
def nrccr(mbert, clip_of, public, tmp_path_factory):
    """Function that writes and converts a checkpoint of a kind, once: folder, checkpoint, BERT, result."""
    made = {}

    def get(kind: str):
        if kind not in made:
            bert = fine_tuned(mbert, 1, 2)
            checkpoint = nrccr_checkpoint(kind, bert, clip_of(5))
            home = tmp_path_factory.mktemp("nrccr")
            torch.save(checkpoint, home / "model_best.pth.tar")
            images = {"images": public} if kind == "clip" else {}
            arguments = {"method": "nrccr", "base": mbert, **images}
            result = convert_checkpoint(home / "model_best.pth.tar", "de", home / "out", **arguments)
            made[kind] = home / "out", checkpoint, bert.eval(), result
        return made[kind]

    return get


@pytest.mark.parametrize("kind", ["clip", "features", "video"])
def test_captions_of_nrccr_are_those_of_the_equations(kind, nrccr, mbert):
    folder, checkpoint, bert, _ = nrccr(kind)
    model = CCRModel.from_pretrained(folder)
    expected = plain_captions(NRCCR_GERMAN, checkpoint, bert, mbert)
    torch.testing.assert_close(model.encode_text(NRCCR_GERMAN, "de"), expected, **CLOSE)
    source = plain_captions(NRCCR_ENGLISH, checkpoint, bert, mbert)
    torch.testing.assert_close(model.encode_source(NRCCR_ENGLISH, "de"), source, **CLOSE)
    assert (
        expected - plain_captions(NRCCR_GERMAN, checkpoint, BertModel.from_pretrained(mbert), mbert)
    ).abs().max() > 0.01


def test_pictures_go_through_clip_at_their_own_length(nrccr, clip_of, public):
    folder, checkpoint, _, result = nrccr("clip")
    model, pixels = CCRModel.from_pretrained(folder), torch.randn(3, 3, 16, 16)
    visual, _, mapping, _, _ = plain_parts(checkpoint)
    with torch.no_grad():
        seen = clip_of(5).get_image_features(pixel_values=pixels).pooler_output
    expected = plain_map(seen @ visual["proj.weight"].T + visual["proj.bias"], mapping)
    raw = model.get_image_features(pixels).pooler_output
    torch.testing.assert_close(model.map_visual(raw, "de"), expected, **CLOSE)
    pictures = [torch.randint(0, 255, (3, 16, 16), dtype=torch.uint8) for _ in range(2)]
    inputs = model.processor.picture_inputs(pictures)
    by_hand = model.map_visual(model.get_image_features(**inputs).pooler_output, "de")
    torch.testing.assert_close(model.encode_image(pictures, "de"), by_hand, **CLOSE)
    output = model(input_ids=torch.tensor([[2, 5, 3]]), pixel_values=pixels, language="de")
    torch.testing.assert_close(output.image_embeds, expected, **CLOSE)
    with pytest.raises(ConfigError, match="reads the base's vectors at their own length"):
        model.map_visual(model.encode_image(pictures, None), "de")
    assert result.difference == 0


def test_features_of_pictures_have_a_layer_of_their_own(nrccr):
    folder, checkpoint, _, _ = nrccr("features")
    visual, _, mapping, _, _ = plain_parts(checkpoint)
    vectors = 3 * torch.randn(4, FEATURES)
    expected = plain_map(torch.relu(vectors @ visual["proj.weight"].T + visual["proj.bias"]), mapping)
    torch.testing.assert_close(CCRModel.from_pretrained(folder).map_visual(vectors, "de"), expected, **CLOSE)


def test_frames_are_pooled_with_their_padding(nrccr):
    folder, checkpoint, _, _ = nrccr("video")
    visual, _, mapping, _, _ = plain_parts(checkpoint)
    mask = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 0, 0, 0, 0]])
    frames = 3 * torch.randn(2, 6, FEATURES) * mask[..., None]
    model = CCRModel.from_pretrained(folder)
    assert model.heads["de"].config.frames == 64  # of 80 positions, those that the authors' loader reaches
    expected = plain_map(plain_encoder(frames, visual, mask), mapping)
    torch.testing.assert_close(model.map_visual(frames, "de", mask), expected, **CLOSE)


def test_only_blocks_that_were_trained_are_in_the_adapter(nrccr, mbert, clip_of, tmp_path):
    model = CCRModel.from_pretrained(nrccr("features")[0])
    assert sorted(model.base.peft_config["de"].target_modules) == ["encoder.layer.1", "encoder.layer.2"]
    torch.save(nrccr_checkpoint("features", fine_tuned(mbert), clip_of(5)), tmp_path / "frozen.pt")
    convert_checkpoint(tmp_path / "frozen.pt", "de", tmp_path / "out", method="nrccr", base=mbert)
    frozen = CCRModel.from_pretrained(tmp_path / "out")
    assert set(frozen.base.peft_config["de"].target_modules) == {"encoder.layer.2"}  # an adapter has one


def test_embeddings_that_were_trained_come_with_the_base(mbert, clip_of, tmp_path):
    bert = fine_tuned(mbert, 0, embeddings=True)
    checkpoint = nrccr_checkpoint("features", bert, clip_of(5))
    torch.save(checkpoint, tmp_path / "all.pt")
    result = convert_checkpoint(tmp_path / "all.pt", "de", tmp_path / "out", method="nrccr", base=mbert)
    assert result.difference > 0.01
    found = CCRModel.from_pretrained(tmp_path / "out").encode_text(NRCCR_GERMAN, "de")
    torch.testing.assert_close(found, plain_captions(NRCCR_GERMAN, checkpoint, bert.eval(), mbert), **CLOSE)


def test_languages_of_two_checkpoints_share_their_base(nrccr, mbert, clip_of, public, tmp_path):
    checkpoint = nrccr_checkpoint("clip", fine_tuned(mbert, 2), clip_of(5))
    torch.save(checkpoint, tmp_path / "fr.pt")
    convert_checkpoint(tmp_path / "fr.pt", "fr", tmp_path / "fr", method="nrccr", base=mbert, images=public)
    model = CCRModel.from_pretrained(nrccr("clip")[0])
    before = model.encode_text(NRCCR_GERMAN, "de")
    assert model.load_language(tmp_path / "fr") == ["fr"]
    assert torch.equal(model.encode_text(NRCCR_GERMAN, "de"), before)
    assert (model.encode_text(NRCCR_GERMAN, "fr") - before).abs().max() > 0.01


def test_the_folder_of_nrccr_can_be_pushed_and_tells_what_it_is(nrccr):
    folder, _, _, result = nrccr("clip")
    check_folder(folder)
    card = (folder / "README.md").read_text()
    assert "not measured here" in card
    assert "read_padding" in card
    assert "encoder.transformer.resblocks.*.ln_1.weight" in result.dropped
    assert "AdvAgent.discriminator.model.*.weight" in result.dropped


UNFIT = {
    "two layers": ("video", {"video_layer": 2}, "video_layer=2"),
    "another pooling": ("features", {"text_pooling": "max"}, "text_pooling='max'"),
}


@pytest.mark.parametrize("case", UNFIT)
def test_options_that_cannot_be_converted(case, mbert, clip_of, tmp_path):
    kind, options, message = UNFIT[case]
    torch.save(nrccr_checkpoint(kind, fine_tuned(mbert), clip_of(5), **options), tmp_path / "c.pt")
    with pytest.raises(AdapterError, match=message):
        convert_checkpoint(tmp_path / "c.pt", "de", tmp_path / "out", method="nrccr", base=mbert)


TEXT_PART, BERT = 1, "module.text_bert.text_bert.encoder.layer.1.output.dense.bias"
BROKEN_NRCCR = {
    "missing": (
        lambda m: m[1].pop("module.encoder_layer.self.key.bias"),
        r"\(text\).*1 missing \(encoder_layer.self.key",
    ),
    "missing in BERT": (lambda m: m[1].pop(BERT), r"mBERT.*1 missing \(encoder.layer.1.output.dense.bias\)"),
    "unexpected": (lambda m: m[0].update({"module.extra": torch.ones(1)}), r"\(pictures\).*1 unexpected \(extra\)"),
    "wrong shape": (
        lambda m: m[3].update({"mapping.fc1.weight": torch.ones(SPACE, 5)}),
        r"\(text map\): 'mapping.fc1.weight' has shape \(12, 5\), expected \(12, 24\)",
    ),
    "queries wider than values": (
        lambda m: m[1].update({"module.encoder_layer.self.query.weight": torch.ones(48, TEXT)}),
        "queries of width 48 and values of width 24",
    ),
    "no visual encoder": (lambda m: m[0].clear(), "neither for pictures nor for videos"),
    "parts": (lambda m: m.pop() and m.pop(), "lists 3 state dicts"),
}


@pytest.mark.parametrize("case", BROKEN_NRCCR)
def test_a_broken_nrccr_checkpoint_is_told_in_a_sentence(case, mbert, clip_of, tmp_path):
    change, message = BROKEN_NRCCR[case]
    checkpoint = nrccr_checkpoint("features", fine_tuned(mbert, 1), clip_of(5))
    change(checkpoint["model"])
    torch.save(checkpoint, tmp_path / "broken.pt")
    with pytest.raises(AdapterError, match=message):
        convert_checkpoint(tmp_path / "broken.pt", "de", tmp_path / "out", method="nrccr", base=mbert)
    assert [path.name for path in tmp_path.iterdir()] == ["broken.pt"]
