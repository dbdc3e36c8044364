"""How well the language of a caption is recognised, by its length, and what goes to the base because nobody can be sure.

    python benchmarks/language_id.py                                          # the tiny world's languages, no data needed
    python benchmarks/language_id.py --data path/to/multi30k --write docs/many_languages.md

`--data` is the folder with the captions of Multi30K (`test.en.gz`, `test.de.gz`, ...); every language that is there is asked for.
Short captions are the beginnings of long ones, as many words as the row says, in turn; `more` are whole captions of more than ten
words. Where words are not kept apart, two characters count as one. Candidates are the languages of the captions and of the tiny
world. A caption is taken for a language from `MIN_CONFIDENCE` on and goes to the base below, as with `language="auto"`; `right` is
the share of best guesses, however sure. The last column is of the same captions where their own language is no candidate: they
should all go to the base.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ccr_adapters.data import build_tiny_world
from ccr_adapters.data.tiny_world import LANGUAGES, SOURCE_LANGUAGE
from ccr_adapters.processing.language_id import MIN_CONFIDENCE, identify
from measure import machine, machine_line
from speed import captions_of
from writing import Rows, add_outputs, tell

LENGTHS: dict[str, tuple[int, int | None]] = {"1-2": (1, 2), "3-5": (3, 5), "6-10": (6, 10), "more": (11, None)}
BASE = "base"


def multi30k(folder: Path) -> dict[str, list[str]]:
    """Test captions by language, of all languages that a folder has."""
    return {path.name.split(".")[1]: captions_of(path) for path in sorted(folder.glob("test.??.gz"))}


def tiny_world(count: int) -> dict[str, list[str]]:
    """Captions that speakers of the tiny world's languages wrote, English first."""
    worlds = {
        code: build_tiny_world(code, train=0, validation=0, test=count, image_size=8)["test"] for code in LANGUAGES
    }
    english = [text for row in worlds[LANGUAGES[0]]["caption"] for text in row]
    return {SOURCE_LANGUAGE: english} | {
        code: [text for row in world["target_caption"] for text in row] for code, world in worlds.items()
    }


def beginnings(captions: Sequence[str], low: int, high: int | None) -> Iterator[str]:
    """The first words of captions, from `low` to `high` of them in turn; whole captions of `low` words and more without `high`."""
    for number, caption in enumerate(captions):
        glue = " " if " " in caption else ""
        words = caption.split() if glue else [caption[at : at + 2] for at in range(0, len(caption), 2)]
        count = low + number % (high - low + 1) if high else len(words)
        if low <= count <= len(words):
            yield glue.join(words[:count])


def taken_for(caption: str, languages: Sequence[str]) -> tuple[str, str]:
    """The best guess, and the language that encodes the caption."""
    guess, confidence = identify(caption, languages)
    return guess, guess if confidence >= MIN_CONFIDENCE else BASE


def measured(captions: Mapping[str, Sequence[str]], candidates: Sequence[str]) -> Rows:
    """Counts by language and length."""
    rows = []
    planned = [(code, words) for code in captions for words in LENGTHS]
    for code, words in tqdm(planned, unit="row", leave=False, disable=None):
        texts = list(beginnings(captions[code], *LENGTHS[words]))
        if not texts:
            continue
        answers = [taken_for(text, candidates) for text in texts]
        strangers = [taken_for(text, [each for each in candidates if each != code])[1] for text in texts]
        rows.append(
            {
                "language": code,
                "words": words,
                "captions": len(texts),
                "right": sum(guess == code for guess, _ in answers),
                "taken for": dict(Counter(taken for _, taken in answers)),
                "a stranger, to the base": sum(taken == BASE for taken in strangers),
            }
        )
    return rows


def table(rows: Rows) -> Rows:
    """The confusion: a row for each language and length, a column for each that captions were taken for."""
    found = list(dict.fromkeys(row["language"] for row in rows))
    found += sorted({taken for row in rows for taken in row["taken for"]} - {*found, BASE})

    def share(count: int, row: dict[str, Any]) -> str | None:
        return f"{count / row['captions']:.1%}" if count else None

    return [
        {
            "language": row["language"],
            "words": row["words"],
            "captions": row["captions"],
            "right": share(row["right"], row),
            "to the base": share(row["taken for"].get(BASE, 0), row),
            **{f"taken for {code}": share(row["taken for"].get(code, 0), row) for code in found},
            "no candidate: to the base": share(row["a stranger, to the base"], row),
        }
        for row in rows
    ]


def parsed(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with the captions of Multi30K; default: the tiny world's")
    parser.add_argument("--count", type=int, default=500, help="pictures of the tiny world, two captions each")
    add_outputs(parser, "language_id")
    args = parser.parse_args(argv)
    if args.data and not multi30k(args.data):
        parser.error(f"--data '{args.data}' has no test.en.gz, test.de.gz or the like. Give the folder of Multi30K.")
    return args


def main(argv: list[str] | None = None) -> int:
    """Measure and print."""
    args = parsed(argv)
    captions = multi30k(args.data) if args.data else tiny_world(args.count)
    candidates = sorted({*captions, *LANGUAGES, SOURCE_LANGUAGE})
    rows = measured(captions, candidates)
    facts = machine()
    what = f"{'Multi30K, test' if args.data else 'tiny world'}, among {', '.join(candidates)}"
    note = machine_line(facts, f"{what}, from a confidence of {MIN_CONFIDENCE}")
    tell(args, "language_id", [table(rows)], note, {"machine": facts, "candidates": candidates, "rows": rows})
    return 0


if __name__ == "__main__":
    sys.exit(main())
