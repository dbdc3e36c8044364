"""Bad rows of a benchmark, counted and named: the first is refused, or all are skipped by choice and stay on record."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path
from typing import Any, Literal

from ccr_adapters.errors import ConfigError, DataError

logger = logging.getLogger(__name__)

OnError = Literal["raise", "skip"]
# enough to find the cause, few enough to read
_EXAMPLES = 3


class Problems:
    """What was wrong with the rows of one benchmark in one language.

    Args:
        title: Name of the benchmark and the language, at the head of each message.
        on_error: `"raise"` refuses the first bad row; `"skip"` leaves such rows out and counts them.

    Raises:
        ConfigError: If `on_error` is neither.
    """

    def __init__(self, title: str, on_error: OnError = "raise") -> None:
        if on_error not in ("raise", "skip"):
            raise ConfigError(f"on_error is {on_error!r}; it is 'raise' or 'skip'.")
        self.title = title
        self.skips = on_error == "skip"
        self.counts: Counter[str] = Counter()
        self.examples: dict[str, list[str]] = {}

    def report(self, kind: str, message: str, *, error: type[Exception] = DataError, count: int = 1) -> None:
        """Take note of rows that are left out, or refuse them.

        Args:
            kind: What they are counted as, for example `"empty captions"`.
            message: Which they are and what is wrong, without the final full stop.
            error: What is raised.
            count: How many rows.
        """
        if not self.skips:
            raise error(
                f"{self.title}: {message}. Repair the data, or pass on_error='skip': such rows are then left out and counted."
            )
        self.counts[kind] += count
        examples = self.examples.setdefault(kind, [])
        if len(examples) < _EXAMPLES:
            examples.append(message)

    def facts(self) -> dict[str, Any]:
        """Counts and the first examples, for reports; empty if nothing was left out."""
        if self.counts:
            left_out = ", ".join(f"{count:,} {kind}" for kind, count in sorted(self.counts.items()))
            logger.warning("%s: left out %s", self.title, left_out)
        return {
            kind: {"count": count, "examples": self.examples.get(kind, [])}
            for kind, count in sorted(self.counts.items())
        }


def place(path: Path, line: int | None = None) -> str:
    """Name a file, and a line of it counted from 1, in messages."""
    return f"'{path.name}'" if line is None else f"'{path.name}', line {line}"
