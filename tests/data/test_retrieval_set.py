"""A retrieval set that does not fit together is refused before anything is encoded."""

from __future__ import annotations

import numpy as np
import pytest
from datasets import Dataset, Image, concatenate_datasets
from PIL import Image as PILImage

from ccr_adapters.data.retrieval_set import Column, RetrievalSet, Vectors, image_ids
from ccr_adapters.errors import DataError, ImageError

VISUAL = np.zeros((2, 4), dtype=np.float32)


def build(**changes):
    values = {
        "image_ids": ["a", "b"],
        "captions": {"en": ["one", "two", "three"], "de": ["eins", "zwei"]},
        "caption_to_image": {"en": np.array([0, 1, 1]), "de": np.array([1, 0])},
        "visual": VISUAL,
    }
    return RetrievalSet(**{**values, **changes})


def test_a_set_that_fits():
    found = build()
    assert found.pictures is None
    assert build(visual=None, pictures=["a.png", "b.png"]).visual is None


def test_videos_of_any_length_and_facts():
    frames = [np.zeros((3, 4)), np.zeros((7, 4))]
    found = build(visual=None, videos=frames, facts={"protocol": "one caption a video"})
    assert found.videos is frames
    assert found.facts["protocol"] == "one caption a video"
    assert build().facts == {}
    assert build().videos is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"visual": None}, "either pictures or"),
        ({"pictures": ["a", "b"]}, "either pictures or"),
        ({"videos": [np.zeros((3, 4))] * 2}, "either pictures or .*one of them"),
        ({"visual": None, "videos": [np.zeros((3, 4))] * 3}, "2 image ids for 3"),
        ({"image_ids": ["a"]}, "1 image ids for 2 pictures"),
        ({"image_ids": ["a", "b", "c"], "visual": None, "pictures": ["x", "y"]}, "3 image ids for 2 pictures"),
        ({"caption_to_image": {"en": np.array([0, 1]), "de": np.array([1, 0])}}, "'en': 3 captions with 2 answers"),
        ({"caption_to_image": {"en": np.array([0, 1, 2]), "de": np.array([1, 0])}}, "'en'.*outside the 2"),
        ({"caption_to_image": {"en": np.array([0, 1, -1]), "de": np.array([1, 0])}}, "'en'.*outside the 2"),
        ({"caption_to_image": {"en": np.array([0, 1, 1])}}, "'de'.*answers"),
        ({"captions": {"en": ["one", "  ", "three"]}}, "'en'.*caption 1.*empty"),
        ({"captions": {"de": ["eins", None]}}, "'de'.*caption 1.*empty"),
    ],
)
def test_what_does_not_fit_is_named(changes, message):
    with pytest.raises(DataError, match=message):
        build(**changes)


@pytest.fixture
def rows():
    images = [PILImage.new("RGB", (4, 4), colour) for colour in ("red", "green", "blue")]
    return Dataset.from_dict(
        {
            "image_id": ["r", "g", "b"],
            "image": images,
            "caption": [["red", "crimson"], ["green"], ["blue", "navy", "azure"]],
            "one": ["rot", "grün", "blau"],
        }
    )


def test_from_a_data_set(rows):
    found = RetrievalSet.from_dataset(rows, {"en": "caption", "de": "one"}, name="colours")
    assert found.captions["en"] == ["red", "crimson", "green", "blue", "navy", "azure"]
    assert found.caption_to_image["en"].tolist() == [0, 0, 1, 2, 2, 2]
    assert found.captions["de"] == ["rot", "grün", "blau"]
    assert found.caption_to_image["de"].tolist() == [0, 1, 2]
    assert found.caption_to_image["de"].dtype == np.int64
    assert found.image_ids == ["r", "g", "b"]
    assert found.name == "colours"
    assert found.pictures[1].getpixel((0, 0))[1] == 128


def test_rows_of_one_id_show_one_picture(rows):
    """A file with a row for each caption, as tables are: five right answers would else be one each."""
    several = Dataset.from_dict(
        {
            "image_id": [7, 3, 7, 3, 7],
            "caption": ["a", "b", "c", "d", "e"],
            "target_caption": ["A", "B", "C", "D", "E"],
            "video": ["0", "1", "2", "3", "4"],
        }
    )
    found = RetrievalSet.from_dataset(several, {"en": "caption", "de": "target_caption"})
    assert found.image_ids == ["7", "3"]
    assert found.videos == ["0", "1"]
    assert found.captions["de"] == ["A", "B", "C", "D", "E"]
    assert found.caption_to_image["de"].tolist() == [0, 1, 0, 1, 0]
    vectors = Vectors(np.arange(6.0).reshape(3, 2), ["3", "5", "7"])
    found = RetrievalSet.from_dataset(several, {"en": "caption"}, vectors=vectors)
    assert found.visual.tolist() == [[4.0, 5.0], [0.0, 1.0]]
    pictures = RetrievalSet.from_dataset(concatenate_datasets([rows, rows]), {"en": "caption"}).pictures
    assert len(pictures) == 3


@pytest.mark.parametrize("value", [None, "", "  "])
def test_a_row_without_an_id_is_named(rows, value):
    without = rows.remove_columns("image_id").add_column("image_id", ["r", value, "b"])
    with pytest.raises(DataError, match="retrieval: 1 of 3 rows have no `image_id`, the first is row 1"):
        RetrievalSet.from_dataset(without, {"en": "caption"})


def test_ids_that_are_numbers_are_those_of_their_text():
    """A CSV with a gap makes floats of them."""
    for values in ([139, 285], [139.0, 285.0], ["139", " 285"]):
        assert image_ids(Dataset.from_dict({"image_id": values}), "x") == ["139", "285"]
    with pytest.raises(DataError, match="row 1"):
        image_ids(Dataset.from_dict({"image_id": [139.0, None]}), "x")
    with pytest.raises(DataError, match="row 0"):
        image_ids(Dataset.from_dict({"image_id": [float("nan"), 1.0]}), "x")


def test_missing_columns_are_named_with_those_there_are(rows):
    with pytest.raises(DataError, match=r"lacks target_caption; it has .*image_id"):
        RetrievalSet.from_dataset(rows, {"en": "caption", "de": "target_caption"})
    with pytest.raises(DataError, match="lacks image, image_id"):
        RetrievalSet.from_dataset(rows.remove_columns(["image", "image_id"]), {"en": "caption"})


def test_a_row_without_captions_is_named(rows):
    broken = rows.remove_columns("caption").add_column("caption", [["red"], None, ["blue"]])
    with pytest.raises(DataError, match=r"'caption'.*row 1"):
        RetrievalSet.from_dataset(broken, {"en": "caption"})


def test_a_column_decodes_one_picture_at_a_time(rows):
    column = Column(rows, "image")
    assert len(column) == 3
    assert column[0].getpixel((0, 0)) == (255, 0, 0)
    assert [picture.getpixel((0, 0)) for picture in column[1:9]] == [(0, 128, 0), (0, 0, 255)]
    assert [picture.getpixel((0, 0)) for picture in column[::-2]] == [(0, 0, 255), (255, 0, 0)]


@pytest.mark.parametrize("broken", ["missing", "truncated", "no picture"])
def test_a_picture_that_cannot_be_read_is_named(broken, tmp_path):
    for name in ("good.jpg", "bad.jpg"):
        noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
        PILImage.fromarray(noise).save(tmp_path / name)
    bad = tmp_path / "bad.jpg"
    if broken == "missing":
        bad.unlink()
    else:
        bad.write_bytes(bad.read_bytes()[:1500] if broken == "truncated" else b"hello")
    rows = Dataset.from_dict({"image": [str(tmp_path / "good.jpg"), str(bad)]}).cast_column("image", Image())
    column = Column(rows, "image")
    assert column[0].size == (64, 64)
    with pytest.raises(ImageError, match=r"row 1.*bad\.jpg"):
        _ = column[0:2]
