"""Collections: what is indexed, what is not encoded again, what is skipped and why, and what a kill leaves."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ccr_adapters.errors import LockedError, SearchIndexError
from ccr_adapters.modeling import CCRModel
from ccr_adapters.search import Collection, FaissIndex, SourceRecord, source_of
from ccr_adapters.search import update as update_module
from ccr_adapters.search.encoder import PictureEncoder
from ccr_adapters.search.folder import FolderSource
from ccr_adapters.search.notes import lock_of_notes
from ccr_adapters.search.sources import Item, Skipped, spelled, unspelled
from ccr_adapters.search.update import _stays

HERE = Path(__file__).parent


@pytest.fixture
def folder(photos, tmp_path):
    """Nine pictures in `photos/` and `photos/below/`."""
    return photos.fill(tmp_path / "photos")


@pytest.fixture(params=["faiss", "milvus"])
def address(request, tmp_path):
    return tmp_path / ("the.index" if request.param == "faiss" else "the.db")


@pytest.fixture
def faiss_address(tmp_path):
    return tmp_path / "the.index"


@pytest.fixture
def update(encoder):
    """Function that brings an index up to date with places."""

    def run(address, *places, own=None, name=None, **options):
        with Collection.open_or_create(address, own or encoder, model="tiny_clip") as collection:
            sources, known = [], list(collection.notes.sources)
            for place in places:
                sources.append(source_of(place, known, name=name))
                known.append(SourceRecord.of(sources[-1]))
            options = {"batch_size": 4, "workers": 2, "show_progress": False, **options}
            return collection.update(sources, own or encoder, **options)

    return run


def told(summary):
    """Which items were skipped, and why."""
    lines = Path(summary.report).read_text(encoding="ascii").splitlines()
    return {row["item"]: row["reason"] for row in map(json.loads, lines)}


def content(address):
    """Hashes, metadata and vectors of an index, to be compared."""
    with Collection.open(address) as collection:
        index = collection.index
        vectors = index.vectors(index.ids())
        assert sorted(vectors) == index.ids()
        everything = index.search(np.ones((1, index.header.dim), np.float32), max(1, len(index)))[0]
        metadata = {hit.id: hit.metadata for hit in everything}
        return index.hashes(), metadata, vectors


def assert_same(left, right):
    assert left[0] == right[0]
    assert left[1] == right[1]
    for name, vector in left[2].items():
        assert vector == pytest.approx(right[2][name], abs=1e-5)


def touched(path):
    """Give a file another time."""
    os.utime(path, ns=(1, path.stat().st_mtime_ns + 1_000_000))


# ------------------------------------------------------------------------------------------------- what is indexed


def test_a_folder_is_indexed_and_only_what_is_new_is_encoded(photos, model, folder, address, update):
    (folder / ".hidden.png").write_bytes((folder / photos.name(0)).read_bytes())
    (folder / ".trash").mkdir()
    shutil.copy(folder / photos.name(0), folder / ".trash" / "x.png")
    (folder / "notes.txt").write_text("no picture")
    summary = update(address, folder)
    assert (summary.added, summary.encoded, summary.total, summary.skipped, summary.others) == (9, 9, 9, 0, 1)
    with Collection.open(address) as collection:
        names = collection.index.ids()
        assert names == sorted(f"photos/{'below/' if number % 2 else ''}{photos.name(number)}" for number in range(9))
        paths = [folder.parent / name for name in names]
        vectors = model.encode_image(paths).numpy()
        hits = [row[0] for row in collection.search(vectors, 1)]
        assert [hit.id for hit in hits] == names
        assert [hit.score for hit in hits] == pytest.approx([1.0] * 9, abs=1e-5)
        assert [collection.path(hit) for hit in hits] == paths
        assert collection.picture(hits[0]).tobytes() == Image.open(paths[0]).tobytes()
        assert (collection.notes.model, collection.notes.sources[0].name) == ("tiny_clip", "photos")
    again = update(address, folder)
    assert (again.added, again.changed, again.encoded, again.unchanged, again.total) == (0, 0, 0, 9, 9)

    # one changed, one gone, one new name for an old content, one copy, one only touched
    photos.picture(40).save(folder / photos.name(0))
    (folder / "below" / photos.name(1)).unlink()
    (folder / photos.name(2)).rename(folder / "renamed.png")
    shutil.copy(folder / photos.name(4), folder / "copy.png")
    touched(folder / photos.name(6))
    third = update(address, folder)
    assert (third.added, third.changed, third.encoded, third.removed, third.unchanged) == (2, 1, 1, 2, 6)
    fresh = address.with_name(f"fresh{address.suffix}")
    update(fresh, folder)
    assert_same(content(address), content(fresh))


def test_vectors_and_metadata_come_back_by_name_whether_saved_or_not(place, random_vectors):
    vectors = random_vectors(30)
    names = [f"{number}" for number in range(30)]
    notes = [{"number": number, "text": f'it\'s "{number}"'} for number in range(30)]
    with place.create() as index:
        index.add(names[:20], vectors[:20], notes[:20])
        index.save()
        index.add([*names[20:], "3"], vectors[[*range(20, 30), 25]], [*notes[20:], {"number": -3}])
        index.delete(["4"])
        found = index.vectors(["0", "3", "4", "25", "unknown"])
        stored = index.metadata(["0", "3", "4", "25", "unknown"])
        assert index.metadata([]) == {}
    assert sorted(found) == ["0", "25", "3"]
    assert stored == {"0": notes[0], "3": {"number": -3}, "25": notes[25]}
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    for name, row in {"0": 0, "3": 25, "25": 25}.items():
        assert found[name] == pytest.approx(unit[row], abs=1e-6)


def test_nothing_is_encoded_again_when_the_list_of_seen_files_is_lost(folder, faiss_address, update):
    update(faiss_address, folder)
    seen = faiss_address / "seen.sqlite"
    for damage in (Path.unlink, lambda path: path.write_bytes(b"SQLite format 3\0 and then nothing" * 100)):
        damage(seen)
        summary = update(faiss_address, folder)
        assert (summary.encoded, summary.unchanged) == (0, 9)


def test_a_touched_file_is_read_once_more_and_not_twice(folder, faiss_address, update, encoder):
    update(faiss_address, folder)
    for path in folder.rglob("*.png"):
        touched(path)
    reads = []
    source = source_of(folder)
    inner = source.entries

    def counted():
        for entry in inner():
            yield Item(entry.id, entry.stamp, lambda e=entry: reads.append(e.id) or e.read(), entry.metadata)

    source.entries = counted
    for expected in (9, 0):
        reads.clear()
        with Collection.open_or_create(faiss_address, encoder) as collection:
            summary = collection.update([source], encoder, show_progress=False)
        assert (summary.encoded, summary.unchanged, len(reads)) == (0, 9, expected)


@pytest.mark.parametrize("batch_size", [1, 4, 64])
def test_contents_that_move_in_a_ring_keep_their_vectors(folder, faiss_address, update, batch_size):
    update(faiss_address, folder)
    paths = sorted(folder.rglob("*.png"))
    contents = [path.read_bytes() for path in paths]
    for path, moved in zip(paths, contents[1:] + contents[:1], strict=True):
        path.write_bytes(moved)
    summary = update(faiss_address, folder, batch_size=batch_size)
    fresh = faiss_address.with_name("fresh")
    update(fresh, folder)
    assert summary.changed == 9
    assert_same(content(faiss_address), content(fresh))


def test_what_is_gone_is_kept_when_asked(photos, folder, faiss_address, update):
    update(faiss_address, folder)
    (folder / photos.name(0)).unlink()
    assert update(faiss_address, folder, keep=True).total == 9
    summary = update(faiss_address, folder)
    assert (summary.removed, summary.total) == (1, 8)


def test_a_folder_that_is_suddenly_empty_is_not_believed(folder, faiss_address, update):
    update(faiss_address, folder)
    folder.rename(folder.with_name("elsewhere"))
    with pytest.raises(SearchIndexError, match="nothing at"):
        update(faiss_address, folder)
    folder.mkdir()
    with pytest.raises(SearchIndexError, match=r"9 pictures .*--allow-empty"):
        update(faiss_address, folder)
    assert update(faiss_address, folder, keep=True).total == 9
    assert update(faiss_address, folder, allow_empty=True).removed == 9


def test_an_empty_folder_makes_an_empty_index(tmp_path, faiss_address, update, encoder):
    (tmp_path / "none").mkdir()
    summary = update(faiss_address, tmp_path / "none")
    assert (summary.total, summary.skipped) == (0, 0)
    with Collection.open(faiss_address) as collection:
        assert collection.search(np.ones((1, encoder.dim), np.float32), 3) == [[]]


def test_a_folder_may_be_indexed_without_what_is_below(photos, folder, faiss_address, encoder):
    with Collection.open_or_create(faiss_address, encoder) as collection:
        source = source_of(folder, recursive=False)
        assert collection.update([source], encoder, show_progress=False).total == 5
        assert collection.notes.sources[0].open().options == {"recursive": False, "every": 2.0}


# ---------------------------------------------------------------------------------------------------- sources by name


def test_two_folders_of_one_name_live_side_by_side(photos, folder, tmp_path, faiss_address, update):
    other = photos.fill(tmp_path / "more" / "photos", 3)
    summary = update(faiss_address, folder, other)
    assert (summary.total, summary.encoded) == (12, 9)
    with Collection.open(faiss_address) as collection:
        assert [source.name for source in collection.notes.sources] == ["photos", "photos-2"]
        assert sum(name.startswith("photos-2/") for name in collection.index.ids()) == 3
    assert update(faiss_address, other).unchanged == 3


def test_two_sources_of_one_name_are_refused_together(photos, folder, tmp_path, faiss_address, encoder):
    other = photos.fill(tmp_path / "more" / "photos", 3)
    with (
        Collection.open_or_create(faiss_address, encoder) as collection,
        pytest.raises(SearchIndexError, match="two sources 'photos'"),
    ):
        collection.update([source_of(folder), source_of(other)], encoder, show_progress=False)


def test_a_folder_that_has_moved_keeps_its_vectors_by_name(folder, tmp_path, faiss_address, update):
    update(faiss_address, folder)
    moved = folder.rename(tmp_path / "archive")
    summary = update(faiss_address, moved, name="photos")
    assert (summary.unchanged, summary.encoded, summary.total) == (9, 0, 9)
    with Collection.open(faiss_address) as collection:
        assert collection.path(collection.search(np.ones((1, 128), np.float32), 1)[0][0]).is_file()
    with pytest.raises(SearchIndexError, match="as 'photos' already"):
        update(faiss_address, moved, name="archive")


def test_a_folder_is_one_source_from_wherever_it_is_named(folder, tmp_path, monkeypatch):
    (tmp_path / "beside" / "deep").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "beside" / "deep")
    known = [SourceRecord.of(source_of(folder))]
    for here, named in (("", "photos"), ("beside", "../photos"), ("photos/below", ".."), ("photos", ".")):
        monkeypatch.chdir(tmp_path / here)
        found = source_of(named, known)
        assert (found.name, found.location) == ("photos", folder)
    # behind a link `..` is not what the text says
    monkeypatch.chdir(tmp_path)
    assert source_of("link/../deep").location == (tmp_path / "beside" / "deep").resolve()


def test_a_source_can_be_forgotten(photos, folder, tmp_path, faiss_address, update, encoder):
    update(faiss_address, folder, photos.fill(tmp_path / "more", 3))
    with Collection.open_or_create(faiss_address, encoder) as collection:
        assert collection.forget("photos") == 9
        assert [source.name for source in collection.notes.sources] == ["more"]
        with pytest.raises(SearchIndexError, match="the collection has more"):
            collection.forget("photos")
    with Collection.open(faiss_address) as collection:
        assert len(collection.index) == 3


@pytest.mark.parametrize(("place", "message"), [("a.png", "one file"), ("a.xyz", "neither"), ("b.tar", "no tar")])
def test_what_is_no_source_is_refused(tmp_path, place, message):
    (tmp_path / place).write_bytes(b"something")
    with pytest.raises(SearchIndexError, match=message):
        source_of(tmp_path / place)


# ------------------------------------------------------------------------------------------- what cannot be indexed


def test_broken_pictures_are_named_and_the_others_indexed(photos, folder, faiss_address, update):
    whole = (folder / photos.name(0)).read_bytes()
    (folder / "garbage.jpg").write_bytes(b"nothing of the kind")
    (folder / "empty.png").touch()
    (folder / "cut.png").write_bytes(whole[: len(whole) // 2])
    (folder / "phone.heic").write_bytes(b"ftypheic")
    (folder / "dangling.png").symlink_to(folder / "nowhere.png")
    os.mkfifo(folder / "pipe.png")
    (folder / "folder.png").mkdir()
    summary = update(faiss_address, folder)
    assert (summary.total, summary.skipped) == (9, 6)
    reasons = told(summary)
    assert "known format" in reasons["photos/garbage.jpg"]
    assert "known format" in reasons["photos/empty.png"]
    assert "truncated" in reasons["photos/cut.png"] or "broken" in reasons["photos/cut.png"]
    assert "HEIC" in reasons["photos/phone.heic"]
    assert "nowhere" in reasons["photos/dangling.png"]
    assert "no file" in reasons["photos/pipe.png"]

    (folder / "cut.png").write_bytes(whole)
    (folder / photos.name(2)).write_bytes(b"now it is broken")
    summary = update(faiss_address, folder)
    assert (summary.added, summary.removed, summary.total, summary.encoded) == (1, 1, 9, 0)
    assert f"photos/{photos.name(2)}" in told(summary)


def test_names_of_any_script_and_of_none(photos, tmp_path, faiss_address, update):
    folder = tmp_path / "fotos"
    folder.mkdir()
    names = [b"caf\xe9.png", "雪.png".encode(), b"back\\slash.png", b"back\\xe9.png", b"two\nlines.png", b"a%20b.png"]
    for number, name in enumerate(names):
        with (folder / os.fsdecode(name)).open("wb") as file:
            photos.picture(number).save(file, "PNG")
    summary = update(faiss_address, folder)
    assert (summary.total, summary.skipped) == (6, 0)
    with Collection.open(faiss_address) as collection:
        ids = collection.index.ids()
        assert "fotos/caf\\xe9.png" in ids
        assert "fotos/雪.png" in ids
        found = collection.search(np.stack(list(collection.index.vectors(ids).values())), 1)
        paths = {collection.path(row[0]) for row in found}
        assert paths == {folder / os.fsdecode(name) for name in names}
        assert all(collection.picture(row[0]).size == (96, 96) for row in found)
    assert update(faiss_address, folder).unchanged == 6


def test_spelling_can_be_undone():
    rng = np.random.default_rng(0)
    for _ in range(500):
        name = os.fsdecode(bytes(rng.choice(list(b"\\x9a\xe9\xc3\xa9\nf%"), size=rng.integers(1, 9)).tolist()))
        text = spelled(name)
        text.encode()
        assert unspelled(text) == name


def test_loops_of_links_end_and_what_is_linked_twice_is_indexed_once(photos, folder, tmp_path, faiss_address, update):
    (folder / "below" / "up").symlink_to(folder)
    (folder / "self").symlink_to(folder / "self")
    outside = photos.fill(tmp_path / "outside", 2)
    (folder / "linked").symlink_to(outside)
    (folder / "linked again").symlink_to(outside)
    photos.picture(77).save(tmp_path / "one.png")
    (folder / "one.png").symlink_to(tmp_path / "one.png")
    summary = update(faiss_address, folder)
    assert (summary.total, summary.skipped) == (12, 0)
    with Collection.open(faiss_address) as collection:
        assert len([name for name in collection.index.ids() if name.startswith("photos/linked")]) == 2


def test_a_linked_folder_whose_drive_is_away_keeps_its_vectors(photos, folder, tmp_path, faiss_address, update):
    outside = photos.fill(tmp_path / "outside", 2)
    (folder / "nas").symlink_to(outside)
    assert update(faiss_address, folder).total == 11
    outside.rename(tmp_path / "away")
    summary = update(faiss_address, folder)
    assert (summary.total, summary.removed, summary.skipped) == (11, 0, 1)
    (tmp_path / "away").rename(outside)
    assert update(faiss_address, folder).encoded == 0
    (folder / "nas").unlink()
    assert update(faiss_address, folder).removed == 2


def test_an_arrangement_that_was_stopped_is_made_by_the_next_run(folder, faiss_address, update, monkeypatch):
    monkeypatch.setattr(FaissIndex, "is_optimised", lambda self: False)
    with monkeypatch.context() as patch:
        patch.setattr(FaissIndex, "optimise", lambda self: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            update(faiss_address, folder)
    made = []
    monkeypatch.setattr(FaissIndex, "optimise", lambda self: made.append(len(self)))
    assert update(faiss_address, folder).added == 0
    assert made == [9]


def test_notes_of_a_cluster_have_one_writer(tmp_path):
    assert lock_of_notes(tmp_path / "the.index", tmp_path) is None
    first = lock_of_notes("http://cluster:19530", tmp_path / "notes")
    with pytest.raises(LockedError, match="is being written to by process"):
        lock_of_notes("http://cluster:19530", tmp_path / "notes")
    first.release()
    lock_of_notes("http://cluster:19530", tmp_path / "notes").release()


def test_a_folder_that_cannot_be_looked_into_is_named(photos, tmp_path, faiss_address, update):
    folder = photos.fill(tmp_path / "photos", 2)
    here = os.open(folder, os.O_RDONLY)
    try:
        # deeper than the system takes a path
        for _ in range(30):
            os.mkdir("d" * 200, dir_fd=here)
            deeper = os.open("d" * 200, os.O_RDONLY, dir_fd=here)
            os.close(here)
            here = deeper
    finally:
        os.close(here)
    summary = update(faiss_address, folder)
    assert (summary.total, summary.skipped) == (2, 1)
    (item, reason), *_ = told(summary).items()
    assert item.endswith("d/")
    assert "cannot be looked into" in reason


class Listed:
    """A source of given entries."""

    kind, location, options = "folder", Path(), {}

    def __init__(self, name, entries):
        self.name, self._entries = name, list(entries)

    def __len__(self):
        return len(self._entries)

    def entries(self):
        yield from self._entries


def test_what_could_not_be_looked_at_stays(photos, folder, faiss_address, update, encoder):
    update(faiss_address, folder)
    entries = list(FolderSource(folder, "photos").entries())
    above = [entry for entry in entries if "/below/" not in entry.id]

    def unreadable():
        raise PermissionError(13, "Permission denied")

    away = Skipped("photos/below/", "a folder that cannot be looked into", stays=True)
    secret = Item(above[0].id, "another stamp", unreadable, {"source": "photos"})
    with Collection.open_or_create(faiss_address, encoder) as collection:
        summary = collection.update([Listed("photos", [secret, *above[1:], away])], encoder, show_progress=False)
        assert (summary.removed, summary.total, summary.skipped) == (0, 9, 2)
        assert "Permission denied" in told(summary)[above[0].id]
        summary = collection.update([Listed("photos", above)], encoder, show_progress=False)
        assert (summary.removed, summary.total) == (4, 5)


def test_what_an_index_cannot_hold_is_skipped_and_not_the_batch(photos, folder, faiss_address, encoder):
    good = list(FolderSource(folder, "photos").entries())
    bad = [
        Item("photos/" + "x" * 5000, "1", good[0].read),
        Item("photos/long", "1", good[0].read, {"text": "x" * 70_000}),
        Item("photos/nan", "1", good[0].read, {"score": float("nan")}),
        Item("photos/\udcff", "1", good[0].read),
        good[1],
    ]
    with Collection.open_or_create(faiss_address, encoder) as collection:
        summary = collection.update([Listed("photos", [*good, *bad])], encoder, show_progress=False)
        assert (summary.total, summary.skipped) == (9, 5)
        assert sum("named before" in reason for reason in told(summary).values()) == 1


def test_a_source_that_moves_while_it_is_opened_is_not_remembered(folder, faiss_address, update, tmp_path, monkeypatch):
    """One thread shows a picture while another learns where the source lies by now."""
    update(faiss_address, folder)
    opened = SourceRecord.open
    with Collection.open(faiss_address) as reader:
        (hit,) = reader.search(np.ones((1, 128), np.float32), 1)[0]

        def meanwhile(record):
            found = opened(record)
            monkeypatch.setattr(SourceRecord, "open", opened)
            shutil.move(folder, tmp_path / "moved")
            update(faiss_address, tmp_path / "moved", name=folder.name)
            assert reader.refresh()
            return found

        monkeypatch.setattr(SourceRecord, "open", meanwhile)
        assert not reader.path(hit).is_file()
        assert reader.path(hit).is_file()
        assert reader.picture(hit).size == (96, 96)


def test_a_reader_learns_that_a_source_has_moved(folder, faiss_address, update, tmp_path):
    """No vector changes then, and no generation of the index."""
    update(faiss_address, folder)
    with Collection.open(faiss_address) as reader:
        (hit,) = reader.search(np.ones((1, 128), np.float32), 1)[0]
        before = reader.path(hit)
        assert not reader.refresh()
        shutil.move(folder, tmp_path / "moved")
        update(faiss_address, tmp_path / "moved", name=folder.name)
        assert reader.refresh()
        after = reader.path(hit)
        assert before.relative_to(folder) == after.relative_to(tmp_path / "moved")
        assert after.is_file()
        assert not reader.refresh()


@pytest.mark.parametrize("batch_size", [2, 64])
def test_a_name_that_comes_three_times_is_the_first_one_always(batch_size, folder, faiss_address, encoder):
    """As in a table with a block of rows for each language: the second row is skipped, and so is the third."""
    good = list(FolderSource(folder, "photos").entries())
    blocks = [Item(item.id, item.stamp, item.read, {"block": block}) for block in range(3) for item in good]
    listed = [Listed("photos", blocks)]
    with Collection.open_or_create(faiss_address, encoder) as collection:
        summary = collection.update(listed, encoder, batch_size=batch_size, workers=1, show_progress=False)
        assert (summary.total, summary.added, summary.skipped) == (len(good), len(good), 2 * len(good))
        again = collection.update(listed, encoder, batch_size=batch_size, workers=1, show_progress=False)
        assert (again.added, again.changed, again.removed) == (0, 0, 0)
        hits = collection.index.search(np.eye(1, collection.index.header.dim, dtype=np.float32), len(good))[0]
        assert {hit.metadata["block"] for hit in hits} == {0}


def test_of_pictures_with_five_captions_the_one_that_is_gone_is_removed(
    photos, folder, tmp_path, faiss_address, update
):
    """As in a table of Flickr30k: repeated rows say nothing of the first one, and cost nothing."""
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*.png"))
    lines = [f"{name},{number}" for name in names for number in range(5)]
    table = folder / "captions.csv"
    table.write_text("image,number\n" + "\n".join(lines) + "\n", encoding="utf-8")
    first = update(faiss_address, table)
    assert (first.total, first.skipped) == (9, 36)
    again = update(faiss_address, table)
    assert (again.unchanged, again.removed, again.total) == (9, 0, 9)
    (folder / names[0]).unlink()
    after = update(faiss_address, table)
    assert (after.removed, after.total) == (1, 8)


def test_what_stays_is_found_by_name_clip_or_folder():
    stay = {"p/a.png", "p/b.mp4", "p/below/"}
    names = ["p/a.png", "p/b.mp4#t=2", "p/below/x/y.png", "p/a.png2", "p/b.mp4x#t=2", "p/belowx/y.png", "p/c.png"]
    assert [_stays(name, stay) for name in names] == [True, True, True, False, False, False, False]
    assert not _stays("p/a.png", set())


def test_nothing_that_was_encoded_is_lost_by_an_interruption(photos, model, folder, faiss_address, monkeypatch):
    """Saves wait for each other where they are slow, and a run is interrupted between two."""
    monkeypatch.setattr(update_module, "_COST_SHARE", 1e9)
    counting, encode = Counting(model), Counting.encode

    def interrupted(self, prepared):
        if self.seen >= 6:
            raise KeyboardInterrupt
        return encode(self, prepared)

    monkeypatch.setattr(Counting, "encode", interrupted)
    with Collection.open_or_create(faiss_address, counting, model="tiny_clip") as collection:
        options = {"batch_size": 2, "workers": 1, "show_progress": False}
        with pytest.raises(KeyboardInterrupt):
            collection.update([FolderSource(folder, "photos")], counting, **options)
        told_to_be_there = len(collection.index)
    with Collection.open(faiss_address) as found:
        assert len(found.index) == told_to_be_there == 6


def test_a_source_that_breaks_off_leaves_a_whole_index(folder, faiss_address, update, encoder):
    good = list(FolderSource(folder, "photos").entries())

    class Unplugged(Listed):
        def entries(self):
            yield from self._entries
            raise OSError(5, "Input/output error")

    with Collection.open_or_create(faiss_address, encoder) as collection:
        with pytest.raises(SearchIndexError, match="Input/output error.*run it again"):
            collection.update([Unplugged("photos", good)], encoder, batch_size=2, show_progress=False)
        assert collection.update([Listed("photos", good)], encoder, show_progress=False).total == 9


class Counting(PictureEncoder):
    """The tiny encoder, which also looks how many pictures wait, and gives nothing finite for chosen ones."""

    def __init__(self, model):
        super().__init__(model)
        self.waiting = self.most = self.seen = 0
        self.bad = set()
        self._count = threading.Lock()

    def prepare(self, picture):
        with self._count:
            self.waiting += 1
            self.most = max(self.most, self.waiting)
        return super().prepare(picture)

    def encode(self, prepared):
        with self._count:
            self.waiting -= len(prepared)
        vectors = super().encode(prepared)
        for row in range(len(vectors)):
            if self.seen in self.bad:
                vectors[row] = np.nan
            self.seen += 1
        return vectors


def test_only_so_many_pictures_wait_in_memory(photos, model, tmp_path, faiss_address, update):
    counting = Counting(model)
    summary = update(faiss_address, photos.fill(tmp_path / "many", 120), own=counting, batch_size=8, workers=3)
    assert summary.encoded == summary.total > 100
    assert counting.most <= 2 * (8 + 2 * 3 + 1)


def test_vectors_that_are_not_finite_are_skipped(model, folder, faiss_address, update):
    counting = Counting(model)
    counting.bad = {1, 7}
    summary = update(faiss_address, folder, own=counting)
    assert (summary.total, summary.skipped) == (7, 2)
    assert all("finite" in reason for reason in told(summary).values())
    assert update(faiss_address, folder).total == 9


def test_names_that_climb_out_of_their_source_are_refused(folder, faiss_address, update, encoder):
    update(faiss_address, folder)
    (folder.parent / "secret.png").write_bytes(next(folder.glob("*.png")).read_bytes())
    with FaissIndex.open(faiss_address, writable=True) as index:
        index.add(["photos/../secret.png"], -np.ones((1, encoder.dim), np.float32))
        index.save()
    with Collection.open(faiss_address) as collection:
        hit = collection.search(-np.ones((1, encoder.dim), np.float32), 1)[0][0]
        assert hit.id == "photos/../secret.png"
        assert collection.path(hit) is None
        with pytest.raises(SearchIndexError, match="outside"):
            collection.picture(hit)


# ------------------------------------------------------------------------------------------- models and languages


def test_a_language_never_makes_anything_be_indexed_again(photos, folder, tmp_path, address, update):
    update(address, folder)
    before = content(address)
    files = {path: path.read_bytes() for path in address.rglob("segment-*")}
    model = CCRModel.from_pretrained(photos.write_german(tmp_path / "de"))
    german = PictureEncoder(model)
    summary = update(address, folder, own=german)
    assert (summary.encoded, summary.changed, summary.unchanged) == (0, 0, 9)
    assert {path: path.read_bytes() for path in address.rglob("segment-*")} == files
    after = content(address)
    assert after[0] == before[0]
    assert all((after[2][name] == before[2][name]).all() for name in before[2])
    # and had the pictures been encoded with it, the vectors would be the same to the bit
    fresh = address.with_name(f"fresh{address.suffix}")
    update(fresh, folder, own=german)
    assert all((vector == before[2][name]).all() for name, vector in content(fresh)[2].items())
    with Collection.open(address, base_sha256=model.base_sha256()) as collection:
        questions = ["ein roter Stern", "ein blauer Fisch", "ein grünes Haus", "a yellow heart", "eine weiße Blume"]
        asked = model.encode_text(questions, ["de", "de", "de", None, "de"]).numpy()
        found = [row[0].id for row in collection.search(asked, 1)]
        assert [Path(name).name for name in found] == [photos.name(number) for number in (0, 1, 3, 2, 5)]


def test_a_model_of_another_base_is_refused_and_both_are_named(folder, faiss_address, update, bases):
    update(faiss_address, folder)
    other = PictureEncoder(CCRModel.from_base(bases["clip"]))
    with pytest.raises(SearchIndexError, match=r"'tiny_clip'.*clip'"):
        update(faiss_address, folder, own=other)
    with pytest.raises(SearchIndexError, match="nothing in common"):
        Collection.open(faiss_address, base="other", base_sha256=other.base_sha256)
    assert update(faiss_address, folder).unchanged == 9


def test_a_base_that_sees_nothing_is_refused(bases):
    with pytest.raises(SearchIndexError, match="no image tower"):
        PictureEncoder(CCRModel.from_base(bases["bert"]))


def test_a_second_indexer_is_told_who_is_at_work(folder, faiss_address, update, encoder):
    with (
        Collection.open_or_create(faiss_address, encoder),
        pytest.raises(LockedError, match=f"process {os.getpid()}"),
    ):
        update(faiss_address, folder)


def test_an_index_without_notes_is_taken_up(folder, faiss_address, update):
    update(faiss_address, folder)
    (faiss_address / "collection.json").unlink()
    summary = update(faiss_address, folder)
    assert (summary.unchanged, summary.encoded) == (9, 0)
    (faiss_address / "collection.json").write_text('{"format": 99}')
    with pytest.raises(SearchIndexError, match="up to date"):
        Collection.open(faiss_address)


def test_a_cluster_needs_a_folder_for_its_notes(encoder):
    with pytest.raises(SearchIndexError, match="--notes"):
        Collection.open_or_create("http://localhost:1", encoder)


# ----------------------------------------------------------------------------------------------------------- kills


def test_killed_at_any_step_the_next_run_goes_on_and_ends_the_same(folder, faiss_address, update, tmp_path):
    update(faiss_address, folder, batch_size=2)
    whole = content(faiss_address)
    command = [sys.executable, str(HERE / "indexer.py"), str(folder), str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(HERE.parents[1] / "src")}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    runs = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(runs) > 5
    assert {run["total"] for run in runs} == {9}
    # whatever was safe was not encoded again, and of what was encoded before the kill only the last batch was not safe
    assert all(run["encoded"] == run["counted"] == 9 - run["safe"] for run in runs)
    assert all(0 <= run["before"] - run["safe"] <= 2 for run in runs)
    assert any(run["before"] > run["safe"] for run in runs)
    assert len({run["safe"] for run in runs}) > 2
    for run in runs:
        assert_same(content(Path(run["address"])), whole)
