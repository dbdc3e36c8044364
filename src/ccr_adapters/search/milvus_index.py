"""An index in Milvus: in a file (`pictures.db` is Milvus Lite, inside the process) or on a cluster (`http://...`).

A collection holds a hash of the name as the key, the name, the content hash, the metadata as JSON text, and its terms as
an array, by which filters are compared: the same terms as in FAISS, so that a filter finds the same. Expressions hold
hexadecimal digits alone, so that no name and no value can be read as a part of one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from ccr_adapters.errors import SearchIndexError
from ccr_adapters.search.checks import (
    MAX_HASH_BYTES,
    MAX_ID_BYTES,
    MAX_METADATA_BYTES,
    MAX_METADATA_KEYS,
    check_k,
    checked_rows,
    terms_of,
    unit_rows,
)
from ccr_adapters.search.interface import Hit, IndexHeader, Metadata, Vectors, Where
from ccr_adapters.search.kinds import EXACT_LIMIT, HNSW_EF_CONSTRUCTION, HNSW_EF_SEARCH, HNSW_M, IndexKind
from ccr_adapters.search.milvus_connection import MilvusConnection

COLLECTION = "pictures"
_HEADER = "ccr_adapters.header"
_KINDS: dict[str, IndexKind] = {"FLAT": "exact", "HNSW": "hnsw"}
# A cluster takes messages of 64 MiB; a quarter leaves room for names and metadata.
_MESSAGE_BYTES = 2**24
_PAGE = 1000


class MilvusIndex:
    """Vectors in a Milvus collection; see `VectorIndex` for what each method does.

    A file of Milvus Lite belongs to one process, for reading too. A cluster lets several write: additions are by
    name, so that the last one counts.
    """

    def __init__(self, connection: MilvusConnection, collection: str, header: IndexHeader, *, exact_limit: int) -> None:
        """Not to be called: `create` and `open` do."""
        self.header = header
        self._connection = connection
        self._collection = collection
        self._exact_limit = exact_limit
        self._kind: IndexKind = "exact"

    @classmethod
    def create(
        cls,
        address: str,
        dim: int,
        *,
        base: str,
        base_sha256: str,
        token: str | None = None,
        collection: str = COLLECTION,
        wait: float = 0.0,
        exact_limit: int = EXACT_LIMIT,
    ) -> MilvusIndex:
        """Make an empty collection, open for writing.

        Args:
            address: A file ending in `.db`, or the address of a cluster.
            dim: Width of the vectors.
            base: Name of the base that makes them.
            base_sha256: Hash of its weights.
            token: `user:password` or API key of a cluster.
            collection: Name of the collection.
            wait: Seconds to wait for another writer of a file.
            exact_limit: Most vectors to search exactly, for `optimise`.

        Returns:
            The index.

        Raises:
            SearchIndexError: If there is such a collection already, or Milvus cannot be reached.
            LockedError: If another process has the file open.
        """
        header = IndexHeader.new(dim, base=base, base_sha256=base_sha256)
        with ExitStack() as stack:
            connection = MilvusConnection(address, token=token, writable=True, wait=wait)
            stack.callback(connection.close)
            index = cls(connection, collection, header, exact_limit=exact_limit)
            index._create()
            stack.pop_all()
        return index

    @classmethod
    def open(
        cls,
        address: str,
        *,
        base: str | None = None,
        base_sha256: str | None = None,
        token: str | None = None,
        collection: str = COLLECTION,
        writable: bool = False,
        wait: float = 0.0,
        exact_limit: int = EXACT_LIMIT,
    ) -> MilvusIndex:
        """Open a collection.

        Args:
            address: As for `create`.
            base: Name of the base at hand, to be compared.
            base_sha256: Hash of its weights, to be compared.
            token: As for `create`.
            collection: Name of the collection.
            writable: Whether to add and delete.
            wait: As for `create`.
            exact_limit: As for `create`.

        Returns:
            The index.

        Raises:
            SearchIndexError: If there is no such collection, it was made with another base, or Milvus cannot be reached.
            LockedError: If another process has the file open.
        """
        if "://" not in address and not Path(address).exists():
            raise SearchIndexError(f"There is no index '{address}'. Make one first.")
        with ExitStack() as stack:
            connection = MilvusConnection(address, token=token, writable=writable, wait=wait)
            stack.callback(connection.close)
            header, kind = _described(connection, collection)
            header.check_base(base, base_sha256, f"The index {collection!r} at '{connection.address}'")
            index = cls(connection, collection, header, exact_limit=exact_limit)
            index._kind = kind
            stack.pop_all()
        return index

    @staticmethod
    def exists(address: str, *, wait: float = 0.0, token: str | None = None, collection: str = COLLECTION) -> bool:
        """Whether there is such a collection.

        Args:
            address: As for `create`.
            wait: Seconds to wait for another process that has a file open.
            token: As for `create`.
            collection: Name of the collection.

        Returns:
            Whether there is.

        Raises:
            SearchIndexError: If Milvus cannot be reached.
            LockedError: If another process has the file open.
        """
        if "://" not in address and not Path(address).exists():
            return False
        connection = MilvusConnection(address, token=token, writable=False, wait=wait)
        try:
            with connection.asked("look for a collection") as client:
                return bool(client.has_collection(collection))
        finally:
            connection.close()

    def __len__(self) -> int:
        with self._connection.asked("count") as client:
            return int(client.query(self._collection, filter="", output_fields=["count(*)"])[0]["count(*)"])

    def add(
        self,
        ids: Sequence[str],
        vectors: Vectors,
        metadata: Sequence[Metadata] | None = None,
        hashes: Sequence[str] | None = None,
    ) -> None:
        """Add, or replace where the name is known; see `VectorIndex.add`."""
        self._check_writable()
        unit = unit_rows(vectors, self.header.dim)
        batch: list[dict[str, Any]] = []
        size = 0
        for row, vector in zip(checked_rows(ids, unit, metadata, hashes), unit, strict=True):
            values = {
                "key": _key(row.id),
                "id": row.id,
                "hash": row.hash,
                "metadata": row.metadata,
                "terms": _hex(row.terms),
            }
            batch.append({**values, "vector": vector})
            size += vector.nbytes + 4 * len(row.metadata) + 4 * len(row.id) + 40 * len(row.terms)
            if size > _MESSAGE_BYTES:
                self._upsert(batch)
                batch, size = [], 0
        self._upsert(batch)

    def delete(self, ids: Sequence[str]) -> int:
        """Delete by name; see `VectorIndex.delete`."""
        self._check_writable()
        keys = sorted({_key(name) for name in ids})
        deleted = 0
        for start in range(0, len(keys), _PAGE):
            with self._connection.asked("delete") as client:
                rows = client.get(self._collection, ids=keys[start : start + _PAGE], output_fields=["key"])
                if rows:
                    client.delete(self._collection, ids=[row["key"] for row in rows])
            deleted += len(rows)
        return deleted

    def search(self, vectors: Vectors, k: int, where: Where | None = None) -> list[list[Hit]]:
        """Find the nearest of each question; see `VectorIndex.search`."""
        queries, alternatives = unit_rows(vectors, self.header.dim), terms_of(where)
        check_k(k)
        if not all(alternatives):
            return [[] for _ in queries]
        # hexadecimal digits only: nothing that a user wrote gets into the expression
        condition = " and ".join(f"array_contains_any(terms, {json.dumps(_hex(terms))})" for terms in alternatives)
        parameters = {"ef": max(HNSW_EF_SEARCH, 2 * k)} if self._kind == "hnsw" else {}
        hits: list[list[Hit]] = []
        for start in range(0, len(queries), _PAGE):
            with self._connection.asked("search") as client:
                found = client.search(
                    self._collection,
                    data=list(queries[start : start + _PAGE]),
                    limit=k,
                    filter=condition,
                    output_fields=["id", "metadata"],
                    search_params={"metric_type": "IP", "params": parameters},
                )
            hits.extend([_hit(hit["distance"], hit["entity"]) for hit in row] for row in found)
        return [sorted(row, key=lambda hit: (-hit.score, hit.id)) for row in hits]

    def ids(self) -> list[str]:
        """All names, sorted."""
        return sorted(row["id"] for row in self._rows("id"))

    def hashes(self) -> dict[str, str]:
        """Content hash by name."""
        return {row["id"]: row["hash"] for row in self._rows("id", "hash")}

    def vectors(self, ids: Sequence[str]) -> dict[str, Vectors]:
        """Stored vectors by name; see `VectorIndex.vectors`."""
        return {row["id"]: np.asarray(row["vector"], dtype=np.float32) for row in self._named(ids, "vector")}

    def metadata(self, ids: Sequence[str]) -> dict[str, Metadata]:
        """What is stored with names; see `VectorIndex.metadata`."""
        return {row["id"]: json.loads(row["metadata"]) for row in self._named(ids, "metadata")}

    def _named(self, ids: Sequence[str], field: str) -> Iterator[dict[str, Any]]:
        """Rows by name, with one field of each."""
        keys = sorted({_key(name) for name in ids})
        for start in range(0, len(keys), _PAGE):
            with self._connection.asked("read") as client:
                yield from client.get(self._collection, ids=keys[start : start + _PAGE], output_fields=["id", field])

    def save(self) -> None:
        """Have Milvus write to its storage; its log keeps additions safe before that too."""
        self._check_writable()
        with self._connection.asked("save") as client:
            client.flush(self._collection)

    def optimise(self) -> IndexKind:
        """Exact up to a size, then HNSW; memory is the cluster's own affair, so there is no IVF-PQ."""
        self.save()
        kind = self._wanted()
        if kind != self._kind:
            with self._connection.asked("optimise") as client:
                client.release_collection(self._collection)
                client.drop_index(self._collection, "vector")
                client.create_index(self._collection, _index_parameters(self._connection, kind))
                client.load_collection(self._collection)
            self._kind = kind
        return kind

    def is_optimised(self) -> bool:
        """Whether the kind is the one for the size; what else there is to arrange Milvus does by itself."""
        return self._kind == self._wanted()

    def _wanted(self) -> IndexKind:
        return "exact" if len(self) <= self._exact_limit else "hnsw"

    def refresh(self) -> bool:
        """Milvus answers with what is there; there is nothing to do."""
        return False

    def close(self) -> None:
        """Let go of the connection, and of a file when nobody in this process needs it."""
        self._connection.close()

    def __enter__(self) -> MilvusIndex:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _create(self) -> None:
        data_type = self._connection.library.DataType
        text = json.dumps(self.header.to_dict())
        with self._connection.asked("create") as client:
            if client.has_collection(self._collection):
                raise SearchIndexError(
                    f"'{self._connection.address}' has a collection {self._collection!r} already. Open it, or choose another name."
                )
            schema = client.create_schema(auto_id=False, enable_dynamic_field=False, description=text)
            schema.add_field("key", data_type.VARCHAR, is_primary=True, max_length=32)
            schema.add_field("id", data_type.VARCHAR, max_length=MAX_ID_BYTES)
            schema.add_field("hash", data_type.VARCHAR, max_length=MAX_HASH_BYTES)
            schema.add_field("metadata", data_type.VARCHAR, max_length=MAX_METADATA_BYTES)
            schema.add_field(
                "terms",
                data_type.ARRAY,
                element_type=data_type.VARCHAR,
                max_capacity=MAX_METADATA_KEYS,
                max_length=32,
            )
            schema.add_field("vector", data_type.FLOAT_VECTOR, dim=self.header.dim)
            client.create_collection(
                self._collection,
                schema=schema,
                index_params=_index_parameters(self._connection, "exact"),
                # who has added finds it at once, as in FAISS
                consistency_level="Strong",
                properties={_HEADER: text},
            )

    def _upsert(self, batch: list[dict[str, Any]]) -> None:
        if batch:
            with self._connection.asked("add") as client:
                client.upsert(self._collection, batch)

    def _rows(self, *fields: str) -> Iterator[dict[str, Any]]:
        with self._connection.asked("list") as client:
            pages = client.query_iterator(self._collection, batch_size=_PAGE, output_fields=list(fields))
            while page := pages.next():
                yield from page
            pages.close()

    def _check_writable(self) -> None:
        if not self._connection.writable:
            raise SearchIndexError(f"'{self._connection.address}' is open for reading. Open it with writable=True.")


def _index_parameters(connection: MilvusConnection, kind: IndexKind) -> Any:
    parameters = connection.library.MilvusClient.prepare_index_params()
    if kind == "exact":
        parameters.add_index("vector", index_type="FLAT", metric_type="IP")
    else:
        construction = {"M": HNSW_M, "efConstruction": HNSW_EF_CONSTRUCTION}
        parameters.add_index("vector", index_type="HNSW", metric_type="IP", params=construction)
    return parameters


def _described(connection: MilvusConnection, collection: str) -> tuple[IndexHeader, IndexKind]:
    """Header and kind of a collection that is there, ready to be searched."""
    where = f"the index {collection!r} at '{connection.address}'"
    with connection.asked("open") as client:
        if not client.has_collection(collection):
            raise SearchIndexError(f"'{connection.address}' has no collection {collection!r}. Make one first.")
        described = client.describe_collection(collection)
    # the description is for servers that keep only the properties they know
    text = (described.get("properties") or {}).get(_HEADER) or described.get("description") or ""
    try:
        values = json.loads(text)
    except json.JSONDecodeError:
        values = None
    if not isinstance(values, dict):
        raise SearchIndexError(f"{where} was not made by ccr-adapters: it has no header. Choose another name.")
    header = IndexHeader.from_dict(values, where)
    with connection.asked("open") as client:
        if not client.list_indexes(collection, field_name="vector"):
            # a field has one at a time: `optimise` takes the old one away before it builds, and may have been stopped there
            if not connection.writable:
                raise SearchIndexError(
                    f"{where} is being built, or was when its writer was stopped. Wait, or index again."
                )
            client.create_index(collection, _index_parameters(connection, "exact"))
        index = client.describe_index(collection, "vector")
        client.load_collection(collection)
    return header, _KINDS.get((index or {}).get("index_type", ""), "exact")


def _key(name: str) -> str:
    """The primary key of a name: pymilvus writes keys into expressions as they are, and a file name may hold a quote."""
    return hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _hit(score: float, entity: Mapping[str, str]) -> Hit:
    return Hit(entity["id"], float(score), json.loads(entity["metadata"]))


def _hex(terms: Sequence[bytes]) -> list[str]:
    return [term.hex() for term in terms]
