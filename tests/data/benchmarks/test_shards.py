"""WebDataset shards are streamed as rows, and what is wrong with a sample is named or counted."""

from __future__ import annotations

import io
import json
import tarfile

import pytest
from PIL import Image

from ccr_adapters.data.benchmarks import webdataset_rows
from ccr_adapters.errors import ConfigError, DataError, ImageError


def picture(colour, kind="PNG"):
    kept = io.BytesIO()
    Image.new("RGB", (8, 8), colour).save(kept, kind)
    return kept.getvalue()


def shard(path, *samples):
    """Each sample is a key and its files by ending."""
    with tarfile.open(path, "w") as packed:
        for key, files in samples:
            for ending, content in files.items():
                raw = content if isinstance(content, bytes) else content.encode("utf-8")
                entry = tarfile.TarInfo(f"{key}.{ending}")
                entry.size = len(raw)
                packed.addfile(entry, io.BytesIO(raw))
    return str(path)


@pytest.fixture
def shards(tmp_path):
    first = shard(
        tmp_path / "0.tar",
        ("000", {"png": picture("red"), "txt": "a red thing"}),
        ("001", {"png": picture("green"), "txt": " a green thing\n"}),
    )
    return [first, shard(tmp_path / "1.tar", ("100", {"png": picture("blue"), "txt": "a blue thing"}))]


def test_rows_in_order_and_again(shards):
    rows = webdataset_rows(shards)
    for _ in range(2):
        found = list(rows)
        assert [row["image_id"] for row in found] == ["0/000", "0/001", "1/100"]
        assert [row["caption"] for row in found] == ["a red thing", "a green thing", "a blue thing"]
        assert [row["image"].getpixel((0, 0)) for row in found] == [(255, 0, 0), (0, 128, 0), (0, 0, 255)]
    assert rows.skipped == {}


def test_keys_that_come_again_in_another_shard(tmp_path):
    """Shards often count from 0 each: their samples are different images. Of one shard the key is enough."""
    sample = ("000", {"png": picture("red"), "txt": "a thing"})
    (tmp_path / "more").mkdir()
    shards = [shard(tmp_path / name, sample) for name in ("a.tar", "b.tar", "more/a.tar")]
    assert [row["image_id"] for row in webdataset_rows(shards[:2])] == ["a/000", "b/000"]
    assert [row["image_id"] for row in webdataset_rows(str(tmp_path / "*.tar"))] == ["a/000", "b/000"]
    assert [row["image_id"] for row in webdataset_rows(shards[0])] == ["000"]
    with pytest.raises(DataError, match=r"a\.tar' and '.*more/a\.tar' have one name"):
        list(webdataset_rows([shards[0], shards[2]]))


def test_each_line_is_a_caption(tmp_path):
    text = {"png": picture("red"), "txt": "one dog\r\ntwo dogs\n\nthree\u2028dogs\n", "de.txt": "ein\nzwei\n\ndrei"}
    one = shard(tmp_path / "0.tar", ("a", text))
    captions = ["one dog", "two dogs", "three\u2028dogs"]
    found = list(webdataset_rows(one))
    assert [(row["image_id"], row["caption"]) for row in found] == [("a", caption) for caption in captions]
    columns = {"caption": "txt", "translation": "de.txt"}
    found = list(webdataset_rows(one, columns=columns))
    assert [(row["caption"], row["translation"]) for row in found] == list(
        zip(captions, ["ein", "zwei", "drei"], strict=True)
    )
    content = json.dumps({"caption": ["a dog", "the dog"], "de": ["ein\nHund", "der Hund"], "url": "a.org"})
    two = shard(tmp_path / "1.tar", ("a", {"png": picture("red"), "json": content}))
    columns = {"caption": "json.caption", "translation": "json.de", "from": "json.url"}
    found = list(webdataset_rows(two, columns=columns))
    assert [row["from"] for row in found] == ["a.org", "a.org"]
    assert [(row["caption"], row["translation"]) for row in found] == [("a dog", "ein\nHund"), ("the dog", "der Hund")]


@pytest.mark.parametrize(
    ("german", "message", "kind"),
    [
        ("ein Hund", "unequal lines .2 of caption, 1 of translation", "samples with unequal captions"),
        ("ein\n\nzwei", "unequal lines .2 of caption, 3 of translation", "samples with unequal captions"),
        ("", "has no translation", "empty captions"),
    ],
)
def test_lines_that_do_not_pair_up(tmp_path, german, message, kind):
    files = {"png": picture("red"), "txt": "one dog\ntwo dogs", "de.txt": german}
    one = shard(tmp_path / "0.tar", ("a", files), ("b", {**files, "de.txt": "ein Hund\nzwei Hunde"}))
    columns = {"caption": "txt", "translation": "de.txt"}
    with pytest.raises(DataError, match=f"sample 'a' of '0.tar'.*{message}"):
        list(webdataset_rows(one, columns=columns))
    rows = webdataset_rows(one, columns=columns, on_error="skip")
    assert [row["translation"] for row in rows] == ["ein Hund", "zwei Hunde"]
    assert rows.skipped[kind]["count"] == 1


def test_what_is_transparent_lies_on_white(tmp_path):
    clear = io.BytesIO()
    Image.new("RGBA", (8, 8), (0, 0, 0, 0)).save(clear, "PNG")
    (row,) = webdataset_rows([shard(tmp_path / "0.tar", ("a", {"png": clear.getvalue(), "txt": "nothing"}))])
    assert row["image"].getpixel((0, 0)) == (255, 255, 255)


def test_captions_and_translations_in_json(tmp_path):
    content = json.dumps({"caption": "a dog", "de": "ein Hund"})
    one = shard(tmp_path / "0.tar", ("a", {"jpg": picture("red", "JPEG"), "json": content}))
    assert next(iter(webdataset_rows(one)))["caption"] == "a dog"
    columns = {"image": "jpg", "caption": "json.caption", "translation": "json.de"}
    row = next(iter(webdataset_rows(one, columns=columns)))
    assert (row["caption"], row["translation"]) == ("a dog", "ein Hund")
    with pytest.raises(DataError, match="sample 'a' of '0.tar' has no translation"):
        next(iter(webdataset_rows(one, columns={**columns, "translation": "json.fr"})))
    with pytest.raises(DataError, match=r"and no picture \(webp\)"):
        next(iter(webdataset_rows(one, columns={"image": "webp"})))


@pytest.mark.parametrize(
    ("files", "message", "kind"),
    [
        ({"png": picture("red")}, "sample '001' of '0.tar' has no caption", "empty captions"),
        ({"png": picture("red"), "txt": "\u00a0"}, "sample '001' .*has no caption", "empty captions"),
        ({"txt": "a lost caption"}, "sample '001' .*has no picture", "captions without images"),
        ({"png": picture("red")[:50], "txt": "x"}, "sample '001' .*has a broken picture", "broken pictures"),
    ],
)
def test_bad_samples_are_refused_or_counted(tmp_path, files, message, kind):
    good = [
        (f"{key}", {"png": picture("red"), "txt": "fine"}) for key in ("0000", "0001", "0002", "0003", "0004", "0005")
    ]
    one = shard(tmp_path / "0.tar", *good, ("001", files), ("002", {"png": picture("blue"), "txt": "fine too"}))
    with pytest.raises((DataError, ImageError), match=message):
        list(webdataset_rows(one))
    rows = webdataset_rows(one, on_error="skip")
    assert [row["image_id"] for row in rows] == ["0000", "0001", "0002", "0003", "0004", "0005", "002"]
    assert rows.skipped[kind]["count"] == 1


def test_a_shard_that_is_cut_off_or_missing(shards, tmp_path):
    raw = (tmp_path / "0.tar").read_bytes()
    (tmp_path / "0.tar").write_bytes(raw[:600])
    with pytest.raises(DataError, match=r"0\.tar.*cannot be read"):
        list(webdataset_rows(shards))
    with pytest.raises(DataError, match=r"none\.tar.*cannot be read"):
        list(webdataset_rows(str(tmp_path / "none.tar")))
    with pytest.raises(ConfigError, match="on_error"):
        webdataset_rows(shards, on_error="never")
