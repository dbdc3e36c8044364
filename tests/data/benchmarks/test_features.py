"""Features in place of pictures: BigFile folders, arrays and mappings, mapped and not read, and what can be wrong."""

from __future__ import annotations

import numpy as np
import pytest

from ccr_adapters.data.benchmarks import BigFile, load_benchmark, load_nrccr
from ccr_adapters.errors import ConfigError, DataError

VECTORS = np.arange(12, dtype=np.float32).reshape(3, 4)


@pytest.fixture
def captions(write):
    return write("TextData/test_de.caption.txt", "b#de#0 zwei", "a.jpg#de#0 eins") / "TextData/test_de.caption.txt"


def test_a_bigfile_is_mapped(bigfile):
    found = BigFile(bigfile(["a", "b", "c"], VECTORS))
    assert list(found) == ["a", "b", "c"]
    assert found["c"].tolist() == [8, 9, 10, 11]
    assert isinstance(found.vectors, np.memmap)
    assert "d" not in found
    assert found.frames() is None
    assert len(BigFile(bigfile([], VECTORS[:0]))) == 0


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("shape.txt", "2 4", "2 rows, and id.txt has 3 ids"),
        ("shape.txt", "3 5", r"48 bytes; 3 x 5 float32 are 60"),
        ("shape.txt", "three", r"shape.txt' holds 'three'"),
        ("id.txt", "a b a", "names 'a' more than once"),
        ("video2frames.txt", "{'v': ['a', 'x']}", "'v' has a frame 'x' that id.txt lacks"),
        ("video2frames.txt", "{'v': []}", "'v' has no frame"),
        ("video2frames.txt", "__import__('os').getcwd()", "no dictionary of videos"),
        ("video2frames.txt", "['a']", "holds a list"),
    ],
)
def test_a_bigfile_that_does_not_fit_together(bigfile, file, content, message):
    folder = bigfile(["a", "b", "c"], VECTORS)
    (folder / file).write_text(content)
    with pytest.raises(DataError, match=message):
        BigFile(folder).frames()


def test_a_bigfile_that_is_not_there(tmp_path, bigfile):
    folder = bigfile(["a", "b", "c"], VECTORS)
    (folder / "id.txt").unlink()
    with pytest.raises(DataError, match=r"lacks id\.txt"):
        BigFile(folder)


def test_captions_over_a_bigfile(captions, bigfile):
    found = load_nrccr(captions, "de", features=bigfile(["a", "b", "c"], VECTORS))
    assert found.image_ids == ["b", "a"]
    assert found.visual.tolist() == VECTORS[[1, 0]].tolist()
    assert found.name == "test_de"
    assert found.facts["source"] == "NRCCR file 'test_de.caption.txt'"


def test_frames_next_to_one_another_are_a_view(captions, bigfile):
    folder = bigfile(["b_0", "b_1", "a_0"], VECTORS)
    (folder / "video2frames.txt").write_text("{'b': ['b_0', 'b_1'], 'a': ['a_0']}")
    found = load_nrccr(captions, "de", features=folder)
    assert [frames.shape for frames in found.videos[:]] == [(2, 4), (1, 4)]
    assert found.videos[0].base is not None
    assert found.visual is None


def test_an_array_with_a_list_of_ids_beside_it(captions, tmp_path):
    np.save(tmp_path / "x.visual.npy", VECTORS)
    (tmp_path / "x.images.txt").write_text("c.jpg\na.jpg\nb.jpg\n")
    assert load_nrccr(captions, "de", features=tmp_path / "x.visual.npy").visual.tolist() == VECTORS[[2, 1]].tolist()
    (tmp_path / "x.images.txt").write_text("c.jpg\na.jpg\n")
    with pytest.raises(DataError, match=r"3 rows of features for 2 ids of 'x\.images\.txt'"):
        load_nrccr(captions, "de", features=tmp_path / "x.visual.npy")


def test_a_list_whose_names_folders_alone_tell_apart(write, tmp_path):
    np.save(tmp_path / "x.npy", VECTORS)
    (tmp_path / "x.txt").write_text("a/0.jpg\nb/0.jpg\nc/1.jpg\n")
    folder = write("x_de.caption.txt", "b/0.jpg#de#0 eins", "a/0.jpg#de#0 zwei", "1#de#0 drei")
    found = load_nrccr(folder / "x_de.caption.txt", "de", features=tmp_path / "x.npy")
    assert found.visual.tolist() == VECTORS[[1, 0, 2]].tolist()
    folder = write("y_de.caption.txt", "0#de#0 eins", "1#de#0 zwei")
    with pytest.raises(DataError, match=r"x\.npy have several rows for 1 of 2 images: '0' \(a/0\.jpg, b/0\.jpg\)"):
        load_nrccr(folder / "y_de.caption.txt", "de", features=tmp_path / "x.npy")
    found = load_nrccr(folder / "y_de.caption.txt", "de", features=tmp_path / "x.npy", on_error="skip")
    assert found.image_ids == ["1"]


def test_a_list_that_names_an_image_twice(captions, tmp_path):
    np.save(tmp_path / "x.npy", VECTORS)
    (tmp_path / "x.txt").write_text("a.jpg\nb.jpg\na.jpg\n")
    with pytest.raises(DataError, match=r"have several rows for 1 of 2 images: 'a' \(a\.jpg, a\.jpg\)"):
        load_nrccr(captions, "de", features=tmp_path / "x.npy")


def test_images_of_one_base_name_do_not_share_a_feature(write):
    folder = write("x_de.caption.txt", "b/0.jpg#de#0 eins", "a/0.jpg#de#0 zwei")
    with pytest.raises(DataError, match="lack 2 of 2 images: b/0, a/0"):
        load_nrccr(folder / "x_de.caption.txt", "de", features={"0": VECTORS[0]})


def test_a_bare_array_follows_the_official_list(captions):
    assert load_nrccr(captions, "de", features=VECTORS[:2]).visual.tolist() == VECTORS[:2].tolist()
    with pytest.raises(DataError, match="3 rows of features for 2 ids of the official list"):
        load_nrccr(captions, "de", features=VECTORS)


def test_a_bare_array_stays_aligned_when_images_are_skipped(write):
    folder = write("test_2016_flickr.txt", "a.jpg", "b.jpg", "a.jpg", "c.jpg")
    write("test_2016_flickr.de", "eins", " ", "drei", "vier")
    found = load_benchmark("multi30k-task1-2016", "de", source=folder, features=np.eye(4), on_error="skip")
    assert found.image_ids == ["a", "b", "c"]
    assert found.visual.argmax(axis=1).tolist() == [0, 1, 3]
    assert found.caption_to_image["de"].tolist() == [0, 2]


def test_images_without_features(captions, bigfile):
    folder = bigfile(["x", "b"], VECTORS[:2])
    with pytest.raises(DataError, match="lack 1 of 2 images: a"):
        load_nrccr(captions, "de", features=folder)
    found = load_nrccr(captions, "de", features=folder, on_error="skip")
    assert found.image_ids == ["b"]
    assert found.facts["skipped"]["images without features"]["count"] == 1
    with pytest.raises(DataError, match="nothing is left"):
        load_nrccr(captions, "de", features={"x": VECTORS[0]}, on_error="skip")


@pytest.mark.parametrize("content", [b"hello", None])
def test_what_is_no_array(captions, tmp_path, content):
    path = tmp_path / "x.npy"
    if content is None:
        np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    else:
        path.write_bytes(content)
    with pytest.raises(DataError, match=r"x\.npy' is no array of numbers"):
        load_nrccr(captions, "de", features=path)


def test_features_that_are_not_there(captions, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no features at"):
        load_nrccr(captions, "de", features=tmp_path / "nothing.npy")
    with pytest.raises(DataError, match=r"neither feature\.bin nor \.npy"):
        load_nrccr(captions, "de", features=tmp_path / "empty")
    with pytest.raises(DataError, match="either images= .* or features="):
        load_nrccr(captions, "de")
    with pytest.raises(DataError, match="vectors of several shapes"):
        load_nrccr(captions, "de", features={"a": np.zeros(3), "b": np.zeros(4)})
    with pytest.raises(ConfigError, match="on_error is 'ignore'"):
        load_nrccr(captions, "de", features=VECTORS[:2], on_error="ignore")
