"""How often and how long: token buckets, Retry-After, backoff with jitter."""

from __future__ import annotations

import asyncio
import datetime
import email.utils
import random
import time
from collections.abc import Awaitable, Callable, Mapping

Clock = Callable[[], float]
Sleep = Callable[[float], Awaitable[None]]


class TokenBucket:
    """At most `per_minute` units in any minute, spread over it.

    The bucket holds one second's worth (at least one unit) and is filled at the rate that
    keeps burst and refill together within `per_minute`, less another second's worth: what
    was sent earlier may arrive up to a second late. A larger amount waits for a full bucket
    and leaves a debt.
    """

    def __init__(self, per_minute: float, clock: Clock = time.monotonic) -> None:
        if per_minute <= 0:
            raise ValueError(f"got {per_minute} per minute, expected more than 0")
        self.capacity = max(1.0, per_minute / 60)
        spread = per_minute - 2 * self.capacity if self.capacity > 1 else per_minute
        self.rate = spread / 60
        self._clock, self._level, self._at = clock, self.capacity, clock()

    def wait(self, amount: float) -> float:
        """Seconds until `amount` may be taken; 0 takes it."""
        now = self._clock()
        self._level = min(self.capacity, self._level + (now - self._at) * self.rate)
        self._at = now
        needed = min(amount, self.capacity)
        if self._level >= needed - 1e-9:
            self._level -= amount
            return 0.0
        return (needed - self._level) / self.rate

    def correct(self, amount: float) -> None:
        """Takes `amount` more (or gives back, if negative) without waiting."""
        self._level = min(self.capacity, self._level - amount)


class Limits:
    """Requests and tokens a minute, and a pause that an endpoint asked for."""

    def __init__(
        self,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        clock: Clock = time.monotonic,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._requests = TokenBucket(requests_per_minute, clock) if requests_per_minute else None
        self._tokens = TokenBucket(tokens_per_minute, clock) if tokens_per_minute else None
        self._clock, self._sleep, self._resume = clock, sleep, 0.0
        self._turn = asyncio.Lock()

    async def admit(self, tokens: float) -> None:
        """Returns when a request of about `tokens` may be sent, first come first served."""
        async with self._turn:
            for bucket, amount in ((self._tokens, tokens), (self._requests, 1)):
                while bucket and (pause := bucket.wait(amount)) > 0:
                    await self._sleep(pause)
            # Last, for a pause may begin while a bucket is waited for.
            while (pause := self._resume - self._clock()) > 0:
                await self._sleep(pause)

    def settle(self, estimated: float, used: float) -> None:
        """Corrects the tokens of an admitted request by what it really took."""
        if self._tokens:
            self._tokens.correct(used - estimated)

    def pause(self, seconds: float) -> None:
        """Holds back all requests that are not yet sent."""
        self._resume = max(self._resume, self._clock() + seconds)


def backoff(attempt: int, base: float, longest: float, draw: Callable[[], float]) -> float:
    """Seconds before attempt `attempt` + 1 (attempts from 1): doubling, half of it jitter.

    Args:
      attempt: how many attempts have failed, at least 1.
      base: mean-free start: the first wait is within [base / 2, base].
      longest: bound of the wait.
      draw: gives a uniform number in [0, 1).
    """
    bound = min(longest, base * 2 ** min(attempt - 1, 30))
    return bound * (0.5 + 0.5 * draw())


def retry_after(headers: Mapping[str, str], now: float | None = None) -> float | None:
    """Seconds of `retry-after-ms` or `Retry-After` (seconds or an HTTP date), or None.

    A date is compared with that of the response, if it has one: the clocks of two machines differ.
    Source: RFC 9110, section 10.2.3.
    """
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        seconds = _number(headers.get(name, ""), unit)
        if seconds is not None:
            return seconds
    until = _date(headers.get("retry-after", ""))
    if until is None:
        return None
    since = _date(headers.get("date", ""))
    if since is None:
        since = time.time() if now is None else now
    return max(0.0, until - since)


def _date(text: str) -> float | None:
    """The time of an HTTP date, or None."""
    try:
        date = email.utils.parsedate_to_datetime(text)
        if date.tzinfo is None:
            date = date.replace(tzinfo=datetime.UTC)
        return date.timestamp()
    except (ValueError, OverflowError):
        return None


def _number(text: str, unit: float) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number / unit if 0 <= number < float("inf") else None


jitter = random.Random().random
