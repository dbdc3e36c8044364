"""`ccr-adapters search`: pictures by words in any loaded language, by a picture, or by both."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ccr_adapters.cli.collections import load_model, models_for, printable
from ccr_adapters.cli.places import check_folder

if TYPE_CHECKING:
    from PIL import Image

    from ccr_adapters.modeling import CCRModel
    from ccr_adapters.search import Collection, Hit
    from ccr_adapters.search.interface import Scalar, Vectors

EXAMPLE = """\b
Example:
  ccr-adapters search "Ein Hund rennt durch den Schnee" --index photos.index --language de
  ccr-adapters search "ein Boot" "a boat" --language de --language en --index photos.index --filter year=2021
  ccr-adapters search "but at night" --image harbour.jpg --index photos.index --sheet found.png
"""
_SHEETS = (".png", ".jpg", ".jpeg", ".webp")
# a sheet gets no wider, and a table shows no more of the metadata
_TILES, _COLUMNS, _LETTERS = 10, 3, 40
_OWN = ("source", "path", "row", "time")


@dataclass(frozen=True)
class Question:
    """One question: words, a picture, or both."""

    text: str | None
    image: Path | None
    language: str | None

    def label(self) -> str:
        """How it is told."""
        parts = [] if self.text is None else [self.text]
        return " + ".join([*parts, *([] if self.image is None else [self.image.name])])


def _each(given: list[Any], count: int, what: str) -> list[Any]:
    """One for all, or one for each question."""
    from ccr_adapters.errors import SearchIndexError

    if len(given) not in (1, count):
        raise SearchIndexError(f"There are {count} questions and {len(given)} {what}; give one, or one for each.")
    return given * count if len(given) == 1 else given


def _questions(texts: list[str], images: list[Path], languages: list[str]) -> list[Question]:
    """Put words, pictures and languages together."""
    from ccr_adapters.errors import ImageError, SearchIndexError

    count = max(len(texts), len(images))
    if not count:
        raise SearchIndexError("Nothing to search for: give words, or a picture with --image.")
    blank = next((number for number, text in enumerate(texts, 1) if not text.strip()), None)
    if blank is not None:
        raise SearchIndexError(f"Question {blank} is empty. Say what you are looking for.")
    for image in images:
        if not image.is_file():
            raise ImageError(f"There is no picture '{image}'. Check the path.")
    words = _each(texts, count, "texts") if texts else [None] * count
    pictures = _each(images, count, "pictures") if images else [None] * count
    spoken = _each(languages, count, "languages") if languages and texts else [None] * count
    return [Question(*parts) for parts in zip(words, pictures, spoken, strict=True)]


def _filter(given: list[str]) -> dict[str, list[Scalar]]:
    """`["year=2021"]` as a condition: a number is compared as one and as text, a key given twice means either."""
    from ccr_adapters.errors import SearchIndexError

    found: dict[str, list[Scalar]] = {}
    for each in given:
        key, equals, value = each.partition("=")
        if not key or not equals:
            raise SearchIndexError(f"`--filter {each}`: write KEY=VALUE.")
        meant = found.setdefault(key, [])
        meant.append(value)
        try:
            parsed = json.loads(value, parse_constant=_no_number)
        except ValueError:
            continue
        if parsed is None or isinstance(parsed, bool | int | float):
            meant.append(parsed)
    return found


def _no_number(text: str) -> float:
    """`NaN` and `Infinity`, which Python takes for JSON, are words here: no index has such numbers."""
    raise ValueError(text)


def _languages(model: CCRModel, questions: list[Question]) -> list[str | None]:
    """The language of each question: as it says, or the only one there is."""
    from ccr_adapters.errors import LanguageError

    if any(question.text is not None and question.language is None for question in questions):
        if len(model.languages) > 1:
            raise LanguageError(f"The model knows {', '.join(model.languages)} and en: say which with --language.")
        only = next(iter(model.languages), None)
        return [question.language or only for question in questions]
    return [question.language for question in questions]


def _opened(path: Path) -> Image.Image:
    """A picture to search with, its name in what is said of it."""
    from ccr_adapters.errors import ImageError
    from ccr_adapters.search.decoding import decode
    from ccr_adapters.search.sources import read_file

    try:
        return decode(read_file(path))
    except ImageError as error:  # of the bytes alone, which have no name
        raise ImageError(f"'{path}' cannot be searched with: it {error}.") from error


def _vectors(model: CCRModel, questions: list[Question], languages: list[str | None], weight: float) -> Vectors:
    """Vectors of the questions, in the space of the index. (Q, d)"""
    import numpy as np

    from ccr_adapters.errors import LanguageError
    from ccr_adapters.search import combine
    from ccr_adapters.search.encoder import PictureEncoder

    for code in dict.fromkeys(languages):
        if model.space(code) is not None:
            raise LanguageError(
                f"Language {code!r} has a space of its own, and the index has the vectors of the base. Take an adapter whose "
                "captions share the base's space (DASD, MLA, LoRA)."
            )
    asked = [question for question in questions if question.text is not None]
    texts = images = np.empty((0, model.embedding_dim), np.float32)
    if asked:
        own = [code for question, code in zip(questions, languages, strict=True) if question.text is not None]
        texts = model.encode_text([question.text or "" for question in asked], own).float().cpu().numpy()
    shown = [question.image for question in questions if question.image is not None]
    if shown:
        encoder = PictureEncoder(model)
        # each once, though one may go with all questions
        unique = {path: encoder.encode([encoder.prepare(_opened(path))])[0] for path in dict.fromkeys(shown)}
        images = np.stack([unique[path] for path in shown])
    if not asked or not shown:
        return texts if asked else images
    return combine(texts, images, weight)


def _place(opened: Collection, hit: Hit) -> str:
    """Where a picture is, as short as it can be told from here."""
    from ccr_adapters.search.sources import spelled

    path = opened.path(hit)
    if path is None:
        return hit.id
    if path.is_relative_to(Path.cwd()):
        path = path.relative_to(Path.cwd())
    time = hit.metadata.get("time")
    return spelled(str(path)) + ("" if time is None else f"#t={time:g}")


def _table(opened: Collection, hits: list[Hit]) -> str:
    from ccr_adapters.evaluation import console_table

    if not hits:
        return "nothing found"
    keys = list(dict.fromkeys(key for hit in hits for key in hit.metadata if key not in _OWN))[:_COLUMNS]
    rows = []
    for rank, hit in enumerate(hits, 1):
        row: dict[str, Any] = {"": rank, "score": f"{hit.score:.3f}", "picture": printable(_place(opened, hit))}
        for key in keys:
            value = hit.metadata.get(key)
            # years have no comma
            row[printable(key)] = None if value is None else printable(str(value))[:_LETTERS]
        rows.append(row)
    return console_table(rows)


def _picture(opened: Collection, hit: Hit) -> Image.Image:
    """A found picture, or a grey one in place of one that is gone."""
    from PIL import Image

    from ccr_adapters.errors import CCRError

    try:
        picture = opened.picture(hit)
    except (CCRError, OSError) as error:
        typer.echo(f"{printable(hit.id)} cannot be shown: {printable(str(error))}", err=True)
        return Image.new("RGB", (200, 200), "#e5e7eb")
    picture.thumbnail((400, 400))
    return picture


def _draw(
    opened: Collection,
    questions: list[Question],
    spoken: list[str | None],
    found: list[list[Hit]],
    sheet: Path,
    name: str,
) -> None:
    from ccr_adapters.evaluation import contact_sheet

    shown = [hits[:_TILES] for hits in found]
    if not any(shown):
        typer.echo("Nothing was found, so there is no sheet.", err=True)
        return
    contact_sheet(
        [question.label() for question in questions],
        [[_picture(opened, hit) for hit in hits] for hits in shown],
        scores=[[hit.score for hit in hits] for hits in shown],
        path=sheet,
        # where they differ, the reader wants to know
        glosses=[code or "en" for code in spoken] if len(set(spoken)) > 1 else None,
        title=f"Found in {printable(name)}",
        subtitle=f"{len(opened.index):,} pictures, vectors of {printable(Path(opened.index.header.base).name)}",
    )
    typer.echo(f"The sheet is {sheet}.", err=True)


def search(
    queries: Annotated[list[str] | None, typer.Argument(metavar="[TEXT]...", help="Questions in words.")] = None,
    index: Annotated[str, typer.Option(help="What `index` has made: folder, .db file or http:// address.")] = ...,  # type: ignore[assignment]
    model: Annotated[
        list[str] | None,
        typer.Option(help="Base or adapter, by default the index's; more add their languages."),
    ] = None,
    language: Annotated[
        list[str] | None, typer.Option(help="Of the words: once, or once a question; en is the base.")
    ] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="How many to find for each.")] = 10,
    image: Annotated[list[Path] | None, typer.Option(help="Search by a picture: once, or once a question.")] = None,
    weight: Annotated[float, typer.Option(min=0, max=1, help="Share of the picture beside words.")] = 0.5,
    filter_: Annotated[
        list[str] | None, typer.Option("--filter", metavar="KEY=VALUE", help="Only with this metadata; repeatable.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
    sheet: Annotated[Path | None, typer.Option(help="Draw what was found: .png, .jpg or .webp.")] = None,
    device: Annotated[str | None, typer.Option(help="Default: the accelerator if there is one.")] = None,
    notes: Annotated[Path | None, typer.Option(help="Folder of the notes, for a cluster.")] = None,
    collection: Annotated[str, typer.Option(help="Name of the Milvus collection.")] = "pictures",
    token: Annotated[
        str | None, typer.Option("--milvus-token", envvar="MILVUS_TOKEN", help="Token of a Milvus cluster.")
    ] = None,
) -> None:
    """Search an index by words in any loaded language, by a picture, or by both; several questions at once."""
    from ccr_adapters.errors import SearchIndexError
    from ccr_adapters.search import Collection

    questions = _questions(list(queries or []), list(image or []), list(language or []))
    where = _filter(filter_ or [])
    if sheet is not None and sheet.suffix.lower() not in _SHEETS:
        raise SearchIndexError(f"`--sheet {sheet}`: expected a name that ends in {', '.join(_SHEETS)}.")
    if sheet is not None:
        check_folder(sheet.parent, "--sheet")
    with Collection.open(index, notes=notes, token=token, collection=collection) as opened:
        loaded = load_model(models_for(model, opened.notes.model), device)
        base = loaded.config.base_model_name_or_path
        opened.index.header.check_base(base, loaded.base_sha256(), f"The index '{index}'")
        spoken = _languages(loaded, questions)
        found = opened.search(_vectors(loaded, questions, spoken, weight), k, where or None)
        if as_json:
            typer.echo(
                json.dumps([_answer(*each, opened) for each in zip(questions, spoken, found, strict=True)], indent=2)
            )
        else:
            for question, code, hits in zip(questions, spoken, found, strict=True):
                words = "" if question.text is None else f" ({code or 'en'})"
                typer.echo(f"{printable(question.label())}{words}\n{_table(opened, hits)}\n")
        if sheet is not None:
            _draw(opened, questions, spoken, found, sheet, Path(os.fspath(index)).name or index)


def _answer(question: Question, code: str | None, hits: list[Hit], opened: Collection) -> dict[str, Any]:
    """One question and what it found, for programs."""
    from ccr_adapters.search.sources import spelled

    paths = [opened.path(hit) for hit in hits]
    return {
        "query": question.text,
        "image": None if question.image is None else spelled(str(question.image)),
        "language": None if question.text is None else code or "en",
        "hits": [
            {
                "id": hit.id,
                "score": round(hit.score, 6),
                "path": None if path is None else spelled(str(path)),
                "metadata": hit.metadata,
            }
            for hit, path in zip(hits, paths, strict=True)
        ],
    }


search.__doc__ = f"{search.__doc__}\n\n{EXAMPLE}"
