"""The plan of a job: which rows of which file make which shard, counted once and the same for every process."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from tqdm.auto import tqdm

from ccr_adapters.corpora.inputs import InputFile, list_pictures, stamped
from ccr_adapters.corpora.rows import BrokenOff, Columns, Cut, Row, named
from ccr_adapters.errors import DataError


@dataclass(frozen=True)
class Shard:
    """Rows that become one file of vectors.

    Attributes:
        number: Which one.
        file: Number of the input file.
        cut: Its rows.
    """

    number: int
    file: int
    cut: Cut


@dataclass(frozen=True)
class Plan:
    """All shards of a corpus. No shard has rows of two files, so that a broken file is no other's trouble.

    Attributes:
        files: The input.
        columns: Which column is what.
        shards: By number.
        problems: Files that break off, by name.
    """

    files: list[InputFile]
    columns: Columns
    shards: list[Shard] = field(default_factory=list)
    problems: dict[str, str] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """Rows of the corpus."""
        return sum(shard.cut.rows for shard in self.shards)

    def rows(self, shard: Shard) -> Iterator[Row]:
        """Read a shard.

        Args:
            shard: One of the plan.

        Yields:
            Its rows, in order.

        Raises:
            DataError: If the file is gone, or does not have as many rows as were counted.
        """
        file, count = self.files[shard.file], 0
        try:
            for row in file.reader().rows(shard.cut, self.columns):
                count += 1
                yield row
        except OSError as error:
            raise DataError(
                f"'{named(file.path)}' cannot be read any more ({error.strerror or error}). Finished shards are kept: "
                "bring the file back and run the same command."
            ) from error
        if count < shard.cut.rows:
            raise DataError(
                f"'{named(file.path)}' has changed: {count} rows from row {shard.cut.row + 1} on, where "
                f"{shard.cut.rows} were counted. Encode it into a new folder."
            )

    def write(self, path: Path) -> None:
        """Write the plan for other processes.

        Args:
            path: A JSON file, replaced at once.
        """
        values = {
            "files": [asdict(file) for file in self.files],
            "columns": asdict(self.columns),
            "shards": [[shard.file, *shard.cut] for shard in self.shards],
            "problems": self.problems,
        }
        aside = path.with_name(f".{path.name}")
        # ASCII: names of files need not be Unicode
        aside.write_text(json.dumps(values), encoding="ascii")
        aside.replace(path)

    @classmethod
    def read(cls, path: Path) -> Plan:
        """Read a plan.

        Args:
            path: As for `write`.

        Returns:
            The plan.

        Raises:
            DataError: If it is none.
        """
        try:
            values = json.loads(path.read_text(encoding="ascii"))
            columns = values["columns"]
            return cls(
                [InputFile(**file) for file in values["files"]],
                Columns(columns["what"], columns["content"], columns["id"], tuple(columns["keep"])),
                [Shard(number, file, Cut(*cut)) for number, (file, *cut) in enumerate(values["shards"])],
                dict(values["problems"]),
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"'{path}' is no plan of this version ({error!r}). Encode into a new folder.") from error


def make_plan(files: Sequence[InputFile], columns: Columns, size: int) -> Plan:
    """Count the rows of a corpus and cut it into shards.

    Args:
        files: The input, stamped.
        columns: Which column is what.
        size: Most rows of a shard.

    Returns:
        The plan.

    Raises:
        DataError: If a file cannot be read, or there are no rows at all.
    """
    plan = Plan(list(files), columns)
    for number, file in enumerate(tqdm(files, desc="counting", unit=" files", delay=2)):
        _cut(plan, number, file, size)
    if not plan.shards:
        raise DataError(f"'{named(files[0].path)}' has no rows." if len(files) == 1 else "No file has any rows.")
    return plan


def _cut(plan: Plan, number: int, file: InputFile, size: int) -> None:
    try:
        for cut in file.reader().cuts(size):
            plan.shards.append(Shard(len(plan.shards), number, cut))
    except BrokenOff as error:
        plan.problems[named(file.path)] = str(error)


def fix_inputs(files: Sequence[InputFile], folder: Path) -> list[InputFile]:
    """Write down what is in folders of pictures, and note by what a change would be seen.

    Args:
        files: The input, as `find_inputs` gives it.
        folder: Where lists of pictures are written.

    Returns:
        The input, stamped.
    """
    found = []
    for number, file in enumerate(files):
        if file.root is None:
            found.append(stamped(file))
        else:
            found.append(list_pictures(Path(file.root), folder.absolute() / f"pictures-{number:03d}.jsonl"))
    return found


def input_sha256(files: Sequence[InputFile]) -> str:
    """Hash of names and stamps: the same corpus mounted elsewhere has the same.

    Args:
        files: The input, stamped.

    Returns:
        64 hexadecimal digits.
    """
    lines = (f"{Path(file.path).name}:{file.stamp}" for file in files)
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def moved(plan: Plan, files: Sequence[InputFile]) -> Plan:
    """A plan whose files are where they are now.

    Args:
        plan: The plan.
        files: The same files.

    Returns:
        A new plan.
    """
    return replace(plan, files=list(files))
