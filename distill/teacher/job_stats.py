"""Counts of a running job."""

from __future__ import annotations

import collections
import dataclasses
import time
from typing import TypedDict

from distill.teacher.prices import Price

CHARACTERS_PER_TOKEN = 4.0  # a rough value for English, until the server says how many


class Spent(TypedDict):
    """What a run did, whatever earlier ones stored."""

    asked: int
    requests: int
    retries: dict[str, int]
    tokens: dict[str, int]
    cost: float | None
    seconds: float


@dataclasses.dataclass
class JobStats:
    """What a job did so far.

    Attributes:
      asked: rows asked for in this run.
      answered, failed: rows of this run by their end.
      requests: requests sent, failed ones included.
      tokens_in, tokens_out: tokens of all answers of this run.
      estimated: requests whose server did not say how many.
      read, parsed: answers, and those of them with a label that can be read.
      reasons: failed rows by reason.
      retries: failed attempts by reason.
    """

    price: Price | None = None
    asked: int = 0
    answered: int = 0
    failed: int = 0
    requests: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    estimated: int = 0
    characters: int = 0
    read: int = 0
    parsed: int = 0
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

    def spent(self) -> Spent:
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

    def note(self) -> str:
        """The end of a progress line, such as `98% parsed, 8,500 tokens in, 240 out, $0.0012`."""
        parts = [f"{self.parsed / self.read:.0%} parsed"] if self.read else []
        parts += [f"{self.tokens_in:,} tokens in", f"{self.tokens_out:,} out"]
        if self.price:
            parts.append(f"${self.cost:.4f}")
        if self.failed:
            parts.append(f"{self.failed:,} failed")
        if self.retries:
            parts.append(f"{sum(self.retries.values()):,} retries")
        return ", ".join(parts)
