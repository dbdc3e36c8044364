"""Tables, tars and videos as sources: names, metadata, what is skipped, what is read again, and what is shown."""

from __future__ import annotations

import csv
import io
import json
import tarfile
from datetime import date
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from ccr_adapters.errors import SearchIndexError
from ccr_adapters.search import Collection, source_of
from ccr_adapters.search.clips import SHORTEST, frame_at, frame_id, frame_times, frames, sampling
from ccr_adapters.search.sources import Item, Skipped
from ccr_adapters.search.tables import TableSource


@pytest.fixture
def update(encoder, tmp_path):
    """Function that brings `the.index` up to date with one place; gives the summary, and what was skipped."""

    def run(place, **options):
        with Collection.open_or_create(tmp_path / "the.index", encoder, model="tiny_clip") as collection:
            source = source_of(place, collection.notes.sources, **options)
            summary = collection.update([source], encoder, batch_size=4, workers=2, show_progress=False)
        lines = Path(summary.report).read_text(encoding="ascii").splitlines()
        return summary, {row["item"]: row["reason"] for row in map(json.loads, lines)}

    return run


@pytest.fixture
def found(tmp_path, encoder):
    """Function that finds a picture: its hit, and the picture that is shown for it."""

    def run(picture, where=None):
        with Collection.open(tmp_path / "the.index") as collection:
            hits = collection.search(encoder.encode([encoder.prepare(picture)]), 1, where)[0]
            return (hits[0], collection.picture(hits[0])) if hits else None

    return run


def png(picture):
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


# ------------------------------------------------------------------------------------------------------- tables


def write_csv(path, rows):
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter="\t" if path.suffix == ".tsv" else ",")
        writer.writeheader()
        writer.writerows(rows)


@pytest.mark.parametrize("ending", ["csv", "tsv"])
def test_a_table_names_pictures_and_its_columns_are_metadata(photos, tmp_path, update, found, ending):
    photos.fill(tmp_path / "pictures", 4)
    files = [path.relative_to(tmp_path).as_posix() for path in sorted((tmp_path / "pictures").rglob("*.png"))]
    rows = [
        {"file_name": file, "year": 2018 + row, "price": "3.50", "sku": "007", "source": "web", "note": 'Grün, "neu"'}
        for row, file in enumerate(files)
    ]
    table = tmp_path / f"shop.{ending}"
    write_csv(table, rows)
    summary, skipped = update(table)
    assert (summary.total, skipped) == (4, {})
    hit, shown = found(photos.picture(0))
    assert hit.id == f"shop.{ending}/{next(file for file in files if 'red-star' in file)}"
    year = 2018 + next(row for row, file in enumerate(files) if "red-star" in file)
    wanted = {"year": year, "price": 3.5, "sku": "007", "source_": "web", "note": 'Grün, "neu"'}
    assert hit.metadata == {"source": f"shop.{ending}", "path": hit.id.partition("/")[2], **wanted}
    assert shown.tobytes() == photos.picture(0).tobytes()
    assert found(photos.picture(0), {"year": [year, 1999], "price": 3.5})[0].id == hit.id
    assert found(photos.picture(0), {"year": 1999}) is None

    # new metadata needs no encoding
    write_csv(table, [{**row, "year": 1999} for row in rows])
    summary, _ = update(table)
    assert (summary.changed, summary.encoded, summary.unchanged) == (4, 0, 0)
    assert found(photos.picture(0), {"year": 1999})[0].metadata["year"] == 1999
    assert update(table)[0].unchanged == 4


def test_rows_that_cannot_be_indexed_are_named(photos, tmp_path, update):
    photos.fill(tmp_path / "pictures", 2)
    good = f"pictures/{photos.name(0)}"
    rows = [
        {"image": good},
        {"image": good},
        {"image": "pictures/none.png"},
        {"image": "https://example.org/a.png"},
        {"image": None},
        {"image": 7},
        {"image": "a\0b.png"},
        {"image": "\ud800.png"},
        {"image": "pictures"},
    ]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n\n", encoding="utf-8")
    summary, skipped = update(tmp_path / "t.jsonl")
    assert (summary.total, summary.skipped) == (1, 8)
    assert "named before" in skipped[f"t.jsonl/{good}"]
    assert "no file" in skipped["t.jsonl/pictures/none.png"]
    assert "address" in skipped["t.jsonl/https://example.org/a.png"]
    assert "row 5 has no picture" in skipped["t.jsonl/4"]


def test_a_picture_is_read_of_its_own_row_group(tmp_path, monkeypatch):
    rows = [{"image": {"bytes": bytes([number]), "path": None}, "id": number} for number in range(200)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet", row_group_size=90)
    source = TableSource(tmp_path / "rows.parquet", "rows")
    read = []
    batches = pq.ParquetFile.iter_batches
    monkeypatch.setattr(pq.ParquetFile, "iter_batches", lambda *a, **how: read.append(how) or batches(*a, **how))
    for number in (0, 63, 64, 89, 90, 179, 180, 199):
        assert source.read(f"rows/{number}", {"row": number}) == bytes([number])
    assert [how["row_groups"] for how in read] == [[0]] * 4 + [[1]] * 2 + [[2]] * 2
    with pytest.raises(SearchIndexError, match="has no picture of 'rows/200' any more"):
        source.read("rows/200", {"row": 200})


def test_a_date_that_python_does_not_hold_is_nothing(photos, tmp_path, update, found):
    pictures = pa.array([png(photos.picture(row)) for row in range(2)])
    until = pa.array([0, 922_431_801_599_999_999], pa.timestamp("us"))
    table = pa.table({"id": ["a", "b"], "image": pictures, "until": until})
    pq.write_table(table, tmp_path / "t.parquet")
    summary, skipped = update(tmp_path / "t.parquet")
    assert (summary.total, skipped) == (2, {})
    assert found(photos.picture(0))[0].metadata["until"] == "1970-01-01T00:00:00"
    assert found(photos.picture(1))[0].metadata["until"] is None


def test_a_parquet_table_may_hold_its_pictures(photos, tmp_path, update, found):
    rows = [
        {
            "image": {"bytes": png(photos.picture(number)), "path": f"{number}.png"},
            "key": f"k{number}",
            "day": date(2020, 1, number + 1),
            "price": Decimal("1.50"),
            "tags": ["a", "b"],
            "score": float("nan"),
        }
        for number in range(5)
    ]
    table = tmp_path / "rows.parquet"
    pq.write_table(pa.Table.from_pylist(rows), table)
    summary, skipped = update(table, columns={"id": "key"})
    assert (summary.total, summary.encoded, skipped) == (5, 5, {})
    hit, shown = found(photos.picture(3))
    assert hit.id == "rows.parquet/k3"
    assert hit.metadata == {"source": "rows.parquet", "row": 3, "day": "2020-01-04", "price": 1.5, "score": None}
    assert shown.tobytes() == photos.picture(3).tobytes()
    # rows that move are not encoded again
    pq.write_table(pa.Table.from_pylist(rows[::-1]), table)
    summary, _ = update(table, columns={"id": "key"})
    assert (summary.encoded, summary.total) == (0, 5)
    assert found(photos.picture(3))[1].tobytes() == photos.picture(3).tobytes()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"title,price\nx,1\n", "none of image"),
        ("b.jsonl", b'{"image": 1\n', "cannot be read"),
        ("c.jsonl", b"[1, 2]\n", "not an object"),
        ("d.csv", b"image\n\xff\xfe\n", "cannot be read"),
        ("e.parquet", b"PAR1", "cannot be read"),
    ],
)
def test_a_table_that_is_none_is_refused(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SearchIndexError, match=message):
        source_of(tmp_path / name)


def test_what_is_quoted_of_a_table_is_printable_and_cut(tmp_path):
    (tmp_path / "a.csv").write_text(",".join(["\x1b[2J", "x" * 5000, *map(str, range(1000))]) + "\n1\n")
    with pytest.raises(
        SearchIndexError, match=r"has the columns \\x1b\[2J, x{40}, 0, 1, .* 17 and 982 more, and"
    ) as told:
        TableSource(tmp_path / "a.csv", "a")
    assert str(told.value).isprintable()


def test_a_column_that_is_not_there_is_refused(tmp_path):
    (tmp_path / "a.csv").write_text("image\nx.png\n")
    with pytest.raises(SearchIndexError, match="has no column 'photo'; it has image"):
        source_of(tmp_path / "a.csv", columns={"image": "photo"})
    with pytest.raises(SearchIndexError, match="named for caption"):
        source_of(tmp_path / "a.csv", columns={"caption": "x"})


# ------------------------------------------------------------------------------------------------------- shards


def write_tar(path, members):
    with tarfile.open(path, "w") as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


def samples(photos, count):
    for number in range(count):
        yield f"part/{number:04d}.png", png(photos.picture(number))
        yield f"part/{number:04d}.txt", f"number {number}".encode()
        yield f"part/{number:04d}.json", json.dumps({"year": 2000 + number, "row": 1, "tags": [1]}).encode()


def test_a_tar_of_samples(photos, tmp_path, update, found):
    odd = [("part/._x.png", b"no"), ("caf\udce9.png", png(photos.picture(8))), ("lonely.txt", b"x")]
    odd += [("pair.left.png", png(photos.picture(6))), ("pair.right.png", png(photos.picture(7)))]
    odd += [("bad.json", b"{"), ("bad.png", b"no picture")]
    tar = tmp_path / "000.tar"
    write_tar(tar, [*samples(photos, 5), *odd])
    summary, skipped = update(tar)
    assert (summary.total, list(skipped)) == (8, ["000.tar/bad.png"])
    hit, shown = found(photos.picture(3))
    assert hit.id == "000.tar/part/0003.png"
    assert hit.metadata == {"source": "000.tar", "caption": "number 3", "year": 2003, "row_": 1}
    assert shown.tobytes() == photos.picture(3).tobytes()
    assert found(photos.picture(8))[0].id == "000.tar/caf\\xe9.png"
    assert {found(photos.picture(number))[0].id[8:] for number in (6, 7)} == {"pair.left.png", "pair.right.png"}
    assert update(tar)[0].unchanged == 8


def test_what_a_tar_lost_at_its_end_stays(photos, tmp_path, update):
    tar = tmp_path / "000.tar"
    write_tar(tar, samples(photos, 6))
    update(tar)
    whole = tar.read_bytes()
    tar.write_bytes(whole[: len(whole) // 2])
    summary, skipped = update(tar)
    assert (summary.total, summary.removed, summary.encoded) == (6, 0, 0)
    assert "breaks off" in skipped["000.tar/"]
    with tarfile.open(tmp_path / "p.tar", "w:gz"):
        pass
    with pytest.raises(SearchIndexError, match="Unpack"):
        source_of(tmp_path / "p.tar")


# ------------------------------------------------------------------------------------------------------- videos


def write_video(path, pictures, seconds=2):
    """Each picture for so many seconds, at ten frames a second."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = 96, 96, "yuv420p", 2_000_000
        for picture in pictures:
            for _ in range(seconds * 10):
                container.mux(stream.encode(av.VideoFrame.from_image(picture)))
        container.mux(stream.encode(None))


def test_videos_are_indexed_by_time(photos, tmp_path, update, found):
    folder = tmp_path / "holiday"
    folder.mkdir()
    write_video(folder / "clip.mp4", [photos.picture(number) for number in (0, 1, 2)])
    (folder / "broken.mp4").write_bytes(b"no video")
    photos.picture(4).save(folder / "still.png")
    summary, skipped = update(folder)
    assert (summary.total, list(skipped)) == (4, ["holiday/broken.mp4"])
    for number, seconds in ((0, 1), (1, 3), (2, 5)):
        hit, shown = found(photos.picture(number))
        assert (hit.id, hit.metadata["time"]) == (f"holiday/clip.mp4#t={seconds}", seconds)
        difference = np.abs(np.asarray(shown).astype(int) - np.asarray(photos.picture(number)))
        assert difference.mean() < 12

    assert update(folder)[0].unchanged == 4
    (folder / "clip.mp4").rename(folder / "renamed.mp4")
    summary, _ = update(folder)
    assert (summary.added, summary.removed, summary.encoded, summary.total) == (3, 3, 0, 4)
    summary, _ = update(folder, every=1.0)
    assert (summary.total, summary.removed) == (7, 3)
    assert update(folder, every=0.0)[0].total == 1


def test_times_are_those_of_the_pictures_where_the_sound_lasts_longer(tmp_path):
    """Matroska says how long the longest of its streams is."""
    path = tmp_path / "long sound.mkv"
    with av.open(str(path), "w") as container:
        shown, heard = container.add_stream("mpeg4", rate=10), container.add_stream("pcm_s16le", rate=8000)
        shown.width, shown.height, shown.pix_fmt, heard.layout = 64, 64, "yuv420p", "mono"
        for tick in range(60):
            grey = np.full((64, 64, 3), 4 * tick, np.uint8)
            container.mux(shown.encode(av.VideoFrame.from_ndarray(grey, format="rgb24")))
        container.mux(shown.encode(None))
        for second in range(30):
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.int16), layout="mono")
            silence.sample_rate, silence.pts, silence.time_base = 8000, second * 8000, Fraction(1, 8000)
            container.mux(heard.encode(silence))
        container.mux(heard.encode(None))
    count, length = sampling(path, 2.0)
    assert (count, length) == (3, pytest.approx(6.0, abs=0.11))
    for seconds, indexed in zip(frame_times(count, length), frames(path, count), strict=True):
        for picture in (indexed, frame_at(path, seconds)):
            assert np.asarray(picture).mean() == pytest.approx(40 * seconds, abs=8)


def test_frames_stand_in_the_middle_of_equal_parts():
    assert frame_times(3, 6.0) == [1.0, 3.0, 5.0]
    assert frame_times(1, 0.0) == [0.0]


def test_frames_of_a_long_video_have_names_of_their_own(tmp_path):
    times = frame_times(round(20_000 / SHORTEST), 20_000.0)
    assert len({frame_id("v", seconds) for seconds in times}) == len(times)
    assert [frame_id("v", seconds) for seconds in (3.0, 12.5, 20_000.25)] == ["v#t=3", "v#t=12.5", "v#t=20000.25"]
    with pytest.raises(SearchIndexError, match=r"every 0\.004 seconds.*expected 0\.02 or more, or 0 for none"):
        source_of(tmp_path, every=0.004)


def test_a_row_with_more_fields_than_the_header_is_skipped(photos, tmp_path):
    photos.fill(tmp_path / "photos")
    lines = ["image,title", f"photos/{photos.name(0)},a dog", f"photos/{photos.name(1)},a dog, lying"]
    (tmp_path / "a.csv").write_text("\n".join(lines), encoding="utf-8")
    found, left = source_of(tmp_path / "a.csv").entries()
    assert isinstance(found, Item)
    assert isinstance(left, Skipped)
    assert left.reason == "row 2 has more fields than the header"


def test_every_source_gives_its_entries_in_the_same_order_each_time(photos, tmp_path):
    folder = photos.fill(tmp_path / "photos")
    write_tar(tmp_path / "000.tar", samples(photos, 3))
    write_csv(tmp_path / "t.csv", [{"image": f"photos/{photos.name(0)}"}, {"image": "none.png"}])
    for place, kinds in ((folder, {Item}), (tmp_path / "000.tar", {Item}), (tmp_path / "t.csv", {Item, Skipped})):
        source = source_of(place)
        entries = list(source.entries())
        assert {type(entry) for entry in entries} == kinds
        assert [entry.id for entry in entries] == [entry.id for entry in source_of(place).entries()]
        assert len(source) >= len(entries)
        item = next(entry for entry in entries if isinstance(entry, Item))
        assert Image.open(io.BytesIO(item.read())).size == (96, 96)
