"""Limits: numbers that make sense, and buckets compared with an obvious count of what passed in the last seconds."""

from __future__ import annotations

import random

import pytest
from pydantic import ValidationError

from ccr_adapters.errors import ConfigError
from ccr_adapters.serving.limits import Buckets, Limits
from ccr_adapters.serving.schema import TextRequest


@pytest.mark.parametrize("wrong", [{"captions": 0}, {"pixels": -1}, {"rate": -1.0}, {"seconds": 0}, {"burst": 0}])
def test_limits_without_sense_are_refused(wrong):
    with pytest.raises(ConfigError, match=r"expected"):
        Limits(**wrong)


def test_no_window_lets_more_pass_than_a_burst_and_the_rate():
    now, passed, draw = 0.0, [], random.Random(0)
    buckets = Buckets(5.0, 10, clock=lambda: now)
    for _ in range(2000):
        now += draw.expovariate(8.0)
        wait = buckets.take("a")
        if wait:
            before = now
            now += wait + 1e-9
            assert buckets.take("a") == 0, "the time that is told is enough"
            assert wait <= 0.2 + 1e-9
            passed.append(now)
            now = max(now, before)
        else:
            passed.append(now)
    for start in range(0, len(passed), 37):
        for end in range(start, min(start + 200, len(passed))):
            assert end - start + 1 <= 10 + 5 * (passed[end] - passed[start]) + 1e-6
    assert len(passed) == 2000


def test_clients_have_buckets_of_their_own_and_none_is_kept_forever():
    buckets = Buckets(1.0, 1, most=2, clock=lambda: 0.0)
    assert [buckets.take("a"), buckets.take("a") > 0, buckets.take("b")] == [0, True, 0]
    assert buckets.take("c") == 0  # "a" is forgotten
    assert buckets.take("a") == 0
    assert buckets.take("c") > 0


def test_a_rate_of_nothing_is_no_limit():
    buckets = Buckets(0.0)
    assert not any(buckets.take("a") for _ in range(1000))


@pytest.mark.parametrize(
    "body",
    [
        {"captions": [1] * 50_000},
        {"captions": ["a"], "language": [1] * 50_000},
        {"captions": ["a"], **{f"x{number}": 1 for number in range(50_000)}},
    ],
    ids=["captions", "language", "fields"],
)
def test_what_is_wrong_many_times_is_told_once(body):
    """An error for each would take gigabytes for a request within the limit."""
    with pytest.raises(ValidationError) as told:
        TextRequest.model_validate(body)
    assert told.value.error_count() == 1
