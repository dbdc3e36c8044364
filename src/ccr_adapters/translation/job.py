"""Translating a data set as a job: resumable after a kill, nothing translated twice, memory bounded.

The output folder holds `job.json`, which says what is translated by whom, and while the job runs `parts/`: a journal of
the part at work, to which every finished batch is appended, and one Arrow file for each finished part.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset, Features, Value, concatenate_datasets
from datasets.arrow_writer import ArrowWriter
from tqdm import tqdm

from ccr_adapters.errors import DataError, TranslationError
from ccr_adapters.translation.rows import Captions, find_captions, load_rows, one_caption_a_row, tidy
from ccr_adapters.translation.translator import BATCH_SIZE, MAX_NEW_TOKENS, NUM_BEAMS, Translator

logger = logging.getLogger(__name__)

JOB = "job.json"
PARTS = "parts"
LOCK = ".lock"
_WHOLE = ".whole"
_DECIDE = ("num_beams", "max_new_tokens")  # of the decoding; the size of a batch does not change what comes out
PART_SIZE = 4096  # different captions of one part; its journal is read again after a kill


@dataclass
class TranslationSummary:
    """What a finished job did.

    Args:
        folder: The data set, for `datasets.load_from_disk`.
        rows: Rows that it has.
        captions: Different captions that were translated.
        empty: Different captions whose translation is empty.
        dropped: Rows left out for that.
        counts: Of the translator: `truncated`, `unfinished`, `retried`; with `back_` in front, of back-translation.
        seconds: Time of this call; 0 when all was there already.
    """

    folder: str
    rows: int
    captions: int
    empty: int
    dropped: int
    counts: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0


def translate_dataset(
    rows: Dataset | str | Path,
    output: str | Path,
    translator: Translator,
    back: Translator | None = None,
    *,
    caption_column: str = "caption",
    limit: int | None = None,
    drop_empty: bool = True,
    batch_size: int = BATCH_SIZE,
    num_beams: int = NUM_BEAMS,
    max_new_tokens: int = MAX_NEW_TOKENS,
    part_size: int = PART_SIZE,
    progress: bool = True,
) -> TranslationSummary:
    """Translate the captions of a data set; started again after a kill, it goes on behind the last finished batch.

    Args:
        rows: A data set, or a file or folder with one. Columns beside the captions are kept.
        output: Folder of the result: `caption`, `translation`, `back_translation` (with `back`), `language`,
            `translator` and what the rows had.
        translator: From English.
        back: Back into English, to check the translations and for objectives that need it.
        caption_column: Column of the captions: texts, or lists of texts, which become rows of their own.
        limit: Only so many rows.
        drop_empty: Leave out rows whose translation is empty, and count them; otherwise they stay with `""`.
        batch_size: Most captions of one batch.
        num_beams: Beams of the search.
        max_new_tokens: Longest translation in tokens.
        part_size: Different captions of one part.
        progress: Show a progress bar.

    Returns:
        What was done.

    Raises:
        TranslationError: If the folder holds translations of other captions, by another translator or with other
            settings, or something else altogether.
        DataError: If the rows cannot be read, or lack the column.
        CaptionError: If a caption is empty.
    """
    if back is not None and (back.source, back.target) != (translator.target, translator.source):
        raise TranslationError(
            f"The back-translator goes from {back.source} to {back.target}; expected {translator.target} to "
            f"{translator.source}."
        )
    with nullcontext() if _finished(Path(output)) else _alone(Path(output)):
        return _translate(
            load_rows(rows),
            Path(output),
            translator,
            back,
            caption_column=caption_column,
            limit=limit,
            drop_empty=drop_empty,
            decoding={"batch_size": batch_size, "num_beams": num_beams, "max_new_tokens": max_new_tokens},
            part_size=part_size,
            progress=progress,
        )


def read_job(folder: str | Path) -> dict[str, Any] | None:
    """What a folder says of how it was translated; `None` if `translate_dataset` did not make it.

    Args:
        folder: Of translations: `captions`, `translator`, `settings`, and `summary` once it is finished.
    """
    try:
        found = json.loads((Path(folder) / JOB).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    whole = isinstance(found, dict) and isinstance(found.get("translator"), dict)
    return found if whole and isinstance(found.get("summary"), dict | None) else None


def _finished(folder: Path) -> bool:
    """Whether a folder only has to be read: many may do that at once, also where they may not write."""
    return (read_job(folder) or {}).get("summary") is not None  # what is wrong is said by who opens it


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold a folder for this process: two that translate the same would do it twice, and write over each other."""
    # comes with huggingface_hub
    from filelock import FileLock, Timeout

    if folder.exists() and not folder.is_dir():
        raise TranslationError(f"'{folder}' is a file. Choose a folder for the translations.")
    made = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise TranslationError(f"Another process translates into '{folder}'. Wait for it, or stop it.") from error
    try:
        yield
    finally:
        with suppress(OSError):  # before the release: a file that another holds by then would be unlinked
            (folder / LOCK).unlink()
        lock.release()
        if made and not any(folder.iterdir()):
            folder.rmdir()


def _translate(
    data: Dataset,
    output: Path,
    translator: Translator,
    back: Translator | None,
    *,
    caption_column: str,
    limit: int | None,
    drop_empty: bool,
    decoding: dict[str, int],
    part_size: int,
    progress: bool,
) -> TranslationSummary:
    """The job of `translate_dataset`, in a folder that nobody else writes to."""
    start = time.perf_counter()
    data = one_caption_a_row(data if limit is None else data.select(range(min(limit, len(data)))), caption_column)
    if not len(data):
        raise DataError("There are no rows to translate.")
    captions = find_captions(data)
    job = _Job(output)
    found = job.open(
        {
            "captions": {
                "rows": len(data),
                "different": len(captions.unique),
                "sha256": captions.sha256,
                "others": captions.others,
            },
            "translator": translator.identity(),
            "back_translator": back.identity() if back else None,
            "settings": {**{name: decoding[name] for name in _DECIDE}, "drop_empty": drop_empty},
        },
        part_size,
    )
    if found["summary"] is not None:
        logger.info("'%s' is finished already.", output)
        job.clean()  # a kill may have come between the last word and this
        return TranslationSummary(folder=str(output), **found["summary"])
    job.translate(data, captions, translator, back, decoding, progress=progress)
    summary = job.finish(data, captions, drop_empty=drop_empty)
    summary.seconds = round(time.perf_counter() - start, 2)
    return summary


class _Journal:
    """The finished batches of one part, a line each; a line that a kill cut short is taken off again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.texts: dict[int, list[str | None]] = {}
        self.counts: Counter[str] = Counter()
        whole = 0
        content = path.read_bytes() if path.is_file() else b""
        for line in content.splitlines(keepends=True):
            if not line.endswith(b"\n"):
                break
            whole += len(line)
            self._take(json.loads(line))
        if whole < len(content):
            os.truncate(path, whole)

    def _take(self, batch: dict[str, Any]) -> None:
        self.texts.update({int(row): texts for row, *texts in batch["texts"]})
        self.counts.update(batch["counts"])

    def add(self, rows: list[int], columns: list[list[str]], counts: Counter[str]) -> None:
        """Append a batch."""
        texts = [[row, *values] for row, *values in zip(rows, *columns, strict=True)]
        batch = {"texts": texts, "counts": {name: count for name, count in counts.items() if count}}
        with self.path.open("a", encoding="utf-8") as file:
            # one write: what follows a kill is a whole line or the head of one
            file.write(json.dumps(batch, ensure_ascii=False) + "\n")
        self._take(batch)


class _Job:
    """The files of a job."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.parts = folder / PARTS
        self.found: dict[str, Any] = {}

    def open(self, wanted: dict[str, Any], part_size: int) -> dict[str, Any]:
        """Begin the job, or take up the one that lies in the folder if it is the same."""
        path = self.folder / JOB
        if path.is_file():
            try:
                self.found = json.loads(path.read_text(encoding="utf-8"))
                before = {name: self.found[name] for name in wanted}
                summary, settings, _ = self.found["summary"], dict(self.found["settings"]), self.found["part_size"]
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise TranslationError(f"'{path}' cannot be read as a translation job: {error!r}.") from error
            if summary is None or not summary["empty"]:
                # what becomes of empty ones is decided at the end, and of none nothing
                before["settings"] = {**settings, "drop_empty": wanted["settings"]["drop_empty"]}
            if summary is not None:
                before |= _in_any_precision(self.folder, before, wanted)
            _refuse_other(self.folder, before, wanted)
            if before["settings"] != self.found["settings"]:
                self.found["settings"] = before["settings"]
                self._write()
        elif self.folder.exists() and (not self.folder.is_dir() or self._occupied()):
            raise TranslationError(f"'{self.folder}' holds something else. Choose a new folder for the translations.")
        else:
            self.found = {**wanted, "part_size": part_size, "summary": None}
            self.folder.mkdir(parents=True, exist_ok=True)
            self._write()
        return self.found

    def _occupied(self) -> bool:
        """Whether anything lies there but the job's file, half written when a kill came."""
        return any(path.name not in (f".{JOB}", LOCK) for path in self.folder.iterdir())

    def _write(self) -> None:
        aside = self.folder / f".{JOB}"
        aside.write_text(json.dumps(self.found, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        aside.replace(self.folder / JOB)

    def _bounds(self, captions: Captions) -> Iterator[tuple[Path, int, int]]:
        size = int(self.found["part_size"])
        for number, start in enumerate(range(0, len(captions.unique), size)):
            yield self.parts / f"part-{number:05d}.arrow", start, min(start + size, len(captions.unique))

    def translate(
        self,
        data: Dataset,
        captions: Captions,
        translator: Translator,
        back: Translator | None,
        decoding: dict[str, int],
        *,
        progress: bool,
    ) -> None:
        """Translate what is not translated yet, part by part."""
        self.parts.mkdir(exist_ok=True)
        texts = data.select_columns(["caption"])
        constant = {"language": translator.target, "translator": translator.name}
        with tqdm(total=len(captions.unique), unit="caption", desc="translate", disable=not progress) as bar:
            for path, start, end in self._bounds(captions):
                if path.is_file():
                    bar.update(end - start)
                    continue
                journal = _Journal(path.with_suffix(".jsonl"))
                bar.update(len(journal.texts))
                # the rate is that of this run, not of what it found
                bar.unpause()
                todo = [row for row in range(end - start) if row not in journal.texts]
                if todo:
                    wanted = [tidy(text) for text in texts[captions.unique[start + np.asarray(todo)]]["caption"]]
                    for rows, columns, counts in _both_ways(wanted, translator, back, decoding):
                        journal.add([todo[row] for row in rows], columns, counts)
                        bar.update(len(rows))
                names = ["translation", "back_translation"][: 1 + (back is not None)]
                values = {name: [journal.texts[row][i] for row in range(end - start)] for i, name in enumerate(names)}
                values |= {name: [value] * (end - start) for name, value in constant.items()}
                _write_part(path, values, journal.counts)

    def finish(self, data: Dataset, captions: Captions, *, drop_empty: bool) -> TranslationSummary:
        """Put the parts beside the rows, and the whole in place of the parts."""
        counts: Counter[str] = Counter()
        parts = []
        for path, _, _ in self._bounds(captions):
            parts.append(Dataset.from_file(str(path)))
            counts.update(json.loads(path.with_suffix(".json").read_text(encoding="utf-8")))
        aside = self.folder / _WHOLE
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir()
        made = concatenate_datasets(parts)
        empty = np.concatenate([np.asarray([not text for text in part["translation"]], dtype=bool) for part in parts])
        spread = made.select(captions.number).flatten_indices(cache_file_name=str(aside / "spread.arrow"))
        whole = concatenate_datasets([data, spread], axis=1)
        if empty.all():
            raise TranslationError(
                f"All {len(empty):,} translations are empty; nothing was written to '{self.folder}'. Look at the translator, and "
                "remove the folder before another attempt."
            )
        kept = np.flatnonzero(~empty[captions.number])
        dropped = len(whole) - len(kept) if drop_empty else 0
        if dropped:
            whole = whole.select(kept)
        first = ["caption", *made.column_names]
        whole = whole.select_columns([*first, *(name for name in whole.column_names if name not in first)])
        whole.save_to_disk(str(aside / "whole"))
        for old in self.folder.glob("data-*.arrow"):
            old.unlink()
        # datasets looks for state.json, so it comes when everything else is there
        for file in sorted((aside / "whole").iterdir(), key=lambda file: file.name == "state.json"):
            os.replace(file, self.folder / file.name)
        summary = TranslationSummary(
            folder=str(self.folder),
            rows=len(whole),
            captions=len(captions.unique),
            empty=int(empty.sum()),
            dropped=dropped,
            counts={name: counts[name] for name in sorted(counts) if counts[name]},
        )
        self.found["summary"] = {
            name: value for name, value in asdict(summary).items() if name not in ("folder", "seconds")
        }
        self._write()
        self.clean()
        return summary

    def clean(self) -> None:
        """Remove what a finished job was made from."""
        for left in (self.folder / _WHOLE, self.parts):
            shutil.rmtree(left, ignore_errors=True)


def _both_ways(
    captions: list[str], translator: Translator, back: Translator | None, decoding: dict[str, int]
) -> Iterator[tuple[list[int], list[list[str]], Counter[str]]]:
    """Yield rows, their translations (and back-translations) and what was counted, batch by batch."""
    before = translator.counts.copy()
    for rows, translations in translator.batches(captions, **decoding):
        counts = translator.counts - before
        columns = [translations]
        if back is not None:
            said = [row for row, text in enumerate(translations) if text]
            before_back = back.counts.copy()
            returned = [""] * len(rows)
            for row, text in zip(said, back.translate([translations[row] for row in said], **decoding), strict=True):
                returned[row] = text
            columns.append(returned)
            counts.update({f"back_{name}": count for name, count in (back.counts - before_back).items()})
        yield rows, columns, counts
        before = translator.counts.copy()


def _write_part(path: Path, columns: dict[str, list[str | None]], counts: Counter[str]) -> None:
    """Write a part whole: its counts, then its texts aside, moved when they are on the disk."""
    path.with_suffix(".json").write_text(json.dumps(counts), encoding="utf-8")
    aside = path.with_name(f".{path.name}")
    with aside.open("wb") as file:
        with ArrowWriter(features=Features(dict.fromkeys(columns, Value("string"))), stream=file) as writer:
            writer.write_batch(columns)
            writer.finalize(close_stream=False)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)
    path.with_suffix(".jsonl").unlink(missing_ok=True)


def _describe(job: dict[str, Any]) -> str:
    captions, translator, back = job["captions"], job["translator"], job["back_translator"]
    revision = f"@{str(translator['revision'])[:12]}" if translator.get("revision") else ""
    words = f"{captions['rows']:,} captions ({captions['sha256'][:8]}) from {translator['source']} to {translator['target']} "
    words += f"by {translator['name']}{revision} (weights {translator['weights'][:8]}, {translator['dtype']})"
    words += f", back by {back['name']} ({back['weights'][:8]})" if back else ", one way"
    return words + "".join(f", {name}={value}" for name, value in job["settings"].items())


def _in_any_precision(folder: Path, before: dict[str, Any], wanted: dict[str, Any]) -> dict[str, Any]:
    """The translators of a finished job as if they had computed in the precision that is asked, which the device decides."""
    found = {}
    for name in ("translator", "back_translator"):
        there, asked = before[name], wanted[name]
        if isinstance(there, dict) and asked and there.get("dtype", asked["dtype"]) != asked["dtype"]:
            logger.warning(
                "'%s' was translated in %s, not in %s: it is taken as it is.", folder, there["dtype"], asked["dtype"]
            )
            found[name] = {**there, "dtype": asked["dtype"]}
    return found


def _refuse_other(folder: Path, before: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Refuse to go on with other captions, another translator or other settings, naming both."""
    different = []
    for name, value in wanted.items():
        if before[name] == value:
            continue
        if isinstance(value, dict) and isinstance(before[name], dict):
            # what an earlier version did not write down is not known to differ, and another commit may hold the same weights
            keys = (key for key in value if key != "revision")
            different += [f"{name}.{key}" for key in keys if before[name].get(key, value[key]) != value[key]]
        else:
            different.append(name)
    if different:
        raise TranslationError(
            f"'{folder}' holds another job (different: {', '.join(different)}).\n  There: {_describe(before)}.\n  "
            f"Asked: {_describe(wanted)}.\nChoose another folder, or remove this one to start anew."
        )
