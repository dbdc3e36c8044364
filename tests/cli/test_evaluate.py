"""`ccr-adapters evaluate` run for real on the packaged base: scores, galleries, resuming, leaks, and what is refused."""

from __future__ import annotations

import json
import shutil

import av
import numpy as np
import pytest
import torch
from datasets import Dataset, DatasetDict
from datasets import Image as ImageFeature
from PIL import Image
from transformers import Siglip2Model
from transformers.models.siglip2 import Siglip2ImageProcessorPil
from typer.testing import CliRunner

from ccr_adapters.cli.main import app
from ccr_adapters.configuration import HeadConfig
from ccr_adapters.dasd import DASDConfig
from ccr_adapters.data.tiny_world import build_tiny_world
from ccr_adapters.evaluation import evaluate_retrieval
from ccr_adapters.evaluation.records import read_record
from ccr_adapters.modeling import CCRModel

TINY = ("--benchmark", "tiny-world", "--limit", 12, "--bootstrap", 20)
CLIP_BENCHMARK = ["dataset", "model", "pretrained", "task", "language", "metrics"]
COLOURS = ["red", "green", "blue", "white"]


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def ran(*arguments):
    found = run("evaluate", *arguments)
    assert found.exit_code == 0, found.output
    return found


def save_adapter(folder, tokenizer, *, codes=("de", "fr"), seed=0, base="tiny_clip", **language):
    """An adapter with changed weights, so that it and another are told apart."""
    torch.manual_seed(seed)
    model = CCRModel.from_base(base)
    for code in codes:
        model.add_language(code, DASDConfig(r=4, condition_dim=16, generator_rank=4), tokenizer=tokenizer, **language)
        for parameter in model.trainable(code):
            parameter.data.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def adapter(german_tokenizer, tmp_path_factory):
    """German and French."""
    return save_adapter(tmp_path_factory.mktemp("dasd") / "first" / "adapter", german_tokenizer)


@pytest.fixture(scope="session")
def other(german_tokenizer, tmp_path_factory):
    """German, of another training."""
    return save_adapter(tmp_path_factory.mktemp("dasd") / "second", german_tokenizer, codes=("de",), seed=1)


def results(folder):
    return {path.stem: read_record(path) for path in sorted(folder.glob("*.json"))}


def test_scores_are_those_of_the_library(adapter, tmp_path):
    found = ran(adapter, *TINY, "--languages", "de,en", "--before", "--output", tmp_path)
    records = results(tmp_path)
    assert set(records) == {f"tiny-world-12__{m}__{c}" for m in ("first", "tiny_clip") for c in ("de", "en")}
    model = CCRModel.from_pretrained(adapter)
    rows = build_tiny_world("de", train=0, validation=0, test=12)["test"]
    visual = model.encode_image(list(rows["image"]), None)
    for (label, language), code in {("first", "de"): "de", ("first", "en"): None, ("tiny_clip", "de"): None}.items():
        captions = [text for own in rows["caption" if language == "en" else "target_caption"] for text in own]
        expected = evaluate_retrieval(
            model.encode_text(captions, code), visual, np.repeat(np.arange(12), 2), bootstrap=20
        )
        record = records[f"tiny-world-12__{label}__{language}"]
        assert record.scores() == json.loads(json.dumps(expected.to_dict()))
        assert torch.equal(record.ranks().t2i, expected.ranks.t2i)
        assert record.own["intervals"]["sumR"] == pytest.approx(expected.sum_r_ci95)
        assert f"{expected.sum_r:.1f}" in found.output
    assert "tiny world: 12 rendered scenes with two captions each" in found.output
    assert "12 images x 24 captions" in found.output


def test_the_json_has_the_shape_of_clip_benchmark_and_our_facts(adapter, tmp_path):
    ran(adapter, *TINY, "--languages", "de", "--output", tmp_path)
    values = json.loads((tmp_path / "tiny-world-12__first__de.json").read_text(encoding="utf-8"))
    assert list(values) == [*CLIP_BENCHMARK, "ccr"]
    assert {key: values[key] for key in CLIP_BENCHMARK[:3]} == {
        "dataset": "tiny-world-12",
        "model": "tiny_clip",
        "pretrained": "first",
    }
    assert {f"image_retrieval_recall@{k}" for k in (1, 5, 10)} < set(values["metrics"])
    assert values["metrics"]["text_retrieval_recall@5"] == values["ccr"]["scores"]["i2t_r@5"] / 100
    own = values["ccr"]
    assert own["base"]["sha256"] == CCRModel.from_base("tiny_clip").base_sha256()
    assert {"ccr-adapters", "torch", "transformers", "peft"} <= own["versions"].keys()
    assert own["seconds"].keys() == {"gallery", "captions", "ranking"}
    assert own["facts"]["images"] == 12
    assert str(tmp_path) not in json.dumps(values)
    assert str(adapter.parent) not in json.dumps(values)


def test_pictures_are_seen_once_for_all_languages_and_models(adapter, other, tmp_path, seen):
    ran(f"a={adapter}", f"b={other}", *TINY, "--languages", "de,fr,en", "--before", "--output", tmp_path)
    assert sum(seen) == 12
    assert len(results(tmp_path)) == 3 + 3 + 2  # the base, a; b has no French


def test_what_is_finished_is_not_computed_again(adapter, other, german_tokenizer, tmp_path, seen):
    folder = save_adapter(tmp_path / "mine", german_tokenizer, codes=("de",), seed=2)
    command = [folder, *TINY, "--languages", "de", "--output", tmp_path / "out"]
    ran(*command)
    path = tmp_path / "out" / "tiny-world-12__mine__de.json"
    before, scores = path.stat().st_mtime_ns, read_record(path).scores()
    seen.clear()
    again = ran(*command)
    assert (sum(seen), path.stat().st_mtime_ns) == (0, before)
    assert f"{scores['sumR']:.1f}" in again.output
    ran(*command, "--force")
    assert sum(seen) == 12
    # another model in the same folder, other options, a file cut short: none of them is finished
    save_adapter(folder, german_tokenizer, codes=("de",), seed=3)
    assert "computed again" in ran(*command).output
    assert "computed again" in ran(*command, "--bootstrap", 0).output
    path.with_suffix(".npz").write_bytes(b"PK")
    assert "computed again" in ran(*command, "--bootstrap", 0).output
    assert read_record(path).own["intervals"] == {}
    # a card that is written later changes no score
    (folder / "README.md").write_text("new", encoding="utf-8")
    seen.clear()
    ran(*command, "--bootstrap", 0)
    assert sum(seen) == 0


def test_a_leak_is_told_and_never_called_zero_shot(adapter, tmp_path, seen):
    (tmp_path / "train.txt").write_text("images/tiny-test-00003.png\ntiny-test-00007.jpg\nx.jpg\n", encoding="utf-8")
    (tmp_path / "clean.json").write_text('["a", "b"]', encoding="utf-8")
    command = [adapter, *TINY, "--languages", "de", "--before", "--output", tmp_path / "out"]
    ran(*command)
    mine, base = (tmp_path / "out" / f"tiny-world-12__{name}__de.json" for name in ("first", "tiny_clip"))
    assert (read_record(mine).task, read_record(mine).own["setting"]) == ("retrieval", "not checked")
    seen.clear()
    leaked = ran(*command, "--trained-on", tmp_path / "train.txt")
    found = read_record(mine)
    assert found.task == "retrieval"
    assert found.own["setting"] == "leaked (2 of 12 test images were in the training data)"
    assert found.own["leak"]["overlap"]["leaked"] == ["tiny-test-00003", "tiny-test-00007"]
    assert "tiny-test-00003, tiny-test-00007" in leaked.output
    # nobody said what the base was trained on
    assert read_record(base).own["setting"] == "not checked"
    ran(*command)  # who says nothing takes nothing back
    assert read_record(mine).own["setting"] == "leaked (2 of 12 test images were in the training data)"
    ran(*command, "--trained-on", tmp_path / "clean.json")
    assert (read_record(mine).task, read_record(mine).own["setting"]) == ("zeroshot_retrieval", "zero-shot")
    assert sum(seen) == 0  # the label is new, the scores are not


@pytest.mark.parametrize(
    "content",
    [
        {"info": {}, "images": [{"id": 3, "file_name": "tiny-test-00003.png"}], "annotations": []},
        {"images": [{"split": "restval", "filename": "tiny-test-00003.jpg", "cocoid": 9}]},
        {"tiny-test-00003": ["a caption"], "x": "another"},
    ],
    ids=["coco", "karpathy", "captions"],
)
def test_training_images_in_the_files_of_others(adapter, tmp_path, content):
    (tmp_path / "train.json").write_text(json.dumps(content), encoding="utf-8")
    ran(adapter, *TINY, "--languages", "de", "--output", tmp_path / "out", "--trained-on", tmp_path / "train.json")
    found = read_record(tmp_path / "out" / "tiny-world-12__first__de.json")
    assert found.own["leak"]["overlap"]["leaked"] == ["tiny-test-00003"]


def test_the_test_split_of_karpathy_is_not_trained_on(adapter, tmp_path):
    rows = [
        {"split": split, "filename": f"tiny-test-0000{row}.jpg"} for row, split in enumerate(("train", "val", "test"))
    ]
    (tmp_path / "train.json").write_text(json.dumps({"images": rows}), encoding="utf-8")
    ran(adapter, *TINY, "--languages", "de", "--output", tmp_path / "out", "--trained-on", tmp_path / "train.json")
    found = read_record(tmp_path / "out" / "tiny-world-12__first__de.json")
    assert found.own["leak"]["overlap"]["leaked"] == ["tiny-test-00000"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"train": {"anno_file": []}, "test": {}}, "is no JSON list of image ids"),
        ({"images": [{"id": 1}, {"width": 2}]}, "has images without any of file_name"),
    ],
)
def test_json_that_names_no_training_images(adapter, tmp_path, content, message):
    (tmp_path / "train.json").write_text(json.dumps(content), encoding="utf-8")
    found = run("evaluate", adapter, *TINY, "--languages", "de", "--trained-on", tmp_path / "train.json")
    assert found.exit_code == 1
    assert message in " ".join(found.stderr.split())


def test_pictures_under_another_name_are_found_by_looks(adapter, tmp_path):
    rows = build_tiny_world("de", train=0, validation=0, test=12)["test"]
    for number in (2, 5):
        picture = rows[number]["image"]
        (tmp_path / "train").mkdir(exist_ok=True)
        picture.resize((128, 128), Image.Resampling.BOX).save(tmp_path / "train" / f"copy{number}.png")
    command = [adapter, *TINY, "--languages", "de", "--output", tmp_path / "out", "--trained-on", tmp_path / "train"]
    path = tmp_path / "out" / "tiny-world-12__first__de.json"
    ran(*command)
    assert read_record(path).own["setting"] == "zero-shot"
    ran(*command, "--hashes")
    assert {"tiny-test-00002", "tiny-test-00005"} <= set(read_record(path).own["leak"]["overlap"]["leaked"])
    assert read_record(path).task == "retrieval"


def test_training_data_that_datasets_saved(adapter, tmp_path):
    rows = build_tiny_world("de", train=0, validation=0, test=12)["test"].select([1, 1, 4])
    DatasetDict({"train": rows}).save_to_disk(str(tmp_path / "data"))
    ran(adapter, *TINY, "--languages", "de", "--output", tmp_path, "--trained-on", tmp_path / "data", "--hashes")
    overlap = read_record(tmp_path / "tiny-world-12__first__de.json").own["leak"]["overlap"]
    assert (overlap["train_images"], overlap["hashed"]) == (2, True)
    assert {"tiny-test-00001", "tiny-test-00004"} <= set(overlap["leaked"])


@pytest.fixture
def photos(tmp_path):
    """Four pictures with a table of captions in two languages; one row has no German."""
    folder = tmp_path / "photos"
    folder.mkdir()
    rows = ["file,text_de,text_fr"]
    for number, colour in enumerate(COLOURS):
        Image.new("RGB", (16, 16), colour).save(folder / f"{colour}.png")
        rows.append(f"{colour}.png,{'' if number == 3 else f'etwas in {colour}'},quelque chose {colour}")
    (folder / "captions.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder


def test_a_gallery_that_changed_in_the_middle_is_another(adapter, photos, tmp_path):
    command = [adapter, "--data", photos, "--languages", "de", "--column", "image=file", "--column", "caption=text_de"]
    command += ["--on-error", "skip", "--output", tmp_path / "out", "--bootstrap", 0]
    ran(*command)
    assert "computed again" not in ran(*command).output
    Image.new("RGB", (16, 16), "purple").save(photos / "green.png")
    assert "computed again" in ran(*command).output


def test_what_has_the_name_of_another_does_not_take_its_place(adapter, other, german_tokenizer, photos, tmp_path):
    command = [adapter, *TINY, "--languages", "de", "--output", tmp_path / "out"]
    ran(*command)
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    twin = save_adapter(tmp_path / "elsewhere" / "first", german_tokenizer, codes=("de",), seed=4)
    refused = run("evaluate", other, twin, *command[1:])
    assert refused.exit_code == 1
    assert "another model that is called 'first'" in " ".join(refused.stderr.split())
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before  # nor was `other` scored
    ran(f"twin={twin}", *command[1:])
    ran(twin, *command[1:], "--force")
    # a model that was moved is the same model
    twin.rename(tmp_path / "first")
    assert "computed again" not in ran(tmp_path / "first", *command[1:]).output
    for number in range(2):
        there = tmp_path / f"{number}" / "photos"
        shutil.copytree(photos, there)
        (there / "captions.csv").write_text(f"file,caption\nred.png,rot {number}\n", encoding="utf-8")
    own = ["--languages", "de", "--output", tmp_path / "own", "--bootstrap", 0]
    ran(other, "--data", tmp_path / "0" / "photos", "--column", "image=file", *own)
    refused = run("evaluate", other, "--data", tmp_path / "1" / "photos", "--column", "image=file", *own)
    assert refused.exit_code == 1
    assert "of other questions. Take another --output" in " ".join(refused.stderr.split())


def test_own_pictures_with_a_table(adapter, photos, tmp_path, seen):
    command = [adapter, "--data", photos, "--column", "image=file", "--column", "caption=text_{language}"]
    command += ["--languages", "de,fr", "--bootstrap", 0, "--output", tmp_path / "out"]
    refused = run("evaluate", *command)
    assert refused.exit_code == 1
    assert "white" in refused.stderr
    assert "--on-error skip" in refused.stderr
    found = ran(*command, "--on-error", "skip")
    records = results(tmp_path / "out")
    assert "left out 1 empty captions" in found.output
    assert records["photos__first__de"].own["problems"]["empty captions"]["count"] == 1
    assert records["photos__first__de"].scores()["images_without_captions"] == 1
    assert records["photos__first__fr"].scores()["captions"] == 4
    assert sum(seen) == 4


def test_official_files_say_where_they_differ_and_row_numbers_are_no_ids(adapter, tmp_path):
    rows = {"de": ["rot", "grün"], "image": [Image.new("RGB", (8, 8), colour) for colour in COLOURS[:2]]}
    files = tmp_path / "files"
    files.mkdir()
    Dataset.from_dict(rows).cast_column("image", ImageFeature()).to_parquet(files / "test-00000-of-00001.parquet")
    (tmp_path / "train.txt").write_text("1.jpg\n", encoding="utf-8")
    command = [adapter, "--benchmark", "multi30k-task1-2016", "--folder", files, "--languages", "deu-Latn"]
    found = ran(*command, "--output", tmp_path / "out", "--trained-on", tmp_path / "train.txt", "--bootstrap", 0)
    assert "2 images and 2 captions instead of 1,000 and 1,000" in found.output
    record = results(tmp_path / "out")["multi30k-task1-2016__first__deu-Latn"]
    assert record.own["adapter"] == "de"
    assert record.own["setting"] == "not checked"
    assert "no image ids" in record.own["leak"]["report"]
    assert record.own["facts"]["license"]
    ran(*command, "--limit", 1, "--output", tmp_path / "out", "--bootstrap", 0)
    first = results(tmp_path / "out")["multi30k-task1-2016-first1__first__deu-Latn"]
    assert "ONLY THE FIRST 1 IMAGES" in first.own["protocol"]
    assert first.scores()["images"] == 1


def test_a_base_at_native_resolution(naflex, photos, tmp_path):
    """SigLIP 2 NaFlex reads masks and shapes beside the pictures."""
    for width, colour in enumerate(COLOURS, 1):
        Image.new("RGB", (8 * width, 16), colour).save(photos / f"{colour}.png")
    data = ["--data", photos, "--column", "image=file", "--column", "caption=text_fr", "--languages", "fr"]
    ran(naflex, *data, "--bootstrap", 0, "--output", tmp_path / "out")
    (record,) = results(tmp_path / "out").values()
    base, pictures = Siglip2Model.from_pretrained(naflex).eval(), [Image.open(photos / f"{c}.png") for c in COLOURS]
    inputs = Siglip2ImageProcessorPil.from_pretrained(naflex)(images=pictures, return_tensors="pt")
    text = CCRModel.from_base(naflex).encode_text([f"quelque chose {colour}" for colour in COLOURS], None)
    with torch.no_grad():
        visual = base.get_image_features(**inputs).pooler_output
    assert torch.equal(record.ranks().t2i, evaluate_retrieval(text, visual, np.arange(4), bootstrap=0).ranks.t2i)


@pytest.mark.parametrize("normalize", [True, False])
def test_a_language_with_a_space_of_its_own(german_tokenizer, tmp_path, seen, normalize):
    head = HeadConfig(space=12, width=8, attention_heads=2, normalize_visual=normalize)
    folder = save_adapter(tmp_path / "nrccr", german_tokenizer, head=head)
    ran(folder, *TINY, "--languages", "de,fr", "--before", "--output", tmp_path / "out")
    assert sum(seen) == 12
    model = CCRModel.from_pretrained(folder)
    rows = build_tiny_world("de", train=0, validation=0, test=12)["test"]
    text = model.encode_text([text for own in rows["target_caption"] for text in own], "de")
    expected = evaluate_retrieval(
        text, model.encode_image(list(rows["image"]), "de"), np.repeat(np.arange(12), 2), bootstrap=20
    )
    found = read_record(tmp_path / "out" / "tiny-world-12__nrccr__de.json").ranks()
    assert torch.equal(found.t2i, expected.ranks.t2i)
    assert torch.equal(found.i2t, expected.ranks.i2t)


def test_features_of_videos_and_a_base_that_cannot_see(bases, german_tokenizer, tmp_path):
    head = HeadConfig(space=12, width=8, attention_heads=2, frames=4)
    folder = save_adapter(tmp_path / "video", german_tokenizer, codes=("de",), base=bases["bert"], head=head)
    noise = np.random.default_rng(0)
    (tmp_path / "frames").mkdir()
    lines = []
    for number in range(5):
        np.save(tmp_path / "frames" / f"v{number}.npy", noise.normal(size=(number + 2, 32)).astype("float32"))
        lines.append(f"v{number}#de#0 ein Hund rennt {number}")
    (tmp_path / "clips.caption.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    data = ["--data", tmp_path / "clips.caption.txt", "--features", tmp_path / "frames", "--bootstrap", 0]
    ran(folder, *data, "--before", "--languages", "de", "--output", tmp_path / "out", "--plots", tmp_path / "plots")
    assert set(results(tmp_path / "out")) == {"clips__video__de", "clips__bert__de"}
    assert (tmp_path / "plots" / "similarity__clips__video__de.png").is_file()
    blind = run("evaluate", folder, *TINY, "--output", tmp_path / "out")
    assert blind.exit_code == 1
    assert "no image tower" in blind.stderr


def test_video_files(adapter, tmp_path, seen):
    (tmp_path / "clips").mkdir()
    lines = []
    for number, colour in enumerate(COLOURS):
        with av.open(str(tmp_path / "clips" / f"v{number}.mp4"), "w") as file:
            stream = file.add_stream("mpeg4", rate=8)
            stream.width = stream.height = 32
            stream.pix_fmt = "yuv420p"
            for _ in range(8):
                picture = np.asarray(Image.new("RGB", (32, 32), colour))
                file.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            file.mux(stream.encode())
        lines.append(f"v{number}#de#0 ein Hund rennt {number}")
    (tmp_path / "clips.caption.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    data = ["--data", tmp_path / "clips.caption.txt", "--images", tmp_path / "clips", "--bootstrap", 0]
    ran(adapter, *data, "--languages", "de,fr", "--output", tmp_path / "out", "--plots", tmp_path / "plots")
    assert sum(seen) == 4 * 8
    model = CCRModel.from_pretrained(adapter)
    videos = [tmp_path / "clips" / f"v{number}.mp4" for number in range(4)]
    text = model.encode_text([f"ein Hund rennt {number}" for number in range(4)], "de")
    expected = evaluate_retrieval(text, model.encode_video(videos, "de"), np.arange(4), bootstrap=0)
    assert torch.equal(results(tmp_path / "out")["clips__first__de"].ranks().t2i, expected.ranks.t2i)


def test_a_base_by_itself_and_plots(adapter, tmp_path):
    found = ran("tiny_clip", adapter, *TINY, "--before", "--output", tmp_path, "--plots", tmp_path / "plots")
    assert "tiny_clip (base)" in found.output
    names = {path.name for path in (tmp_path / "plots").iterdir()}
    assert names == {
        "recall__tiny-world-12.png",
        *(f"ranks__tiny-world-12__{code}.png" for code in ("de", "fr")),
        *(f"{kind}__tiny-world-12__first__{code}.png" for kind in ("similarity", "map") for code in ("de", "fr")),
    }
    assert all(Image.open(path).width == 1200 for path in (tmp_path / "plots").iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{adapter}"], "Name the questions"),
        (["{adapter}", *TINY, "--data", "x"], "Name the questions"),
        (["{adapter}", "--benchmark", "xm36", "--languages", "de"], "There is no benchmark 'xm36'. Did you mean"),
        (["{adapter}", "--benchmark", "nope", "--languages", "de"], "rendered by the package: tiny-world."),
        (
            ["{adapter}", "--benchmark", "xtd10", "--languages", "de", "--folder", "none"],
            "there is no folder 'none'. Get",
        ),
        (
            ["{adapter}", "--benchmark", "vatex", "--languages", "zh"],
            "No model has an adapter for 'zh'; there is de, fr",
        ),
        (["{adapter}", "--benchmark", "multi30k-task1-2017", "--languages", "de"], "pass --folder with a folder"),
        (["{adapter}", *TINY, "--languages", "de", "--folder", "."], "made by the package"),
        (["{adapter}", "--benchmark", "xtd10", "--table", "x.csv"], "--table goes with --data"),
        (["{adapter}", *TINY, "--languages", "zz", "--before"], "has no captions in 'zz'"),
        (["tiny_clip", *TINY], "name them with --languages"),
        (["{adapter}", "{adapter}", *TINY], "are both called 'first'"),
        (["={adapter}", *TINY], "NAME=PLACE"),
        (["nowhere", *TINY], "neither a folder here nor"),
        (["{empty}", *TINY], "Is this an adapter repository"),
        (["{adapter}", *TINY, "--hashes"], "--trained-on"),
        (["{adapter}", *TINY, "--trained-on", "none.txt"], "no list of training images 'none.txt'"),
        (["{adapter}", *TINY, "--trained-on", "{ids}", "--hashes"], "has none: name a folder"),
        (["{adapter}", "--data", "{empty}", "--languages", "de"], "no table of captions"),
        (["{adapter}", "--data", "{words}", "--languages", "de"], "Name it with --column caption=..."),
        (["{adapter}", "--data", "{empty}", "--column", "words=x"], "--column words=x"),
    ],
)
def test_what_cannot_be_is_said_in_a_sentence(adapter, tmp_path, arguments, message):
    (tmp_path / "empty").mkdir()
    (tmp_path / "ids.txt").write_text("a\n", encoding="utf-8")
    (tmp_path / "words").mkdir()
    (tmp_path / "words" / "captions.csv").write_text("image,words\na.png,ein Hund\n", encoding="utf-8")
    places = {"adapter": adapter, "empty": tmp_path / "empty", "ids": tmp_path / "ids.txt", "words": tmp_path / "words"}
    found = run("evaluate", *(str(one).format(**places) for one in arguments), "--output", tmp_path / "out")
    assert found.exit_code == 1, found.output
    assert isinstance(found.exception, SystemExit), found.exception
    line = found.stderr.strip().splitlines()[-1]
    assert line.startswith("error: ")
    assert message in line
    assert not (tmp_path / "out").exists()
