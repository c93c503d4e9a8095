"""The indexed stream of training batches: batch(step) is a pure function.

Rows of step s, slot i depend on (seed, s, i) alone; each epoch is a permutation of
all rows. Resuming therefore needs the step and nothing else, and neither packing nor
the number of devices changes what is trained on.
"""

from __future__ import annotations

import functools
import queue
import threading
from collections.abc import Iterator

import numpy as np

from distill.data import packing
from distill.data.cache import TokenCache
from distill.data.spec import DataSpec
from distill.errors import UserError
from distill.weighting import Weighting, token_weight

# Steps that are laid out beforehand to find how many packed rows a batch needs.
_PROBES = 64


class PairStream:
    """Batches of `batch_size` rows; with two tasks a row is a pair of sequences."""

    def __init__(
        self,
        cache: TokenCache,
        spec: DataSpec,
        weighting: Weighting,
        batch_size: int,
        seed: int,
        row_multiple: int = 1,
    ) -> None:
        """Prepares the stream.

        Args:
          cache: tokens of the training split.
          spec: lengths and tasks.
          weighting: gives each target token its within-task weight.
          batch_size: training rows (pairs) a step.
          seed: seeds the order.
          row_multiple: packed rows of a batch are a multiple of this (devices that share a
            batch, times parts that it is computed in).

        Raises:
          UserError: no training rows.
        """
        self._spec, self._seed, self._batch_size = spec, seed, batch_size
        self._multiple = row_multiple
        self._tokens = [
            (cache.tokens["train", task, "inputs"], cache.tokens["train", task, "targets"])
            for task in spec.tasks
        ]
        self.num_rows = len(self._tokens[0][0])
        if not self.num_rows:
            raise UserError("no training rows: raise NUM_LABELS")
        means = [cache.mean_target_tokens(task) for task in spec.tasks]
        self._weight = [
            functools.partial(
                token_weight, normalization=weighting.normalization, mean_target_tokens=mean
            )
            for mean in means
        ]
        self._permutation = functools.lru_cache(maxsize=2)(self._permute)
        # One number of packed rows for nearly all steps: each new one costs a compilation.
        self._packed_rows = max(len(self._layout(step)[1]) for step in range(_PROBES))

    @property
    def steps_per_epoch(self) -> float:
        """Steps in which every row is seen once."""
        return self.num_rows / self._batch_size

    def rows(self, step: int) -> np.ndarray:
        """Indices of the training rows of a step [batch_size]."""
        slots = np.arange(step * self._batch_size, (step + 1) * self._batch_size)
        epochs, places = np.divmod(slots, self.num_rows)
        return np.array([self._permutation(int(e))[p] for e, p in zip(epochs, places, strict=True)])

    def batch(self, step: int) -> dict[str, np.ndarray]:
        """The packed batch of a step (see `packing.pack`)."""
        sequences, rows = self._layout(step)
        needed = max(len(rows), self._packed_rows)
        needed = -(-needed // self._multiple) * self._multiple
        lengths = self._spec.input_length, self._spec.target_length
        return packing.pack(sequences, rows, needed, *lengths)

    def batches(self, start: int, stop: int, ahead: int = 2) -> Iterator[dict[str, np.ndarray]]:
        """Batches of steps start to stop - 1, made in a thread `ahead` of their use.

        Raises:
          Whatever making a batch raises.
        """
        ready: queue.Queue = queue.Queue(maxsize=ahead)
        stopped = threading.Event()

        def put(item: object) -> None:
            while not stopped.is_set():
                try:
                    return ready.put(item, timeout=0.1)
                except queue.Full:
                    continue

        def work() -> None:
            try:
                for step in range(start, stop):
                    if stopped.is_set():
                        return
                    put(self.batch(step))
            except Exception as error:  # handed to the consumer, who raises it
                put(error)

        threading.Thread(target=work, daemon=True).start()
        try:
            for _ in range(start, stop):
                item = ready.get()
                if isinstance(item, Exception):
                    raise item
                yield item
        finally:
            stopped.set()

    def _permute(self, epoch: int) -> np.ndarray:
        generator = np.random.Generator(np.random.Philox(key=[self._seed, epoch]))
        return generator.permutation(self.num_rows)

    def _layout(self, step: int) -> tuple[list[packing.Sequence2Sequence], list[list[int]]]:
        sequences = []
        for row in self.rows(step):
            for task, (inputs, targets) in enumerate(self._tokens):
                target = targets[row]
                if len(target):
                    weight = self._weight[task](len(target))
                    sequences.append(packing.Sequence2Sequence(inputs[row], target, task, weight))
        lengths = self._spec.input_length, self._spec.target_length
        return sequences, packing.assign_rows(sequences, *lengths)
