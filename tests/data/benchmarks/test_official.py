"""The other official forms: Karpathy's JSON, COCO-CN, STAIR, Crossmodal-3600, IGLUE, VATEX and MSR-VTT-CN."""

from __future__ import annotations

import io
import json
import tarfile

import numpy as np
import pytest

from ccr_adapters.data.benchmarks import load_benchmark, load_languages
from ccr_adapters.errors import DataError

VAL = "COCO_val2014_{:012d}"


def karpathy(write, count=4, captions=6):
    def row(number, split):
        sentences = [{"raw": f" caption {number}.{k} \n"} for k in range(captions)]
        name = VAL.format(number) + ".jpg"
        return {"filename": name, "filepath": "val2014", "cocoid": number, "split": split, "sentences": sentences}

    rows = [row(7, "train"), *(row(number, "test") for number in range(1, count + 1)), row(8, "restval")]
    return write("dataset_coco.json", json.dumps({"dataset": "coco", "images": rows}))


def test_karpathy_takes_the_test_split_and_five_captions(write, pictures):
    folder = karpathy(write)
    images = pictures(*(f"val2014/{VAL.format(number)}.jpg" for number in range(1, 5)))
    found = load_benchmark("mscoco-5k", "en", source=folder, images=images)
    assert found.image_ids == [VAL.format(number) for number in range(1, 5)]
    assert found.captions["en"][:6] == [f"caption 1.{k}" for k in range(5)] + ["caption 2.0"]
    assert found.caption_to_image["en"].tolist() == [image for image in range(4) for _ in range(5)]


def test_the_thousand_is_the_first_of_the_test_split(write, pictures):
    folder = karpathy(write, count=1003, captions=1)
    with pytest.raises(Exception, match="1,000 of 1,000 pictures are missing"):
        load_benchmark("mscoco-1k", "en", source=folder, images=pictures("x.jpg"))
    # bare arrays follow the whole official list
    vectors = np.arange(1003, dtype=np.float32)[:, None]
    found = load_benchmark("mscoco-1k", "en", source=folder, features=vectors)
    assert found.image_ids[-1] == VAL.format(1000)
    assert found.visual[:, 0].tolist() == list(range(1000))


def test_the_test_splits_of_clip_benchmark(write, pictures):
    folder = write("flickr30k_test_zh.txt", "image,caption", "1.jpg,一只狗，跑, 快", "2.jpg,两个人", "1.jpg,狗")
    found = load_benchmark("flickr30k", "zh", source=folder, images=pictures("1.jpg", "2.jpg"))
    assert found.captions["zh"] == ["一只狗，跑, 快", "狗", "两个人"]
    assert found.caption_to_image["zh"].tolist() == [0, 0, 1]
    content = {
        "images": [{"id": 5, "file_name": "a.jpg"}, {"id": 6, "file_name": "b.jpg"}],
        "annotations": [{"id": 1, "image_id": 6, "caption": "bee"}, {"id": 2, "image_id": 5, "caption": "ay"}],
    }
    folder = write("coco_test_karpathy.json", json.dumps(content))
    images = pictures("a.jpg", "b.jpg")
    assert load_benchmark("mscoco-5k", "en", source=folder, images=images).captions["en"] == ["ay", "bee"]
    content["annotations"].append({"id": 3, "image_id": 9, "caption": "lost"})
    write("coco_test_karpathy.json", json.dumps(content))
    with pytest.raises(DataError, match="annotation 3: there is no image 9"):
        load_benchmark("mscoco-5k", "en", source=folder, images=images)
    found = load_benchmark("mscoco-5k", "en", source=folder, images=images, on_error="skip")
    assert found.facts["skipped"]["captions without images"]["count"] == 1


def coco_cn(write):
    folder = write("coco-cn_test.txt", VAL.format(1), "COCO_train2014_000000000002", VAL.format(3))
    write(
        "imageid.human-written-caption.txt",
        f"{VAL.format(1)}#0\t一只 猫",
        f"{VAL.format(9)}#0\t别的",  # of another split
        "COCO_train2014_000000000002#0 两只狗",
        f"{VAL.format(1)}#1\t猫",
    )
    return folder


COCO_CN_PICTURES = (f"{VAL.format(1)}.jpg", "COCO_train2014_000000000002.jpg", f"{VAL.format(3)}.jpg")


def test_coco_cn(write, pictures):
    found = load_benchmark("coco-cn", "cn", source=coco_cn(write), images=pictures(*COCO_CN_PICTURES))
    assert found.captions["zh"] == ["一只 猫", "猫", "两只狗"]
    assert found.caption_to_image["zh"].tolist() == [0, 0, 1]
    assert found.facts["images_without_captions"] == 1
    assert found.image_ids[1] == "COCO_train2014_000000000002"


def test_coco_cn_as_the_tar_that_it_comes_in(write, pictures, tmp_path):
    folder = coco_cn(write)
    with tarfile.open(tmp_path / "coco-cn-version1805v1.1.tar.gz", "w:gz") as packed:
        for file in sorted(folder.iterdir()):
            packed.add(file, f"coco-cn-version1805v1.1/{file.name}")
        outside = tarfile.TarInfo("../../evil.txt")
        packed.addfile(outside, io.BytesIO())
    images = pictures(*COCO_CN_PICTURES)
    found = load_benchmark("coco-cn", "zh", source=tmp_path, images=images)
    assert len(found.captions["zh"]) == 3
    assert not (tmp_path.parent / "evil.txt").exists()
    (tmp_path / "coco-cn-version1805v1.1.tar.gz").write_bytes(b"no tar")
    with pytest.raises(DataError, match=r"tar\.gz' cannot be unpacked"):
        load_benchmark("coco-cn", "zh", source=tmp_path, images=images)


def test_coco_cn_without_its_files(tmp_path, pictures):
    with pytest.raises(DataError, match=r"lacks imageid\.human-written.* or coco-cn-version1805v1\.1\.tar\.gz.*MIT"):
        load_benchmark("coco-cn", "zh", source=tmp_path, images=pictures("x.jpg"))


def test_stair_is_joined_with_karpathy_by_number(write, pictures):
    folder = karpathy(write, count=3)
    notes = [{"id": k, "image_id": number, "caption": f"犬 {number}.{k}"} for number in (3, 1, 2, 99) for k in range(6)]
    write("stair_captions_v1.2_val.json", json.dumps({"images": [], "annotations": notes}))
    images = pictures(*(f"{VAL.format(number)}.jpg" for number in range(1, 4)))
    found = load_benchmark("stair-5k", "jp", source=folder, images=images)
    assert found.image_ids == [VAL.format(number) for number in (1, 2, 3)]
    assert found.captions["ja"][:6] == [f"犬 1.{k}" for k in range(5)] + ["犬 2.0"]
    write("stair_captions_v1.2_val.json", json.dumps({"images": [], "annotations": notes[:12]}))
    with pytest.raises(DataError, match=r"has no caption of image 2"):
        load_benchmark("stair-5k", "ja", source=folder, images=images)
    found = load_benchmark("stair-5k", "ja", source=folder, images=images, on_error="skip")
    assert found.facts["skipped"]["images without captions"]["count"] == 1


def test_stair_with_the_list_of_the_nrccr_authors(write, pictures):
    folder = karpathy(write, count=2)
    notes = [{"id": k, "image_id": k, "caption": f"猫 {k}"} for k in (1, 2)]
    write("stair_captions_v1.2_val.json", json.dumps({"annotations": notes}))
    options = {"source": folder, "images": pictures(f"{VAL.format(1)}.jpg", f"{VAL.format(2)}.jpg")}
    assert load_benchmark("stair-1k", "ja", **options).captions["ja"] == ["猫 1", "猫 2"]
    write("FeatureData/ja_test_id.txt", VAL.format(2), "1")
    assert load_benchmark("stair-1k", "ja", **options).captions["ja"] == ["猫 2", "猫 1"]
    assert load_benchmark("stair-5k", "ja", **options).captions["ja"] == ["猫 1", "猫 2"]
    write("FeatureData/ja_test_id.txt", "dog")
    with pytest.raises(DataError, match=r"'ja_test_id\.txt': 'dog' is no COCO id"):
        load_benchmark("stair-1k", "ja", **options)


def xm3600(write):
    captions = {
        "000411001ff7dd4f": {"de": ["Wald", "Bäume"], "fr": ["forêt"]},
        "0063a24eb6d5ee55": {"de": ["Elefant"], "fr": ["éléphant", "gris"]},
    }
    rows = [
        {"image/key": key, "image/locale": "cs", **{code: {"caption": texts} for code, texts in own.items()}}
        for key, own in captions.items()
    ]
    return write("captions.jsonl", *(json.dumps(row, ensure_ascii=False) for row in rows))


@pytest.mark.parametrize(
    ("name", "captions", "owners"),
    [("xm3600@all", ["Wald", "Bäume", "Elefant"], [0, 0, 1]), ("xm3600@first", ["Wald", "Elefant"], [0, 1])],
)
def test_crossmodal_3600_has_two_protocols(write, pictures, name, captions, owners):
    images = pictures("000411001ff7dd4f.jpg", "0063a24eb6d5ee55.jpg")
    both = load_languages(name, ["de", "fr"], source=xm3600(write), images=images)
    assert both["de"].captions["de"] == captions
    assert both["de"].caption_to_image["de"].tolist() == owners
    assert both["de"].image_ids == ["000411001ff7dd4f", "0063a24eb6d5ee55"]
    assert both["fr"].pictures is both["de"].pictures


def test_a_broken_line_of_json_is_named(write, pictures):
    folder = xm3600(write)
    write("captions.jsonl", '{"image/key": "a", "de": {"caption": ["x"]}}', '{"image/key": "b",')
    with pytest.raises(DataError, match=r"captions\.jsonl', line 2, is no JSON"):
        load_benchmark("xm3600", "de", source=folder, images=pictures("a.jpg"))
    write("captions.jsonl", '{"key": "a"}')
    with pytest.raises(DataError, match=r"line 1, has no 'image/key'; it has key"):
        load_benchmark("xm3600", "de", source=folder, images=pictures("a.jpg"))


def test_xflickrco_with_ids_of_two_kinds_and_an_empty_caption(write, pictures):
    rows = [
        {"sentences": ["Eine Mütze."], "id": "1007129816", "img_path": "1007129816.jpg"},
        {"sentences": [""], "id": 391895, "img_path": f"{VAL.format(391895)}.jpg"},
    ]
    folder = write("datasets/xFlickrCO/annotations/de/test.jsonl", *map(json.dumps, rows))
    options = {"source": folder, "images": pictures("1007129816.jpg", f"{VAL.format(391895)}.jpg")}
    with pytest.raises(
        DataError, match=r"'test\.jsonl', line 2: the caption of image 'COCO_val2014_000000391895' is empty"
    ):
        load_benchmark("xflickrco", "de", **options)
    found = load_benchmark("xflickrco", "de", **options, on_error="skip")
    assert found.image_ids == ["1007129816", VAL.format(391895)]
    assert found.captions["de"] == ["Eine Mütze."]
    # every language's file has this name: another folder must not pass for the language
    with pytest.raises(DataError, match=r"lacks datasets/xFlickrCO/annotations/es/test\.jsonl"):
        load_benchmark("xflickrco", "es", source=folder / "datasets/xFlickrCO/annotations/de", images=options["images"])
    assert (
        load_benchmark(
            "xflickrco",
            "de",
            source=folder / "datasets/xFlickrCO/annotations",
            images=options["images"],
            on_error="skip",
        ).facts["captions"]
        == 1
    )


def test_wit_groups_captions_of_one_image(write, pictures):
    def row(number, caption):
        url = f"https://upload.wikimedia.org/x/{number}.JPG"
        return {"wit_ix": f"wit-test_{number}", "image_url": url, "caption_reference_description": caption}

    rows = [row(3, "Βόννη"), row(9, "\u00a0"), row(3, "Δημαρχείο")]
    folder = write("test_el.jsonl", *(json.dumps(one) for one in rows))
    options = {"source": folder, "images": pictures("wit-test_3.jpg", "wit-test_9.jpg")}
    with pytest.raises(DataError, match="line 2: the caption of image 'wit-test_9' is empty"):
        load_benchmark("wit", "el", **options)
    found = load_benchmark("wit", "el", **options, on_error="skip")
    assert found.captions["el"] == ["Βόννη", "Δημαρχείο"]
    assert found.caption_to_image["el"].tolist() == [0, 0]
    assert found.image_ids == ["wit-test_3", "wit-test_9"]


VIDEOS = ("Ptf_2VRj-V0_000122_000132", "yBsSqb4orpw_000000_000010", "a.b-c_000001_000011")


def vatex(write):
    rows = [
        {"videoID": name, "enCap": [f"en {name} {k}" for k in range(2)], "chCap": [f"中 {k}" for k in range(2)]}
        for name in VIDEOS
    ]
    return write("vatex_validation_v1.0.json", json.dumps(rows))


def test_vatex_with_one_array_a_video(write, tmp_path):
    folder = vatex(write)
    (tmp_path / "i3d").mkdir()
    for length, name in enumerate(VIDEOS, start=2):
        np.save(tmp_path / "i3d" / f"{name}.npy", np.full((1, length, 4), length, dtype=np.float32))
    found = load_benchmark("vatex", "zh", source=folder, features=tmp_path / "i3d")
    assert [frames.shape for frames in found.videos[:]] == [(2, 4), (3, 4), (4, 4)]
    assert isinstance(found.videos[1], np.memmap)
    assert found.pictures is None
    assert found.facts["deviates"]
    np.save(folder / "tst_names.npy", np.array([VIDEOS[2], VIDEOS[0]]))
    found = load_benchmark("vatex", "zh", source=folder, features=tmp_path / "i3d")
    assert found.image_ids == [VIDEOS[2], VIDEOS[0]]
    assert len(found.videos[0]) == 4
    np.save(folder / "tst_names.npy", np.array(["unknown"]))
    with pytest.raises(DataError, match="lacks 1 videos of 'tst_names.npy': 'unknown'"):
        load_benchmark("vatex", "zh", source=folder, features=tmp_path / "i3d")


def test_vatex_videos_as_files_some_of_them_gone(write, tmp_path):
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / f"{VIDEOS[0]}.mp4").write_bytes(b"not looked into")
    (tmp_path / "clips" / f"{VIDEOS[2]}.webm").write_bytes(b"")
    found = load_benchmark("vatex", "zh", source=vatex(write), images=tmp_path / "clips", on_error="skip")
    assert [path.name for path in found.videos] == [f"{VIDEOS[0]}.mp4"]
    assert found.facts["skipped"]["missing pictures"]["count"] == 1
    assert "empty file" in found.facts["skipped"]["broken pictures"]["examples"][0]


def test_the_public_test_of_vatex_is_english_alone(write, bigfile):
    folder = write("vatex_validation_v1.0.json", json.dumps([{"videoID": "v", "enCap": ["a"]}]))
    with pytest.raises(DataError, match="row 0, has no 'chCap'; the public test file is English alone"):
        load_benchmark("vatex", "zh", source=folder, features={"v": np.zeros(4)})


def test_msrvtt_cn_with_frames(write, bigfile):
    folder = write(
        "TextData/msrvtt10kcntest_zh.caption.txt", "video7010#zh#0 一个人", "video7011#zh#0 狗", "video7010#zh#1 他"
    )
    features = bigfile(["video7010_0", "video7011_0", "video7010_1"], np.eye(3))
    (features / "video2frames.txt").write_text(
        str({"video7010": ["video7010_0", "video7010_1"], "video7011": ["video7011_0"]})
    )
    found = load_benchmark("msrvtt-cn", "zh", source=folder, features=features)
    assert found.captions["zh"] == ["一个人", "他", "狗"]
    assert found.videos[0].tolist() == [[1, 0, 0], [0, 0, 1]]
    assert found.videos[1].tolist() == [[0, 1, 0]]


def test_msrvtt_cn_is_no_other_test_file(write):
    folder = write("TextData/vatextest_zh.caption.txt", "video7010#zh#0 一个人")
    with pytest.raises(DataError, match="msrvtt-cn: .* lacks TextData/msrvtt10kcntest_zh"):
        load_benchmark("msrvtt-cn", "zh", source=folder, features=np.eye(1))
    write("TextData/msrvtt1kcntest_zh.caption.txt", "video7010#zh#0 狗")
    assert load_benchmark("msrvtt-cn", "zh", source=folder, features=np.eye(1)).captions["zh"] == ["狗"]


def test_multi30k_from_the_files_of_the_nrccr_authors(write, pictures):
    folder = write("TextData/multi30ktest_de_2016.caption.txt", "10.jpg#de#0 eins", "20.jpg#de#0 zwei")
    found = load_benchmark("multi30k-task1-2016", "de", source=folder, images=pictures("10.jpg", "20.jpg"))
    assert found.captions["de"] == ["eins", "zwei"]


def test_files_of_another_form(write, pictures):
    folder = write("dataset_coco.json", json.dumps({"images": [{"file": "a.jpg"}]}))
    with pytest.raises(DataError, match="not of the published form.*KeyError"):
        load_benchmark("mscoco-5k", "en", source=folder, images=pictures("a.jpg"))
