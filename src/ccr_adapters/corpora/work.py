"""The work of a job: shards encoded one after the other in this process, or shared out among processes of Accelerate."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import gather_object, parse_flag_from_env
from numpy.typing import NDArray
from tqdm.auto import tqdm

from ccr_adapters.corpora.encoders import MISSING, Prepared, RowEncoder
from ccr_adapters.corpora.inputs import InputFile
from ccr_adapters.corpora.job import EncodeSummary, Job, Settings, identity_of, join_job, locked, open_job
from ccr_adapters.corpora.plan import Shard
from ccr_adapters.corpora.rows import Columns, Row
from ccr_adapters.corpora.shards import Skipped, write_shard
from ccr_adapters.errors import DataError
from ccr_adapters.modeling import CCRModel

logger = logging.getLogger(__name__)

# so many pictures of a shard, and none of them there: a drive is more often unmounted than emptied
_SUSPICIOUS = 16
# Processes wait for the slowest, who may have long shards left; one that has died is seen by the launcher.
_PATIENCE = timedelta(days=30)


def process_state() -> PartialState:
    """This process among those of `accelerate launch`; the only one without it.

    Returns:
        Accelerate's state, with the patience that a long job needs.
    """
    # left to itself it sees processes only where there are accelerators
    cpu = parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.cuda.is_available()
    return PartialState(cpu=cpu, timeout=_PATIENCE)


def encode_corpus(
    files: Sequence[InputFile],
    columns: Columns,
    output: str | Path,
    model: CCRModel,
    *,
    name: str | None = None,
    language: str | None = "active",
    settings: Settings | None = None,
    batch_size: int | None = None,
    workers: int = 4,
    allow_missing: bool = False,
    show_progress: bool | None = None,
) -> EncodeSummary | None:
    """Encode a corpus into a folder of vectors; started again after a kill, it goes on behind the last finished shard.

    Under `accelerate launch` every process calls this, and encodes its own run of shards.

    Args:
        files: What `find_inputs` gives.
        columns: What `choose_columns` gives.
        output: Folder for `part-00000.parquet` and so on, `encode.json` and `skipped.jsonl`.
        model: In evaluation mode, where it shall run.
        name: What the model is loaded from, for `encode.json`; default the name of its base.
        language: Language of the captions; `"active"` is the model's, `None` the base.
        settings: What shards are like.
        batch_size: Rows a forward pass; default as `RowEncoder` has it. May be another one when a job goes on.
        workers: Threads that read and decode pictures.
        allow_missing: Go on where none of the pictures of a shard is there.
        show_progress: A bar; default where there is a terminal.

    Returns:
        What was done; `None` in all processes but the main one.

    Raises:
        ConfigError: If the model is in another precision than the settings say.
        DataError: If the input cannot be read, or the folder is in use or holds other vectors.
        LanguageError: If the language has no adapter.

    Example:
        >>> files = find_inputs(["captions.jsonl"])  # doctest: +SKIP
        >>> encode_corpus(files, choose_columns(files), "vectors", model, language="de")  # doctest: +SKIP
    """
    start, folder, state = time.perf_counter(), Path(output), process_state()
    about = identity_of(model, name or str(model.config.base_model_name_or_path), columns.what, language)
    settings = (settings or Settings()).of(model)
    with ExitStack() as stack:
        if state.is_main_process:
            stack.enter_context(locked(folder))
            job = open_job(folder, files, columns, about, settings)
        state.wait_for_everyone()
        if not state.is_main_process:
            job = join_job(folder, about)
        encoder = RowEncoder(model, job.plan, language=language, batch_size=batch_size, workers=workers)
        # by number, whatever is finished: all processes come to the same shares, and nobody to another's
        total, rank, count = len(job.plan.shards), state.process_index, state.num_processes
        mine = job.plan.shards[-(-total * rank // count) : -(-total * (rank + 1) // count)]
        encoded = encode_here(job, encoder, mine, allow_missing=allow_missing, show_progress=show_progress)
        state.wait_for_everyone()
        encoded = sum(gather_object([encoded]))
        if not state.is_main_process:
            return None
        return job.finish(encoded=encoded, seconds=time.perf_counter() - start)


def encode_shards(
    job: Job,
    encoder: RowEncoder,
    shards: Sequence[Shard],
    *,
    allow_missing: bool = False,
    progress: Callable[[int], Any] | None = None,
) -> Iterator[tuple[Shard, int]]:
    """Encode shards and write each when it is whole.

    Args:
        job: The job.
        encoder: What makes vectors.
        shards: Which of its shards.
        allow_missing: Go on where none of the pictures of a shard is there.
        progress: Called with the number of rows that were just done.

    Yields:
        Each shard that was written, and how many vectors it has.

    Raises:
        DataError: If input or output fail; what is finished stays.
    """
    fields: dict[int, list[Any]] = {}
    made = _Made()
    for shard, piece in encoder.pieces(shards):
        if made.shard is not None and made.shard is not shard:
            raise DataError(
                f"Shard {made.shard.number} has {made.seen:,} rows of {made.shard.cut.rows:,}: the input has changed. Encode "
                "into a new folder."
            )
        made.shard = shard
        _encode_piece(encoder, piece, made)
        if progress is not None:
            progress(len(piece))
        # at its last row, not when the next shard begins: reading that one may fail
        if made.seen < shard.cut.rows:
            continue
        absent = sum(each.reason == MISSING for each in made.skipped)
        if absent == shard.cut.rows >= _SUSPICIOUS and not allow_missing:
            raise DataError(
                f"None of the {absent:,} pictures of shard {shard.number} is there, the first is '{made.skipped[0].item}'. Is "
                "the drive mounted, and are paths relative to the table? --allow-missing goes on."
            )
        place = job.plan.files[shard.file].root or job.plan.files[shard.file].path
        if absent and not Path(place).exists():
            raise DataError(
                f"'{place}' is gone, and so may be the {absent:,} pictures of shard {shard.number} that "
                "are not there. Bring it back and run the same command: finished shards are kept."
            )
        if shard.file not in fields:
            fields[shard.file] = job.plan.files[shard.file].reader().fields(job.plan.columns.keep)
        matrix = np.concatenate(made.vectors) if made.vectors else np.empty((0, int(job.about["dim"])), np.float32)
        write_shard(
            job.folder,
            shard.number,
            made.rows,
            matrix,
            made.skipped,
            fields=fields[shard.file],
            dtype=job.settings.dtype,
        )
        logger.info("shard %d of %d: %d vectors", shard.number, len(job.plan.shards), len(made.rows))
        yield shard, len(made.rows)
        made = _Made()


@dataclass
class _Made:
    """What there is of the shard at work."""

    shard: Shard | None = None
    rows: list[Row] = field(default_factory=list)
    vectors: list[NDArray[np.float32]] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    seen: int = 0


def _encode_piece(encoder: RowEncoder, piece: Sequence[Prepared], made: _Made) -> None:
    """Encode a piece of a shard onto what there is of it."""
    made.seen += len(piece)
    made.skipped.extend(Skipped(each.row.id, each.problem) for each in piece if each.problem)
    good = [each for each in piece if not each.problem]
    if not good:
        return
    encoded = encoder.encode(good)
    finite = [bool(np.isfinite(vector).all()) for vector in encoded]
    made.vectors.append(encoded[finite])
    for each, fine in zip(good, finite, strict=True):
        if fine:
            # a picture that came inside its table would stay in memory until the shard is written
            made.rows.append(replace(each.row, content=""))
        else:
            made.skipped.append(Skipped(each.row.id, "the encoder gives no finite vector for it"))


def encode_here(
    job: Job,
    encoder: RowEncoder,
    shards: Sequence[Shard],
    *,
    allow_missing: bool = False,
    show_progress: bool | None = None,
) -> int:
    """Encode shards in this process, with a bar.

    Args:
        job: The job.
        encoder: What makes vectors.
        shards: Those of this process; finished ones are passed over.
        allow_missing: As for `encode_shards`.
        show_progress: A bar; default where there is a terminal.

    Returns:
        How many vectors were made.
    """
    open_ones = {shard.number for shard in job.missing()}
    todo = [shard for shard in shards if shard.number in open_ones]
    total, left = (sum(shard.cut.rows for shard in own) for own in (shards, todo))
    hidden = None if show_progress is None else not show_progress
    with tqdm(
        total=total, initial=total - left, unit=f" {job.plan.columns.what}", disable=hidden, smoothing=0.1
    ) as bar:
        return sum(
            count for _, count in encode_shards(job, encoder, todo, allow_missing=allow_missing, progress=bar.update)
        )
