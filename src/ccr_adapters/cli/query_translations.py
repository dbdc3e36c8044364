"""Captions translated into English by machine, for `evaluate`: read from files or a column, or made and kept."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from datasets import Dataset

from ccr_adapters.cli.translate import load_translators, name_and_revision
from ccr_adapters.data.benchmarks import primary_language
from ccr_adapters.data.benchmarks.nrccr import read_nrccr
from ccr_adapters.data.benchmarks.textfiles import read_lines
from ccr_adapters.data.retrieval_set import RetrievalSet
from ccr_adapters.data.tables import KINDS
from ccr_adapters.errors import ConfigError, DataError, LanguageError
from ccr_adapters.processing.repository import file_hash
from ccr_adapters.translation import Translator, load_rows, translate_dataset
from ccr_adapters.translation.codes import find_language
from ccr_adapters.translation.job import read_job
from ccr_adapters.translation.rows import check_texts, tidy
from ccr_adapters.translation.translator import commit_of

logger = logging.getLogger(__name__)

ENGLISH = "en"
COLUMN = "translation"
"""What a set keeps under `extra`: translations of its captions, by caption."""
_SPEED = "speed.json"


@dataclass(frozen=True)
class Translated:
    """Captions of a set in English.

    Attributes:
        texts: One a caption. (N,)
        by: Who translated them.
        untranslated: Captions that stand for themselves, because their translation is empty.
        milliseconds: What one translation took, in batches; `None` where it was not measured here.
    """

    texts: list[str]
    by: str
    untranslated: int
    milliseconds: float | None = None


class QueryTranslations(Protocol):
    """Where translations come from."""

    def identity(self, questions: RetrievalSet, language: str) -> str:
        """What tells these translations from others, without making any."""

    def of(self, questions: RetrievalSet, language: str) -> Translated:
        """The captions of a set in English."""


def find_translations(place: str | None, translator: str | None, column: bool, **making: Any) -> QueryTranslations:
    """Where translations come from, as the options of the command say it.

    Args:
        place: File or folder of translations.
        translator: Model that makes them.
        column: The table of the user's own data has them.
        making: Arguments of `MadeTranslations`.

    Raises:
        ConfigError: If none is named, or several.
    """
    named = {"--translations": place, "--translator": translator, "--column translation=...": column or None}
    given = [name for name, value in named.items() if value is not None]
    if len(given) != 1:
        raise ConfigError(
            f"Translated captions come from one place; {' and '.join(given) or 'none'} was named. There are {', '.join(named)}."
        )
    if place is not None:
        return TranslationFiles(place)
    return MadeTranslations(translator, **making) if translator is not None else TranslationColumn()


class TranslationFiles:
    """Translations in files that somebody has.

    Args:
        place: A table or a folder that `datasets` saved, with `caption` and `translation`, as `ccr-adapters translate` leaves
            it; a `*.txt` with a line a caption, in the order of the set; or a `*.caption.txt` of the NRCCR authors.
            `{language}` in it stands for the code. A folder of such, called by the code, will do too.
    """

    def __init__(self, place: str) -> None:
        self.place = place

    def identity(self, questions: RetrievalSet, language: str) -> str:
        """Hash of the translations."""
        return hashlib.sha256(json.dumps(self.of(questions, language).texts).encode()).hexdigest()

    def of(self, questions: RetrievalSet, language: str) -> Translated:
        """Read them.

        Raises:
            DataError: If there is no such file, or captions have no translation.
        """
        path = self._find(language)
        captions = _captions(questions)
        if path.suffix == ".txt":
            named = path.name.endswith(".caption.txt")
            lines = [row.text for row in read_nrccr(path)] if named else read_lines(path)
            if len(lines) != len(captions):
                raise DataError(
                    f"'{path}' has {len(lines):,} lines, and {questions.name} {len(captions):,} captions: one for each is needed."
                )
            return _checked(captions, lines, path.name)
        rows = load_rows(path, split="test")
        missing = sorted({"caption", COLUMN} - set(rows.column_names))
        if missing:
            raise DataError(f"'{path}' lacks the column {', '.join(missing)}; it has {', '.join(rows.column_names)}.")
        check_texts(rows, COLUMN)
        table = {str(own): text or "" for own, text in zip(rows["caption"], rows[COLUMN], strict=True)}
        by = rows.unique("translator") if "translator" in rows.column_names else [path.name]
        made = (read_job(path) or {}).get("summary") or {}
        empty = int(made["empty"]) if made.get("dropped") else 0
        hint = "; if they were left out because they are empty, `ccr-adapters translate --keep-empty` keeps them"
        return _looked_up(captions, table, ", ".join(map(str, by)), f"'{path}'", empty=empty, hint=hint)

    def _find(self, language: str) -> Path:
        codes = dict.fromkeys((language, primary_language(language)))
        for code in codes:
            path = Path(self.place.replace("{language}", code))
            if path.is_file() or (path / "state.json").is_file() or (path / "dataset_dict.json").is_file():
                return path
            inside = [path / code, *(path / f"{code}{ending}" for ending in (*KINDS, ".txt"))]
            found = next((one for one in inside if one.exists()), None)
            if found is not None:
                return found
        endings = ", ".join((*KINDS, ".txt"))
        raise DataError(
            f"There are no translations of '{language}' captions at '{self.place}': neither a file or data set, nor a folder with "
            f"'{next(iter(codes))}' in it ({endings}, or a folder that `ccr-adapters translate` made)."
        )


class TranslationColumn:
    """Translations in the table that the captions are from."""

    def identity(self, questions: RetrievalSet, language: str) -> str:
        """Hash of the translations."""
        return hashlib.sha256(json.dumps(self.of(questions, language).texts).encode()).hexdigest()

    def of(self, questions: RetrievalSet, language: str) -> Translated:
        """Look them up.

        Raises:
            DataError: If captions have no translation.
        """
        table: Mapping[str, str] = questions.extra.get(COLUMN, {})
        return _looked_up(_captions(questions), table, f"a column of {questions.name}", questions.name)


class MadeTranslations:
    """Translations made here, each once: a run that was stopped goes on, and the next one reads them.

    Args:
        model: Translation model: repository or folder.
        folder: Where they are kept, a folder for each set and language.
        device: Where the model runs.
    """

    def __init__(self, model: str, *, folder: Path, device: str | None = None) -> None:
        self.model = model
        self.folder = folder
        self.device = device

    def identity(self, questions: RetrievalSet, language: str) -> str:
        """The model, of a local one with its weights."""
        files = sorted(Path(self.model).glob("*.safetensors")) if Path(self.model).is_dir() else []
        return ":".join([self._name, *(file_hash(file) for file in files)])

    def _translator(self, language: str) -> Translator:
        """The model for a language in its script (`zh-Hant`), or in the one that it knows."""
        known, primary = find_language(language), primary_language(language)
        exact = known.code if known is not None else primary
        load = partial(load_translators, target=ENGLISH, device=self.device, dtype=None, revision=None)
        try:
            return load(self.model, None, exact)[0]
        except LanguageError:
            if exact == primary:
                raise
        logger.warning("%s does not know %s: it is told that the captions are in %s.", self.model, exact, primary)
        return load(self.model, None, primary)[0]

    def of(self, questions: RetrievalSet, language: str) -> Translated:
        """Make them, or read those that are there.

        Raises:
            TranslationError: If the model cannot be used.
            LanguageError: If it does not know the language.
        """
        captions = _captions(questions)
        print_ = hashlib.sha256(json.dumps([self.identity(questions, language), captions]).encode()).hexdigest()[:8]
        folder = self.folder / "__".join(map(_slug, (questions.name, language, self._name, print_)))
        if not self._made(folder):
            translator = self._translator(language)
            summary = translate_dataset(Dataset.from_dict({"caption": captions}), folder, translator, drop_empty=False)
            if translator.counts["captions"]:
                speed = 1000 * summary.seconds / translator.counts["captions"]
                aside = folder / f".{_SPEED}"
                aside.write_text(json.dumps({"milliseconds": round(speed, 3)}), encoding="utf-8")
                os.replace(aside, folder / _SPEED)
        kept = folder / _SPEED
        milliseconds = json.loads(kept.read_text(encoding="utf-8"))["milliseconds"] if kept.is_file() else None
        rows = load_rows(folder)
        return _checked(captions, list(rows[COLUMN]), rows[0]["translator"], milliseconds)

    def _made(self, folder: Path) -> bool:
        """Whether all is there, by the very model: the folder is called by a local model's weights, and notes a commit."""
        job = read_job(folder)
        if job is None or job.get("summary") is None:
            return False
        name, revision = name_and_revision(self.model)
        commit = commit_of(name, revision)
        if not Path(name).is_dir() and (commit is None or commit != job["translator"].get("revision")):
            return False
        logger.info("Translations by %s are in '%s'.", self.model, folder)
        return True

    @property
    def _name(self) -> str:
        path = Path(self.model)
        return path.resolve().name if path.is_dir() else self.model


def _captions(questions: RetrievalSet) -> list[str]:
    return next(iter(questions.captions.values()))


def _looked_up(
    captions: list[str], table: Mapping[str, str], by: str, where: str, *, empty: int = 0, hint: str = ""
) -> Translated:
    """Translations by caption.

    Args:
        captions: The captions.
        table: Translations by caption.
        by: Who translated them.
        where: The table, for the error.
        empty: So many different captions may be missing, for their translations are empty.
        hint: Ends the error.

    Raises:
        DataError: If more are missing.
    """
    found = {_key(own): text for own, text in table.items()}
    missing = [text for text in captions if _key(text) not in found]
    if len(set(map(_key, missing))) > empty:
        raise DataError(
            f"{where} lacks translations of {len(missing):,} of {len(captions):,} captions, the first is {missing[0]!r}{hint}."
        )
    return _checked(captions, [found.get(_key(text), "") for text in captions], by)


def _key(text: str) -> str:
    """What a caption is found by, whichever way its accents are written."""
    return unicodedata.normalize("NFC", tidy(text))


def _checked(captions: list[str], translations: list[str], by: str, milliseconds: float | None = None) -> Translated:
    """Put the caption itself where its translation is empty, as somebody who searches would; it is counted."""
    empty = sum(not text.strip() for text in translations)
    texts = [text if text.strip() else own for own, text in zip(captions, translations, strict=True)]
    return Translated(texts, by, empty, milliseconds)


def _slug(text: str) -> str:
    return re.sub(r"[^\w.@+-]+", "_", text).strip("_.") or "translations"
