"""The indexed stream of training batches: batch(step) is a pure function.

What step s, slot i trains on depends on (seed, s, i) alone. Resuming therefore needs the
step and nothing else, and neither packing nor the number of devices changes what is
trained on. With WEIGHTING = 'paired_batches' a slot is a row, and each epoch a permutation of all
rows; with 'mixture_rates' a slot is one sequence of one task (`TaskOrder`). A method that joins the
tasks has one sequence a row, so that slots are rows in either scheme. A row here is a training row:
one of several rationales is as many of them, which count accordingly less.
"""

from __future__ import annotations

import functools
import queue
import threading
from collections.abc import Iterator

import numpy as np

from distill.config.data import DataSpec
from distill.config.weighting import Weighting, batch_token_weight, mixture_rates, token_weight
from distill.data.batching import flat, flat_parts, packing
from distill.data.batching.order import TaskOrder, permutation
from distill.data.cache import TokenCache
from distill.errors import UserError

# Steps that are laid out beforehand to find how many packed rows a batch needs.
_PROBES = 64
_FLAT_PROBES = 256  # steps whose lengths the shapes of flat batches are chosen from
PACKED, FLAT = "packed", "flat"  # layouts of a batch
_AHEAD = 2  # batches that are made before they are used


class BatchStream:
    """Batches of `batch_size` rows: pairs of sequences, or as many draws (method `sequences`)."""

    def __init__(
        self,
        cache: TokenCache,
        spec: DataSpec,
        weighting: Weighting,
        batch_size: int,
        seed: int,
        row_multiple: int = 1,
        layout: str = PACKED,
        parts: int | None = 1,
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
          layout: PACKED or FLAT.
          parts: of a flat batch (`flat_parts`); None for as many as suit a CPU.

        Raises:
          UserError: no training rows; a label of no tokens, naming its row.
        """
        self._spec, self._seed, self._batch_size = spec, seed, batch_size
        self._multiple, self.layout = row_multiple, layout
        self._tokens = [
            (cache.tokens["train", task, "inputs"], cache.tokens["train", task, "targets"])
            for task in spec.tasks
        ]
        self.num_rows = len(self._tokens[0][0])
        if not self.num_rows:
            raise UserError("no training rows: raise NUM_LABELS")
        self._targets = [np.asarray(targets.lengths) for _, targets in self._tokens]
        if not self._targets[0].all():
            row = cache.rows["train"][int(np.argmin(self._targets[0]))]
            raise UserError(f"row {row.id}: its label has no tokens, expected at least 1 (its EOS)")
        self._normalization = weighting.normalization
        self._means = [cache.mean_target_tokens(task) for task in spec.tasks]
        self._permutation = functools.lru_cache(maxsize=2)(
            lambda epoch: permutation(self.num_rows, seed, epoch)
        )
        self._order = None
        if weighting.scheme == "mixture_rates" and not spec.is_joined:
            weights = dict(zip(spec.tasks, weighting.task_weights(spec.tasks), strict=True))
            means = dict(zip(spec.tasks, self._means, strict=True))
            rates = mixture_rates(weights, weighting.normalization, means)
            self._order = TaskOrder(
                [rates[task] for task in spec.tasks],
                [np.flatnonzero(lengths) for lengths in self._targets],
                seed,
            )
        # Pairs stand for rows with and without a rationale, draws for those that have a target.
        is_drawn = [lengths > 0 if self._order else lengths >= 0 for lengths in self._targets]
        self._factors = [cache.row_factors(is_drawn_N) for is_drawn_N in is_drawn]
        self._shapes: tuple[flat.FlatShape, ...] = ()
        self.parts = 1
        if layout == FLAT:
            # The steps of one seed, so that runs of all seeds share their compiled programs.
            probed = self if seed == 0 else BatchStream(cache, spec, weighting, batch_size, 0)
            lengths: flat.Steps = [probed.lengths(step) for step in range(_FLAT_PROBES)]
            most = batch_size * spec.sequences_per_row
            parts = flat_parts.suitable_parts(lengths) if parts is None else parts
            self.parts = min(parts, batch_size)
            if self.parts > 1:
                lengths = flat_parts.deal_steps(lengths, self.parts)
            self._shapes = flat.choose_shapes(lengths, -(-most // self.parts), self.parts)

    @functools.cached_property
    def _packed_rows(self) -> int:
        """One number of packed rows for nearly all steps: each new one costs a compilation."""
        return max(len(self._rows(self._sequences(step))) for step in range(_PROBES))

    @property
    def steps_per_epoch(self) -> float:
        """Steps in which every row is seen once (by the label task, with rates)."""
        rows_per_step: float = self._batch_size
        if self._order:
            rows_per_step *= len(self._tokens) * self._order.rates[0]
        return self.num_rows / rows_per_step if rows_per_step else float("inf")

    def sequences(self, step: int) -> list[tuple[int, int]]:
        """Task and row of each training target of a step, a pure function of (seed, step).

        BATCH_SIZE rows with all their tasks (a row without a rationale has its label
        alone), or as many sequences as those would be, drawn at the tasks' rates.
        """
        if self._order:
            count = self._batch_size * len(self._tokens)
            return self._order.draw(np.arange(step * count, (step + 1) * count))
        slots = np.arange(step * self._batch_size, (step + 1) * self._batch_size)
        epochs, positions = np.divmod(slots, self.num_rows)
        rows = [int(self._permutation(int(e))[p]) for e, p in zip(epochs, positions, strict=True)]
        tasks = range(len(self._tokens))
        return [(task, row) for row in rows for task in tasks if self._targets[task][row]]

    def rows(self, step: int) -> np.ndarray:
        """Indices of the training rows of a step [batch_size], or of each draw with rates."""
        return np.array([r for task, r in self.sequences(step) if self._order or task == 0])

    def batch(self, step: int) -> dict[str, np.ndarray]:
        """The batch of a step: see `packing.pack`, and for flat ones `flat_parts.lay_out`.

        A step that fits no shape of flat batches is packed.
        """
        sequences = self._sequences(step)
        laid_out = flat_parts.lay_out(sequences, self._shapes, self.parts)
        if laid_out is not None:
            return laid_out
        rows = self._rows(sequences)
        needed = max(len(rows), self._packed_rows)
        needed = -(-needed // self._multiple) * self._multiple
        lengths = self._spec.input_length, self._spec.target_length
        return packing.pack(sequences, rows, needed, *lengths)

    def batches(self, start: int, stop: int) -> Iterator[dict[str, np.ndarray]]:
        """Batches of steps start to stop - 1, made in a thread ahead of their use.

        Raises:
          Whatever making a batch raises.
        """
        ready: queue.Queue[dict[str, np.ndarray] | BaseException] = queue.Queue(maxsize=_AHEAD)
        stopped = threading.Event()

        def put(item: dict[str, np.ndarray] | BaseException) -> None:
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
            except BaseException as error:  # handed to the consumer, who raises it
                put(error)

        threading.Thread(target=work, daemon=True).start()
        try:
            for _ in range(start, stop):
                item = ready.get()
                if isinstance(item, BaseException):
                    raise item
                yield item
        finally:
            stopped.set()

    def lengths(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Tokens of inputs and of targets of each sequence of a step."""
        drawn = self.sequences(step)
        if self._spec.is_joined:
            rows = [row for task, row in drawn if task == 0]
            joined = np.sum([lengths[rows] for lengths in self._targets], axis=0)
            return self._tokens[0][0].lengths[rows], joined
        inputs, targets = (
            np.array([self._tokens[task][side].lengths[row] for task, row in drawn])
            for side in (0, 1)
        )
        return inputs, targets

    def _sequences(self, step: int) -> list[packing.TrainSequence]:
        drawn = self.sequences(step)
        factors = [self._factor(task, row) for task, row in drawn]
        tokens = np.zeros(len(self._tokens))
        for (task, row), factor in zip(drawn, factors, strict=True):
            tokens[task] += factor * self._targets[task][row]
        sequences = []
        for (task, row), factor in zip(drawn, factors, strict=True):
            inputs, targets = self._tokens[task]
            length = int(self._targets[task][row])
            weight = factor * self._token_weight(task, length, float(tokens[task]))
            sequences.append(packing.TrainSequence(inputs[row], targets[row], task, weight))
        return _joined(sequences) if self._spec.is_joined else sequences

    def _rows(self, sequences: list[packing.TrainSequence]) -> list[list[int]]:
        """Which sequences share a packed row."""
        lengths = self._spec.input_length, self._spec.target_length
        return packing.assign_rows(sequences, *lengths)

    def _factor(self, task: int, row: int) -> float:
        """How much a row counts: more than others if it has fewer rationales."""
        factors_N = self._factors[task]
        return 1.0 if factors_N is None else float(factors_N[row])

    def _token_weight(self, task: int, length: int, batch_tokens: float) -> float:
        """Weight of each target token; sums over BATCH_SIZE then estimate L_task."""
        if self._normalization == "per_token_batch":
            return batch_token_weight(self._batch_size, batch_tokens)
        weight = token_weight(length, self._normalization, self._means[task])
        if self._order:
            # A task that is drawn more often than once a row counts less each time.
            weight /= len(self._tokens) * self._order.rates[task]
        return weight


def _joined(sequences: list[packing.TrainSequence]) -> list[packing.TrainSequence]:
    """One sequence a row: its label, and after it the rationale that follows in the list."""
    rows: list[list[packing.TrainSequence]] = []
    for part in sequences:
        if part.task == 0:
            rows.append([])
        rows[-1].append(part)
    return [
        packing.TrainSequence(
            parts[0].inputs,
            np.concatenate([part.targets for part in parts]),
            np.repeat([part.task for part in parts], lengths := [len(p.targets) for p in parts]),
            np.repeat([part.weight for part in parts], lengths),
        )
        for parts in rows
    ]
