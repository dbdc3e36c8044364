"""The noise report finds what is wrong in rows that were written by hand, and leaves what is right alone."""

from __future__ import annotations

import json

import numpy as np
import pytest
from datasets import Dataset
from PIL import Image
from typer.testing import CliRunner

from ccr_adapters.cli.main import app
from ccr_adapters.data import build_tiny_world
from ccr_adapters.errors import DataError
from ccr_adapters.translation import filter_rows, noise_report, with_weights
from ccr_adapters.translation.noise import RAMPS

CAPTIONS = [
    "Two dogs run through the deep snow.",
    "A woman in a red dress sits on a bench.",
    "A child holds a blue balloon in the park.",
    "Three men are playing football on a field.",
    "An old man reads a newspaper at the station.",
    "A black cat sleeps on a chair.",
    "People are walking across a busy street.",
    "A girl rides her bicycle along the beach.",
]
CLEAN = {
    "de": [
        "Zwei Hunde laufen durch den tiefen Schnee.",
        "Eine Frau in einem roten Kleid sitzt auf einer Bank.",
        "Ein Kind hält im Park einen blauen Ballon.",
        "Drei Männer spielen auf einem Feld Fußball.",
        "Ein alter Mann liest am Bahnhof eine Zeitung.",
        "Eine schwarze Katze schläft auf einem Stuhl.",
        "Menschen gehen über eine belebte Straße.",
        "Ein Mädchen fährt mit dem Fahrrad am Strand entlang.",
    ],
    "zh": [
        "两只狗在厚厚的雪地里奔跑。",
        "一个穿着红色连衣裙的女人坐在长椅上。",
        "一个孩子在公园里拿着一个蓝色的气球。",
        "三个男人正在球场上踢足球。",
        "一位老人在车站看报纸。",
        "一只黑猫睡在椅子上。",
        "人们正穿过一条繁忙的街道。",
        "一个女孩沿着海滩骑自行车。",
    ],
    "sw": [
        "Mbwa wawili wanakimbia kwenye theluji nzito.",
        "Mwanamke aliyevaa gauni jekundu ameketi kwenye benchi.",
        "Mtoto ameshika puto la bluu katika bustani.",
        "Wanaume watatu wanacheza mpira wa miguu uwanjani.",
        "Mzee anasoma gazeti kwenye kituo cha treni.",
        "Paka mweusi analala juu ya kiti.",
        "Watu wanatembea polepole katika barabara yenye shughuli nyingi.",
        "Msichana anaendesha baiskeli yake kando ya ufuo.",
    ],
    "cs": [
        "Dva psi běží hlubokým sněhem.",
        "Žena v červených šatech sedí na lavičce.",
        "Dítě drží v parku modrý balónek.",
        "Tři muži hrají na hřišti fotbal.",
        "Starý muž čte na nádraží noviny.",
        "Černá kočka spí na židli.",
        "Lidé přecházejí rušnou ulici.",
        "Dívka jede na kole podél pláže.",
    ],
}
COPY = "A girl rides her bicycle along the beach."
WRONG = {
    "de": {
        "empty": " ", "untranslated": COPY, "wrong_script": "Девочка едет на велосипеде по пляжу.", "length": "Rad",
        "repeated": "Ein Mädchen fährt fährt fährt fährt fährt fährt am Strand.",
    },
    "zh": {
        "empty": "", "untranslated": COPY, "wrong_script": "Ein Mädchen fährt Fahrrad.", "length": "一个女孩骑车沿海滩走" * 9,
        "repeated": "一个女孩沿着沿着沿着沿着海滩。",
    },
    "sw": {
        "empty": "", "untranslated": COPY, "wrong_script": "一个女孩沿着海滩骑自行车。", "length": "Baiskeli",
        "repeated": "Msichana wa wa wa wa ufuo wa bahari ya.",
    },
    "cs": {
        "empty": "\n", "untranslated": COPY, "wrong_script": "Девочка едет на велосипеде по пляжу.", "length": "Kolo",
        "repeated": "Dívka jede na kole na kole na kole na kole.",
    },
}  # fmt: skip
LANGUAGES = list(CLEAN)


def rows_of(translations, **more):
    return Dataset.from_dict({"caption": CAPTIONS, "translation": translations, **more})


@pytest.mark.parametrize("language", LANGUAGES)
def test_good_translations_are_left_alone(language):
    report = noise_report(rows_of(CLEAN[language]), language)
    assert report.counts["any"] == 0
    assert report.scores.min() > 0.6
    assert set(report.factors) == set(RAMPS) - {"round_trip"}


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("wrong", ["empty", "untranslated", "wrong_script", "length", "repeated"])
def test_a_bad_row_is_found_and_named(language, wrong):
    rows = rows_of([*CLEAN[language][:7], WRONG[language][wrong]])
    report = noise_report(rows, language)
    assert [row for row in range(8) if any(flags[row] for flags in report.flags.values())] == [7]
    assert report.flags[wrong][7]
    assert report.scores[7] < 0.5 < report.scores[:7].min()
    assert report.examples[0]["row"] == 7
    assert wrong in report.examples[0]["flags"]
    assert len(filter_rows(rows, report)) == 7


def test_a_poor_round_trip_is_found():
    backs = [*CAPTIONS[:6], "People walk across a crowded street.", "The market opens at nine."]
    report = noise_report(rows_of(CLEAN["de"], back_translation=backs), "de")
    assert report.flags["round_trip"].tolist() == [False] * 7 + [True]
    assert report.counts["any"] == 1
    assert report.factors["round_trip"][:7].min() > 0.9


def test_the_score_is_the_product_of_the_ramps():
    rows = rows_of([*CLEAN["de"][:7], "Ein Mädchen fährt fährt fährt fährt am Strand, along the beach"])
    report = noise_report(rows, "de")
    assert report.scores == pytest.approx(np.prod(list(report.factors.values()), axis=0))
    # 3 of 11 words only repeat: 1 up to 0, 0 from 0.3
    assert report.factors["repeated"][7] == pytest.approx((0.3 - 3 / 11) / 0.3)


def test_lengths_are_measured_by_the_rows_themselves():
    lengths = np.log([len(de) / len(en) for de, en in zip(CLEAN["de"], CAPTIONS, strict=True)])
    odd = [*CLEAN["de"][:7], CLEAN["de"][7][:20]]
    lengths[7] = np.log(20 / len(CAPTIONS[7]))
    spread = max(1.4826 * np.median(np.abs(lengths - np.median(lengths))), 0.1)
    away = np.abs(lengths - np.median(lengths)) / spread
    report = noise_report(rows_of(odd), "de")
    assert report.factors["length"] == pytest.approx(np.clip((6 - away) / 4, 0, 1))


def test_a_caption_that_repeats_itself_may_be_translated_so():
    rows = Dataset.from_dict({"caption": ["no no no no"] * 2, "translation": ["nein nein nein nein", "nein"]})
    assert not noise_report(rows, "de").flags["repeated"].any()


def test_captions_are_measured_as_their_language_is_written():
    rows = Dataset.from_dict({"caption": ["哈哈哈哈哈哈"], "translation": ["ha ha ha ha ha ha"]})
    assert noise_report(rows, "en", source="zh").factors["repeated"].tolist() == [1.0]
    assert noise_report(rows, "en", source="ko").flags["repeated"].tolist() == [True]


def test_numbers_and_dots_are_no_loops():
    english = ["a sign that says 1000000", "a banknote of 100000 yen", "a man waits for the bus ......"]
    chinese = ["写着1000000的牌子", "一张100000日元的钞票", "一个男人在等公交车......"]
    report = noise_report(Dataset.from_dict({"caption": english, "translation": chinese}), "zh")
    assert report.factors["repeated"].tolist() == [1.0, 1.0, 1.0]


def test_checks_that_were_not_made_are_named():
    rows = Dataset.from_dict({"caption": ["two dogs"], "translation": ["two cats"]})
    report = noise_report(rows, "en")
    assert "Not checked: untranslated, for captions and translations are both in 'en'." in report.to_markdown()
    assert list(report.to_dict()["left_out"]) == ["untranslated"]
    assert list(noise_report(rows, "tlh").left_out) == ["wrong_script"]
    assert "Not checked" not in noise_report(rows, "de").to_markdown()


def test_the_source_is_what_translate_noted(tmp_path):
    german = ["ein Hund rennt durch den Schnee", "eine rote Katze sitzt dort"]
    rows = Dataset.from_dict({"caption": german, "translation": german, "language": ["en", "en"]})
    rows.save_to_disk(str(tmp_path / "en"))
    assert "Not checked: untranslated" in CliRunner().invoke(app, ["noise-report", str(tmp_path / "en")]).output
    (tmp_path / "en" / "job.json").write_text(json.dumps({"translator": {"source": "de"}, "summary": None}))
    found = CliRunner().invoke(app, ["noise-report", str(tmp_path / "en")]).output
    assert "| untranslated | a copy of the caption | 2 |" in found
    found = CliRunner().invoke(app, ["noise-report", str(tmp_path / "en"), "--source", "en"]).output
    assert "Not checked: untranslated" in found


def test_two_scripts_of_one_language_are_both_right():
    rows = Dataset.from_dict({"caption": ["two dogs"] * 2, "translation": ["два пса", "dva psa"]})
    assert noise_report(rows, "sr").counts["wrong_script"] == 0
    assert noise_report(rows, "sr-Latn").flags["wrong_script"].tolist() == [True, False]


def test_a_language_without_a_known_script_is_said(caplog):
    rows = Dataset.from_dict({"caption": ["two dogs"], "translation": ["cha' targh"]})
    report = noise_report(rows, "tlh")
    assert "wrong_script" not in report.factors
    assert "script of 'tlh' is not known" in caplog.text


def test_a_row_without_a_back_translation_is_not_judged_by_it():
    rows = Dataset.from_dict(
        {
            "caption": ["a dog runs through the snow", "a red cat sits there", "two women are talking"],
            "translation": ["ein Hund rennt durch den Schnee", "eine rote Katze sitzt dort", "zwei Frauen reden"],
            "back_translation": ["a dog runs through the snow", None, ""],
        }
    )
    assert noise_report(rows, "de").factors["round_trip"].tolist() == [1.0, 1.0, 1.0]


def test_a_copy_of_captions_in_another_language_than_english_is_found():
    german = ["ein Hund rennt durch den Schnee", "eine rote Katze sitzt dort", "zwei Frauen reden miteinander"]
    rows = Dataset.from_dict({"caption": german, "translation": [*german[:2], "two women are talking to each other"]})
    assert noise_report(rows, "en", source="de").flags["untranslated"].tolist() == [True, True, False]


def test_translations_into_another_language_are_said():
    french = build_tiny_world("fr", train=60, validation=0, test=0, image_size=8)["train"]
    rows = french.select_columns(["caption", "translation"])
    report = noise_report(rows, "de")
    assert report.note.startswith("Of 60 translations 60 read as 'fr' and 0 as 'de'")
    assert report.note in report.to_markdown()
    assert noise_report(rows, "fr").note is None


def test_english_may_be_a_copy():
    rows = Dataset.from_dict({"caption": CAPTIONS, "translation": CAPTIONS})
    assert noise_report(rows, "en").counts["any"] == 0
    assert noise_report(rows, "de").counts["untranslated"] == 8


def test_the_report_is_written_for_people_and_programs(tmp_path):
    rows = rows_of([*CLEAN["de"][:6], "Die | Leute", ""], back_translation=[*CAPTIONS[:7], None])
    report = noise_report(rows, "de")
    report.write(tmp_path / "noise")
    found = json.loads((tmp_path / "noise" / "noise.json").read_text(encoding="utf-8"))
    assert found["rows"] == 8
    assert found["flagged"]["empty"] == 1
    assert found["flagged"]["any"] == 2
    assert found["worst"][0] == {
        "row": 7, "score": 0.0, "caption": CAPTIONS[7], "translation": "", "back_translation": "", "flags": ["empty"],
    }  # fmt: skip
    text = (tmp_path / "noise" / "noise.md").read_text(encoding="utf-8")
    assert "Die \\| Leute" in text
    assert "| empty | no translation | 1 | 12.5% |" in text
    assert np.load(tmp_path / "noise" / "scores.npy").tolist() == report.scores.tolist()
    with Image.open(tmp_path / "noise" / "noise.png") as picture:
        assert min(picture.size) > 200
        assert len(np.unique(np.asarray(picture.convert("RGB")).reshape(-1, 3), axis=0)) > 3


def test_rows_are_filtered_and_weighted_by_their_scores():
    rows = rows_of([*CLEAN["de"][:6], CAPTIONS[6], ""])
    report = noise_report(rows, "de")
    weighted = with_weights(rows, report)
    assert weighted["weight"][:] == pytest.approx(report.scores)
    assert filter_rows(weighted, report, 0.5)["translation"][:] == CLEAN["de"][:6]
    # nothing is no translation, however low the limit
    assert len(filter_rows(rows, report, 0.0)) == 7
    with pytest.raises(DataError, match="report is of 8 rows, and there are 7"):
        filter_rows(rows.select(range(7)), report)
    with pytest.raises(DataError, match="lowest score is 50"):
        filter_rows(rows, report, 50)
    with pytest.raises(DataError, match="'weight' already"):
        with_weights(weighted, report)


def test_rows_without_translations_are_refused():
    with pytest.raises(DataError, match="lack translation; they have caption"):
        noise_report(Dataset.from_dict({"caption": ["a"]}), "de")


def test_rows_that_are_no_texts_or_of_another_language_are_refused():
    with pytest.raises(DataError, match="'translation' holds List.*; expected texts, one a row"):
        noise_report(Dataset.from_dict({"caption": ["a"], "translation": [["b"]]}), "de")
    for backs in ([3], [["b"]]):
        with pytest.raises(DataError, match="'back_translation' holds .*; expected texts, one a row"):
            noise_report(Dataset.from_dict({"caption": ["a"], "translation": ["b"], "back_translation": backs}), "de")
    rows = Dataset.from_dict({"caption": ["a"], "translation": ["b"], "language": ["de"]})
    with pytest.raises(DataError, match="1 of 1 rows are in another language than 'cs'"):
        noise_report(rows, "cs")


def test_a_column_of_nothing_is_empty():
    rows = Dataset.from_dict(
        {"caption": ["a dog", "a cat"], "translation": [None, None], "back_translation": [None, None]}
    )
    assert noise_report(rows, "de").counts == {"empty": 2, "any": 2} | dict.fromkeys(RAMPS, 0)


def test_no_rows_are_no_noise():
    report = noise_report(rows_of(CLEAN["de"]).select([]), "de")
    assert (len(report), report.counts["any"], report.to_dict()["mean_score"]) == (0, 0, 0.0)
    assert "0 translations" in report.to_markdown()
