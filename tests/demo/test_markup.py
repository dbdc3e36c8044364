"""HTML of answers: whatever texts and names hold, it stays text."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser

import pytest
from PIL import Image

from ccr_adapters.demo import markup
from ccr_adapters.demo.captions import Caption
from ccr_adapters.demo.finder import Found, Near, Spoken

NASTY = '"><script>alert(1)</script>&<img src=x onerror=alert(1)>'


class Tags(HTMLParser):
    """Tags with their attributes, and the text."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.words = [], ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.words += data

    def of(self, name):
        return [attributes for tag, attributes in self.tags if tag == name]


def found(**changes):
    values = {"rank": 1, "id": f"photos/{NASTY}", "score": 0.5, "picture": Image.new("RGB", (9, 9)), "alt": NASTY}
    return Found(**{**values, **changes})


@pytest.mark.parametrize(
    "html",
    [
        markup.pictures([found()], NASTY),
        markup.pictures([found(picture=None)], NASTY),
        markup.captions([Near(Caption(NASTY, NASTY, NASTY), 0.5)], NASTY, styles=True),
        markup.column(NASTY, NASTY, NASTY, ""),
        markup.message(NASTY),
        markup.problem(NASTY),
        markup.asked(Spoken(NASTY, 0.5, NASTY)),
    ],
)
def test_nothing_breaks_out(html):
    page = Tags(html)
    assert not page.of("script")
    assert all("onerror" not in attributes for _, attributes in page.tags)
    assert all(attributes["src"].startswith("data:image/") for attributes in page.of("img"))


def test_a_picture_has_words_and_opens_what_it_says():
    page = Tags(markup.pictures([found(id="photos/a.png", alt="a star"), found(rank=2)], "Found"))
    assert page.of("ol") == [{"class": "ccr-grid", "aria-label": "Found"}]
    assert page.of("li")[0]["data-id"] == "photos/a.png"
    opened = [attributes["popovertarget"] for attributes in page.of("button")]
    shown = [attributes["id"] for attributes in page.of("div") if "popover" in attributes]
    assert opened == shown
    assert len(set(shown)) == 2
    assert page.of("img")[0]["alt"] == "a star"


def test_pictures_are_sent_no_larger_than_shown():
    html = markup.pictures([found(picture=Image.new("RGB", (3000, 1000), "red"))], "Found")
    sizes = []
    for kind, content in re.findall(r"data:image/(\w+);base64,([^\"]+)", html):
        picture = Image.open(io.BytesIO(base64.b64decode(content)))
        assert picture.format.lower() == kind == "jpeg"
        sizes.append(picture.size)
    assert sizes == [(288, 96), (900, 300)]


def test_a_picture_that_has_gone_keeps_its_place():
    page = Tags(markup.pictures([found(picture=None, id="photos/a.png")], "Found"))
    assert "not there any more" in page.words
    assert "a.png" in page.words
    assert not page.of("img")


def test_no_pictures_is_a_message():
    assert "index is empty" in markup.pictures([], "Found")


@pytest.mark.parametrize(
    ("spoken", "told"),
    [
        (Spoken("de"), "Read by the German adapter."),
        (Spoken("de", 0.5), "Read by the German adapter. German was detected."),
        (
            Spoken("de", 0.0),
            "Read by the German adapter. The words do not tell the language; choose it if this is wrong.",
        ),
        (Spoken("en", 0.9, "ja"), "It looks like Japanese, for which no adapter is loaded."),
        (Spoken("en"), "Read by the base, without an adapter (English)."),
    ],
)
def test_the_language_is_told(spoken, told):
    assert told in Tags(markup.asked(spoken)).words


def test_captions_are_in_their_language():
    page = Tags(markup.captions([Near(Caption("Ein Boot", "de", "terse"), 0.25)], "Nearest", styles=True))
    assert {"lang": "de"} in page.of("td")
    assert page.of("th") == [{"scope": "col"}] * 3
    assert [word for word in ("Nearest", "0.250", "Ein Boot", "terse") if word not in page.words] == []
