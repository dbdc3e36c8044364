"""The queue in front of a model: batches, bounds, failures of one among many, and an end that answers everybody."""

from __future__ import annotations

import threading
import time
from concurrent.futures import CancelledError

import pytest

from ccr_adapters.errors import BusyError, ConfigError
from ccr_adapters.serving.batching import Batcher


class Doubler:
    """Doubles numbers and notes its batches; waits at a gate where there is one, and refuses 13."""

    def __init__(self):
        self.batches, self.threads, self.gate = [], set(), threading.Event()
        self.gate.set()

    def __call__(self, jobs):
        self.batches.append(list(jobs))
        self.threads.add(threading.get_ident())
        self.gate.wait(10)
        if 13 in jobs:
            raise RuntimeError("thirteen")
        return [ValueError("seven") if job == 7 else 2 * job for job in jobs]


@pytest.fixture
def doubler():
    return Doubler()


@pytest.fixture
def batcher(doubler):
    made = []

    def make(**options):
        made.append(Batcher(doubler, name="test", size_of=lambda _: 1, **options))
        return made[-1]

    yield make
    doubler.gate.set()
    for each in made:
        each.close()


def held(doubler, batcher):
    """Have the worker busy with a first job."""
    doubler.gate.clear()
    first = batcher.submit(0)
    while not doubler.batches:
        time.sleep(0.001)
    return first


def test_what_comes_together_is_answered_together_by_one_thread(doubler, batcher):
    queue = batcher(max_batch=8, max_wait=0.0)
    held(doubler, queue)
    futures = {number: queue.submit(number) for number in range(20, 40)}
    assert queue.depth == 20
    doubler.gate.set()
    assert {number: future.result(5) for number, future in futures.items()} == {n: 2 * n for n in range(20, 40)}
    assert [len(batch) for batch in doubler.batches] == [1, 8, 8, 4]
    assert len(doubler.threads) == 1
    assert queue.depth == 0


def test_a_batch_is_waited_for_no_longer_than_said(doubler, batcher):
    queue = batcher(max_batch=3, max_wait=5.0)
    futures = [queue.submit(number) for number in range(3)]
    assert [future.result(2) for future in futures] == [0, 2, 4]
    alone = batcher(max_batch=3, max_wait=0.05)
    began = time.perf_counter()
    assert alone.submit(1).result(2) == 2
    assert 0.04 < time.perf_counter() - began < 1


def test_a_bad_job_fails_alone(doubler, batcher):
    queue = batcher(max_batch=8, max_wait=0.0)
    held(doubler, queue)
    futures = {number: queue.submit(number) for number in (1, 13, 7, 4)}
    doubler.gate.set()
    assert (futures[1].result(5), futures[4].result(5)) == (2, 8)
    with pytest.raises(RuntimeError, match="thirteen"):
        futures[13].result(5)
    with pytest.raises(ValueError, match="seven"):
        futures[7].result(5)
    assert queue.submit(5).result(5) == 10


def test_a_full_queue_says_so(doubler, batcher):
    queue = batcher(max_batch=2, max_wait=0.0, max_queue=3)
    held(doubler, queue)
    taken = [queue.submit(number) for number in range(3)]
    with pytest.raises(BusyError, match="3 are waiting already, of 3"):
        queue.submit(9)
    doubler.gate.set()
    assert [future.result(5) for future in taken] == [0, 2, 4]


def test_what_nobody_waits_for_any_more_is_left_out(doubler, batcher):
    queue = batcher(max_batch=2, max_wait=0.0)
    held(doubler, queue)
    dropped, kept = queue.submit(5), queue.submit(6)
    assert dropped.cancel()
    doubler.gate.set()
    assert kept.result(5) == 12
    with pytest.raises(CancelledError):
        dropped.result(5)
    assert doubler.batches == [[0], [6]]


def test_the_end_answers_what_was_taken_and_takes_no_more(doubler, batcher):
    queue = batcher(max_batch=2, max_wait=5.0)
    taken = [queue.submit(1), queue.submit(2), queue.submit(3)]
    ending = threading.Thread(target=queue.close)
    ending.start()
    ending.join(5)
    assert not ending.is_alive()
    assert [future.result(0) for future in taken] == [2, 4, 6]
    with pytest.raises(BusyError, match="shutting down"):
        queue.submit(1)


def test_a_function_that_answers_too_little_is_told(batcher):
    queue = Batcher(lambda jobs: [], name="test", size_of=lambda _: 1)
    with pytest.raises(ConfigError, match="1 jobs got 0 answers"):
        queue.submit(1).result(5)
    queue.close()


@pytest.mark.parametrize("options", [{"max_batch": 0}, {"max_batch": 5, "max_queue": 4}, {"max_wait": -1}])
def test_bounds_without_sense_are_refused(doubler, options):
    with pytest.raises(ConfigError, match="expected a batch of 1 or more"):
        Batcher(doubler, name="test", size_of=lambda _: 1, **options)
