"""Encoding a corpus as a job: finished shards are never encoded again, and a folder holds the vectors of one job alone."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from ccr_adapters import __version__
from ccr_adapters.corpora.inputs import InputFile
from ccr_adapters.corpora.plan import Plan, Shard, fix_inputs, input_sha256, make_plan, moved
from ccr_adapters.corpora.rows import Columns, named
from ccr_adapters.corpora.shards import DTYPES, Skipped, finished_shards, read_shard, shard_path, write_skipped
from ccr_adapters.errors import ConfigError, DataError
from ccr_adapters.modeling import CCRModel
from ccr_adapters.modeling.encoding import processor_of
from ccr_adapters.pixels import VERSION as PIXELS

JOB, PLAN, SKIPPED, LOCK = "encode.json", "plan.json", "skipped.jsonl", ".lock"
SHARD_ROWS = 8192
PRECISIONS = ("float32", "bfloat16", "float16")
_FORMAT = 1


@dataclass(frozen=True)
class Settings:
    """What decides the vectors besides model and input; the same for a job from beginning to end.

    Attributes:
        shard_rows: Most rows of a shard.
        dtype: Of the vectors in the files.
        precision: Of the model's weights; `None` takes the model's own.
    """

    shard_rows: int = SHARD_ROWS
    dtype: str = "float32"
    precision: str | None = None

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise ConfigError(f"The vectors cannot be {self.dtype!r}; expected {' or '.join(DTYPES)}.")
        if self.precision not in (None, *PRECISIONS):
            raise ConfigError(f"The model cannot run in {self.precision!r}; expected {', '.join(PRECISIONS)}.")
        if self.shard_rows < 1:
            raise ConfigError(f"`shard_rows` is {self.shard_rows}; expected 1 or more.")

    def of(self, model: CCRModel) -> Settings:
        """These settings with the precision that a model is in.

        Args:
            model: The model, as it will encode.

        Raises:
            ConfigError: If they name another precision.
        """
        precision = str(model.dtype).removeprefix("torch.")
        if self.precision not in (None, precision):
            raise ConfigError(f"The model is in {precision}, and the settings say {self.precision}. Make them agree.")
        return replace(self, precision=precision)


@dataclass(frozen=True)
class EncodeSummary:
    """What a job has come to.

    Attributes:
        folder: The output.
        rows: Vectors that are there.
        skipped: Rows that have none, and files that break off.
        shards: Files of vectors.
        encoded: Vectors made by this run.
        seconds: How long this run took.
    """

    folder: str
    rows: int
    skipped: int
    shards: int
    encoded: int = 0
    seconds: float = 0.0


def identity_of(model: CCRModel, name: str, what: str, language: str | None = "active") -> dict[str, Any]:
    """What a model is, as far as its vectors go.

    Args:
        model: The model.
        name: What it is loaded from.
        what: `captions` or `pictures`.
        language: As for `RowEncoder`.

    Returns:
        Names and hashes, as JSON values. No language touches a picture, unless it has a space of its own.
    """
    code = model.resolve_language(language)
    code = code if what == "captions" else model.space(code)
    with model.shelf.using(model, [] if code is None else [code]):
        return {
            "model": name,
            "base": model.config.base_model_name_or_path,
            "base_revision": model.config.base_revision,
            "base_sha256": model.base_sha256(),
            "language": code,
            "language_sha256": None if code is None else _language_sha256(model, code),
            "space": model.space(code),
            "dim": model.dim_of(code),
            "processing": _processing(model, code, what),
        }


def _processing(model: CCRModel, code: str | None, what: str) -> str:
    """Hash of what comes between a row and the encoder, and of how its states are pooled: no part of the weights."""
    processor = processor_of(model)
    parts: list[Any] = [model.config.pooling]
    if what == "captions":
        parts += [_tokenizer(processor.tokenizer_for(code)), *processor.settings_for(code)]
    else:
        parts += [processor.image_processor.to_dict() if processor.image_processor is not None else None, PIXELS]
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def _tokenizer(tokenizer: Any) -> Any:
    """All of a tokenizer but what its last call left behind; of a slow one its vocabulary."""
    whole = getattr(tokenizer, "backend_tokenizer", None)
    if whole is None:
        return tokenizer.get_vocab()
    return {key: value for key, value in json.loads(whole.to_str()).items() if key not in ("truncation", "padding")}


def _language_sha256(model: CCRModel, code: str) -> str:
    """Hash of all that a language brings along; rounded as the base's is."""
    digest = hashlib.sha256()
    # adapters, vocabularies and heads are all kept by code
    for name, tensor in sorted(model.state_dict().items()):
        if code in name.split("."):
            digest.update(f"{name}{tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().to("cpu", torch.bfloat16).contiguous().view(torch.int16).numpy().tobytes())
    return digest.hexdigest()


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other encoders out of a folder; the system lets go of it when the process ends, however it ends.

    Args:
        folder: The output; made if need be.

    Raises:
        DataError: If there is another one, or the folder cannot be made.
    """
    # comes with huggingface_hub
    from filelock import FileLock, Timeout

    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / LOCK, timeout=0)
        lock.acquire()
    except Timeout as error:
        raise DataError(f"Another encoder is writing to '{folder}'. Wait until it has finished, or stop it.") from error
    except OSError as error:
        raise DataError(f"'{folder}' cannot be written to ({error.strerror}). Choose another folder.") from error
    try:
        yield
    finally:
        lock.release()


class Job:
    """A folder of vectors in the making.

    Attributes:
        folder: The output.
        plan: Its shards.
        settings: How they are made.
        about: What `encode.json` says.
    """

    def __init__(self, folder: Path, plan: Plan, settings: Settings, about: dict[str, Any]) -> None:
        """Not to be called: `open_job` and `join_job` do."""
        self.folder, self.plan, self.settings, self.about = folder, plan, settings, about

    def missing(self) -> list[Shard]:
        """Shards that are not finished, by number."""
        done = finished_shards(self.folder)
        return [shard for shard in self.plan.shards if shard.number not in done]

    def write(self, *, finished: int, rows: int | None = None, skipped: int | None = None) -> None:
        """Write `encode.json`.

        Args:
            finished: Number of finished shards.
            rows: Vectors; `None` until all are there.
            skipped: What has none.
        """
        made = {"finished_shards": finished, "rows": rows, "skipped": skipped, "complete": rows is not None}
        aside = self.folder / f".{JOB}"
        aside.write_text(json.dumps({**self.about, **made}, indent=2) + "\n", encoding="utf-8")
        aside.replace(self.folder / JOB)

    def sweep(self) -> None:
        """Remove what processes that were killed left half written; nobody may be at work."""
        for left in self.folder.glob(".part-*"):
            left.unlink(missing_ok=True)

    def finish(self, *, encoded: int = 0, seconds: float = 0.0) -> EncodeSummary:
        """Count what all processes have written, and name what was left out.

        Args:
            encoded: Vectors made by this run, for the summary.
            seconds: How long it took.

        Returns:
            The summary.

        Raises:
            DataError: If shards are missing or broken, or nothing at all could be encoded.
        """
        missing = self.missing()
        if missing:
            raise DataError(f"{len(missing):,} of {len(self.plan.shards):,} shards are missing; run the same command.")
        counts = {"rows": 0, "skipped": 0}
        write_skipped(self.folder / SKIPPED, self._skipped(counts))
        if not counts["rows"]:
            raise DataError(f"None of {self.plan.total:,} rows could be encoded; '{self.folder / SKIPPED}' says why.")
        self.sweep()
        self.write(finished=len(self.plan.shards), **counts)
        return EncodeSummary(
            str(self.folder), counts["rows"], counts["skipped"], len(self.plan.shards), encoded, round(seconds, 2)
        )

    def _skipped(self, counts: dict[str, int]) -> Iterator[Skipped]:
        for name, reason in self.plan.problems.items():
            counts["skipped"] += 1
            yield Skipped(name, reason)
        for shard in self.plan.shards:
            path = shard_path(self.folder, shard.number)
            rows, skipped = read_shard(path)
            if rows + len(skipped) != shard.cut.rows:
                raise DataError(f"'{path}' has {rows} rows of {shard.cut.rows}. Delete it, and run the same command.")
            counts["rows"] += rows
            counts["skipped"] += len(skipped)
            yield from skipped


def open_job(
    folder: Path, files: Sequence[InputFile], columns: Columns, model: dict[str, Any], settings: Settings
) -> Job:
    """Begin a job, or take up the one that lies in the folder if it is the same. Hold the lock.

    Args:
        folder: The output.
        files: The input, as `find_inputs` gives it.
        columns: Which column is what.
        model: What `identity_of` gives.
        settings: The rest.

    Returns:
        The job.

    Raises:
        DataError: If the folder holds something else, or vectors of another model, input or settings, naming them.
    """
    known = _known(folder)
    fixed = fix_inputs(files, folder)
    about = {
        "format": _FORMAT,
        "package_version": __version__,
        **model,
        **asdict(columns),
        "keep": list(columns.keep),
        **asdict(settings),
        "input": {"first": named(files[0].path), "files": len(files), "sha256": input_sha256(fixed)},
    }
    if known is not None:
        _refuse_other(folder, known, about)
        plan = moved(Plan.read(folder / PLAN), fixed)
    else:
        plan = make_plan(fixed, columns, settings.shard_rows)
    about |= {"shards": len(plan.shards), "planned_rows": plan.total}
    plan.write(folder / PLAN)
    job = Job(folder, plan, settings, about)
    job.sweep()
    job.write(finished=len(plan.shards) - len(job.missing()))
    return job


def join_job(folder: Path, model: dict[str, Any]) -> Job:
    """Take part in a job that another process has opened.

    Args:
        folder: The output, which all processes see.
        model: What `identity_of` gives here.

    Returns:
        The job.

    Raises:
        DataError: If it is not there, since machines need a common folder; or if the model here is another one.
    """
    about = _known(folder) if (folder / JOB).is_file() else None
    if about is None:
        raise DataError(f"There is no '{folder / JOB}' on this machine. All machines need one common output folder.")
    _refuse_other(folder, about, {**about, **model})
    settings = Settings(about["shard_rows"], about["dtype"], about["precision"])
    return Job(folder, Plan.read(folder / PLAN), settings, about)


def _known(folder: Path) -> dict[str, Any] | None:
    path = folder / JOB
    if not path.is_file():
        own = {LOCK, PLAN, f".{PLAN}", f".{JOB}"}
        others = [each.name for each in folder.iterdir() if each.name not in own and not each.match("pictures-*.jsonl")]
        if others:
            raise DataError(
                f"'{folder}' holds something else ({named(min(others))}). Choose a new folder for the vectors."
            )
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"'{path}' cannot be read ({error}). Restore it, or encode into a new folder.") from error
    if not isinstance(found, dict) or found.get("format") != _FORMAT:
        raise DataError(f"'{path}' is no job of format {_FORMAT}. Is ccr-adapters up to date?")
    return found


def _refuse_other(folder: Path, known: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Refuse to go on with another model, input or other settings; a model may have moved, an input too."""
    different = [
        f"{name} {_told(known.get(name))}, asked for {_told(value)}"
        for name, value in wanted.items()
        if name not in ("model", "base", "base_revision", "package_version", "input")
        # a job of an earlier version did not write down the last one
        and known.get(name, value if name == "processing" else None) != value
    ]
    before = known.get("input")
    if not isinstance(before, dict) or before.get("sha256") != wanted["input"]["sha256"]:
        first = before.get("first") if isinstance(before, dict) else before
        different.append(f"input '{first}' as it was, asked for '{wanted['input']['first']}' as it is now")
    if different:
        raise DataError(
            f"'{folder}' holds other vectors: {'; '.join(different)}. Choose a new folder, or repeat what it was begun with."
        )


def _told(value: Any) -> str:
    """A value for a message; of a hash the first digits."""
    return f"{value[:12]}..." if isinstance(value, str) and len(value) == 64 else json.dumps(value)
