"""What each button of the page gives: HTML for an answer, and one line that says how it went."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from PIL import Image

from ccr_adapters.demo import markup
from ccr_adapters.demo.finder import Finder, Found, Spoken
from ccr_adapters.demo.names import SOURCE, name_of
from ccr_adapters.demo.reasons import Reasons
from ccr_adapters.demo.weight_map import Colouring, draw_map
from ccr_adapters.errors import CCRError, ImageError
from ccr_adapters.search.decoding import decode
from ccr_adapters.search.sources import read_file

# tables and columns stay short: what differs is at the top
_NEAR, _SIDE = 8, 6


class Answers:
    """Answers in HTML. An error of the user is a line on the page; any other is raised."""

    def __init__(self, finder: Finder) -> None:
        """Take what finds.

        Args:
            finder: It finds.
        """
        self.finder = finder
        self._reasons = Reasons(finder)

    def search(self, text: str, language: str, k: int) -> tuple[str, str]:
        """Pictures for a question.

        Args:
            text: The question.
            language: Its code, or `auto`.
            k: How many.

        Returns:
            A line, and the pictures.
        """
        try:
            spoken = self.finder.spoken(text, language)
            found = self.finder.search(text, spoken.code, int(k))
        except CCRError as error:
            return markup.problem(str(error)), ""
        return markup.asked(spoken), markup.pictures(found, f"Pictures for: {text}")

    def side_by_side(self, text: str, language: str, other: str, words: str) -> tuple[str, str]:
        """The pictures of one question without an adapter, with it, and in another language.

        Args:
            text: The question.
            language: Its code, or `auto`.
            other: Code of another language; empty for none.
            words: The question in that language; empty to have its adapter read the same words.

        Returns:
            A line, and the columns.
        """
        try:
            spoken = self.finder.spoken(text, language)
            readers = [("No adapter", SOURCE, text)]
            if spoken.code != SOURCE:
                readers.append((f"{name_of(spoken.code)} adapter", spoken.code, text))
            asked = words.strip() or text
            if other and (other, asked) not in [(code, said) for _, code, said in readers]:
                title = "English, no adapter" if other == SOURCE else f"{name_of(other)} adapter"
                readers.append((title, other, asked))
            columns = [
                _column(title, said, code, self.finder.search(said, code, _SIDE)) for title, code, said in readers
            ]
        except CCRError as error:
            return markup.problem(str(error)), ""
        return markup.asked(spoken), f'<div class="ccr-columns">{"".join(columns)}</div>'

    def captions(self, path: str | None, language: str, k: int) -> tuple[str, str]:
        """Captions for a picture.

        Args:
            path: The file of the picture; `None` if there is none yet.
            language: Code of the language that the captions are in.
            k: How many.

        Returns:
            A line, and the picture with a table.
        """
        if path is None:
            return markup.message("Choose a picture."), ""
        try:
            picture = _opened(path)
            found = self.finder.captions_for(picture, language, int(k))
        except CCRError as error:
            return markup.problem(str(error)), ""
        there = len(self.finder.captions[language])
        said = f"The nearest of {there:,} captions in {name_of(language)}."
        return markup.message(said), markup.uploaded(picture) + markup.captions(found, "Nearest captions")

    def why(self, text: str, language: str, by: str) -> tuple[str, str, str]:
        """Why a question finds what it finds.

        Args:
            text: The question.
            language: Its code, or `auto`.
            by: What colours of the map say: `style`, `length` or `language`.

        Returns:
            A line, two tables, and the map.
        """
        try:
            spoken = self.finder.spoken(text, language)
            why = self._reasons.why(text, spoken.code, _NEAR)
            drawn = self._map(text, spoken, by)
        except CCRError as error:
            return markup.problem(str(error)), "", ""
        tables = [
            markup.captions(why.related, "Nearest in what they say (semantic-related)", styles=True),
            markup.captions(why.agnostic, "Nearest in how they say it (semantic-agnostic)", styles=True),
        ]
        return markup.asked(spoken), f'<div class="ccr-columns">{"".join(tables)}</div>', drawn

    def weight_map(self, text: str, language: str, by: str) -> str:
        """The map alone, in other colours.

        Args:
            text: The question.
            language: Its code, or `auto`.
            by: As for `why`.

        Returns:
            The map; nothing where there is no answer to draw.
        """
        try:
            return self._map(text, self.finder.spoken(text, language), by)
        except CCRError:
            # `why` has said it
            return ""

    def _map(self, text: str, spoken: Spoken, by: str) -> str:
        if by == "language":
            plane = self._reasons.languages_plane(text, spoken.code)
        else:
            plane = self._reasons.why(text, spoken.code, 1).plane
        return markup.weight_map(draw_map(plane, cast("Colouring", by)), spoken.code, by)


def _column(title: str, words: str, code: str, found: list[Found]) -> str:
    return markup.column(title, words, code, markup.pictures(found, f"{title}: {words}"))


def _opened(path: str) -> Image.Image:
    """A picture that somebody has uploaded."""
    try:
        return decode(read_file(Path(path)))
    except ImageError as error:  # the reason alone
        raise ImageError(f"This file cannot be used: it {error}. Choose a JPEG, PNG, WebP or GIF.") from error
