"""The page in a real browser: what is typed, clicked and uploaded, by mouse and by keyboard, at two widths.

With CCR_ADAPTERS_SCREENSHOTS set to a folder, screenshots are kept there.
"""

from __future__ import annotations

import os
import shutil
import socket
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect, sync_playwright

from ccr_adapters.demo import build_page, launch

DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}

SETTLED = """() => !document.querySelector('.pending')
  && !document.getAnimations().some(each => each instanceof CSSTransition && each.playState === 'running')"""


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@pytest.fixture(scope="module")
def address(model, pictures, captions):
    """The page of nine pictures, served."""
    questions = {"de": ["grünes haus schnee"], "cs": ["zelený dům sníh"], "en": ["green house snow"]}
    page = build_page(model, pictures, captions, questions=questions, about="Nine pictures", k=6)
    _, local, _ = launch(page, prevent_thread_lock=True, quiet=True, server_name="127.0.0.1", server_port=free_port())
    yield local.rstrip("/")
    page.close(verbose=False)


@pytest.fixture(scope="module")
def browser():
    path = os.environ.get("CHROMIUM") or shutil.which("chromium")
    if path is None:
        pytest.fail("There is no Chromium, which these tests drive. `.ci/run` installs it; CHROMIUM may name another.")
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def page(browser, address):
    """The page, loaded once; what it complains of and what it asks others for is in `heard`."""
    shown = browser.new_page(viewport=DESKTOP)
    shown.set_default_timeout(20_000)
    shown.heard = heard = []
    shown.on("console", lambda message: heard.append(message.text) if message.type == "error" else None)
    shown.on("pageerror", lambda error: heard.append(str(error)))
    shown.on("response", lambda response: heard.append(response.url) if response.status >= 400 else None)
    inside = (address, "data:", "blob:")
    shown.on("request", lambda request: None if request.url.startswith(inside) else heard.append(request.url))
    shown.goto(address)
    expect(shown.get_by_label("Question").first).to_be_visible()
    return shown


@pytest.fixture(autouse=True)
def from_the_first_tab(page):
    """Every test finds the page at its first tab, whichever ran before it."""
    page.keyboard.press("Escape")
    open_tab(page, "Search")


@pytest.fixture
def kept():
    """Function that keeps a screenshot, where the user wants some."""

    def keep(page, name):
        if os.environ.get("CCR_ADAPTERS_SCREENSHOTS"):
            folder = Path(os.environ["CCR_ADAPTERS_SCREENSHOTS"])
            folder.mkdir(parents=True, exist_ok=True)
            page.screenshot(path=folder / f"{name}.png", full_page=True)

    return keep


def open_tab(page, name):
    page.get_by_role("tab", name=name, exact=True).click()


def choose(page, label, value):
    """Choose from a list of the open tab."""
    page.get_by_role("combobox", name=label, exact=True).locator("visible=true").click()
    page.get_by_role("option", name=value, exact=True).click()


def violations(page):
    """What axe calls serious or critical, of a page that has settled: what waits for an answer is pale."""
    page.wait_for_function(SETTLED)
    found = Axe().run(page).response["violations"]
    return [
        (each["id"], node["html"][:200])
        for each in found
        if each["impact"] in ("serious", "critical")
        for node in each["nodes"]
    ]


def first_found(page, tab):
    return page.locator(f"#{tab}-found li").first


def test_a_question_is_typed_and_clicked(page, world, kept):
    page.locator("#search-query").get_by_role("textbox").fill("roter stern himmel")
    page.get_by_role("button", name="Search", exact=True).locator("visible=true").click()
    expect(page.locator("#search-said")).to_contain_text("German was detected")
    expect(page.locator("#search-found li")).to_have_count(6)
    expect(first_found(page, "search")).to_have_attribute("data-id", world.id(0))
    expect(first_found(page, "search").get_by_role("img").first).to_have_attribute("alt", "a red star")
    expect(first_found(page, "search")).to_contain_text("red-star.png")
    assert violations(page) == []
    kept(page, "search_desktop")


def test_the_language_picker_changes_what_is_found(page, world):
    page.locator("#search-query").get_by_role("textbox").fill("rudá hvězda nebe")
    page.keyboard.press("Enter")
    expect(page.locator("#search-said")).to_contain_text("Czech")
    expect(first_found(page, "search")).to_have_attribute("data-id", world.id(0))
    choose(page, "Language", "German")
    expect(page.locator("#search-said")).to_have_text("Read by the German adapter.")
    expect(first_found(page, "search")).not_to_have_attribute("data-id", world.id(0))
    choose(page, "Language", "Detect it")
    expect(page.locator("#search-said")).to_contain_text("Czech")


def test_an_example_is_one_click(page, world):
    page.get_by_role("button", name="grünes haus schnee").click()
    expect(first_found(page, "search")).to_have_attribute("data-id", world.id(3))
    expect(page.locator("#search-query").get_by_role("textbox")).to_have_value("grünes haus schnee")


def test_a_picture_opens_and_closes_by_keyboard(page, world):
    page.get_by_role("button", name="grünes haus schnee").click()
    expect(first_found(page, "search")).to_have_attribute("data-id", world.id(3))
    first_found(page, "search").get_by_role("button").focus()
    page.keyboard.press("Enter")
    large = first_found(page, "search").locator("[popover]")
    expect(large).to_be_visible()
    expect(large).to_contain_text("a green house")
    page.keyboard.press("Escape")
    expect(large).to_be_hidden()


def test_an_empty_question_is_told(page):
    page.locator("#search-query").get_by_role("textbox").fill("  ")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("The question is empty")
    expect(page.locator("#search-found li")).to_have_count(0)


def test_side_by_side(page, world, kept):
    page.locator("#search-query").get_by_role("textbox").fill("gelbes herz nacht")
    page.keyboard.press("Enter")
    expect(first_found(page, "search")).to_have_attribute("data-id", world.id(2))
    open_tab(page, "Side by side")  # the question has come along
    columns = page.locator("#side-found section")
    expect(columns).to_have_count(3)
    expect(columns.nth(1).get_by_role("heading")).to_have_text("German adapter")
    expect(columns.nth(1).locator("li").first).to_have_attribute("data-id", world.id(2))
    page.get_by_label("The question in that language").fill("žluté srdce noc")
    page.keyboard.press("Enter")
    expect(columns.nth(2).get_by_role("heading")).to_have_text("Czech adapter")
    expect(columns.nth(2).locator("li").first).to_have_attribute("data-id", world.id(2))
    assert violations(page) == []
    kept(page, "side_by_side_desktop")


def test_an_example_comes_along_in_the_other_language(page):
    open_tab(page, "Search")
    page.get_by_role("button", name="grünes haus schnee").click()
    expect(page.locator("#search-query").get_by_role("textbox")).to_have_value("grünes haus schnee")
    open_tab(page, "Side by side")  # a tab that nobody has opened is not there yet
    expect(page.locator("#side-query").locator("input, textarea")).to_have_value("grünes haus schnee")
    words = page.get_by_label("The question in that language")
    expect(words).to_have_value("zelený dům sníh")
    expect(page.locator("#side-found section").nth(2)).to_contain_text("zelený dům sníh")
    choose(page, "Another language", "French")  # it has no example
    expect(words).to_have_value("")
    # the answer empties the box once more: who types before it comes starts again
    expect(page.locator("#side-found section").nth(2)).to_contain_text("French adapter")
    words.press_sequentially("rudá hvězda")
    choose(page, "Another language", "Czech")  # what somebody wrote stays
    expect(page.locator("#side-found section").nth(2)).to_contain_text("rudá hvězda")
    expect(words).to_have_value("rudá hvězda")


def test_why(page, kept):
    open_tab(page, "Why")
    expect(page.locator("#why-tables table")).to_have_count(2)
    drawn = page.get_by_role("img", name="Map of the weights")
    expect(drawn).to_be_visible()
    expect(page.locator("#why-map")).to_contain_text("18 captions")
    page.get_by_label("language", exact=True).check()
    expect(page.locator("#why-map")).to_contain_text("36 captions")
    assert violations(page) == []
    kept(page, "why_desktop")
    choose(page, "Language", "Czech")
    expect(page.get_by_role("alert")).to_contain_text("Czech has no such features")
    expect(drawn).to_have_count(0)


def test_an_upload_gives_captions(page, folder, world, kept, tmp_path):
    open_tab(page, "Captions")
    page.locator("#captions-picture input[type=file]").set_input_files(folder / world.file(5))
    first = page.locator("#captions-found tbody tr").first
    expect(first).to_contain_text("weiße blume")
    choose(page, "Language of the captions", "Czech")
    expect(first).to_contain_text("bílá květina")
    expect(page.get_by_alt_text("The picture that you chose")).to_be_visible()
    assert violations(page) == []
    kept(page, "captions_desktop")
    page.locator("#captions-picture").get_by_role("button", name="Clear").click()
    expect(page.locator("#captions-found tbody")).to_have_count(0)
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    page.locator("#captions-picture input[type=file]").set_input_files(tmp_path / "broken.png")
    expect(page.get_by_role("alert")).to_contain_text("This file cannot be used")


def test_the_tabs_are_still_four(page):
    expect(page.get_by_role("tab")).to_have_text(["Search", "Side by side", "Why", "Captions"])


def test_everything_by_keyboard(page, address, world):
    page.goto(address)
    expect(page.get_by_label("Question").first).to_be_visible()
    page.get_by_role("tab", name="Search").focus()
    for _ in range(8):  # the other tabs come first
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.matches('#search-query input, #search-query textarea')"):
            break
    page.keyboard.type("orangener ring nacht")
    page.keyboard.press("Enter")
    expect(first_found(page, "search")).to_have_attribute("data-id", world.id(8))
    page.keyboard.press("Tab")  # to the language
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(page.locator("#search-said")).not_to_contain_text("detected")
    reached = []
    for _ in range(12):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.innerText.trim() || document.activeElement.title"))
    assert {"Search", "grünes haus schnee", "green house snow", "Enlarge"} <= set(reached)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_on_a_phone(page, address, theme, kept):
    page.set_viewport_size(PHONE)
    page.goto(f"{address}/?__theme={theme}")
    for tab, name, answer in (
        ("search", "Search", "#search-found li"),
        ("side", "Side by side", "#side-found section"),
        ("why", "Why", "#why-map img"),
    ):
        if tab == "search":
            page.locator("#search-query").get_by_role("textbox").fill("schwarzer mond gras")
            page.keyboard.press("Enter")
        else:
            open_tab(page, name)
        expect(page.locator(answer).first).to_be_visible()
        wide = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
        assert wide <= 0, f"{name} is {wide} pixels too wide"
        assert violations(page) == []
        kept(page, f"{tab}_phone_{theme}")
    open_tab(page, "Captions")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert violations(page) == []


def test_nothing_was_complained_of_and_nobody_else_was_asked(page):
    assert page.heard == []
