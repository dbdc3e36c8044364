"""What goes into an index is checked before any of it is stored, the same for every library behind it."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ccr_adapters.errors import SearchIndexError
from ccr_adapters.search.interface import Metadata, Scalar, Vectors, Where

# What Milvus can hold; FAISS follows, so that an index can be moved.
MAX_ID_BYTES = 4096
MAX_HASH_BYTES = 256
MAX_METADATA_BYTES = 65_535
MAX_METADATA_KEYS = 256


def unit_rows(vectors: Vectors, dim: int) -> Vectors:
    """Check vectors and bring them to length one.

    Args:
        vectors: Floating-point array (N, d).
        dim: The width that is expected.

    Returns:
        A new contiguous float32 array (N, d).

    Raises:
        SearchIndexError: If shape or type differ, or a vector is not finite or is zero.
    """
    array = np.asarray(vectors)
    if array.ndim != 2 or array.shape[1] != dim or not np.issubdtype(array.dtype, np.floating):
        raise SearchIndexError(f"Got vectors {array.shape} of {array.dtype}; expected float32 (N, {dim}).")
    array = np.array(array, dtype=np.float32, order="C")
    lengths = np.linalg.norm(array, axis=1, keepdims=True)  # (N, 1)
    bad = np.flatnonzero(~(np.isfinite(lengths) & (lengths > 0)))
    if len(bad):
        raise SearchIndexError(f"Vector {bad[0]} of {len(array)} is zero or not finite. It cannot be compared.")
    array /= lengths
    return array


def term(key: str, value: Scalar) -> bytes:
    """A fixed-size name of one key with one value: filters are compared by it, so nothing needs to be escaped.

    Args:
        key: Key of the metadata.
        value: Its value. 1 and 1.0 are the same; 1, "1" and True are not.

    Returns:
        16 bytes.

    Raises:
        SearchIndexError: If the value is no string, finite number, bool or None.
    """
    if isinstance(value, float) and math.isfinite(value) and value.is_integer():
        value = int(value)
    if not (value is None or isinstance(value, str | int | float)) or (
        isinstance(value, float) and not math.isfinite(value)
    ):
        raise SearchIndexError(f"{key!r} is {value!r}; expected text, a finite number, True, False or None.")
    text = json.dumps([key, value], ensure_ascii=True)
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def terms_of(where: Where | None) -> list[list[bytes]]:
    """A condition in conjunctive form.

    Args:
        where: The condition.

    Returns:
        For each key the terms of which one must be there.
    """
    alternatives = []
    for key, wanted in (where or {}).items():
        many = isinstance(wanted, Collection) and not isinstance(wanted, str)
        values: Collection[Any] = wanted if many else [wanted]  # type: ignore[assignment]
        alternatives.append(sorted({term(key, value) for value in values}))
    return alternatives


@dataclass(frozen=True)
class Row:
    """One checked row without its vector.

    Attributes:
        id: Name.
        hash: Content hash, empty where none was given.
        metadata: JSON of a flat object.
        terms: Its terms.
    """

    id: str
    hash: str
    metadata: str
    terms: tuple[bytes, ...]


def checked_rows(
    ids: Sequence[str], vectors: Vectors, metadata: Sequence[Metadata] | None, hashes: Sequence[str] | None
) -> list[Row]:
    """Check all of a batch before any of it is stored.

    Args:
        ids: Names (N,).
        vectors: The vectors, of which only the number is compared.
        metadata: Flat dictionaries (N,), or none.
        hashes: Content hashes (N,), or none.

    Returns:
        The rows (N,).

    Raises:
        SearchIndexError: If the lengths differ, a name is empty, too long or there twice, or metadata is not flat.
    """
    metadata = [{}] * len(ids) if metadata is None else metadata
    hashes = [""] * len(ids) if hashes is None else hashes
    if isinstance(ids, str) or not len(ids) == len(vectors) == len(metadata) == len(hashes):
        raise SearchIndexError(
            f"Got {len(ids)} names, {len(vectors)} vectors, {len(metadata)} metadata and {len(hashes)} hashes; "
            "expected as many of each."
        )
    if len(set(ids)) < len(ids):
        twice = Counter(ids).most_common(1)[0][0]
        raise SearchIndexError(f"{twice!r} is twice in one batch. Give each name once.")
    return [_checked_row(*row) for row in zip(ids, hashes, metadata, strict=True)]


def _checked_row(name: str, content: str, metadata: Metadata) -> Row:
    if not isinstance(name, str) or not 0 < len(_utf8(name)) <= MAX_ID_BYTES:
        raise SearchIndexError(f"{name!r:.80} cannot be a name; expected text of 1 to {MAX_ID_BYTES:,} bytes.")
    if not isinstance(content, str) or len(_utf8(content)) > MAX_HASH_BYTES:
        raise SearchIndexError(f"{name!r:.80}: the hash is {content!r:.80}; expected at most {MAX_HASH_BYTES} bytes.")
    if not isinstance(metadata, Mapping) or not all(isinstance(key, str) for key in metadata):
        raise SearchIndexError(f"{name!r:.80}: the metadata is {metadata!r:.80}; expected a flat dictionary.")
    terms = tuple(term(key, value) for key, value in metadata.items())
    text = json.dumps(dict(metadata), ensure_ascii=False, separators=(",", ":"))
    if len(metadata) > MAX_METADATA_KEYS or len(_utf8(text)) > MAX_METADATA_BYTES:
        raise SearchIndexError(
            f"{name!r:.80}: the metadata has {len(metadata)} keys and {len(_utf8(text)):,} bytes; "
            f"expected at most {MAX_METADATA_KEYS} and {MAX_METADATA_BYTES:,}."
        )
    return Row(name, content, text, terms)


def _utf8(text: str) -> bytes:
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        # file names that are no UTF-8 come from the file system with surrogates
        raise SearchIndexError(
            f"{text!r:.80} is not Unicode text. Rename the file, or give it another name."
        ) from error


def check_k(k: int) -> int:
    """Refuse a number of results that cannot be meant.

    Args:
        k: How many are asked for.

    Returns:
        The same.

    Raises:
        SearchIndexError: If it is not between 1 and 16,384, the most that Milvus gives.
    """
    if not 1 <= k <= 16_384:
        raise SearchIndexError(f"k is {k}; expected 1 to 16,384.")
    return k
