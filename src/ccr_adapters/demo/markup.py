"""What was found as HTML: pictures with texts in their place, tables with headings, and messages that are read out."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape
from itertools import count

from PIL import Image

from ccr_adapters.demo.finder import Found, Near, Spoken
from ccr_adapters.demo.names import SOURCE, name_of
from ccr_adapters.demo.weight_map import WeightMap

_THUMB, _LARGE = 288, 900  # pixels of the longer side
# a popover is found by its id, and a page holds several answers
_numbers = count()


def data_uri(picture: Image.Image, longest: int) -> str:
    """A picture as an address that holds it.

    Args:
        picture: RGB.
        longest: Pixels of its longer side at most.

    Returns:
        A JPEG, or a PNG where the picture is small anyway.
    """
    small = picture.copy()
    small.thumbnail((longest, longest))
    buffer = io.BytesIO()
    kind = "PNG" if max(picture.size) <= _THUMB else "JPEG"
    small.convert("RGB").save(buffer, kind, quality=86)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def pictures(found: Sequence[Found], label: str) -> str:
    """Pictures in a grid; each opens at a larger size.

    Args:
        found: What was found.
        label: What the list is called for those who hear it.

    Returns:
        A list.
    """
    if not found:
        return message("Nothing was found: the index is empty.")
    return f'<ol class="ccr-grid" aria-label="{escape(label)}">{"".join(map(_picture, found))}</ol>'


def _picture(found: Found) -> str:
    alt, name = escape(found.alt), escape(found.name)
    facts = f'<span class="ccr-rank">{found.rank}</span> <span class="ccr-score">{found.score:.3f}</span>'
    caption = f'<figcaption>{facts}<span class="ccr-name">{name}</span></figcaption>'
    if found.picture is None:
        return f'<li data-id="{escape(found.id)}"><figure><p class="ccr-gone">not there any more</p>{caption}</figure></li>'
    key = f"ccr-large-{next(_numbers)}"
    thumb = f'<img src="{data_uri(found.picture, _THUMB)}" alt="{alt}">'
    # beside the button's picture the same words again would be heard twice
    large = f'<img src="{data_uri(found.picture, _LARGE)}" alt="">'
    return (
        f'<li data-id="{escape(found.id)}"><figure>'
        f'<button type="button" popovertarget="{key}" title="Enlarge">{thumb}</button>{caption}</figure>'
        f'<div popover id="{key}" class="ccr-large">{large}<p>{alt}</p></div></li>'
    )


def uploaded(picture: Image.Image) -> str:
    """The picture that a user has chosen, as the encoder sees it: upright, on white.

    Args:
        picture: RGB.

    Returns:
        A picture.
    """
    return f'<img class="ccr-uploaded" src="{data_uri(picture, 2 * _THUMB)}" alt="The picture that you chose">'


def column(title: str, words: str, language: str, inside: str) -> str:
    """One of several answers side by side.

    Args:
        title: Who answers.
        words: What was asked.
        language: Code of the language that it was asked in.
        inside: The answer, as HTML.

    Returns:
        A section with a heading.
    """
    asked_for = f'<p class="ccr-words" lang="{escape(language)}">{escape(words)}</p>'
    return f"<section><h2>{escape(title)}</h2>{asked_for}{inside}</section>"


def captions(found: Sequence[Near], title: str, *, styles: bool = False) -> str:
    """Captions in a table.

    Args:
        found: What was found.
        title: What the table is called.
        styles: Also tell how each is written.

    Returns:
        A table.
    """
    style = '<th scope="col">style</th>' if styles else ""
    head = f'<tr><th scope="col">score</th><th scope="col">caption</th>{style}</tr>'
    rows = "".join(_row(each, styles) for each in found)
    return (
        f'<table class="ccr-table"><caption>{escape(title)}</caption><thead>{head}</thead><tbody>{rows}</tbody></table>'
    )


def _row(near: Near, styles: bool) -> str:
    style = f'<td class="ccr-style">{escape(near.caption.style or "–")}</td>' if styles else ""
    text = f'<td lang="{escape(near.caption.language)}">{escape(near.caption.text)}</td>'
    return f"<tr><td>{near.score:.3f}</td>{text}{style}</tr>"


def weight_map(drawn: WeightMap, language: str, by: str) -> str:
    """The map with its legend.

    Args:
        drawn: The map.
        language: Whose adapter.
        by: What its colours say.

    Returns:
        A figure.
    """
    what = f"{drawn.captions} captions, coloured by {by}"
    alt = f"Map of the weights that adapters generate for {what}. A red star marks those of the query."
    if drawn.scale is None:
        keys = "".join(
            f'<li><span style="background:{colour}" aria-hidden="true"></span>{escape(name)}</li>'
            for name, colour in drawn.legend
        )
    else:
        low, high = drawn.scale
        keys = f'<li>{low} letters<span class="ccr-scale" aria-hidden="true"></span>{high} letters</li>'
    keys = f'<li><span class="ccr-star" aria-hidden="true">★</span>the query</li>{keys}'
    image = f'<img src="data:image/png;base64,{base64.b64encode(drawn.png).decode()}" alt="{escape(alt)}">'
    whose = "an adapter" if by == "language" else f"the {escape(name_of(language))} adapter"
    note = (
        f"Each dot is the weights that {whose} made for one of {drawn.captions} captions, in the plane in which they "
        f"differ most ({drawn.share:.0%} of the variance)."
    )
    if by == "language":
        note += " Each language makes them in its own way, so languages lie apart."
    return f'<figure class="ccr-map">{image}<figcaption><ul>{keys}</ul><p>{note}</p></figcaption></figure>'


def asked(spoken: Spoken, tail: str = "") -> str:
    """In which language a question was asked, and how that is known.

    Args:
        spoken: The language.
        tail: What else there is to say.

    Returns:
        A line.
    """
    name = name_of(spoken.code)
    who = f"the base, without an adapter ({name})" if spoken.code == SOURCE else f"the {name} adapter"
    how = ""
    if spoken.foreign:
        how = f" It looks like {name_of(spoken.foreign)}, for which no adapter is loaded."
    elif spoken.sure == 0:
        how = " The words do not tell the language; choose it if this is wrong."
    elif spoken.sure is not None:
        how = f" {name} was detected."
    return message(f"Read by {who}.{how}{f' {tail}' if tail else ''}")


def message(text: str) -> str:
    """A line that says how it went.

    Args:
        text: The line.

    Returns:
        A paragraph.
    """
    return f'<p class="ccr-said">{escape(text)}</p>'


def problem(text: str) -> str:
    """A line that says what went wrong.

    Args:
        text: The line.

    Returns:
        A paragraph that screen readers tell at once.
    """
    return f'<p class="ccr-problem" role="alert">{escape(text)}</p>'
