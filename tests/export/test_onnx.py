"""Exported folders: the model's vectors without torch, one refusal for each thing that can be wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from PIL import Image

from ccr_adapters.errors import CaptionError, ConfigError, ExportError, ImageError, LanguageError
from ccr_adapters.export import OnnxEncoder, export_onnx
from ccr_adapters.export.parity import Parity, compare_text


def same(found, expected):
    np.testing.assert_allclose(found, expected.numpy(), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("family", "kind"),
    [("siglip", "padding read"), ("bert", "head, padding")],
)
def test_captions_of_any_number_and_length(family, kind, make, captions, tmp_path):
    model = make(family, kind)
    report = export_onnx(model, "de", tmp_path)["text"]
    assert report.smallest_cosine > 0.99999
    assert report.top10_overlap > 0.99
    encoder = OnnxEncoder.from_folder(tmp_path, threads=1)
    assert encoder.language == "de"
    for size in (1, 2, len(captions)):
        same(encoder.encode_text(captions[:size]), model.encode_text(captions[:size], "de"))
    many = [*captions] * 10
    same(encoder.encode_text(many, batch_size=16), model.encode_text(many, "de", batch_size=16))
    assert encoder.encode_text(captions[0]).shape == (1, model.dim_of("de"))


@pytest.fixture(scope="module")
def folder(make, tmp_path_factory) -> Path:
    """Both towers of a model, to be read and copied."""
    place = tmp_path_factory.mktemp("export") / "de"
    export_onnx(make("clip", "dynamic"), "de", place, tower="both")
    return place


def test_pictures_and_captions_meet(folder, make, captions, pictures, tmp_path):
    model, encoder = make("clip", "dynamic"), OnnxEncoder.from_folder(folder)
    same(encoder.encode_text(captions), model.encode_text(captions, "de"))
    expected = model.encode_image(pictures)
    same(encoder.encode_image(pictures, batch_size=3), expected)
    pictures[0].save(tmp_path / "noise.png")
    same(encoder.encode_image(tmp_path / "noise.png"), expected[:1])
    same(encoder.encode_image(np.asarray(pictures[0])), expected[:1])


def copied(folder, place):
    for path in folder.iterdir():
        (place / path.name).write_bytes(path.read_bytes())


def test_a_head_maps_pictures_too_and_takes_the_place_of_what_was_there(folder, make, pictures, tmp_path):
    copied(folder, tmp_path)
    model = make("siglip", "head")
    export_onnx(model, "de", tmp_path, tower="image")
    assert sorted(path.name for path in tmp_path.iterdir() if "config" not in path.name) == [
        "export.json",
        "image.onnx",
    ]
    encoder = OnnxEncoder.from_folder(tmp_path)
    assert encoder.manifest.space == "de"
    same(encoder.encode_image(pictures), model.encode_image(pictures, "de"))
    with pytest.raises(ExportError, match="no text tower; it has image"):
        encoder.encode_text("Hund")


def test_what_the_folder_says(folder, make):
    said = json.loads((folder / "export.json").read_text(encoding="utf-8"))
    model = make("clip", "dynamic")
    assert said["base_sha256"] == model.base_sha256()
    assert (said["language"], said["space"], said["format"]) == ("de", None, 1)
    text, image = said["towers"]["text"], said["towers"]["image"]
    assert text["captions"] == {"max_length": 24, "end_id": 3, "pad_id": 0, "lowercase": False}
    assert (text["pooling"], text["precision"]) == ("eos", "float32")
    assert image["pictures"]["size"] == [16, 16]
    for tower in (text, image):
        graph = onnx.load(folder / tower["file"]).graph
        for declared, found in ((tower["inputs"], graph.input), (tower["outputs"], graph.output)):
            axes = {
                value.name: [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]
                for value in found
            }
            assert axes == declared


def test_it_runs_without_torch(folder):
    code = (
        "import sys; from ccr_adapters.export import OnnxEncoder; "
        f"found = OnnxEncoder.from_folder({str(folder)!r}).encode_text(['ein Hund', 'Schnee']); "
        "heavy = {'torch', 'transformers', 'peft', 'datasets'} & set(sys.modules); print(found.shape, heavy)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "(2, 24) set()"


def test_an_export_that_is_another_model_is_refused(make, captions, folder, tmp_path):
    other = make("clip", "dynamic")
    with torch.no_grad():
        next(p for name, p in other.named_parameters() if "dasd_bottleneck.de.up" in name).add_(0.5)
    report = compare_text(other, "de", OnnxEncoder.from_folder(folder), captions)
    with pytest.raises(
        ExportError, match=r"other vectors than the model: the smallest cosine is 0\.\d+, at least 0.9999"
    ):
        report.check("text")
    broken = Parity(1, 0.0, float("nan"), 1.0, 1.0, 1.0)
    with pytest.raises(ExportError, match="nan"):
        broken.check("text")


def test_a_failed_export_leaves_the_folder_as_it_was(folder, make, tmp_path):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(ImageError, match="Picture 0 is missing"):
        export_onnx(make("clip", "dynamic"), "de", folder, tower="image", pictures=[tmp_path / "none.png"])
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_what_is_asked_wrong_is_said_before_any_work(make, tmp_path):
    model = make("bert", "dynamic")
    for arguments, error, message in (
        ({"tower": "sound"}, ConfigError, "'sound'; expected text, image or both"),
        ({"tower": "image", "int8": True}, ConfigError, "`int8` is for the text tower"),
        ({"tower": "image"}, ImageError, "no image tower"),
        ({"captions": ["Hund", " "]}, CaptionError, "Caption 1 is empty"),
    ):
        with pytest.raises(error, match=message):
            export_onnx(model, "de", tmp_path / "out", **arguments)
    with pytest.raises(LanguageError, match="'fr' has no adapter"):
        export_onnx(model, "fr", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def edited(name, change):
    def edit(place):
        path = place / name
        path.write_bytes(change(path.read_bytes()))

    return edit


BAD = {
    "no manifest": (lambda place: (place / "export.json").unlink(), "'export.json' is missing"),
    "a broken manifest": (edited("export.json", lambda old: old[:40]), "is broken"),
    "a newer manifest": (edited("export.json", lambda old: old.replace(b'"format": 1', b'"format": 2')), "format 2"),
    "an unknown key": (edited("export.json", lambda old: old.replace(b'"opset"', b'"opsets"')), "is broken.*opsets"),
    "climbs out": (edited("export.json", lambda old: old.replace(b'"text.onnx"', b'"../text.onnx"')), "outside"),
    "no tower": (lambda place: (place / "text.onnx").unlink(), "'text.onnx' is missing"),
    "a cut tower": (edited("text.onnx", lambda old: old[:-3]), "cut short or changed"),
    "no tokenizer": (lambda place: (place / "tokenizer.json").unlink(), "'tokenizer.json' is missing"),
    "a cut tokenizer": (edited("tokenizer.json", lambda old: old[:200]), "is no tokenizer"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_folder_is_named(case, folder, tmp_path):
    copied(folder, tmp_path)
    change, message = BAD[case]
    change(tmp_path)
    with pytest.raises(ExportError, match=message):
        OnnxEncoder.from_folder(tmp_path)


def test_bad_captions_and_pictures_are_named(folder, tmp_path):
    encoder = OnnxEncoder.from_folder(folder)
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8no")
    picture = Image.new("RGB", (9, 9))
    for wrong, error, message in (
        (["Hund", ""], CaptionError, "Caption 1 is empty"),
        (["Hund", None], CaptionError, "Caption 1 is a NoneType"),
    ):
        with pytest.raises(error, match=message):
            encoder.encode_text(wrong)
    for wrong, message in (
        ([picture, tmp_path / "none.jpg"], "Picture 1 is missing"),
        ([picture, tmp_path / "broken.jpg"], "Picture 1 cannot be read"),
        ([picture, 7], "Picture 1 is a int"),
        ([np.zeros((9, 9, 5), dtype=np.uint8)], "Picture 0 cannot be read"),
    ):
        with pytest.raises(ImageError, match=message):
            encoder.encode_image(wrong)


def test_nothing_comes_of_nothing(folder):
    encoder = OnnxEncoder.from_folder(folder)
    assert encoder.encode_text([]).shape == (0, 24)
    assert encoder.encode_image([]).shape == (0, 24)
