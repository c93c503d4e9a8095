"""Other rationales in the place of the teacher's: what RATIONALE_SOURCE names.

They are controls. A student that gains as much from the rationales of other rows, from random
words or from a copy of its input does not learn from what rationales say.
"""

from __future__ import annotations

import dataclasses
import itertools
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import overload

import numpy as np

from distill.common.hashing import digest64
from distill.config.data import RATIONALE_SOURCES
from distill.data.examples import Example
from distill.errors import UserError, unknown


class _WithRationales(Sequence[Example]):
    """Rows with other rationales, which are looked up when a row is asked for."""

    def __init__(self, rows: Sequence[Example], find: Callable[[int, Example], str]) -> None:
        """Names the rows.

        Args:
          rows: N rows.
          find: number and row of each row that has a rationale -> its other rationale.
        """
        self._rows, self._find = rows, find

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> Example: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Example]: ...

    def __getitem__(self, index: int | slice) -> Example | Sequence[Example]:
        """The row at `index`; a slice gives a list."""
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        row = self._rows[index]
        if row.rationale is None:
            return row
        return dataclasses.replace(row, rationale=self._find(index % len(self), row))

    def __iter__(self) -> Iterator[Example]:
        return (self[index] for index in range(len(self)))


def replace_rationales(
    rows: Sequence[Example],
    source: str,
    seed: int,
    mark: str = "",
    rationales: np.ndarray | None = None,
) -> Sequence[Example]:
    """The rows, with rationales of another source. Rows without a rationale stay as they are.

    Args:
      rows: N rows with at most one rationale each; they may lie on disk.
      source: "teacher" leaves the rows alone. "shuffled" gives each row the rationale of another
        row; each rationale is used once. "random" draws as many words as the row's rationale
        has, each with its frequency in the rationales of all rows. "input" copies the input.
      seed: of the draws; they depend on the ids of the rows, not on their order.
      mark: the text within inputs that stands for EOS, which a copy leaves out; "" for none.
      rationales: [N], how many rationales the row has that each training row is of. The training
        rows of a row follow one another. None: at most one each.

    Returns:
      N rows in their order; a rationale is looked up when its row is read.

    Raises:
      UserError: an unknown source; "shuffled" with a single rationale, or where one row has more
        than half of the rationales.
    """
    if source == "teacher":
        return rows
    if source == "input":
        return _WithRationales(rows, lambda _, row: _without(row.input, mark))
    if source == "shuffled":
        return _WithRationales(rows, _shuffled(rows, seed, rationales))
    if source == "random":
        return _WithRationales(rows, _random(rows, seed))
    raise unknown("rationale source", source, RATIONALE_SOURCES, "macro RATIONALE_SOURCE")


def _without(text: str, mark: str) -> str:
    return " ".join(text.replace(mark, " ").split()) if mark else text


def _shuffled(
    rows: Sequence[Example], seed: int, rationales: np.ndarray | None
) -> Callable[[int, Example], str]:
    """Rationales along cycles through all rows that have one, so that none keeps its own.

    In the order of the cycle, the training rows of a row are together. A step as long as the most
    of them therefore leads to another row.
    """
    indices, keys, pending = array("q"), array("Q"), 0
    for index, row in enumerate(rows):
        if row.rationale is not None:
            if not pending:  # the first training row of a row
                pending = 1 if rationales is None else int(rationales[index])
                key = digest64("shuffled rationales", seed, row.id)
            pending -= 1
            indices.append(index)
            keys.append(key)
    if len(indices) == 1:
        raise UserError(
            "got RATIONALE_SOURCE = 'shuffled', but only 1 training row has a rationale, expected "
            "at least 2"
        )
    step = 1 if rationales is None else int(rationales.max())
    if 2 * step > len(indices) > 0:
        raise UserError(
            f"got RATIONALE_SOURCE = 'shuffled', but one training row has {step} of the "
            f"{len(indices)} rationales, expected at most half of them"
        )
    ranked = np.argsort(np.frombuffer(keys, np.uint64), kind="stable")
    cycle = np.frombuffer(indices, np.int64)[ranked]
    giver = np.zeros(len(rows), np.int64)
    giver[cycle] = np.roll(cycle, step)

    def find(index: int, row: Example) -> str:
        text = rows[int(giver[index])].rationale
        assert text is not None
        return text

    return find


def _random(rows: Sequence[Example], seed: int) -> Callable[[int, Example], str]:
    """Words drawn with their frequencies in the rationales of all rows."""
    counts: Counter[str] = Counter()
    for row in rows:
        counts.update((row.rationale or "").split())
    words = sorted(counts)  # not in the order of the rows
    ends = np.array([*itertools.accumulate(counts[word] for word in words)], np.float64)

    def find(index: int, row: Example) -> str:
        length = len((row.rationale or "").split())
        bits = np.random.Philox(key=digest64("random rationale", seed, row.id)).random_raw(length)
        draws = (bits >> np.uint64(11)) / 2.0**53  # in [0, 1)
        drawn = np.searchsorted(ends, draws * ends[-1], side="right")
        return " ".join(words[number] for number in drawn)

    return find
