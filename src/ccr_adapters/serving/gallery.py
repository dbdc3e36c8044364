"""A collection for many callers: their questions share a look at the index, and its pictures are shown by name only."""

from __future__ import annotations

import io
import json
import logging
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from ccr_adapters.errors import CCRError, LanguageError, MissingItemError, SearchIndexError
from ccr_adapters.search import Collection, Hit, Where
from ccr_adapters.search.checks import check_k, terms_of
from ccr_adapters.search.interface import Vectors
from ccr_adapters.serving.batching import Batcher
from ccr_adapters.serving.languages import Languages

logger = logging.getLogger(__name__)

_QUALITY = 88


@dataclass(frozen=True)
class _Question:
    vector: Vectors
    k: int
    where: Where | None

    @property
    def group(self) -> str:
        """Questions of one condition can be asked together."""
        return json.dumps(self.where, sort_keys=True, default=str)


@dataclass(frozen=True)
class _Name:
    id: str


_Job: TypeAlias = "_Question | _Name"


class Gallery:
    """Searches a collection for many callers at once, and shows what is in it.

    Args:
        collection: The collection, which from now on belongs to the gallery.
        max_batch: Questions to look up together.
        max_queue: Most questions that may wait.
        refresh_seconds: How often to look whether an indexer has saved something new.
    """

    def __init__(
        self, collection: Collection, *, max_batch: int = 64, max_queue: int = 1024, refresh_seconds: float = 5.0
    ) -> None:
        self.collection = collection
        self._refresh_seconds, self._looked = refresh_seconds, time.monotonic()
        self._count = len(collection.index)
        # no waiting: what comes while a search runs is enough to share the next one
        self._batcher: Batcher[_Job, list[Hit]] = Batcher(
            self._run, name="gallery", size_of=lambda _: 1, max_batch=max_batch, max_wait=0.0, max_queue=max_queue
        )

    @property
    def depth(self) -> int:
        """Questions that wait."""
        return self._batcher.depth

    def __len__(self) -> int:
        """Pictures, as counted when the index was last looked at: those who ask do not wait for a database."""
        return self._count

    def check(self, languages: Languages, code: str | None) -> None:
        """Refuse a language whose captions have nothing in common with the pictures of the index.

        Args:
            languages: What is known of the languages.
            code: The language.

        Raises:
            LanguageError: If it has a space of its own.
        """
        if languages.space(code) is not None:
            raise LanguageError(
                f"Language {code!r} has a space of its own, and the collection has the vectors of the base. Ask in another one."
            )

    def submit(self, vector: Vectors, k: int, where: Where | None = None) -> Future[list[Hit]]:
        """Have the nearest pictures looked up.

        Args:
            vector: The question. (d,)
            k: How many to find.
            where: Condition on the metadata.

        Returns:
            To be at most `k` hits, best first.

        Raises:
            SearchIndexError: If `k` or the condition makes no sense.
            BusyError: If too much is waiting.
        """
        check_k(k)
        terms_of(where)
        return self._batcher.submit(_Question(vector, k, where))

    def find(self, name: str) -> Future[list[Hit]]:
        """Have a picture looked up by its name.

        Args:
            name: Its name in the index.

        Returns:
            To be the one hit, or nothing.
        """
        return self._batcher.submit(_Name(name))

    def jpeg(self, hit: Hit, size: int) -> bytes:
        """A picture of the collection as a new JPEG, without what its file may tell (place, camera); in any thread.

        Args:
            hit: What was found.
            size: Most pixels of its longer side.

        Returns:
            The file.

        Raises:
            MissingItemError: If it cannot be shown; why is told to the log alone, since that names files.
        """
        try:
            picture = self.collection.picture(hit)
        except (CCRError, OSError) as error:
            logger.warning("%r cannot be shown: %s", hit.id, error)
            raise MissingItemError(
                f"{hit.id!r:.80} is in the collection, and its picture cannot be read any more."
            ) from error
        picture.thumbnail((size, size))
        clean = picture.copy()
        clean.info.clear()
        file = io.BytesIO()
        clean.save(file, "JPEG", quality=_QUALITY)
        return file.getvalue()

    def close(self) -> None:
        """Take no more, answer what was taken, and let go of the collection."""
        self._batcher.close()
        self.collection.close()

    # ------------------------------------------------------------------------------------------------- behind it

    def _run(self, jobs: list[_Job]) -> list[list[Hit] | BaseException]:
        """Answer a batch, on the thread that owns the collection."""
        self._refresh()
        answers: dict[int, list[Hit] | BaseException] = {}
        groups: dict[str, dict[int, _Question]] = {}
        for at, job in enumerate(jobs):
            if isinstance(job, _Name):
                answers[at] = self._named(job.id)
            else:
                groups.setdefault(job.group, {})[at] = job
        for group in groups.values():
            answers.update(zip(group, self._asked(list(group.values())), strict=True))
        return [answers[at] for at in range(len(jobs))]

    def _asked(self, questions: Sequence[_Question]) -> list[list[Hit]]:
        vectors = np.stack([question.vector for question in questions])  # (Q, d)
        found = self.collection.search(vectors, max(question.k for question in questions), questions[0].where)
        return [hits[: question.k] for hits, question in zip(found, questions, strict=True)]

    def _named(self, name: str) -> list[Hit]:
        return [Hit(name, 1.0, dict(stored)) for stored in self.collection.index.metadata([name]).values()]

    def _refresh(self) -> None:
        """See what an indexer has saved since. An index that cannot be read just now is searched as it was."""
        if time.monotonic() - self._looked < self._refresh_seconds:
            return
        try:
            if self.collection.refresh():
                logger.info("The index has changed: %d pictures", len(self.collection.index))
            self._count = len(self.collection.index)
        except (SearchIndexError, OSError) as error:
            logger.warning("The index cannot be read anew: %s", error)
        self._looked = time.monotonic()
