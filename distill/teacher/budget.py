"""What a job may still spend, and what its requests cost."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterable, Iterator, Sequence

from distill.data.examples import Example
from distill.errors import UserError
from distill.teacher.job_stats import CHARACTERS_PER_TOKEN, JobStats
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


def estimate(tasks: Sequence[PendingRow], prompt: Prompt, sampling: Sampling) -> tuple[int, int]:
    """Tokens that the requests for rows read, and write at most."""
    prefix = len(prompt.prefix(sampling.api))
    characters = sum(prefix + len(prompt.question(task.row)) for task in tasks)
    written = sampling.longest * sum(len(task.samples) for task in tasks)
    return round(characters / CHARACTERS_PER_TOKEN), written


def within_bounds(
    missing: Iterable[PendingRow | None],
    settings: Settings,
    price: Price | None,
    prompt: Prompt,
    sampling: Sampling,
) -> Iterator[PendingRow]:
    """The rows that a batch file may hold: --max_rows, and --max_cost by their longest answers."""
    check_price(settings, price, sampling.model)
    cost = 0.0
    tasks = (task for task in missing if task)
    for task in itertools.islice(tasks, settings.max_rows):
        if price:
            cost += price.batched().of(*estimate([task], prompt, sampling))
        if settings.max_cost is not None and cost > settings.max_cost:
            return
        yield task


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
        reserved = self.reserve(task)
        try:
            yield
        finally:
            self.release(reserved)

    def reserve(self, task: PendingRow) -> float:
        """Holds what a row may cost; gives the amount, for `release`."""
        reserved = self._worst(task) if self._max_cost is not None else 0.0
        self._reserved += reserved
        return reserved

    def release(self, reserved: float) -> None:
        """Lets go what was held for rows that have ended."""
        self._reserved -= reserved

    @property
    def _spent(self) -> float:
        return (self._stats.cost or 0.0) + self._reserved

    def _worst(self, task: PendingRow) -> float:
        written = self._sampling.longest * len(task.samples)
        # A server that ignores or refuses n is sent the prompt again for each sample.
        read = self.prompt_tokens(task.row) * len(task.samples)
        return self._stats.price.of(read, written) if self._stats.price else 0.0
