"""The table of benchmarks is complete, and asking for what is not there says what is."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

import ccr_adapters.data.benchmarks as room
from ccr_adapters.data.benchmarks.definitions import BENCHMARKS, check_language, find_benchmark
from ccr_adapters.data.benchmarks.languages import codes_of, primary_language
from ccr_adapters.data.benchmarks.official import READERS
from ccr_adapters.errors import DataError, LanguageError

NAMES = [
    *("multi30k-task1-2016", "multi30k-task1-2017", "multi30k-task2-2016", "flickr30k", "mscoco-1k", "mscoco-5k"),
    *(
        "coco-cn",
        "stair-1k",
        "stair-5k",
        "xtd10",
        "xm3600@first",
        "xm3600@all",
        "xflickrco",
        "wit",
        "vatex",
        "msrvtt-cn",
    ),
]


def test_every_benchmark_has_a_name():
    assert sorted(BENCHMARKS) == sorted(NAMES)
    assert all(name == item.name for name, item in BENCHMARKS.items())


@pytest.mark.parametrize("name", NAMES)
def test_a_definition_says_what_a_score_needs(name):
    item = BENCHMARKS[name]
    assert item.reader in READERS
    assert item.images > 0
    assert item.licence
    assert item.homepage.startswith("https://")
    assert item.protocol
    assert len(set(item.languages)) == len(item.languages)
    assert all(primary_language(code) == code for code in item.languages)
    assert set(item.captions) <= set(item.languages)
    for language in item.languages:
        assert item.caption_files[language]
        assert not any("{" in file for file in item.caption_files[language])
    if item.hub is not None and item.hub.revision is not None:
        assert re.fullmatch(r"[0-9a-f]{40}", item.hub.revision)
    if item.hub is not None and item.hub.revision is None:
        assert any("revision" in note for note in item.notes)


def test_which_captions_count():
    assert BENCHMARKS["xm3600@first"].captions_counted == "first"
    assert BENCHMARKS["xm3600@all"].captions_counted == "all"
    assert BENCHMARKS["mscoco-5k"].captions_counted == "first 5"
    assert BENCHMARKS["xm3600@all"].published_size("de") == (3600, 8643)
    assert BENCHMARKS["wit"].published_size("el") == (541, 570)
    assert BENCHMARKS["coco-cn"].published_size("zh") == (1000, None)


def test_names_in_any_case_and_the_short_one():
    assert find_benchmark(" XTD10 ").name == "xtd10"
    assert find_benchmark("xm3600").name == "xm3600@all"


@pytest.mark.parametrize(
    ("name", "hint"), [("mscoco", "mscoco-1k or mscoco-5k"), ("2017", "task1-2017"), ("", "There are")]
)
def test_an_unknown_name_lists_those_there_are(name, hint):
    with pytest.raises(DataError, match=f"no benchmark '{name}'.*{hint}.*msrvtt-cn"):
        find_benchmark(name)


def test_a_language_that_a_benchmark_has_not():
    assert check_language(BENCHMARKS["xtd10"], "jp") == "ja"
    with pytest.raises(LanguageError, match="multi30k-task1-2017 has no captions in 'cs'; it has en, de, fr"):
        check_language(BENCHMARKS["multi30k-task1-2017"], "cs")


@pytest.mark.parametrize(
    ("code", "primary"),
    [("jp", "ja"), ("cn", "zh"), ("cz", "cs"), ("enc", "en"), ("deu-Latn", "de"), ("deu_Latn", "de"), ("zho-Hans", "zh"),
     ("zh-CN", "zh"), ("DE", "de"), ("mri", "mi"), ("fil", "fil"), ("quz", "quz"), ("no", "no"), ("amh-Ethi", "am"),
     ("zsm_Latn", "ms"), ("isl", "is"), ("pt-BR", "pt")],
)  # fmt: skip
def test_codes_as_people_write_them(code, primary):
    assert primary_language(code) == primary


@pytest.mark.parametrize(
    ("asked", "code"),
    [("no", "no"), ("nb", "no"), ("nn", "no"), ("nob_Latn", "no"), ("fil", "fil"), ("tl", "fil"), ("tgl_Latn", "fil"),
     ("quz", "quz"), ("qu", "quz"), ("quy_Latn", "quz")],
)  # fmt: skip
def test_codes_that_mean_one_language(asked, code):
    """Translators and XM3600 call Norwegian, Filipino and Quechua by other codes."""
    assert check_language(BENCHMARKS["xm3600@all"], asked) == code


def test_the_same_code_comes_before_another_of_the_same_language():
    assert codes_of(["nb", "no", "nn", "de"], "nob_Latn") == ["no"]
    assert codes_of(["nb", "nn", "de"], "no") == ["nb", "nn"]
    assert codes_of(["pt-BR", "pt-PT", "de"], "por_Latn") == ["pt-BR", "pt-PT"]
    assert codes_of(["da", "sv"], "nb") == []


def test_the_room_exports_its_names_and_is_cheap_to_list():
    assert set(room.__all__) <= set(dir(room))
    for name in room.__all__:
        assert callable(getattr(room, name)) or name == "BENCHMARKS"
    with pytest.raises(AttributeError, match=r"no_such_thing.*load_benchmark"):
        _ = room.no_such_thing
    code = "import sys; from ccr_adapters.data.benchmarks import BENCHMARKS; print('datasets' in sys.modules, len(BENCHMARKS))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", str(len(NAMES))]
