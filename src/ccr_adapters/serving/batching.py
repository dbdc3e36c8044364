"""Jobs of many callers answered together: what arrives within a few milliseconds, or while the last batch ran, is one batch."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Condition, Thread
from typing import Generic, TypeVar

from ccr_adapters.errors import BusyError, ConfigError

Job = TypeVar("Job")
Answer = TypeVar("Answer")


@dataclass
class _Waiting(Generic[Job, Answer]):
    """A job, its size, and where its answer goes."""

    job: Job
    size: int
    future: Future[Answer]
    arrived: float = field(default_factory=time.monotonic)


class Batcher(Generic[Job, Answer]):
    """A bounded queue in front of a function that answers several jobs at once.

    One thread gathers, another one runs the function, and nobody else does: a model behind it needs no lock. A batch
    that fails is run again job by job, so that one bad job does not fail its neighbours.

    Args:
        run: Answers jobs in their order; an exception in place of an answer is that job's.
        name: Of its threads.
        size_of: How much a job counts, at least 1.
        max_batch: Most to answer together; a larger job is a batch of its own.
        max_wait: Seconds that the first job of a batch waits for others.
        max_queue: Most that may wait.

    Raises:
        ConfigError: If a bound makes no sense.
    """

    def __init__(
        self,
        run: Callable[[list[Job]], Sequence[Answer | BaseException]],
        *,
        name: str,
        size_of: Callable[[Job], int],
        max_batch: int = 64,
        max_wait: float = 0.003,
        max_queue: int = 4096,
    ) -> None:
        if max_batch < 1 or max_queue < max_batch or not 0 <= max_wait <= 10:
            raise ConfigError(
                f"A batch of {max_batch} from a queue of {max_queue} after {max_wait} s; expected a batch of 1 or more, a queue "
                "no smaller than that, and 0 to 10 seconds."
            )
        self._run, self._size_of = run, size_of
        self._max_batch, self._max_wait, self._max_queue = max_batch, max_wait, max_queue
        self._queue: deque[_Waiting[Job, Answer]] = deque()
        self._depth, self._closed = 0, False
        self._changed = Condition()
        self._thread = Thread(target=self._serve, args=(name,), name=f"{name}-gather", daemon=True)
        self._thread.start()

    @property
    def depth(self) -> int:
        """How much waits."""
        return self._depth

    def submit(self, job: Job, future: Future[Answer] | None = None) -> Future[Answer]:
        """Queue a job.

        Args:
            job: The job.
            future: Where its answer goes, if somebody waits there already.

        Returns:
            Its answer, some time later. A cancelled job that was not begun is left out.

        Raises:
            BusyError: If the queue is full or closed.
        """
        waiting: _Waiting[Job, Answer] = _Waiting(job, max(1, self._size_of(job)), future or Future())
        with self._changed:
            if self._closed:
                raise BusyError("The server is shutting down. Ask another one, or later.")
            # a job that is larger than the queue gets in when nobody else waits
            if self._queue and self._depth + waiting.size > self._max_queue:
                raise BusyError(
                    f"{self._depth} are waiting already, of {self._max_queue} that may. Ask again in a moment."
                )
            self._queue.append(waiting)
            self._depth += waiting.size
            # in between nobody needs to wake up
            if len(self._queue) == 1 or self._depth >= self._max_batch:
                self._changed.notify_all()
        return waiting.future

    def close(self) -> None:
        """Take no more, answer what was taken, and end the threads."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()

    def _serve(self, name: str) -> None:
        with ThreadPoolExecutor(1, thread_name_prefix=name) as owner:
            while (batch := self._gather()) is not None:
                self._answer(batch, owner)

    def _gather(self) -> list[_Waiting[Job, Answer]] | None:
        """The next batch, empty if nobody waits for it any more; `None` when there will be none."""
        with self._changed:
            while not self._queue and not self._closed:
                self._changed.wait()
            if not self._queue:
                return None
            until = self._queue[0].arrived + self._max_wait
            while self._depth < self._max_batch and not self._closed:
                left = until - time.monotonic()
                if left <= 0 or not self._changed.wait(left):
                    break
            batch: list[_Waiting[Job, Answer]] = []
            size = 0
            while self._queue and (not batch or size + self._queue[0].size <= self._max_batch):
                first = self._queue.popleft()
                self._depth -= first.size
                # from here on it cannot be cancelled; what was before takes no place
                if first.future.set_running_or_notify_cancel():
                    batch.append(first)
                    size += first.size
            return batch

    def _answer(self, batch: list[_Waiting[Job, Answer]], owner: ThreadPoolExecutor) -> None:
        if not batch:
            return
        done = owner.submit(self._answers, [each.job for each in batch])
        error = done.exception()
        if error is not None and len(batch) > 1:
            for each in batch:
                self._answer([each], owner)
            return
        answers = [error] if error is not None else done.result()
        for each, answer in zip(batch, answers, strict=True):
            if isinstance(answer, BaseException):
                each.future.set_exception(answer)
            else:
                each.future.set_result(answer)

    def _answers(self, jobs: list[Job]) -> list[Answer | BaseException]:
        answers = list(self._run(jobs))
        if len(answers) != len(jobs):
            raise ConfigError(f"{len(jobs)} jobs got {len(answers)} answers; expected one each.")
        return answers
