"""Which sequence of which task stands at each slot, as a function of the slot.

A SeqIO mixture draws a task at random for each sequence; what came before decides which of
the task's rows is next. Here task k's n-th sequence stands where n + phase first fits under
slots x rate: the tasks are spread as evenly as whole numbers allow, and any slot is found
without those before it. A phase that the seed draws makes every slot's task unbiased.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np


def permutation(size: int, seed: int, epoch: int, task: int = 0) -> np.ndarray:
    """The order of an epoch: a permutation of `size` indices, a function of its arguments."""
    key = [seed, epoch + (task << 40)]
    return np.random.Generator(np.random.Philox(key=key)).permutation(size)


class TaskOrder:
    """The endless sequence of (task, row) of a mixture with given rates."""

    def __init__(self, rates: Sequence[float], rows: Sequence[np.ndarray], seed: int) -> None:
        """Prepares the order.

        Args:
          rates: rate of each of K tasks, summing to 1; K is 1 or 2.
          rows: for each task the rows that have a target for it; each of its epochs is a
            permutation of them.
          seed: seeds phase and permutations.
        """
        if len(rates) not in (1, 2):
            raise ValueError(f"got {len(rates)} tasks, expected 1 or 2")
        self.rates, self._rows = tuple(rates), rows
        self._phase = np.random.Generator(np.random.Philox(key=[seed, 1 << 50])).random()
        # An epoch is asked for again as long as steps lie in it.
        self._permutation = functools.lru_cache(maxsize=2 * len(rates))(
            lambda task, epoch: permutation(len(rows[task]), seed, epoch, task)
        )

    def draw(self, slots: np.ndarray) -> list[tuple[int, int]]:
        """(task, row) of each of the given slots, 0 and up."""
        first = self.rates[0]
        # Sequences of task 0 before each slot, and whether the slot itself is one.
        before = np.floor(slots * first + self._phase).astype(np.int64)
        is_first = np.floor((slots + 1) * first + self._phase).astype(np.int64) > before
        tasks = np.where(is_first, 0, 1)
        places = np.where(is_first, before, slots - before)
        return [self._sequence(int(t), int(p)) for t, p in zip(tasks, places, strict=True)]

    def _sequence(self, task: int, place: int) -> tuple[int, int]:
        epoch, index = divmod(place, len(self._rows[task]))
        return task, int(self._rows[task][self._permutation(task, epoch)[index]])
