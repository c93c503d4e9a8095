"""Batches of rows to decode: sorted by length, of few shapes, with their progress shown."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np

from distill.common.progress import Progress, Stage
from distill.common.safe_points import safe_point
from distill.data.ragged import Ragged

_LENGTH_MULTIPLE = 16


class RowBatches:
    """Makes batches, and remembers for which shapes a program has been compiled."""

    def __init__(self, batch_size: int) -> None:
        """Sets the largest number of rows in a batch."""
        self._batch_size = batch_size
        self._compiled: set[tuple[int, ...]] = set()

    def __call__(
        self,
        inputs: Ragged,
        description: str,
        labels: tuple[int, ...] = (),
        rows: int | None = None,
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Indices [b] and tokens [B, I] of batches, the longest rows first.

        Rows of padding fill a batch, so that the last one needs no program of its own.

        Args:
          inputs: tokens of the rows.
          description: what the progress is called.
          labels: shape of the labels that are scored with the batch: another program.
          rows: the number of rows that decides B, if it is not that of the inputs.
        """
        order = np.argsort(-inputs.lengths, kind="stable")
        quick = bool(self._compiled) and len(order) <= self._batch_size
        size = min(self._batch_size, power_of_two(len(order) if rows is None else rows))
        with Progress(len(order), description, leave=False, delay=1.0, disable=quick) as bar:
            for start in range(0, len(order), size):
                safe_point()
                indices = order[start : start + size]
                longest = int(inputs.lengths[indices[0]])
                length = -(-longest // _LENGTH_MULTIPLE) * _LENGTH_MULTIPLE
                tokens_BxI = np.zeros((size, length), np.int32)
                for slot, index in enumerate(indices):
                    tokens_BxI[slot, : inputs.lengths[index]] = inputs[index]
                program = (*tokens_BxI.shape, *labels)
                with contextlib.ExitStack() as stack:
                    if program not in self._compiled:
                        text = f"{description}: compiling for inputs of {length} tokens"
                        stack.enter_context(Stage(text))
                    yield indices, tokens_BxI
                self._compiled.add(program)
                bar.update(len(indices))


def power_of_two(number: int) -> int:
    """The next power of two, so that few sizes compile."""
    return 1 << (number - 1).bit_length() if number > 1 else 1
