"""The same job on a Ray cluster: shards are the rows of a Ray Data pipeline, and actors with the model work on them.

A shard is read, decoded and written by the actor that encodes it, and only its number travels. Ray gives the shards of a
lost actor to another one, which is safe at any moment: a shard is in place as a whole or not at all.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from ccr_adapters.corpora.encoders import RowEncoder
from ccr_adapters.corpora.inputs import InputFile
from ccr_adapters.corpora.job import EncodeSummary, Job, Settings, identity_of, join_job, locked, open_job
from ccr_adapters.corpora.plan import Shard
from ccr_adapters.corpora.rows import Columns
from ccr_adapters.corpora.shards import finished_shards, read_shard, shard_path
from ccr_adapters.corpora.work import encode_shards
from ccr_adapters.errors import CCRError, DataError, first_line
from ccr_adapters.extras import require
from ccr_adapters.modeling import CCRModel


class ShardWorker:
    """An actor with a model: takes numbers of shards, writes them, and says how many vectors each has."""

    def __init__(
        self,
        *,
        folder: str,
        load: Callable[[], CCRModel],
        name: str,
        what: str,
        language: str | None,
        batch_size: int | None,
        workers: int,
        allow_missing: bool,
    ) -> None:
        """Remember what to do; the model is loaded with the first shard, where an error can be told."""
        self._folder, self._load, self._name, self._what = Path(folder), load, name, what
        self._language = language
        self._options: dict[str, Any] = {"batch_size": batch_size, "workers": workers}
        self._allow_missing = allow_missing
        self._ready: tuple[Job, RowEncoder] | None = None

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        """Encode shards.

        Args:
            batch: `shard`: their numbers.

        Returns:
            `shard`, `vectors` and `problem` for each; the problem is empty where it was written.
        """
        numbers = [int(number) for number in batch["shard"]]
        try:
            job, encoder = self._ready = self._ready or self._get_ready()
            # an actor may have died between writing a shard and saying so
            done = finished_shards(self._folder)
            shards = [job.plan.shards[number] for number in numbers if number not in done]
            counts = {number: read_shard(shard_path(self._folder, number))[0] for number in numbers if number in done}
            written = encode_shards(job, encoder, shards, allow_missing=self._allow_missing)
            counts |= {shard.number: count for shard, count in written}
        except CCRError as error:
            return {"shard": numbers, "vectors": [0] * len(numbers), "problem": [str(error)] * len(numbers)}
        return {"shard": numbers, "vectors": [counts[number] for number in numbers], "problem": [""] * len(numbers)}

    def _get_ready(self) -> tuple[Job, RowEncoder]:
        model = self._load()
        job = join_job(self._folder, identity_of(model, self._name, self._what, self._language))
        return job, RowEncoder(model, job.plan, language=self._language, **self._options)


def encode_on_ray(
    files: Sequence[InputFile],
    columns: Columns,
    output: str | Path,
    load: Callable[[], CCRModel],
    *,
    name: str,
    language: str | None = "active",
    settings: Settings | None = None,
    batch_size: int | None = None,
    workers: int = 4,
    allow_missing: bool = False,
    show_progress: bool | None = None,
    address: str | None = None,
    num_workers: int = 2,
) -> EncodeSummary:
    """Encode a corpus on a Ray cluster; arguments as for `encode_corpus`, if not named here.

    Args:
        files: What `find_inputs` gives; every machine must see them at the same place.
        columns: What `choose_columns` gives.
        output: Folder for the vectors, at the same place on every machine.
        load: Loads the model, here and in every worker; a function of a module that is installed there.
        name: What the model is loaded from.
        language: As for `encode_corpus`.
        settings: What shards are like.
        batch_size: Rows a forward pass; default as `RowEncoder` has it.
        workers: Threads that decode pictures, in each worker.
        allow_missing: Go on where none of the pictures of a shard is there.
        show_progress: A bar; default where there is a terminal.
        address: Of the cluster; `auto` is the one that runs here, `None` starts one on this machine.
        num_workers: Actors; each has a GPU where the cluster has any.

    Returns:
        What was done.

    Raises:
        MissingExtraError: If Ray is not installed.
        DataError: As for `encode_corpus`, or if there is no cluster at the address.
    """
    ray: Any = require("ray", extra="ray")
    require("ray.data", extra="ray")
    start, folder = time.perf_counter(), Path(output).absolute()
    model = load()
    about, settings = identity_of(model, name, columns.what, language), (settings or Settings()).of(model)
    del model  # the workers have theirs
    with locked(folder):
        job = open_job(folder, files, columns, about, settings)
        todo = job.missing()
        if not todo:
            return job.finish(seconds=time.perf_counter() - start)
        worker = {"folder": str(folder), "load": load, "name": name, "what": columns.what, "language": language}
        worker |= {"batch_size": batch_size, "workers": workers, "allow_missing": allow_missing}
        with _connected(ray, address):
            actors = {
                "compute": ray.data.ActorPoolStrategy(size=min(num_workers, len(todo))),
                # a thread that decodes needs a core
                "num_cpus": workers if columns.what == "pictures" else 1,
                "num_gpus": 1 if ray.cluster_resources().get("GPU") else 0,
            }
            encoded = _spread(ray, job, todo, worker, actors, show_progress)
        return job.finish(encoded=encoded, seconds=time.perf_counter() - start)


def _spread(
    ray: Any,
    job: Job,
    todo: Sequence[Shard],
    worker: dict[str, Any],
    actors: dict[str, Any],
    show_progress: bool | None,
) -> int:
    """Have actors encode shards, in any order; returns how many vectors they made."""
    data = ray.data
    data.DataContext.get_current().enable_progress_bars = False
    # of which it would warn
    logging.getLogger("ray.data._internal.progress").setLevel(logging.ERROR)
    numbers = data.from_items([{"shard": shard.number} for shard in todo], override_num_blocks=len(todo))
    results = numbers.map_batches(ShardWorker, batch_size=1, fn_constructor_kwargs=worker, **actors)
    total, left = job.plan.total, sum(shard.cut.rows for shard in todo)
    hidden = None if show_progress is None else not show_progress
    unit = f" {job.plan.columns.what}"
    encoded = 0
    with tqdm(total=total, initial=total - left, unit=unit, disable=hidden, smoothing=0.1) as bar:
        for result in results.iter_rows():
            if result["problem"]:
                raise DataError(result["problem"])
            encoded += int(result["vectors"])
            bar.update(job.plan.shards[int(result["shard"])].cut.rows)
    return encoded


@contextmanager
def _connected(ray: Any, address: str | None) -> Iterator[None]:
    """Join a cluster, or start one on this machine; one that the caller has joined stays."""
    if ray.is_initialized():
        yield
        return
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        ray.init(**quiet, **({"address": address} if address else {"include_dashboard": False}))
    except (ConnectionError, ValueError) as error:
        raise DataError(
            f"There is no Ray cluster at {address!r} ({first_line(error)}). Start one with `ray start --head`, or "
            "leave the address out to run on this machine alone."
        ) from error
    try:
        logging.getLogger("ray.data").setLevel(logging.getLogger().getEffectiveLevel())
        yield
    finally:
        ray.shutdown()
