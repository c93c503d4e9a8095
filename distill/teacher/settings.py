"""How a job asks: samples, concurrency, limits, attempts, and when it stops."""

from __future__ import annotations

import dataclasses

from distill.errors import UserError


@dataclasses.dataclass(frozen=True)
class Settings:
    """How a job asks.

    Attributes:
      samples: answers wanted for each row.
      concurrency: requests under way at once.
      requests_per_minute, tokens_per_minute: limits, or None.
      max_attempts: requests for the same samples before the row fails.
      backoff_base, backoff_longest: seconds; see `limits.backoff`.
      longest_wait: a Retry-After beyond this stops the job.
      max_rows: rows to ask for in this run, or None.
      max_cost: USD of this run, or None.
      max_failures: rows that fail one after the other, with none answered between, until
        the job stops.
      retry_failed: whether rows that failed in an earlier run are asked for again.
      progress_seconds: time between progress lines; 0 for none.
    """

    samples: int = 1
    concurrency: int = 16
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    max_attempts: int = 10
    backoff_base: float = 0.5
    backoff_longest: float = 60.0
    longest_wait: float = 600.0
    max_rows: int | None = None
    max_cost: float | None = None
    max_failures: int = 50
    retry_failed: bool = False
    progress_seconds: float = 10.0

    def __post_init__(self) -> None:
        least = {"samples": 1, "concurrency": 1, "max_attempts": 1, "max_failures": 1}
        for name, low in (least | {"max_rows": 0, "max_cost": 0}).items():
            value = getattr(self, name)
            if value is not None and not value >= low:  # not a number is refused too
                raise UserError(f"got --{name} {value}, expected at least {low}")
        for name in ("requests_per_minute", "tokens_per_minute"):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise UserError(f"got --{name} {value}, expected more than 0")
