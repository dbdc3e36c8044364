"""Trim: an adapter, or a multilingual base, with only those rows of its vocabulary that some languages use.

What a text becomes is unchanged: every text of the corpus is cut into the same pieces, and each piece has the same row to
the bit. This is checked on the whole corpus before anything is written.
"""

from __future__ import annotations

import gzip
import json
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ccr_adapters.configuration import CCRConfig, LanguageConfig, VocabularyConfig
from ccr_adapters.errors import AdapterError, CaptionError, LanguageError
from ccr_adapters.hub.trim_base import trim_base
from ccr_adapters.modeling.adapter_folder import (
    ADAPTER_CONFIG,
    VOCABULARY_WEIGHTS,
    read_tensors,
    write_tensors,
    written_aside,
)
from ccr_adapters.modeling.checks import check_language
from ccr_adapters.modeling.download import kind_of, local_folder, wanted
from ccr_adapters.modeling.layout import CARD, LANGUAGE_FILES, carried_base, language_folders
from ccr_adapters.modeling.vocabulary_source import source_table
from ccr_adapters.processing.bases import read_tokenizer, resolve_base
from ccr_adapters.processing.repository import (
    TOKENIZER_FILES,
    elsewhere,
    hub_arguments,
    inside,
    read_config,
    read_json,
)
from ccr_adapters.processing.trimming import check_same, ids_in_use, ids_of_scripts, trim_tokenizer


@dataclass(frozen=True)
class TrimmedVocabulary:
    """One vocabulary, before and after.

    Args:
        name: The language's code, or the base's name.
        tokens_before: Pieces.
        tokens_after: Pieces.
        bytes_before: Rows and tokenizer, on disk; rows that lie with another model are counted too.
        bytes_after: Of the trimmed ones.
        texts: Texts on which nothing changed.
    """

    name: str
    tokens_before: int
    tokens_after: int
    bytes_before: int
    bytes_after: int
    texts: int

    def to_text(self) -> str:
        """For people."""
        share = self.bytes_after / self.bytes_before
        return (
            f"{self.name:8} {self.tokens_before:>9,} -> {self.tokens_after:>7,} tokens   {self.bytes_before:>13,} -> "
            f"{self.bytes_after:>11,} bytes ({share:.1%})   the same on {self.texts:,} texts"
        )


def read_corpora(files: Sequence[str], languages: Sequence[str]) -> dict[str, list[str]]:
    """Texts by language.

    Args:
        files: Text files, one text a line, `.gz` too; `de=captions.txt` is for one language, others for all.
        languages: The languages.

    Raises:
        CaptionError: If a file is missing or empty, or is for a language that is not asked for.
    """
    found: dict[str, list[str]] = {code: [] for code in languages}
    for name in files:
        code, _, rest = name.partition("=")
        chosen, path = ([code], Path(rest)) if rest and not Path(name).is_file() else (list(languages), Path(name))
        if not path.is_file():
            raise CaptionError(f"There is no file '{path}'. A corpus is a text file with one text a line.")
        if set(chosen) - set(languages):
            raise CaptionError(f"'{name}' is for {code!r}, which is not asked for ({', '.join(languages)}).")
        raw = path.read_bytes()
        try:
            text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode("utf-8")
        except (UnicodeDecodeError, gzip.BadGzipFile) as error:
            raise CaptionError(f"'{path}' is no text file in UTF-8 ({error}).") from error
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        if not lines:
            raise CaptionError(f"'{path}' holds no text.")
        for each in chosen:
            found[each] += lines
    return found


def trim_vocabulary(
    name: str | Path,
    output: str | Path,
    languages: Sequence[str],
    corpus: Mapping[str, Sequence[str]] | None = None,
    *,
    dtype: torch.dtype | None = None,
    **hub: Any,
) -> list[TrimmedVocabulary]:
    """Write an adapter repository, or a base, with a smaller vocabulary.

    Of an adapter, each language's own vocabulary is trimmed; rows that it took from another model then come along, and that
    model is no longer needed. Of a base, its token embedding and tokenizer are; adapters that were trained on the whole
    base do not fit the trimmed one.

    Args:
        name: Folder or repository of an adapter or a base.
        output: Where to; no folder yet.
        languages: Of an adapter, those to write; of a base, those to keep.
        corpus: Texts by language, whose pieces stay. A language without any keeps the rows that were trained, or, if
            those are not known, all pieces in its script.
        dtype: Precision of the written rows; default as they are.
        hub: `revision`, `token`, `cache_dir`, `local_files_only`.

    Raises:
        AdapterError: If there is nothing to trim, or the folder is taken.
        ConfigError: If a tokenizer cannot be trimmed.
        LanguageError: If a language is not there.
    """
    if not languages:
        raise LanguageError("No language is named; say which ones to keep, `de,fr`.")
    target, texts = Path(output), {code: list((corpus or {}).get(code, ())) for code in languages}
    if target.exists() and (target.is_file() or any(target.iterdir())):
        raise AdapterError(f"'{target}' is there and not empty. Name a new folder.")
    how = hub_arguments(hub)
    if kind_of(resolve_base(name), how) != "ccr":
        every = list(dict.fromkeys(text for found in texts.values() for text in found))
        return [TrimmedVocabulary(*trim_base(str(name), target, languages, every, dtype, how))]
    root = local_folder(name, how, languages)
    config = read_config(root)
    chosen = wanted(config, languages, name)
    own = [code for code in chosen if config.languages[code].vocabulary is not None]
    if not own:
        raise AdapterError(
            f"{', '.join(chosen)} in '{name}' share the base's vocabulary: there is nothing to trim. Trim the base instead, and "
            "train the adapters on that."
        )
    report = []
    with written_aside(target) as aside:
        config.languages = {code: config.languages[code] for code in chosen}
        _copy_shared(root, aside, config)
        base = _base_from(config, root, target)
        config.base_model_name_or_path = base
        for code, place in language_folders(config).items():
            check_language(root / place, config.languages[code])
            folder = inside(aside, place)
            folder.mkdir(parents=True, exist_ok=True)
            trimmed = code in own
            left = {VOCABULARY_WEIGHTS, *TOKENIZER_FILES} if trimmed else set()
            for file in set(LANGUAGE_FILES) - left:
                if (root / place / file).is_file():
                    shutil.copy2(root / place / file, folder / file)
            if trimmed:
                told, config.languages[code] = _trim_language(
                    code, config.languages[code], root / place, folder, texts[code], dtype, elsewhere(how)
                )
                report.append(told)
            _tell_adapter(folder / ADAPTER_CONFIG, {"base_model_name_or_path": base})
        config.save_pretrained(str(aside))
        _tell_card(aside / CARD, report)
    return report


def _copy_shared(root: Path, aside: Path, config: CCRConfig) -> None:
    """The card, and a base that is carried along."""
    if (root / CARD).is_file():
        shutil.copy2(root / CARD, aside / CARD)
    base = carried_base(config)
    if base is not None and (root / base).is_dir():
        shutil.copytree(root / base, aside / base)


def _trim_language(
    code: str,
    language: LanguageConfig,
    here: Path,
    folder: Path,
    texts: list[str],
    dtype: torch.dtype | None,
    hub: Mapping[str, Any],
) -> tuple[TrimmedVocabulary, LanguageConfig]:
    plan = language.vocabulary
    if plan is None:
        raise AdapterError(f"Language {code!r} has no vocabulary.")
    state = read_tensors(here / VOCABULARY_WEIGHTS)
    tokenizer = read_tokenizer(here)
    if texts:
        used = ids_in_use(tokenizer, texts)
    elif "ids" in state:
        used = set(state["ids"].tolist())
    else:
        used = ids_of_scripts(tokenizer, [code])
    smaller, old = trim_tokenizer(tokenizer, used)
    check_same(tokenizer, smaller, old, texts)
    rows, train = _kept_rows(plan, state, old, hub)
    rows |= {key: value for key, value in state.items() if key.startswith("projection.")}
    write_tensors(folder / VOCABULARY_WEIGHTS, rows, dtype)
    smaller.save_pretrained(str(folder))
    end = read_json(folder / ADAPTER_CONFIG).get("pooling_token_id")
    if end is not None:
        # an adapter that reads the caption there
        _tell_adapter(folder / ADAPTER_CONFIG, {"pooling_token_id": old.index(end)})
    projects = any(key.startswith("projection.") for key in state)
    config = VocabularyConfig(size=len(old), width=plan.width, projection=projects, train=train, source=None)
    elsewhere = plan.size * plan.width * 4 if plan.source and plan.train != "all" else 0
    report = TrimmedVocabulary(
        name=code,
        tokens_before=len(tokenizer),
        tokens_after=len(old),
        bytes_before=_size(here) + elsewhere,
        bytes_after=_size(folder),
        texts=len(texts),
    )
    return report, replace(language, vocabulary=config)


def _kept_rows(
    plan: VocabularyConfig, state: Mapping[str, Tensor], old: Sequence[int], hub: Mapping[str, Any]
) -> tuple[dict[str, Tensor], str]:
    """The rows of the kept ids, as a reader would find them, and how a configuration calls them (`train`).

    Rows that were not trained are the source's, and come along; or zero, and stay unwritten.
    """
    kept = torch.tensor(old)
    if plan.train == "all":
        return {"table": state["table"][kept]}, "all"  # (n', e)
    if plan.source is None:
        new = torch.full((plan.size,), -1, dtype=torch.long)
        new[kept] = torch.arange(len(old))
        ids = new[state["ids"]]  # (k,)
        return {"ids": ids[ids >= 0], "rows": state["rows"][ids >= 0]}, "touched"
    table = source_table(plan.source, sha256=plan.source_sha256, **hub)  # (n, e)
    if plan.train == "touched":
        # in the wider of the two precisions, in which both keep their bits
        table = table.to(torch.promote_types(table.dtype, state["rows"].dtype))
        table[state["ids"]] = state["rows"].to(table.dtype)
    return {"table": table[kept]}, "all"


def _base_from(config: CCRConfig, root: Path, target: Path) -> str | None:
    """How a folder names the base, which an adapter in another one names by a path from there."""
    name: str | None = config.base_model_name_or_path
    if name is None or Path(name).is_absolute() or carried_base(config) is not None or not (root / name).is_dir():
        return name
    return Path(os.path.relpath((root / name).resolve(), target.resolve())).as_posix()


def _tell_adapter(path: Path, changes: Mapping[str, Any]) -> None:
    """Change values of an adapter's configuration."""
    values = read_json(path)
    if any(values.get(key) != value for key, value in changes.items()):
        path.write_text(json.dumps({**values, **changes}, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _tell_card(path: Path, report: Iterable[TrimmedVocabulary]) -> None:
    """A card says how the vocabulary came to be as small as it is."""
    if path.is_file():
        lines = [f"- {each.name}: {each.tokens_after:,} of {each.tokens_before:,} tokens" for each in report]
        text = path.read_text(encoding="utf-8").rstrip()
        section = (
            "\n\n## Trimmed vocabulary\n\nRows that the languages do not use were left out afterwards; the sizes above are of "
            "before.\n\n"
        )
        path.write_text(text + section + "\n".join(lines) + "\n", encoding="utf-8")


def _size(folder: Path) -> int:
    files = (folder / name for name in (VOCABULARY_WEIGHTS, *TOKENIZER_FILES))
    return sum(path.stat().st_size for path in files if path.is_file())


__all__ = ["TrimmedVocabulary", "read_corpora", "trim_vocabulary"]
