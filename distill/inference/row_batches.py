"""Batches of rows to answer: sorted by length, of few shapes, with their progress shown."""

from __future__ import annotations

import collections
import contextlib
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import TypeVar

import jax
import numpy as np

from distill.common.progress import Progress, Stage
from distill.common.safe_points import safe_point
from distill.data.ragged import Ragged

_LENGTH_MULTIPLE = 16
IN_FLIGHT = 2  # batches at once on one CPU device

Answers = TypeVar("Answers")


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
        answer: Callable[[np.ndarray, np.ndarray], Answers],
        labels: tuple[int, ...] = (),
        rows: int | None = None,
    ) -> Iterator[tuple[np.ndarray, Answers]]:
        """Indices [b] of the rows of each batch, the longest rows first, and the answers to them.

        Rows of padding fill a batch, so that the last one needs no program of its own. On one CPU
        device, two batches are answered at a time, in threads: many operations of a decoding step
        are too small to keep several cores busy.

        Args:
          inputs: tokens of the rows.
          description: what the progress is called.
          answer: answers a batch, given its indices [b] and tokens [B, I], with B >= b.
          labels: shape of the labels that are scored with the batch: another program.
          rows: the number of rows that decides B, if it is not that of the inputs.
        """
        order = np.argsort(-inputs.lengths, kind="stable")
        quick = bool(self._compiled) and len(order) <= self._batch_size
        size = min(self._batch_size, power_of_two(len(order) if rows is None else rows))
        pending: collections.deque[tuple[np.ndarray, futures.Future[Answers]]]
        pending = collections.deque()
        in_flight = _in_flight() if len(order) > size else 1
        with (
            futures.ThreadPoolExecutor(in_flight) as pool,
            Progress(len(order), description, leave=False, delay=1.0, disable=quick) as bar,
        ):
            submit = pool.submit if in_flight > 1 else _answered
            for start in range(0, len(order), size):
                safe_point()
                indices = order[start : start + size]
                tokens_BxI = _padded(inputs, indices, size)
                program = (*tokens_BxI.shape, *labels)
                with contextlib.ExitStack() as stack:
                    if program not in self._compiled:
                        text = (
                            f"{description}: compiling for inputs of {tokens_BxI.shape[1]} tokens"
                        )
                        stack.enter_context(Stage(text))
                    pending.append((indices, submit(answer, indices, tokens_BxI)))
                    if program not in self._compiled:
                        futures.wait([pending[-1][1]])
                self._compiled.add(program)
                while len(pending) >= in_flight:
                    done, answers = pending.popleft()
                    yield done, answers.result()
                    bar.update(len(done))
            for done, answers in pending:
                yield done, answers.result()
                bar.update(len(done))


def _in_flight() -> int:
    """Batches to answer at the same time; on several devices all hosts need the same order."""
    return IN_FLIGHT if jax.default_backend() == "cpu" and jax.device_count() == 1 else 1


def _answered(
    answer: Callable[[np.ndarray, np.ndarray], Answers], indices: np.ndarray, tokens_BxI: np.ndarray
) -> futures.Future[Answers]:
    """What `submit` gives, answered in this thread."""
    future: futures.Future[Answers] = futures.Future()
    future.set_result(answer(indices, tokens_BxI))
    return future


def _padded(inputs: Ragged, indices: np.ndarray, size: int) -> np.ndarray:
    """Tokens [size, I] of rows, the longest of which comes first."""
    length = -(-int(inputs.lengths[indices[0]]) // _LENGTH_MULTIPLE) * _LENGTH_MULTIPLE
    tokens_BxI = np.zeros((size, length), np.int32)
    for slot, index in enumerate(indices):
        tokens_BxI[slot, : inputs.lengths[index]] = inputs[index]
    return tokens_BxI


def power_of_two(number: int) -> int:
    """The next power of two, so that few sizes compile."""
    return 1 << (number - 1).bit_length() if number > 1 else 1
