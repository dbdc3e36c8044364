"""`ccr-adapters search` for real: words in two languages, pictures, both, filters, JSON, and the sheet."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from ccr_adapters.cli.main import app
from ccr_adapters.configuration import HeadConfig
from ccr_adapters.modeling import CCRModel


def invoke(*arguments):
    return CliRunner().invoke(app, list(map(str, arguments)))


@pytest.fixture
def search(home):
    """Function that searches the folder's index, or another; gives what is printed, or the parsed JSON."""

    def run(*arguments, index="p.index", as_json=True):
        found = invoke("search", *arguments, "--index", home / index, *(["--json"] if as_json else []))
        assert found.exit_code == 0, found.output
        return json.loads(found.stdout) if as_json else found.stdout

    return run


def names(answer):
    return [Path(hit["id"]).name for hit in answer["hits"]]


def test_the_model_is_remembered(search, photos, home):
    (answer,) = search("a yellow heart", "-k", 3)
    assert names(answer)[0] == photos.name(2)
    assert (answer["query"], answer["language"], answer["image"], len(answer["hits"])) == (
        "a yellow heart",
        "en",
        None,
        3,
    )
    best = answer["hits"][0]
    assert best["path"] == str(home / "photos" / photos.name(2))
    assert best["metadata"] == {"source": "photos"}
    scores = [hit["score"] for hit in answer["hits"]]
    assert scores == sorted(scores, reverse=True)


def test_german_finds_what_english_finds(search, photos, german_adapter):
    (answer,) = search("ein gelbes Herz", "--model", german_adapter)
    assert answer["language"] == "de"
    assert names(answer)[0] == photos.name(2)
    (bare,) = search("ein gelbes Herz", "--language", "en")
    assert names(bare)[0] != photos.name(2)


def test_questions_of_several_languages_at_once(search, photos, german_adapter):
    questions = ["ein roter Stern", "a blue fish", "ein grünes Haus auf Schnee"]
    languages = ["--language", "de", "--language", "en", "--language", "de"]
    answers = search(*questions, *languages, "--model", german_adapter, "-k", 1)
    assert [names(answer)[0] for answer in answers] == [photos.name(number) for number in (0, 1, 3)]
    assert [answer["language"] for answer in answers] == ["de", "en", "de"]
    apart = [
        search(question, "--language", code, "--model", german_adapter, "-k", 1)[0]
        for question, code in zip(questions, languages[1::2], strict=True)
    ]
    for one, other in zip(answers, apart, strict=True):
        assert one["hits"][0]["score"] == pytest.approx(other["hits"][0]["score"], abs=1e-5)


def test_a_picture_finds_itself_and_words_change_what_it_finds(search, photos, home, tmp_path):
    query = tmp_path / "query.png"
    photos.picture(1).save(query)
    (answer,) = search("--image", query)
    assert names(answer)[0] == photos.name(1)
    assert answer["hits"][0]["score"] == pytest.approx(1, abs=1e-4)
    assert (answer["query"], answer["language"]) == (None, None)
    words, both = search("a yellow heart", "--image", query, "--weight", 0)[0], {}
    assert names(words)[0] == photos.name(2)
    for weight in (0.5, 1):
        both[weight] = search("a yellow heart", "--image", query, "--weight", weight)[0]
    assert names(both[1]) == names(answer)
    score = {weight: {Path(hit["id"]).name: hit["score"] for hit in found["hits"]} for weight, found in both.items()}
    assert score[0.5][photos.name(2)] > score[1][photos.name(2)]
    assert score[0.5][photos.name(1)] < score[1][photos.name(1)]


def test_a_filter_compares_numbers_and_text(search, photos):
    (answer,) = search("a yellow heart", "--filter", "year=2021", index="t.index")
    assert {hit["metadata"]["year"] for hit in answer["hits"]} == {2021}
    assert len(answer["hits"]) == 3
    (either,) = search("a yellow heart", "--filter", "year=2021", "--filter", "year=2022", index="t.index")
    assert len(either["hits"]) == 6
    for word in ("NaN", "Infinity"):  # which Python takes for JSON
        assert search("a yellow heart", "--filter", f"year={word}", index="t.index")[0]["hits"] == []
    (none,) = search("a yellow heart", "--filter", "year=2021", "--filter", "source=photos", index="t.index")
    assert none["hits"] == []


def test_the_table_is_for_people(search, photos, home, monkeypatch):
    monkeypatch.chdir(home)
    text = search("a yellow heart", "a blue fish", "-k", 2, index="t.index", as_json=False)
    assert "a yellow heart (en)" in text
    first = next(line for line in text.splitlines() if line.startswith("1 "))
    assert f" photos/{photos.name(2)} " in first
    assert first.endswith("2022")
    nothing = search("a yellow heart", "--filter", "year=1", index="t.index", as_json=False)
    assert "nothing found" in nothing


def test_the_sheet_shows_what_was_found(search, photos, home, tmp_path, german_adapter):
    sheet = tmp_path / "found.png"
    query = tmp_path / "query.png"
    photos.picture(5).save(query)
    search("ein roter Stern", "eine weiße Blume", "--model", german_adapter, "-k", 4, "--sheet", sheet)
    with Image.open(sheet) as drawn:
        colours = {pixel for _, pixel in drawn.convert("RGB").getcolors(1 << 24)}
        width, height = drawn.size
    assert width > 1200
    assert height > 600
    assert len(colours) > 500  # pictures, and not only letters


def test_a_picture_that_vanished_is_grey_on_the_sheet(photos, tmp_path):
    folder, index = photos.fill(tmp_path / "photos", 3), tmp_path / "i"
    assert invoke("index", folder, "--index", index, "--model", "tiny_clip").exit_code == 0
    (folder / photos.name(0)).unlink()
    found = invoke("search", "a red star", "--index", index, "--sheet", tmp_path / "s.png")
    assert found.exit_code == 0
    assert "cannot be shown" in found.stderr
    assert (tmp_path / "s.png").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Nothing to search for"),
        (["a", " "], "Question 2 is empty"),
        (["a", "--language", "de"], "'de' has no adapter"),
        (["a", "b", "c", "--language", "en", "--language", "en"], "3 questions and 2 languages"),
        (["a", "--image", "none.jpg"], "no picture 'none.jpg'"),
        (["a", "--image", __file__], f"'{__file__}' cannot be searched with: it is no picture of a known format."),
        (["a", "--filter", "year"], "KEY=VALUE"),
        (["a", "--sheet", "s.gif"], "ends in .png"),
        (["a", "-k", "99999"], "expected 1 to 16,384"),
    ],
)
def test_what_is_wrong_is_a_line(home, arguments, message):
    found = invoke("search", *arguments, "--index", home / "p.index")
    assert found.exit_code == 1
    assert found.stderr.startswith("error: ")
    assert message in found.stderr


def test_an_index_that_is_not_there_is_told(tmp_path):
    found = invoke("search", "a", "--index", tmp_path / "none")
    assert "holds no index" in found.stderr


def test_an_index_of_another_base_is_refused(home, bases):
    found = invoke("search", "a", "--index", home / "p.index", "--model", bases["clip"])
    assert found.exit_code == 1
    assert "was made with the base 'tiny_clip'" in found.stderr


def test_a_language_with_a_space_of_its_own_is_refused(home, photos, tmp_path):
    model = CCRModel.from_base("tiny_clip")
    model.add_language("cs", head=HeadConfig())
    model.save_pretrained(tmp_path / "cs")
    found = invoke("search", "a", "--index", home / "p.index", "--model", tmp_path / "cs")
    assert found.exit_code == 1
    assert "space of its own" in found.stderr


def test_several_adapters_bring_their_languages(home, photos, german_adapter, tmp_path):
    model = CCRModel.from_base("tiny_clip")
    model.add_language("fr")
    model.save_pretrained(tmp_path / "fr")
    models = ["--model", german_adapter, "--model", tmp_path / "fr"]
    unsaid = invoke("search", "a", "--index", home / "p.index", *models)
    assert "say which with --language" in unsaid.stderr
    texts = ["ein roter Stern", "a blue fish", "--language", "de", "--language", "fr"]
    found = invoke("search", *texts, "--index", home / "p.index", *models, "--json", "-k", 1)
    assert [names(answer)[0] for answer in json.loads(found.stdout)] == [photos.name(0), photos.name(1)]
