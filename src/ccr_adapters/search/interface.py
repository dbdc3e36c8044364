"""What every index of vectors can do, whichever library keeps them.

Vectors come in as float32 arrays; nothing here knows a model or a language. The vector of a picture does not
depend on the language of a question, so a new language never touches an index.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from types import TracebackType
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ccr_adapters import __version__
from ccr_adapters.errors import SearchIndexError

Scalar: TypeAlias = str | int | float | bool | None
Metadata: TypeAlias = Mapping[str, Scalar]
Where: TypeAlias = Mapping[str, "Scalar | Collection[Scalar]"]
"""A condition per key, all of which must hold: a value is compared, of a list any value may be the one."""
Vectors: TypeAlias = NDArray[np.float32]


@dataclass(frozen=True)
class Hit:
    """One thing that was found.

    Attributes:
        id: Its name in the index.
        score: Cosine similarity to the question, in [-1, 1].
        metadata: What was stored with it.
    """

    id: str
    score: float
    metadata: dict[str, Scalar]


@dataclass(frozen=True)
class IndexHeader:
    """What an index says of itself.

    Attributes:
        base: Name of the base that made the vectors.
        base_sha256: Hash of the weights of that base.
        dim: Width of the vectors.
        created: When, in UTC, as ISO 8601.
        package_version: Version of ccr-adapters that made it.
    """

    base: str
    base_sha256: str
    dim: int
    created: str
    package_version: str

    @classmethod
    def new(cls, dim: int, *, base: str, base_sha256: str) -> IndexHeader:
        """Write the header of an index that is made now.

        Args:
            dim: Width of the vectors.
            base: Name of the base.
            base_sha256: Hash of its weights.

        Returns:
            The header.

        Raises:
            SearchIndexError: If the width is not positive.
        """
        created = datetime.now(timezone.utc).isoformat(timespec="seconds")
        return cls.from_dict(
            {
                "base": base,
                "base_sha256": base_sha256,
                "dim": dim,
                "created": created,
                "package_version": __version__,
            },
            "the new index",
        )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], where: str) -> IndexHeader:
        """Read a header from JSON, refusing what cannot be one.

        Args:
            values: The JSON object; keys that are not of the header are left alone.
            where: What the message names.

        Returns:
            The header.

        Raises:
            SearchIndexError: If a key is missing or holds another type.
        """
        for name, kind in {"base": str, "base_sha256": str, "dim": int, "created": str, "package_version": str}.items():
            if not isinstance(values.get(name), kind):
                raise SearchIndexError(
                    f"The header of {where} has {values.get(name)!r} as {name!r}; expected a {kind.__name__}."
                )
        if not 0 < values["dim"] <= 65_536:
            raise SearchIndexError(f"The header of {where} has dim {values['dim']}; expected 1 to 65,536.")
        return cls(*(values[name] for name in cls.__dataclass_fields__))

    def to_dict(self) -> dict[str, str | int]:
        """Flatten for JSON.

        Returns:
            The attributes.
        """
        return asdict(self)

    def check_base(self, base: str | None, base_sha256: str | None, where: str) -> None:
        """Refuse an index whose vectors another base has made; what is not given is not compared.

        Args:
            base: Name of the base at hand. Names differ between copies of one base: compared only without a hash.
            base_sha256: Hash of its weights.
            where: What the message names.

        Raises:
            SearchIndexError: If the bases differ, naming both.
        """
        differ = (base is not None and base != self.base) if base_sha256 is None else base_sha256 != self.base_sha256
        if differ:
            given = f"{base or 'the base at hand'!r}" + (f" (sha256 {base_sha256[:12]})" if base_sha256 else "")
            raise SearchIndexError(
                f"{where} was made with the base {self.base!r} (sha256 {self.base_sha256[:12]}), not with {given}: "
                "their vectors have nothing in common. Load the base of the index, or make a new index."
            )


class VectorIndex(Protocol):
    """An index of vectors with names, content hashes and metadata.

    What `add` and `delete` did is found by the next search, and is safe once `save` has returned. Searches may
    come from several threads; writes come from one. Usable as a context manager, which closes without saving.
    """

    @property
    def header(self) -> IndexHeader:
        """What the index says of itself."""
        ...

    def add(
        self,
        ids: Sequence[str],
        vectors: Vectors,
        metadata: Sequence[Metadata] | None = None,
        hashes: Sequence[str] | None = None,
    ) -> None:
        """Add, or replace where the name is known.

        Args:
            ids: Names (N,), each once.
            vectors: Float32 (N, d), normalised here.
            metadata: A flat dictionary for each.
            hashes: A hash of the content behind each, to see later what has changed.

        Raises:
            SearchIndexError: If the four do not fit together or the index is open for reading only.
        """
        ...

    def delete(self, ids: Sequence[str]) -> int:
        """Delete by name; unknown names are left alone.

        Args:
            ids: Names.

        Returns:
            How many there were.
        """
        ...

    def search(self, vectors: Vectors, k: int, where: Where | None = None) -> list[list[Hit]]:
        """Find the nearest of each question.

        Args:
            vectors: Float32 (Q, d), normalised here.
            k: How many to find for each.
            where: Condition on the metadata.

        Returns:
            For each question at most `k` hits, best first, by name where scores are equal.
        """
        ...

    def ids(self) -> list[str]:
        """All names, sorted."""
        ...

    def hashes(self) -> dict[str, str]:
        """Content hash by name: what need not be encoded again."""
        ...

    def vectors(self, ids: Sequence[str]) -> dict[str, Vectors]:
        """Stored vectors, so that what is known under one name need not be encoded under another.

        Args:
            ids: Names; unknown ones are left out.

        Returns:
            Vector of length one by name (d,).
        """
        ...

    def metadata(self, ids: Sequence[str]) -> dict[str, Metadata]:
        """What is stored with names.

        Args:
            ids: Names; unknown ones are left out.

        Returns:
            Metadata by name.
        """
        ...

    def __len__(self) -> int: ...

    def save(self) -> None:
        """Make everything safe against a crash."""
        ...

    def optimise(self) -> str:
        """Save, and arrange for search as the size asks for. Worth its time when much was added.

        Returns:
            The kind of index there is now: `exact`, `hnsw` or `ivfpq`.
        """
        ...

    def is_optimised(self) -> bool:
        """Whether `optimise` would change little: the kind is the one for the size, and most vectors are arranged in it."""
        ...

    def refresh(self) -> bool:
        """See what another process has saved since.

        Returns:
            Whether there was anything.
        """
        ...

    def close(self) -> None:
        """Let go of files and locks; what was not saved may be lost."""
        ...

    def __enter__(self) -> VectorIndex: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
