"""Counts of a running job, and the line that says how it goes."""

from __future__ import annotations

import collections
import dataclasses
import sys
import time
from typing import TextIO

from distill.teacher.prices import Price

CHARACTERS_PER_TOKEN = 4.0  # a rough value for English, until the server says how many


@dataclasses.dataclass
class JobStats:
    """What a job did so far.

    Attributes:
      rows: rows of the job.
      seen: rows that are done, asked for or passed over.
      asked: rows asked for in this run.
      answered, failed: rows of this run by their end.
      requests: requests sent, failed ones included.
      tokens_in, tokens_out: tokens of all answers of this run.
      estimated: requests whose server did not say how many.
      reasons: failed rows by reason.
      retries: failed attempts by reason.
    """

    rows: int
    price: Price | None = None
    seen: int = 0
    asked: int = 0
    answered: int = 0
    failed: int = 0
    requests: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    estimated: int = 0
    characters: int = 0
    reasons: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    retries: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    began: float = dataclasses.field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        """Time since the start."""
        return time.monotonic() - self.began

    @property
    def cost(self) -> float | None:
        """USD of this run, None without a price."""
        return self.price.of(self.tokens_in, self.tokens_out) if self.price else None

    def tokens_of(self, characters: int) -> int:
        """Estimated tokens of a prompt, by what the server counted so far."""
        measured = self.characters and self.tokens_in
        per_token = self.characters / self.tokens_in if measured else CHARACTERS_PER_TOKEN
        return max(1, round(characters / max(1.0, per_token)))

    def spent(self) -> dict[str, object]:
        """What this run did, whatever earlier ones stored."""
        return {
            "asked": self.asked,
            "requests": self.requests,
            "retries": dict(sorted((str(k), n) for k, n in self.retries.items())),
            "tokens": {
                "in": self.tokens_in,
                "out": self.tokens_out,
                "estimated_requests": self.estimated,
            },
            "cost": self.cost,
            "seconds": round(self.seconds, 3),
        }

    def line(self) -> str:
        """`1,200/5,000 rows  31.0 rows/s  ...`."""
        rate = (self.answered + self.failed) / max(self.seconds, 1e-9)
        done = self.seen - (self.asked - self.answered - self.failed)
        left = self.rows - done
        eta = f"{left / rate / 60:.1f} min" if rate and left else "-"
        cost = f"  ${self.cost:.4f}" if self.price else ""
        failed = f"  {self.failed:,} failed" if self.failed else ""
        retried = f"  {sum(self.retries.values()):,} retries" if self.retries else ""
        return (
            f"{done:,}/{self.rows:,} rows  {rate:.1f} rows/s  {self.tokens_in:,} tokens in, "
            f"{self.tokens_out:,} out{cost}{failed}{retried}  ETA {eta}"
        )


class JobProgress:
    """Writes the line to stderr every so often; over itself on a terminal."""

    def __init__(self, seconds: float, stream: TextIO | None = None) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._seconds = seconds
        self._over = self._stream.isatty()
        self._next = time.monotonic() + seconds

    def note(self, text: str) -> None:
        """Shows a line of its own."""
        if self._seconds > 0:
            self._stream.write(("\r\x1b[K" if self._over else "") + f"annotate: {text}\n")
            self._stream.flush()

    def show(self, stats: JobStats, last: bool = False) -> None:
        """Shows the line if it is time, or if it is the last."""
        if self._seconds <= 0 or (not last and time.monotonic() < self._next):
            return
        self._next = time.monotonic() + self._seconds
        text = stats.line()
        if self._over:
            self._stream.write(f"\r\x1b[K{text}" + ("\n" if last else ""))
        else:
            self._stream.write(f"annotate: {text}\n")
        self._stream.flush()
