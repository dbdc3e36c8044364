"""Ahead: the same results in the same order, a bounded number of them, and errors where they belong."""

from __future__ import annotations

import threading
import time

import pytest

from ccr_adapters.processing.ahead import ahead


def test_results_come_in_order():
    def slow_first(item):
        time.sleep(0.02 if item == 0 else 0)
        return item * item

    assert list(ahead(slow_first, range(50), workers=3)) == [item * item for item in range(50)]
    assert list(ahead(slow_first, [], workers=3)) == []


def test_it_works_in_threads_while_the_results_are_used():
    names = set()

    def work(item):
        names.add(threading.current_thread().name)
        time.sleep(0.01)
        return item

    start = time.perf_counter()
    for _ in ahead(work, range(20), workers=2):
        time.sleep(0.01)
    taken = time.perf_counter() - start
    assert all(name.startswith("ahead") for name in names)
    assert taken < 0.36  # one after the other would be 0.4 and more


def test_no_more_than_a_few_wait():
    taken, most = 0, 0

    def items():
        nonlocal taken, most
        for item in range(100):
            taken += 1
            yield item

    for used, _ in enumerate(ahead(lambda item: item, items(), workers=2), 1):
        most = max(most, taken - used)
    assert most <= 4


def test_an_error_comes_in_its_place_and_ends_the_work():
    done = []

    def work(item):
        if item == 3:
            raise ValueError("broken")
        done.append(item)
        time.sleep(0.005)
        return item

    results = ahead(work, range(1000), workers=2)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="broken"):
        next(results)
    assert len(done) < 20
