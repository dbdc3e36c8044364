"""Vectors that `encode` has made, taken into an index as they are; what `index` does with such folders."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from ccr_adapters.cli.collections import printable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ccr_adapters.search import Notes, VectorIndex
    from ccr_adapters.search.notes import Report

# rows that a kill may cost
_UNSAVED = 100_000
_TWICE, _SKIPPED = "left out, for their names came before", "skipped"


def vector_folders(places: list[str]) -> list[Path]:
    """The places, if they are folders of vectors; nothing if none is."""
    from ccr_adapters.errors import SearchIndexError

    found = [Path(place) for place in places if (Path(place) / "encode.json").is_file()]
    if found and len(found) < len(places):
        raise SearchIndexError(f"'{found[0]}' holds vectors and others do not: index them in commands of their own.")
    return found


def about_vectors(folder: Path) -> dict[str, Any]:
    """What `encode.json` says, if the vectors can be searched: all there, and in the space of the base."""
    from ccr_adapters.corpora.shards import check_shards
    from ccr_adapters.errors import SearchIndexError

    try:
        about: dict[str, Any] = json.loads((folder / "encode.json").read_text(encoding="utf-8"))
        done, total, space = about["complete"], about["shards"], about["space"]
        _ = about["model"], about["base"], about["base_sha256"], about["dim"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SearchIndexError(f"'{folder}' holds no vectors of this version ({error!r}). Encode again.") from error
    if not done:
        raise SearchIndexError(
            f"'{folder}' has {about.get('finished_shards')} of {total} shards. Run `encode` again to finish it."
        )
    if space is not None:
        raise SearchIndexError(f"The vectors in '{folder}' are in the space of {space!r} alone; expected the base's.")
    # what is missing would be taken for what is gone, and be deleted from the index
    check_shards(folder, shards=int(total), rows=int(about["rows"]))
    return about


def index_vectors(
    folders: list[Path], address: str, *, notes: Path | None, name: str | None = None, keep: bool = False, **place: Any
) -> None:
    """Bring an index to the state of folders of vectors; names of their rows begin with the folder's.

    Args:
        folders: What `encode` has written.
        address: Of the index.
        notes: Folder of the notes, for a cluster.
        name: What the names of a folder's rows begin with, in place of its own.
        keep: Leave in the index what is gone from a folder.
        place: `wait`, `token` and `collection`, as for `Collection.open_or_create`.

    Raises:
        SearchIndexError: If the vectors are of another base, cannot be searched, or would take the place of others.
    """
    from dataclasses import replace

    from ccr_adapters.errors import SearchIndexError
    from ccr_adapters.search import Notes, create_index, index_exists, open_index
    from ccr_adapters.search.notes import Report, lock_of_notes, notes_folder

    known = [about_vectors(folder) for folder in folders]
    where = notes_folder(address, notes)
    if where is None:
        raise SearchIndexError(f"'{address}' is a cluster: say in which folder its notes go (--notes FOLDER).")
    _named(folders, name, Notes.read(where))  # refused before anything is made
    base = {"base": known[0]["base"] or "unnamed", "base_sha256": known[0]["base_sha256"]}
    there = index_exists(address, **{key: place[key] for key in ("token", "collection")})
    with ExitStack() as stack:
        lock = lock_of_notes(address, where, wait=place["wait"])
        if lock is not None:
            stack.callback(lock.release)
        index = (
            open_index(address, writable=True, **base, **place)
            if there
            else create_index(address, known[0]["dim"], **base, **place)
        )
        stack.callback(index.close)
        # another indexer may have written them until the lock was ours
        found = Notes.read(where)
        named = _named(folders, name, found)
        lie = {called: str(folder.absolute()) for called, folder in named.items()}
        replace(found, model=found.model or known[0]["model"], vectors={**found.vectors, **lie}).write(where)
        report = stack.enter_context(Report(where))
        for (called, folder), about in zip(named.items(), known, strict=True):
            index.header.check_base(base["base"], about["base_sha256"], f"The index '{address}'")
            counts = _take_in(index, folder, called, report, keep=keep)
            index.save()
            told = ", ".join(f"{count:,} {what}" for what, count in counts.items() if count) or "nothing"
            typer.echo(f"{printable(str(folder))}: {told}.")
            if counts[_SKIPPED]:
                typer.echo(f"{printable(str(report.path))} says which were skipped and why.")
        if not index.is_optimised():
            index.optimise()
        typer.echo(f"{len(index):,} vectors are in {printable(address)}.")


def _named(folders: list[Path], name: str | None, notes: Notes) -> dict[str, Path]:
    """Folders by what the names of their rows begin with.

    Raises:
        SearchIndexError: If that is taken, so that what came from elsewhere would be deleted.
    """
    from ccr_adapters.errors import SearchIndexError
    from ccr_adapters.search.source_kinds import check_name

    check_name(name)
    if name is not None and len(folders) > 1:
        raise SearchIndexError(f"`--name {name}` is for one folder of vectors; there are {len(folders)}.")
    found: dict[str, Path] = {}
    for folder in folders:
        called, lies = name or folder.absolute().name, str(folder.absolute())
        earlier = found.get(called) or notes.vectors.get(called)
        # a name that is given says that this is the same source, moved here
        other = earlier is not None and str(Path(earlier).absolute()) != lies and name is None
        if other or called in {source.name for source in notes.sources}:
            taken = f"what came from '{earlier}'" if other else "a source of pictures"
            raise SearchIndexError(
                f"'{folder}' would be called '{called}', as {taken} is. Give its vectors a name of their own: --name NAME."
            )
        found[called] = folder
    return found


def _hash(vector: NDArray[np.float32], metadata: Mapping[str, Any]) -> str:
    """Of all that is stored of a row, so that a second run, or one after a kill, leaves what is there."""
    text = json.dumps(metadata, sort_keys=True, default=str).encode()
    return hashlib.blake2b(vector.tobytes() + text, digest_size=16).hexdigest()


def _take_in(index: VectorIndex, folder: Path, called: str, report: Report, *, keep: bool = False) -> dict[str, int]:
    """Add what a folder has, shard by shard, and delete what it has no more; what cannot be held is named and passed over."""
    from ccr_adapters.corpora import as_matrix, read_vectors
    from ccr_adapters.search.sources import Skipped

    start, before = f"{called}/", index.hashes()
    seen: set[str] = set()
    counts = {"new": 0, "written again": 0, "as they were": 0, _TWICE: 0, _SKIPPED: 0, "removed": 0}
    unsaved = 0
    for table in read_vectors(folder):
        names = [f"{start}{name}" for name in table.column("id").to_pylist()]
        kept = []
        for at, name in enumerate(names):
            if name not in seen:
                kept.append(at)
            seen.add(name)
        extra = _kept_columns(table)
        counts[_TWICE] += len(names) - len(kept)
        vectors = as_matrix(table)
        metadata = {at: _metadata(extra[at], called) for at in kept}
        hashes = {at: _hash(vectors[at], metadata[at]) for at in kept}
        changed = [at for at in kept if before.get(names[at]) != hashes[at]]
        rows = [names[at] for at in changed]
        wrong = _add(index, rows, vectors[changed], [metadata[at] for at in changed], [hashes[at] for at in changed])
        for name, why in wrong.items():
            report.add(Skipped(name, why))
        seen.difference_update(wrong)
        known = sum(name in before for name in rows if name not in wrong)
        counts["written again"] += known
        counts["new"] += len(rows) - len(wrong) - known
        counts["as they were"] += len(kept) - len(changed)
        counts[_SKIPPED] += len(wrong)
        unsaved += len(changed)
        if unsaved > _UNSAVED:
            index.save()
            unsaved = 0
    if not keep:
        counts["removed"] = index.delete([name for name in before if name.startswith(start) and name not in seen])
    return counts


def _add(
    index: VectorIndex,
    names: list[str],
    vectors: NDArray[np.float32],
    metadata: Sequence[Mapping[str, Any]],
    hashes: Sequence[str],
) -> dict[str, str]:
    """Add rows, but for those that the index cannot hold; why it cannot, by name."""
    from ccr_adapters.errors import SearchIndexError

    try:
        # it looks at all of them before it takes one
        index.add(names, vectors, metadata, hashes)
    except SearchIndexError:
        wrong = {}
        for name, *row in zip(names, vectors, metadata, hashes, strict=True):
            if why := _refused(name, *row):
                wrong[name] = why
        if not wrong:
            raise
        good = [at for at, name in enumerate(names) if name not in wrong]
        index.add([names[at] for at in good], vectors[good], [metadata[at] for at in good], [hashes[at] for at in good])
        return wrong
    return {}


def _refused(name: str, vector: NDArray[np.float32], metadata: Mapping[str, Any], content: str) -> str:
    """Why no index can hold a row; empty if it can."""
    from ccr_adapters.errors import SearchIndexError
    from ccr_adapters.search.checks import checked_rows, unit_rows

    try:
        checked_rows([name], vector[None], [metadata], [content])
        unit_rows(vector[None], len(vector))
    except SearchIndexError as error:
        return str(error)
    return ""


def _kept_columns(table: Any) -> list[dict[str, Any]]:
    """What `encode --keep` has written, row by row, but for bytes, which nothing can be filtered by."""
    types: Any = import_module("pyarrow").types
    bare = (types.is_binary, types.is_large_binary, types.is_fixed_size_binary, types.is_binary_view)
    without = [field.name for field in table.schema if any(is_bytes(field.type) for is_bytes in bare)]
    rows: list[dict[str, Any]] = table.drop_columns(["id", "vector", *without]).to_pylist()
    return rows


def _metadata(row: dict[str, Any], called: str) -> dict[str, Any]:
    """Kept columns as an index can hold them: what is no text, number or truth value becomes text."""
    found: dict[str, Any] = {"source": called}
    for key, value in row.items():
        if isinstance(value, float) and not math.isfinite(value):
            value = None
        plain = value is None or isinstance(value, str | int | float)
        found[f"{key}_" if key in ("source", "path", "row", "time") else key] = value if plain else str(value)
    return found
