"""Line-aligned official files: Multi30K and XTD10, with the line ends that they have and the faults that they may have."""

from __future__ import annotations

import gzip

import pytest

from ccr_adapters.data.benchmarks import load_benchmark, load_languages
from ccr_adapters.errors import DataError, ImageError

IMAGES = ("1007.jpg", "36979.jpg", "101.jpg")
TASK1 = "data/task1/raw/test_2016_flickr.{}"
SPLIT = "data/task1/image_splits/test_2016_flickr.txt"


@pytest.fixture
def multi30k(write):
    folder = write(SPLIT, *IMAGES)
    write(TASK1.format("de"), "Ein Hund.", "Zwei Männer.", "Eine Katze.")
    return folder


def test_multi30k_task_1(multi30k, pictures):
    found = load_benchmark("multi30k-task1-2016", "de", source=multi30k, images=pictures(*IMAGES))
    assert found.image_ids == ["1007", "36979", "101"]
    assert found.captions == {"de": ["Ein Hund.", "Zwei Männer.", "Eine Katze."]}
    assert found.caption_to_image["de"].tolist() == [0, 1, 2]
    assert [path.name for path in found.pictures[0:2]] == ["1007.jpg", "36979.jpg"]
    facts = found.facts
    assert (facts["images"], facts["captions"], facts["skipped"]) == (3, 3, {})
    assert facts["source"] == "official files in 'official'"
    assert facts["captions_counted"] == "first"


def test_a_part_of_a_benchmark_never_passes_for_the_whole(multi30k, pictures):
    facts = load_benchmark("multi30k-task1-2016", "de", source=multi30k, images=pictures(*IMAGES)).facts
    assert facts["deviates"]
    assert "differs from the published set: 3 images and 3 captions instead of 1,000 and 1,000" in facts["protocol"]


def test_gzip_and_files_without_their_folders(write, tmp_path, pictures):
    folder = write("test_2016_flickr.txt", *IMAGES)
    (folder / "test_2016_flickr.de.gz").write_bytes(gzip.compress(b"eins\nzwei\ndrei\n"))
    found = load_benchmark("multi30k-task1-2016", "deu_Latn", source=folder, images=pictures(*IMAGES))
    assert found.captions["de"] == ["eins", "zwei", "drei"]
    (folder / "test_2016_flickr.de.gz").write_bytes(b"\x1f\x8bbroken")
    with pytest.raises(DataError, match=r"test_2016_flickr\.de\.gz' cannot be read"):
        load_benchmark("multi30k-task1-2016", "de", source=folder, images=pictures(*IMAGES))


def test_multi30k_task_2_has_five_captions_in_german_and_one_in_czech(write, pictures):
    folder = write("data/task2/image_splits/test_2016_images.txt", *(f"{name}#0" for name in IMAGES))
    for k in range(1, 6):
        write(f"data/task2/raw/test_2016.{k}.de", *(f"{name} {k}" for name in IMAGES))
    write(TASK1.format("cs"), "jeden", "dva", "tři")
    both = load_languages("multi30k-task2-2016", ["de", "cs"], source=folder, images=pictures(*IMAGES))
    assert both["de"].captions["de"][:6] == [f"1007.jpg {k}" for k in range(1, 6)] + ["36979.jpg 1"]
    assert both["de"].caption_to_image["de"].tolist() == [0] * 5 + [1] * 5 + [2] * 5
    assert both["cs"].captions["cs"] == ["jeden", "dva", "tři"]
    assert both["cs"].pictures is both["de"].pictures


def test_line_counts_that_differ_are_refused_even_when_skipping(multi30k, write, pictures):
    write(TASK1.format("de"), "eins", "zwei")
    for on_error in ("raise", "skip"):
        with pytest.raises(DataError, match=r"'test_2016_flickr\.de' has 2 lines and 'test_2016_flickr\.txt' 3"):
            load_benchmark("multi30k-task1-2016", "de", source=multi30k, images=pictures(*IMAGES), on_error=on_error)


def test_a_blank_line_in_the_list_of_images_is_named(multi30k, write, pictures):
    write(SPLIT, "1007.jpg", "", "101.jpg")
    with pytest.raises(DataError, match=r"'test_2016_flickr\.txt', line 2, names no image"):
        load_benchmark("multi30k-task1-2016", "de", source=multi30k, images=pictures(*IMAGES))


@pytest.mark.parametrize("blank", ["", "   ", "\u00a0", "\u200b", "\ufeff"])
def test_an_empty_caption_is_refused_or_counted(multi30k, write, pictures, blank):
    write(TASK1.format("de"), "eins", blank, "drei")
    options = {"source": multi30k, "images": pictures(*IMAGES)}
    with pytest.raises(
        DataError, match=r"\(de\): 'test_2016_flickr\.de', line 2: the caption of image '36979' is empty"
    ):
        load_benchmark("multi30k-task1-2016", "de", **options)
    found = load_benchmark("multi30k-task1-2016", "de", **options, on_error="skip")
    assert found.captions["de"] == ["eins", "drei"]
    assert found.caption_to_image["de"].tolist() == [0, 2]
    assert len(found.image_ids) == 3  # the image stays in the gallery
    assert found.facts["images_without_captions"] == 1
    assert found.facts["skipped"]["empty captions"]["count"] == 1
    assert "line 2" in found.facts["skipped"]["empty captions"]["examples"][0]


def test_an_image_that_comes_twice(multi30k, write, pictures):
    write(SPLIT, "1007.jpg", "36979.jpg", "1007.jpg")
    options = {"source": multi30k, "images": pictures(*IMAGES)}
    with pytest.raises(DataError, match=r"line 3: image '1007' was there before, at 'test_2016_flickr\.txt', line 1"):
        load_benchmark("multi30k-task1-2016", "de", **options)
    found = load_benchmark("multi30k-task1-2016", "de", **options, on_error="skip")
    assert found.image_ids == ["1007", "36979"]
    assert found.captions["de"] == ["Ein Hund.", "Zwei Männer."]
    assert found.facts["skipped"]["duplicate images"]["count"] == 1


def test_missing_pictures_are_counted_and_named_together(multi30k, pictures):
    folder = pictures("36979.jpg")
    with pytest.raises(ImageError, match=r"2 of 3 pictures are missing: '1007\.jpg', '101\.jpg'.*Get it from https"):
        load_benchmark("multi30k-task1-2016", "de", source=multi30k, images=folder)
    found = load_benchmark("multi30k-task1-2016", "de", source=multi30k, images=folder, on_error="skip")
    assert found.image_ids == ["36979"]
    assert found.captions["de"] == ["Zwei Männer."]
    assert found.facts["skipped"]["missing pictures"]["count"] == 2


def test_broken_pictures(multi30k, pictures):
    folder = pictures(*IMAGES)
    (folder / "1007.jpg").write_bytes((folder / "1007.jpg").read_bytes()[:200])
    (folder / "101.jpg").write_bytes(b"hello")
    with pytest.raises(ImageError, match=r"2 of 3 pictures are broken: '1007\.jpg \(.*101\.jpg"):
        load_benchmark("multi30k-task1-2016", "de", source=multi30k, images=folder)
    found = load_benchmark("multi30k-task1-2016", "de", source=multi30k, images=folder, on_error="skip")
    assert found.captions["de"] == ["Zwei Männer."]


def test_nothing_left_is_no_benchmark(multi30k, pictures):
    with pytest.raises(DataError, match="nothing is left of 3 images.*missing pictures"):
        load_benchmark("multi30k-task1-2016", "de", source=multi30k, images=pictures("x.jpg"), on_error="skip")


def test_a_missing_file_says_which_and_where_and_on_which_terms(multi30k, write, pictures):
    with pytest.raises(
        DataError, match=r"lacks data/task1/raw/test_2016_flickr\.fr\.gz.*github\.com/multi30k.*research"
    ):
        load_benchmark("multi30k-task1-2016", "fr", source=multi30k, images=pictures(*IMAGES))
    with pytest.raises(DataError, match=r"lacks data/task1/image_splits/test_2017_flickr\.txt"):
        load_benchmark("multi30k-task1-2017", "fr", source=multi30k, images=pictures(*IMAGES))
    with pytest.raises(DataError, match="no folder '/nowhere'.*github"):
        load_benchmark("multi30k-task1-2016", "fr", source="/nowhere", images=pictures(*IMAGES))
    with pytest.raises(DataError, match="come without pictures.*images="):
        load_benchmark("multi30k-task1-2016", "de", source=multi30k)
    with pytest.raises(DataError, match="no usable copy on the Hub.*source="):
        load_benchmark("multi30k-task1-2017", "de", images=pictures(*IMAGES))


def test_xtd10_with_its_line_ends_and_folders(write, pictures):
    names = ("COCO_train2014_000000061844.jpg", "COCO_val2014_000000000042.jpg", "COCO_train2014_000000000009.jpg")
    folder = write("XTD10/test_image_names.txt", *names)
    # no line end at the end, carriage returns, and a character that str.splitlines would cut at
    write("XTD10/test_1kcaptions_ru.txt", "кот", "собака\u0085 бежит", "кот", end="\r\n", last=False)
    write("STAIR/test_1kcaptions_jp.txt", "犬", "猫", "鳥")
    write("MIC/test_1kcaptions_de.txt", "Hund", "Katze", "Vogel")
    images = pictures(f"train2014/{names[0]}", f"val2014/{names[1]}", f"train2014/{names[2]}")
    found = load_languages("xtd10", ["ru", "jp", "de"], source=folder, images=images)
    assert found["ru"].captions["ru"] == ["кот", "собака\u0085 бежит", "кот"]
    assert found["ru"].facts["repeated_captions"] == 1
    assert found["jp"].captions == {"ja": ["犬", "猫", "鳥"]}
    assert found["de"].captions["de"] == ["Hund", "Katze", "Vogel"]
    assert found["de"].image_ids[0] == "COCO_train2014_000000061844"
    assert found["de"].pictures is found["ru"].pictures
    assert {known["training"]: known["images"] for known in found["de"].facts["known_overlaps"]} == {
        "COCO train2014": 800,
        "COCO val2014": 200,
    }
