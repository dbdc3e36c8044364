"""What an adapter repository is made of: its files, their parts and pieces, and tables of them for people."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from ccr_adapters.hub.pieces import PIECES, Generator

PARTS = ("adapter", "vocabulary rows", "projection", "head", "tokenizer", "configuration", "card", "other")
RANKS = (None, 128, 64, 32, 16)
"""Values of `generator_rank` to compare; `None` is a full map."""
_LABELS = {"condition": "condition, features to z", "generator": "generator, z to cores"}


@dataclass(frozen=True)
class FileInfo:
    """A file of the repository.

    Args:
        path: In the repository.
        size: Bytes.
        language: Whose it is; `""` for what all share.
        parts: Bytes by part.
        sha256: Of its content, where it is known without downloading it.
        pieces: Bytes of a DASD adapter's weights by piece, its file's header among them.
        generator: Of a DASD adapter's weights, the map that makes the cores.
    """

    path: str
    size: int
    language: str
    parts: dict[str, int]
    sha256: str | None
    pieces: dict[str, int] = field(default_factory=dict)
    generator: Generator | None = None


@dataclass(frozen=True)
class AdapterInfo:
    """What a repository is made of.

    Args:
        name: Folder or repository.
        revision: Commit, for a repository.
        base: The base that it needs.
        base_sha256: Hash of that base's weights.
        methods: What each language's adapter is.
        files: Its files.
    """

    name: str
    revision: str | None
    base: str | None
    base_sha256: str | None
    methods: dict[str, str]
    files: tuple[FileInfo, ...] = field(default_factory=tuple)

    @property
    def languages(self) -> tuple[str, ...]:
        """Codes of the languages."""
        return tuple(self.methods)

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)

    def by_part(self, language: str | None = None) -> dict[str, int]:
        """Bytes of each part that is there, of all languages or one."""
        return _sums(PARTS, (file.parts for file in self.files if language in (None, file.language)))

    def by_piece(self, language: str | None = None) -> dict[str, int]:
        """Bytes of the part `adapter` by piece, of all languages or one; of other methods than DASD there are none."""
        return _sums(PIECES, (file.pieces for file in self.files if language in (None, file.language)))

    @property
    def generators(self) -> dict[str, Generator]:
        """By language, the map that makes the cores, where there is one."""
        return {file.language: file.generator for file in self.files if file.generator is not None}

    def shares(self) -> dict[str, float]:
        """Share of each part that is there, in per cent of all bytes, the largest first."""
        return self._shares(self.by_part())

    def _shares(self, sizes: Mapping[str, int]) -> dict[str, float]:
        ordered = sorted(sizes.items(), key=lambda each: -each[1])
        return {name: round(100 * size / self.size, 1) for name, size in ordered}

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        sums = {
            "size": self.size,
            "parts": self.by_part(),
            "shares": self.shares(),
            "pieces": self.by_piece(),
            "languages": {code: self.by_part(code) for code in self.languages},
        }
        return {**asdict(self), "files": [asdict(file) for file in self.files], **sums}

    def to_text(self) -> str:
        """For people: tables of parts by language and of generators by rank, and the files."""
        lines = [
            f"{self.name}" + (f" at {self.revision[:12]}" if self.revision else ""),
            f"base     {self.base or 'not named'}",
            f"sha256   {self.base_sha256 or 'not recorded'}",
            *(f"{code:8} {method}" for code, method in self.methods.items()),
        ]
        files = [[file.path, f"{file.size:,}"] for file in self.files]
        tables = (self._part_rows(), self._generator_rows(), files)
        return "\n".join([*lines, *(line for table in tables if table for line in ("", *_aligned(table)))])

    def _part_rows(self) -> list[list[str]]:
        """Bytes of each part and piece, by language."""
        columns = (*self.languages, "", None)
        parts, pieces = ({code: split(code) for code in columns} for split in (self.by_part, self.by_piece))

        def row(name: str, sizes: Mapping[str | None, Mapping[str, int]], key: str, share: float) -> list[str]:
            return [name, *(f"{sizes[code].get(key, 0):,}" for code in columns), f"{share:.1f}%"]

        rows = [["bytes", *self.languages, "shared", "all", "share"]]
        for part, share in self.shares().items():
            rows.append(row(part, parts, part, share))
            if part == "adapter":
                rows += [
                    row(f"  {_LABELS.get(name, name)}", pieces, name, each)
                    for name, each in self._shares(pieces[None]).items()
                ]
        sums = (sum(parts[code].values()) for code in columns)
        return [*rows, ["together", *(f"{each:,}" for each in sums), "100.0%"]]

    def _generator_rows(self) -> list[list[str]]:
        """Bytes of each language's generator as it is (`*`), and as another `generator_rank` would make it."""
        found = self.generators
        ranks = sorted({*RANKS, *(each.rank for each in found.values())}, key=lambda rank: -(rank or math.inf))
        rows = [
            [code, *(f"{each.size(rank):,}{'*' if rank == each.rank else ' '}" for rank in ranks)]
            for code, each in found.items()
        ]
        names = ("full " if rank is None else f"{rank} " for rank in ranks)
        return [["generator_rank, * as it is", *names], *rows] if rows else []


def _sums(names: Iterable[str], sizes: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """Sums by name, in the order of the names, those that are zero left out."""
    found = list(sizes)
    sums = {name: sum(each.get(name, 0) for each in found) for name in names}
    return {name: size for name, size in sums.items() if size}


def _aligned(rows: list[list[str]]) -> list[str]:
    """Rows in columns: the first to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join([row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    ]
