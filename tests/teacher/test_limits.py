"""Limits are kept in every minute, waits follow what the endpoint says."""

from __future__ import annotations

import asyncio
import bisect
import email.utils
import random

import pytest

from distill.teacher.endpoint.limits import Limits, TokenBucket, backoff, retry_after


class Clock:
    """A clock that runs only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        await asyncio.sleep(0)


def _most_in_a_minute(events):
    """Largest sum of amounts in any half-open minute."""
    return max(
        sum(amount for at, amount in events if start <= at < start + 60) for start, _ in events
    )


@pytest.mark.parametrize("per_minute", [1, 7, 60, 90, 600, 6000])
def test_requests_of_any_minute_keep_the_limit_and_use_it(per_minute):
    clock = Clock()
    limits = Limits(per_minute, None, clock, clock.sleep)
    events = []

    async def send():
        for _ in range(4 * per_minute if per_minute > 1 else 4):
            await limits.admit(0)
            events.append((clock.now, 1))

    asyncio.run(send())
    events = events[:2500]
    assert _most_in_a_minute(events) <= per_minute
    assert len(events) / (events[-1][0] / 60) > 0.9 * per_minute


def test_requests_that_arrive_up_to_a_second_late_keep_the_limit():
    clock, draw = Clock(), random.Random(0)
    limits = Limits(1500, None, clock, clock.sleep)
    events = []

    async def send():
        for number in range(6000):
            await limits.admit(0)
            late = draw.random() < 0.1 or number < 50  # those of the first burst, and some
            events.append((clock.now + late, 1))

    asyncio.run(send())
    events.sort()
    starts = [at for at, _ in events]
    assert max(bisect.bisect_left(starts, at + 60) - i for i, at in enumerate(starts)) <= 1500


def test_tokens_of_any_minute_keep_the_limit_whatever_was_estimated():
    clock, draw = Clock(), random.Random(0)
    limits = Limits(None, 60_000, clock, clock.sleep)
    events = []

    async def send():
        for _ in range(1500):
            estimated, used = draw.uniform(100, 600), draw.uniform(50, 600)
            await limits.admit(estimated)
            limits.settle(estimated, used)
            events.append((clock.now, used))

    asyncio.run(send())
    assert _most_in_a_minute(events) <= 60_000 + 600  # one request's amount is not split
    assert sum(used for _, used in events) / (clock.now / 60) > 0.9 * 60_000


def test_a_request_larger_than_the_bucket_passes_and_leaves_a_debt():
    clock = Clock()
    bucket = TokenBucket(600, clock)
    assert bucket.wait(500) == 0
    assert bucket.wait(1) > 45


def test_nobody_sends_during_a_pause():
    clock = Clock()
    limits = Limits(None, None, clock, clock.sleep)
    sent = []

    async def send():
        await limits.admit(1)
        sent.append(clock.now)

    async def main():
        await send()
        limits.pause(7)
        limits.pause(3)  # a shorter one does not end it
        await asyncio.gather(send(), send())

    asyncio.run(main())
    assert sent == [0, 7, 7]


def test_a_pause_that_begins_while_a_request_waits_its_turn_holds_it_back():
    clock = Clock()
    limits = Limits(60, None, clock, clock.sleep)

    async def main():
        await limits.admit(1)
        waiting = asyncio.create_task(limits.admit(1))  # its turn comes at 1 s
        await asyncio.sleep(0)
        limits.pause(7)
        await waiting

    asyncio.run(main())
    assert clock.now >= 7


def test_waits_double_within_bounds():
    for attempt in range(1, 12):
        bound = min(60, 0.5 * 2 ** (attempt - 1))
        assert backoff(attempt, 0.5, 60, lambda: 0.0) == bound / 2
        assert bound / 2 < backoff(attempt, 0.5, 60, lambda: 0.999) < bound


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7),
        ({"retry-after": "0.25"}, 0.25),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after-ms": "soon", "retry-after": "9"}, 9),
        ({"retry-after": email.utils.formatdate(1_000_030, usegmt=True)}, 30),
        ({"retry-after": email.utils.formatdate(999_000, usegmt=True)}, 0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": "Wed, 99 Foo 99999 00:00:00 GMT"}, None),
        ({"retry-after": "-3"}, None),
        ({"retry-after": "inf"}, None),
        ({}, None),
    ],
)
def test_retry_after(headers, seconds):
    assert retry_after(headers, now=1_000_000) == seconds
