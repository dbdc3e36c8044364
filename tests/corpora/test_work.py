"""Corpora encoded for real: the vectors of `encode_text` and `encode_image`, in order, whatever happens on the way."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
import tracemalloc
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import EpsImagePlugin, Image

import ccr_adapters
from ccr_adapters.corpora import choose_columns, find_inputs, read_vectors
from ccr_adapters.corpora.encoders import RowEncoder
from ccr_adapters.corpora.job import locked
from ccr_adapters.corpora.plan import fix_inputs, make_plan
from ccr_adapters.corpora.shards import finished_shards
from ccr_adapters.dasd import DASDConfig
from ccr_adapters.errors import ConfigError, DataError, LanguageError
from ccr_adapters.modeling import CCRModel

WORKER = Path(__file__).with_name("worker.py")
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(ccr_adapters.__file__).parents[1]), "OMP_NUM_THREADS": "1"}


@pytest.fixture
def text(captions, tmp_path):
    """The captions in a text file."""
    path = tmp_path / "captions.txt"
    path.write_text("\n".join(captions), encoding="utf-8")
    return path


def skipped(output):
    lines = (output / "skipped.jsonl").read_text().splitlines() if (output / "skipped.jsonl").exists() else []
    return {each["item"]: each["reason"] for each in map(json.loads, lines)}


def about(output):
    return json.loads((output / "encode.json").read_text())


def test_captions_in_order(text, captions, model, encoded, vectors_in, tmp_path):
    summary = encoded(text, tmp_path / "out")
    names, vectors = vectors_in(tmp_path / "out")
    assert names == [f"captions.txt:{number}" for number in range(1, 24)]
    np.testing.assert_allclose(vectors, model.encode_text(captions).numpy(), atol=1e-6)
    assert (summary.rows, summary.encoded, summary.skipped, summary.shards) == (23, 23, 0, 6)
    found = about(tmp_path / "out")
    assert found["complete"]
    assert found["base_sha256"] == model.base_sha256()
    assert (found["rows"], found["shards"], found["finished_shards"], found["dim"]) == (23, 6, 6, 128)


def test_pictures_in_order_the_broken_ones_named(folder, model, encoded, vectors_in, tmp_path, monkeypatch):
    (folder / "05.png").write_bytes((folder / "05.png").read_bytes()[:200])
    (folder / "06.jpg").write_bytes(b"none")
    (folder / "zero.png").write_bytes(b"")
    # Pillow's reader of EPS would start Ghostscript
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", "/bin/false")
    monkeypatch.setattr(subprocess, "check_call", lambda *_, **__: pytest.fail("a program was started"))
    Image.new("RGB", (9, 9)).save(folder / "script.png", "EPS")
    summary = encoded(folder, tmp_path / "out")
    names, vectors = vectors_in(tmp_path / "out")
    assert names == [
        "00.jpg",
        "01.png",
        "02.jpg",
        "04.jpg",
        "08.jpg",
        "09.png",
        "10.jpg",
        "below/03.png",
        "below/07.png",
    ]
    np.testing.assert_allclose(vectors, model.encode_image([folder / name for name in names]).numpy(), atol=1e-6)
    assert (summary.rows, summary.skipped) == (9, 4)
    reasons = skipped(tmp_path / "out")
    assert list(reasons) == ["05.png", "06.jpg", "script.png", "zero.png"]
    assert reasons["06.jpg"] == reasons["script.png"] == reasons["zero.png"] == "is no picture of a known format"


def test_columns_are_kept_with_their_types_and_names_may_repeat(tables, encoded, vectors_in, tmp_path):
    rows = [{"id": f"same{n % 2}", "text": f"a star {n}", "year": 2000 + n, "tags": ["x"] * (n % 3)} for n in range(9)]
    path = tables(tmp_path / "a.parquet", rows)
    encoded(path, tmp_path / "out", {"keep": ["year", "tags"]}, settings={"dtype": "float16"})
    table = pq.read_table(sorted((tmp_path / "out").glob("*.parquet")))
    assert table.column("id").to_pylist() == [row["id"] for row in rows]
    assert table.column("year").to_pylist() == [row["year"] for row in rows]
    assert table.column("tags").to_pylist() == [row["tags"] for row in rows]
    assert str(table.schema.field("vector").type) == "fixed_size_list<element: halffloat>[128]"
    assert vectors_in(tmp_path / "out")[1].dtype == np.float32
    lines = tables(tmp_path / "a.jsonl", rows)
    encoded(lines, tmp_path / "more", {"keep": ["tags", "year", "year"]})
    assert next(read_vectors(tmp_path / "more")).column("tags").to_pylist()[:3] == ["[]", '["x"]', '["x", "x"]']


def test_a_date_that_python_does_not_hold_is_nothing_and_ends_no_run(encoded, vectors_in, tmp_path):
    until = pa.array([0, 922_431_801_599_999_999, None], pa.timestamp("us"))
    pq.write_table(pa.table({"id": list("abc"), "caption": ["x", "y", "z"], "until": until}), tmp_path / "a.parquet")
    encoded(tmp_path / "a.parquet", tmp_path / "out", {"keep": ["until"]})
    (table,) = read_vectors(tmp_path / "out")
    assert table.column("id").to_pylist() == ["a", "b", "c"]
    assert table.column("until").to_pylist() == [datetime(1970, 1, 1), None, None]


def test_a_tar_that_breaks_off_leaves_what_is_whole(pictures, tars, encoded, vectors_in, tmp_path):
    whole = tars(tmp_path / "b.tar", pictures)
    content = tars(tmp_path / "a.tar", pictures).read_bytes()
    (tmp_path / "a.tar").write_bytes(content[: len(content) // 2])
    encoded([tmp_path / "a.tar", whole], tmp_path / "out")
    names, _ = vectors_in(tmp_path / "out")
    stems = [name[:2] for name in pictures]
    assert names[-11:] == stems
    assert names[:-11] == stems[: len(names) - 11]
    reasons = skipped(tmp_path / "out")
    assert "breaks off behind sample" in reasons[str(tmp_path / "a.tar")]
    assert reasons[stems[len(names) - 11]] == "is cut off, as its tar is"


def test_a_language_has_vectors_and_a_hash_of_its_own(text, captions, encoded, vectors_in, tmp_path):
    def taught(seed):
        torch.manual_seed(seed)
        model = CCRModel.from_base("tiny_clip")
        model.add_language("de")
        for parameter in model.trainable("de"):
            parameter.data.normal_(0, 0.1)
        return model.eval()

    first = taught(1)
    encoded(text, tmp_path / "out", model=first, language="de")
    np.testing.assert_allclose(vectors_in(tmp_path / "out")[1], first.encode_text(captions, "de").numpy(), atol=1e-6)
    assert about(tmp_path / "out")["language"] == "de"
    with pytest.raises(DataError, match=r"language_sha256 .*\.\.\., asked for "):
        encoded(text, tmp_path / "out", model=taught(2), language="de")
    with pytest.raises(DataError, match='language "de", asked for null'):
        encoded(text, tmp_path / "out", model=taught(1), language="en")
    with pytest.raises(LanguageError, match="'sw' has no adapter"):
        encoded(text, tmp_path / "more", model=first, language="sw")
    assert not (tmp_path / "more").exists()
    assert encoded(text, tmp_path / "out", model=taught(1), language="de").encoded == 0


def test_what_is_finished_stays_and_anything_else_is_refused(text, folder, encoded, tables, tmp_path):
    out = tmp_path / "out"
    encoded(text, out)
    before = {path.name: path.stat().st_mtime_ns for path in out.glob("part-*")}
    assert encoded(text, out, batch_size=5).encoded == 0
    (out / "part-00002.parquet").unlink()
    (out / ".part-00002-1234abcd").write_bytes(b"left by a kill")
    assert encoded(text, out).encoded == 4
    after = {path.name: path.stat().st_mtime_ns for path in out.glob("*part-*")} | {".part-00002-1234abcd": 0}
    after.pop(".part-00002-1234abcd")
    assert [name for name in before if before[name] != after[name]] == ["part-00002.parquet"]
    for change, message in (
        ({"settings": {"shard_rows": 5}}, "shard_rows 4, asked for 5"),
        ({"settings": {"dtype": "float16"}}, 'dtype "float32", asked for "float16"'),
    ):
        with pytest.raises(DataError, match=message):
            encoded(text, out, **change)
    with pytest.raises(DataError, match='what "captions", asked for "pictures".*input .*captions.txt.*photos'):
        encoded(folder, out)
    with text.open("a") as file:
        file.write("\nmore")
    with pytest.raises(DataError, match="input .*captions.txt' as it was"):
        encoded(text, out)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter.doc").write_text("dear")
    with pytest.raises(DataError, match=r"holds something else \(letter.doc\)"):
        encoded(text, tmp_path / "other")
    with pytest.raises(DataError, match="cannot be written to"):
        encoded(text, tmp_path / "other" / "letter.doc")


def test_a_corpus_that_has_moved_is_the_same(folder, encoded, tmp_path):
    encoded(folder, tmp_path / "out")
    (tmp_path / "out" / "part-00001.parquet").unlink()
    folder.rename(tmp_path / "moved")
    assert encoded(tmp_path / "moved", tmp_path / "out").encoded == 4
    (tmp_path / "moved" / "new.png").write_bytes((tmp_path / "moved" / "01.png").read_bytes())
    with pytest.raises(DataError, match="as it was, asked for"):
        encoded(tmp_path / "moved", tmp_path / "out")


def test_a_broken_shard_is_named(text, encoded, tmp_path):
    encoded(text, tmp_path / "out")
    path = tmp_path / "out" / "part-00001.parquet"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DataError, match=r"part-00001.parquet' is no shard of vectors .*Delete it"):
        encoded(text, tmp_path / "out")


def test_pictures_that_are_all_gone_are_a_drive_that_is_not_there(tables, folder, encoded, tmp_path):
    rows = [{"image": f"nowhere/{n}.jpg"} for n in range(40)] + [{"image": "photos/00.jpg"}]
    path = tables(tmp_path / "a.csv", rows)
    settings = {"shard_rows": 20}
    with pytest.raises(DataError, match=r"None of the 20 pictures of shard 0 is there, the first is 'nowhere/0.jpg'"):
        encoded(path, tmp_path / "out", settings=settings)
    summary = encoded(path, tmp_path / "out", settings=settings, allow_missing=True)
    assert (summary.rows, summary.skipped) == (1, 40)


def test_a_link_of_a_folder_that_leads_nowhere_is_named(folder, encoded, tmp_path):
    (folder / "dead.png").symlink_to(tmp_path / "gone.png")
    assert encoded(folder, tmp_path / "out").skipped == 1
    assert skipped(tmp_path / "out") == {"dead.png": "there is no such file"}


def test_a_drive_that_goes_away_costs_no_picture(folder, encoded, tmp_path, monkeypatch):
    whole = encoded(folder, tmp_path / "whole")
    read, lost = Path.read_bytes, sorted(folder.rglob("*.*"))[-1].name

    def away(path):
        if path.name == lost:
            raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN))
        return read(path)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", away)
        with pytest.raises(DataError, match=r"cannot be read now \(Transport.*run the same command"):
            encoded(folder, tmp_path / "out")
    assert encoded(folder, tmp_path / "out").rows == whole.rows


def test_a_folder_that_goes_away_in_the_middle_of_a_shard(folder, encoded, tmp_path, monkeypatch):
    whole = encoded(folder, tmp_path / "whole")
    read, gone = Path.read_bytes, tmp_path / "gone"

    def away(path):
        if path.name == "01.png" and folder.exists():
            folder.rename(gone)
        return read(path)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", away)
        with pytest.raises(DataError, match=r"photos' is gone, and so may be the \d pictures of shard"):
            encoded(folder, tmp_path / "out")
    gone.rename(folder)
    assert encoded(folder, tmp_path / "out").rows == whole.rows


def test_a_language_that_is_loaded_when_it_is_asked_for(text, encoded, tmp_path):
    model = CCRModel.from_base("tiny_clip")
    for code in ("de", "cs"):
        model.add_language(code, DASDConfig(r=4, generator_rank=4, init_weights=False))
    model.save_pretrained(tmp_path / "both")
    for name, lazy in (("eager", False), ("lazy", True)):
        loaded = CCRModel.from_pretrained(tmp_path / "both", lazy=lazy)
        encoded(text, tmp_path / name, model=loaded, language="cs")
    assert about(tmp_path / "lazy")["language_sha256"] == about(tmp_path / "eager")["language_sha256"] is not None


def test_text_that_is_no_unicode_costs_its_row(encoded, vectors_in, tmp_path):
    raw = [b"a star", b"a \xff circle", b"a square"]
    titles = pa.array(raw, pa.binary()).cast(pa.string(), safe=False)
    pq.write_table(pa.table({"caption": titles, "key": ["x", "y", "z"]}), tmp_path / "a.parquet")
    summary = encoded(tmp_path / "a.parquet", tmp_path / "out", columns={"id": "key"})
    assert (summary.rows, summary.skipped) == (2, 1)
    assert vectors_in(tmp_path / "out")[0] == ["x", "z"]
    assert skipped(tmp_path / "out")["y"]


def test_nothing_at_all_is_an_error(tables, encoded, tmp_path):
    path = tables(tmp_path / "a.csv", [{"image": "http://example.org/a.jpg"}])
    with pytest.raises(DataError, match="None of 1 rows could be encoded"):
        encoded(path, tmp_path / "out")
    assert "is an address: download" in skipped(tmp_path / "out")["http://example.org/a.jpg"]


def test_an_encoder_without_eyes_refuses_pictures(folder, bases, encoded, tmp_path):
    with pytest.raises(DataError, match="no image tower"):
        encoded(folder, tmp_path / "out", model=CCRModel.from_base(bases["bert"]))


def test_out_of_memory_halves_the_batch(text, folder, captions, encoded, vectors_in, caplog, tmp_path):
    """The limit is a hook on the towers of a real model."""
    model, most = CCRModel.from_base("tiny_clip").eval(), [4]

    def refuse(module, arguments, given):
        if len(next(iter((*arguments, *given.values())))) > most[0]:
            raise torch.OutOfMemoryError("out of memory")

    for tower in (model.base.text_model, model.base.vision_model):
        tower.register_forward_pre_hook(refuse, with_kwargs=True)
    encoded(text, tmp_path / "text", model=model, batch_size=16, settings={"shard_rows": 30})
    encoded(folder, tmp_path / "pictures", model=model, batch_size=16, settings={"shard_rows": 20})
    assert [record.args for record in caplog.records if "Out of memory" in record.msg] == [(16, 8), (8, 4)] * 2
    most[0] = 100
    np.testing.assert_allclose(vectors_in(tmp_path / "text")[1], model.encode_text(captions).numpy(), atol=1e-6)
    names, vectors = vectors_in(tmp_path / "pictures")
    np.testing.assert_allclose(vectors, model.encode_image([folder / name for name in names]).numpy(), atol=1e-6)
    most[0] = 0
    with pytest.raises(DataError, match="not enough memory for one row"):
        encoded(text, tmp_path / "none", model=model)


def test_a_processor_without_memory_halves_the_batch_too(text, captions, encoded, vectors_in, caplog, tmp_path):
    """How a CPU tells it, and with a budget of tokens in place of a number of rows."""
    model, seen = CCRModel.from_base("tiny_clip").eval(), []

    def refuse(module, arguments, given):
        seen.append(len(next(iter((*arguments, *given.values())))))
        if seen[-1] > 2:
            raise RuntimeError(
                "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes."
            )

    hook = model.base.text_model.register_forward_pre_hook(refuse, with_kwargs=True)
    encoded(text, tmp_path / "text", model=model, batch_size=None, settings={"shard_rows": 30})
    halved = [record.args for record in caplog.records if "Out of memory" in record.msg]
    assert halved[0][0] <= len(captions)
    assert all(after == before // 2 for before, after in halved)
    hook.remove()
    np.testing.assert_allclose(vectors_in(tmp_path / "text")[1], model.encode_text(captions).numpy(), atol=1e-6)


def test_an_error_that_is_none_of_memory_is_not_tried_again(text, encoded, tmp_path):
    model, calls = CCRModel.from_base("tiny_clip").eval(), []

    def fail(*_):
        calls.append(1)
        raise RuntimeError("something else")

    model.base.text_model.register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="something else"):
        encoded(text, tmp_path / "out", model=model)
    assert len(calls) == 1


def test_a_shard_is_written_at_its_last_row_though_the_next_cannot_be_read(text, model, encoded, monkeypatch, tmp_path):
    whole = RowEncoder.pieces

    def breaks_off(self, shards):
        for shard, piece in whole(self, shards):
            if shard.number == 1:
                raise DataError("the drive is gone")
            yield shard, piece

    monkeypatch.setattr(RowEncoder, "pieces", breaks_off)
    with pytest.raises(DataError, match="the drive is gone"):
        encoded(text, tmp_path / "out")
    assert finished_shards(tmp_path / "out") == {0}


def test_a_model_of_another_precision_than_the_settings_say_is_refused(text, encoded, tmp_path):
    half = CCRModel.from_base("tiny_clip").eval().to(torch.bfloat16)
    with pytest.raises(ConfigError, match="The model is in bfloat16, and the settings say float32"):
        encoded(text, tmp_path / "out", model=half, settings={"precision": "float32"})
    assert encoded(text, tmp_path / "out", model=half).rows == 23
    assert json.loads((tmp_path / "out" / "encode.json").read_text())["precision"] == "bfloat16"
    assert encoded(text, tmp_path / "out", model=half, settings={"precision": "bfloat16"}).encoded == 0


def test_other_preprocessing_is_another_job(text, folder, encoded, tmp_path):
    model = CCRModel.from_base("tiny_clip").eval()
    encoded(folder, tmp_path / "pictures", model=model)
    encoded(text, tmp_path / "text", model=model)
    before = json.loads((tmp_path / "text" / "encode.json").read_text())
    model.processor.image_processor.image_mean = [0.1, 0.2, 0.3]
    encoded(text, tmp_path / "text", model=model)  # no business of captions
    with pytest.raises(DataError, match="holds other vectors: processing"):
        encoded(folder, tmp_path / "pictures", model=model)
    model.processor.base_max_length = 5
    with pytest.raises(DataError, match="holds other vectors: processing"):
        encoded(text, tmp_path / "text", model=model)
    # an earlier version did not write it down
    del before["processing"]
    (tmp_path / "text" / "encode.json").write_text(json.dumps(before))
    assert encoded(text, tmp_path / "text", model=model).encoded == 0


def test_one_encoder_at_a_time(text, encoded, tmp_path):
    with locked(tmp_path / "out"), pytest.raises(DataError, match="Another encoder is writing to"):
        encoded(text, tmp_path / "out")
    assert encoded(text, tmp_path / "out").rows == 23


def test_memory_does_not_grow_with_the_corpus(tmp_path):
    """A corpus of 40 MB is counted, and entered near its end, within a few."""
    path = tmp_path / "long.jsonl"
    line = json.dumps({"caption": "a star " * 28}) + "\n"
    path.write_text(line * 200_000)
    tracemalloc.start()
    files = find_inputs([path])
    plan = make_plan(fix_inputs(files, tmp_path), choose_columns(files), 1000)
    rows = plan.rows(plan.shards[-1])
    assert next(rows).id == "long.jsonl:199001"
    assert tracemalloc.get_traced_memory()[1] < 4e6
    tracemalloc.stop()
    assert len(plan.shards) == 200


def test_pictures_are_decoded_only_so_far_ahead(folder, model, tmp_path):
    files = find_inputs([folder])
    plan = make_plan(fix_inputs(files, tmp_path), choose_columns(files), 4)
    pieces = RowEncoder(model, plan, batch_size=1, workers=1).pieces(plan.shards)
    assert next(pieces)[0].number == 0
    # only the next one is in work: all others are gone before anybody looks at them
    for path in folder.rglob("*.*"):
        path.unlink()
    rest = [each for _, piece in pieces for each in piece]
    assert [each.problem for each in rest[1:]] == ["there is no such file"] * 9


@pytest.fixture(scope="module")
def told(captions, tmp_path_factory):
    """What another process says that was killed at any moment and met a full disk; see `worker.py`."""
    home = tmp_path_factory.mktemp("other")
    (home / "captions.txt").write_text("\n".join(captions), encoding="utf-8")
    command = [sys.executable, WORKER, home / "captions.txt", home]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_killed_at_any_moment_it_goes_on_and_makes_the_same_bytes(told, text, encoded, vectors_in, tmp_path):
    encoded(text, tmp_path / "whole")
    names, vectors = vectors_in(tmp_path / "whole")
    runs = told[1:]
    assert len(runs) > 8
    # killed at the beginning, in the middle and near the end
    assert {0, 23} < {run["safe"] for run in runs}
    for run in runs:
        assert run["rows"] == 23, run
        assert run["encoded"] == 23 - run["safe"], run
        assert run["again"] == [], run
        assert vectors_in(run["folder"])[0] == names
        np.testing.assert_array_equal(vectors_in(run["folder"])[1], vectors)


def test_a_full_disk_is_told_and_the_rest_is_kept(told):
    assert "part-00001.parquet' cannot be written (File too large). Finished shards are kept" in told[0]["error"]
    assert told[0]["parts"] == ["part-00000.parquet"]
    assert told[0]["encoded"] == 19


def test_a_copy_elsewhere_is_a_folder_of_vectors_too(text, encoded, vectors_in, tmp_path):
    encoded(text, tmp_path / "out")
    shutil.copytree(tmp_path / "out", tmp_path / "copy")
    assert encoded(text, tmp_path / "copy").encoded == 0
    assert vectors_in(tmp_path / "copy")[0] == vectors_in(tmp_path / "out")[0]
