"""The page as it is built: its tabs, the names under which programs call it, and what it does without captions."""

from __future__ import annotations

import pytest

from ccr_adapters.demo import build_page
from ccr_adapters.demo.look import CSS, theme


def texts_of(page):
    return " ".join(str(getattr(block, "value", "")) for block in page.blocks.values())


@pytest.fixture(scope="module")
def page(model, pictures, captions):
    return build_page(
        model, pictures, captions, questions={"de": ["roter stern"]}, title="Photos", about="Nine of them."
    )


def test_what_it_says(page):
    assert page.title == "Photos"
    assert not page.analytics_enabled
    assert "Nine of them." in texts_of(page)
    assert [block.label for block in page.blocks.values() if type(block).__name__ == "Tab"] == [
        "Search",
        "Side by side",
        "Why",
        "Captions",
    ]


def test_every_control_has_a_label(page):
    for block in page.blocks.values():
        if type(block).__name__ in ("Textbox", "Dropdown", "Radio", "File"):
            assert block.label
            assert block.show_label


def test_programs_can_ask_too(page):
    assert set(page.get_api_info()["named_endpoints"]) == {"/search", "/side_by_side", "/why", "/captions"}


def test_a_language_that_the_captions_do_not_have_cannot_be_chosen(page, model, pictures, captions):
    german = build_page(model, pictures, [each for each in captions if each.language == "de"])
    (chosen,) = [b for b in german.blocks.values() if getattr(b, "label", "") == "Language of the captions"]
    assert chosen.choices == [("German", "de")]


def test_without_captions_it_says_so(model, pictures):
    assert "No captions in a language that the model reads were given" in texts_of(build_page(model, pictures))


def test_nothing_is_fetched_from_elsewhere():
    assert "url(" not in CSS
    assert "http" not in CSS
    assert theme()._stylesheets == []
