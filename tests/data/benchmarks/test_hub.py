"""Hub copies, read from local Parquet of the same shape: ids, repeated pictures, broken and missing ones."""

from __future__ import annotations

import io

import pytest
from datasets import Dataset, Features, Image, List, Value
from PIL import Image as PILImage

from ccr_adapters.data.benchmarks import load_benchmark, load_languages
from ccr_adapters.data.benchmarks.hub import split_files
from ccr_adapters.errors import DataError, ImageError

COLOURS = {"a": "red", "b": "green", "c": "blue"}


def png(colour):
    kept = io.BytesIO()
    PILImage.new("RGB", (8, 8), colour).save(kept, "PNG")
    return kept.getvalue()


def xm3600(folder, language, captions, content=None):
    """A split as mteb/xm3600 has it: pictures as a struct of bytes and path, which no feature says are pictures."""
    rows = {
        "image_id": list(captions),
        "captions": list(captions.values()),
        "image_locale": ["de"] * len(captions),
        "image": [{"bytes": (content or {}).get(key, png(COLOURS[key])), "path": f"{key}.png"} for key in captions],
    }
    features = Features(
        {
            "image_id": Value("string"),
            "captions": List(Value("string")),
            "image_locale": Value("string"),
            "image": {"bytes": Value("binary"), "path": Value("string")},
        }
    )
    (folder / "data").mkdir(parents=True, exist_ok=True)
    Dataset.from_dict(rows, features=features).to_parquet(folder / "data" / f"{language}-00000-of-00001.parquet")


def test_languages_are_splits_and_share_their_pictures(tmp_path):
    xm3600(tmp_path, "de", {"a": ["rot", "Rot"], "b": ["grün"]})
    # the pictures of the second split are never looked at
    xm3600(tmp_path, "fr", {"a": ["rouge"], "b": ["vert", "verte"]}, {"a": b"broken", "b": b"broken"})
    both = load_languages("xm3600@all", ["de", "fr"], source=tmp_path)
    assert both["de"].captions["de"] == ["rot", "Rot", "grün"]
    assert both["fr"].captions["fr"] == ["rouge", "vert", "verte"]
    assert both["fr"].caption_to_image["fr"].tolist() == [0, 1, 1]
    assert both["fr"].pictures is both["de"].pictures
    assert [picture.convert("RGB").getpixel((0, 0)) for picture in both["fr"].pictures[:]] == [(255, 0, 0), (0, 128, 0)]
    assert both["de"].facts["source"].startswith("folder: ")


def test_only_pictures_that_are_new_come_from_a_later_split(tmp_path):
    xm3600(tmp_path, "de", {"a": ["rot"], "b": ["grün"]})
    xm3600(tmp_path, "fr", {"b": ["vert"], "c": ["bleu"]}, {"b": b"broken"})
    found = load_languages("xm3600@first", ["de", "fr"], source=tmp_path)["fr"]
    assert found.image_ids == ["b", "c"]
    assert [picture.convert("RGB").getpixel((0, 0)) for picture in found.pictures[0:2]] == [(0, 128, 0), (0, 0, 255)]
    assert len(found.pictures) == 2


def test_a_broken_or_absent_picture(tmp_path):
    xm3600(tmp_path, "de", {"a": ["rot"], "b": ["grün"], "c": ["blau"]}, {"a": png("red")[:45], "c": b""})
    with pytest.raises(ImageError, match=r"2 of 3 pictures are broken: 'a \(.*'c \("):
        load_benchmark("xm3600", "de", source=tmp_path)
    found = load_benchmark("xm3600", "de", source=tmp_path, on_error="skip")
    assert found.image_ids == ["b"]
    assert found.captions["de"] == ["grün"]
    assert found.pictures[0].convert("RGB").getpixel((0, 0)) == (0, 128, 0)


def test_rows_without_ids_are_numbered(tmp_path):
    rows = {
        "en": ["red", "green"],
        "de": ["rot", "grün"],
        "image": [PILImage.new("RGB", (4, 4), c) for c in ("red", "green")],
    }
    Dataset.from_dict(rows).cast_column("image", Image()).to_parquet(tmp_path / "test-00000-of-00001.parquet")
    both = load_languages("multi30k-task1-2016", ["en", "de"], source=tmp_path)
    assert both["de"].captions == {"de": ["rot", "grün"]}
    assert both["de"].image_ids == ["row-0", "row-1"]
    assert both["en"].pictures is both["de"].pictures


def test_one_caption_as_text_and_none_at_all(tmp_path):
    rows = {"id": ["7", "8"], "sentences": ["eins", None], "image": [PILImage.new("RGB", (4, 4))] * 2}
    Dataset.from_dict(rows).cast_column("image", Image()).to_parquet(tmp_path / "de.parquet")
    with pytest.raises(DataError, match="row 1: the caption of image '8' is empty"):
        load_benchmark("xflickrco", "de", source=tmp_path)
    found = load_benchmark("xflickrco", "de", source=tmp_path, on_error="skip")
    assert found.captions["de"] == ["eins"]
    assert found.image_ids == ["7", "8"]


def test_captions_on_the_hub_and_pictures_in_a_folder(tmp_path, pictures):
    rows = {
        "cocoid": [42, 73],
        "filename": ["x.jpg", "y.jpg"],
        "sentences": [["an ex"], ["a why"]],
        "filepath": ["val2014"] * 2,
    }
    Dataset.from_dict(rows).to_parquet(tmp_path / "test-0.parquet")
    found = load_benchmark("mscoco-5k", "en", source=tmp_path, images=pictures("x.jpg", "y.jpg"))
    assert found.image_ids == ["42", "73"]
    assert [path.name for path in found.pictures] == ["x.jpg", "y.jpg"]
    with pytest.raises(DataError, match="come without pictures"):
        load_benchmark("mscoco-5k", "en", source=tmp_path)


def test_a_copy_of_another_shape_and_a_missing_split(tmp_path):
    Dataset.from_dict({"key": ["a"], "captions": [["x"]]}).to_parquet(tmp_path / "de-0.parquet")
    with pytest.raises(DataError, match=r"xm3600@all: .*columns captions, image_id: \w+: .*image_id"):
        load_benchmark("xm3600", "de", source=tmp_path)
    with pytest.raises(DataError, match=r"lacks captions\.jsonl"):
        load_benchmark("xm3600", "fr", source=tmp_path, images=tmp_path)


def test_a_copy_with_fewer_languages_never_passes_for_another(tmp_path):
    rows = {"text": [["a dog"]], "image": [PILImage.new("RGB", (4, 4))]}
    Dataset.from_dict(rows).cast_column("image", Image()).to_parquet(tmp_path / "test.parquet")
    assert load_benchmark("flickr30k", "en", source=tmp_path).captions["en"] == ["a dog"]
    with pytest.raises(DataError, match="no captions in 'zh', but in en. Pass source="):
        load_benchmark("flickr30k", "zh", source=tmp_path)


def test_the_files_of_one_split_alone(tmp_path):
    for language in ("de", "fr"):
        xm3600(tmp_path, language, {"a": ["x"]})
    assert [file.rsplit("/", 1)[-1] for file in split_files(str(tmp_path), "fr")] == ["fr-00000-of-00001.parquet"]
    with pytest.raises(DataError, match="no split 'sw'; it has de, fr"):
        split_files(str(tmp_path), "sw")


def test_without_the_hub_the_way_out_is_said():
    with pytest.raises(
        DataError, match="mteb/xm3600@536cd45bbfe53de9b08c0483bb4a76a4bd3673fa cannot be loaded.*source="
    ):
        load_benchmark("xm3600", "de")
