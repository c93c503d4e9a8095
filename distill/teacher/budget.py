"""What a job may still spend, and what its requests cost."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from distill.data.examples import Example
from distill.errors import UserError
from distill.teacher.job_stats import JobStats
from distill.teacher.prices import Price
from distill.teacher.prompts import Prompt
from distill.teacher.samples import PendingRow
from distill.teacher.sampling import Sampling
from distill.teacher.settings import Settings


def check_price(settings: Settings, price: Price | None, model: str) -> None:
    """A bound of costs needs a price.

    Raises:
      UserError: there is none.
    """
    if settings.max_cost is not None and price is None:
        raise UserError(f"--max_cost needs the price of {model!r}: give a file with --prices")


class Budget:
    """Costs of the answers so far, and of the longest answers to the requests under way."""

    def __init__(
        self, stats: JobStats, max_cost: float | None, prompt: Prompt, sampling: Sampling
    ) -> None:
        self._stats, self._max_cost, self._sampling = stats, max_cost, sampling
        self._prefix_characters = len(prompt.prefix(sampling.api))
        self._reserved = 0.0

    def prompt_tokens(self, row: Example) -> int:
        """Estimated tokens of a row's prompt."""
        return self._stats.tokens_of(self._prefix_characters + len(row.input))

    def count(self, row: Example, tokens: tuple[int, int]) -> None:
        """Adds the tokens of an answer about a row."""
        self._stats.tokens_in += tokens[0]
        self._stats.tokens_out += tokens[1]
        self._stats.characters += self._prefix_characters + len(row.input)

    def fits(self, task: PendingRow) -> bool:
        """Whether the longest answers to another row stay within the bound."""
        return self._max_cost is None or self._spent + self._worst(task) <= self._max_cost

    def is_exceeded(self) -> bool:
        """Whether what is under way may cost more than the bound."""
        return self._max_cost is not None and self._spent > self._max_cost

    @contextlib.contextmanager
    def reserving(self, task: PendingRow) -> Iterator[None]:
        """Holds what a row may cost until it has ended."""
        reserved = self._worst(task) if self._max_cost is not None else 0.0
        self._reserved += reserved
        try:
            yield
        finally:
            self._reserved -= reserved

    @property
    def _spent(self) -> float:
        return (self._stats.cost or 0.0) + self._reserved

    def _worst(self, task: PendingRow) -> float:
        written = self._sampling.longest * len(task.samples)
        # A server that ignores or refuses n is sent the prompt again for each sample.
        read = self.prompt_tokens(task.row) * len(task.samples)
        return self._stats.price.of(read, written) if self._stats.price else 0.0
