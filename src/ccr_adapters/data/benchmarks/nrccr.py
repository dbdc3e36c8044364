"""The NRCCR authors' files: `TextData/*.caption.txt`, joined for training or with features for evaluation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from ccr_adapters.data.benchmarks.entries import Caption, Entry, collect
from ccr_adapters.data.benchmarks.problems import OnError, Problems, place
from ccr_adapters.data.benchmarks.textfiles import clean_text, read_lines
from ccr_adapters.errors import DataError


class NRCCRCaption(NamedTuple):
    """One line `image#tag#number caption`; the tag is `enc`, `de`, `enc2de`, `enc2de2enc`, ..."""

    image_id: str
    tag: str
    number: str
    text: str
    line: int


def nrccr_tag(language: str) -> str:
    """How those files call a language: English is `enc`."""
    return "enc" if language == "en" else language


def read_nrccr(path: str | Path) -> Iterator[NRCCRCaption]:
    """The captions of one file, in order; a line with an id alone has an empty caption.

    Raises:
        DataError: If an id has not three parts, naming the line.
    """
    path = Path(path)
    for number, line in enumerate(read_lines(path), start=1):
        if not line.strip():
            continue
        name, _, text = line.strip(" \t").partition(" ")
        parts = name.rsplit("#", 2)
        if len(parts) != 3:
            raise DataError(f"{place(path, number)}: '{name}' is no id of the form image#tag#number.")
        image_id, tag, which = parts
        for ending in (".jpg", ".mp4"):
            image_id = image_id.removesuffix(ending)
        yield NRCCRCaption(image_id, tag, which, text, number)


def nrccr_entries(path: str | Path) -> list[Entry]:
    """Images (or videos) with their captions, in the order in which the file first names them."""
    path = Path(path)
    return collect((row.image_id, Caption(row.text, place(path, row.line))) for row in read_nrccr(path))


def nrccr_rows(
    source: str | Path,
    translation: str | Path,
    back: str | Path | None = None,
    *,
    on_error: OnError = "raise",
) -> tuple[list[dict[str, str]], Mapping[str, object]]:
    """Training rows from the English captions, their translations and their back-translations.

    The three files have the same ids with other tags; their lines need not be in the same order.

    Args:
        source: `<name>.caption.txt` of the English captions.
        translation: `<name>_google_enc2<language>.caption.txt`.
        back: `<name>_google_enc2<language>2enc.caption.txt`, if there is one.
        on_error: `"raise"`, or `"skip"` to leave out captions that lack a partner or are empty, and count them.

    Returns:
        Rows with `image_id`, `caption`, `translation` and, with `back`, `back_translation`; and what was left out.

    Raises:
        DataError: If a caption has no partner, is empty, or comes twice.
    """
    problems = Problems(Path(source).name, on_error)
    columns = {"translation": _by_key(translation, problems)}
    if back is not None:
        columns["back_translation"] = _by_key(back, problems)
    rows = []
    for key, row in _by_key(source, problems).items():
        found = {"image_id": row.image_id, "caption": clean_text(row.text)}
        for column, others in columns.items():
            partner = others.get(key)
            if partner is None:
                problems.report(
                    f"captions without {column}",
                    f"{place(Path(source), row.line)}: caption {key[1]} of '{key[0]}' has no {column}",
                )
            else:
                found[column] = clean_text(partner.text)
        if len(found) < 2 + len(columns):
            continue
        empty = [column for column, text in found.items() if not text]
        if empty:
            problems.report("empty captions", f"{place(Path(source), row.line)}: {' and '.join(empty)} is empty")
            continue
        rows.append(found)
    return rows, problems.facts()


def _by_key(path: str | Path, problems: Problems) -> dict[tuple[str, str], NRCCRCaption]:
    found: dict[tuple[str, str], NRCCRCaption] = {}
    for row in read_nrccr(path):
        key = (row.image_id, row.number)
        if key in found:
            problems.report(
                "duplicate captions",
                f"{place(Path(path), row.line)}: caption {row.number} of '{row.image_id}' was there before, in line "
                f"{found[key].line}",
            )
        found.setdefault(key, row)
    return found
