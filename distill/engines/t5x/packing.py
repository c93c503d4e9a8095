"""How many rows T5X needs for a batch: SeqIO's packing, simulated on the corpus's lengths.

A batch of T5X is a number of rows, and with packing the number of sequences in them
varies. The rows are chosen so that their expected number is the batch that was asked
for, and the expected number is the loss's constant divisor. The long-run mean of the
gradient is then exact (docs/weighting.md). Pure functions, no tensorflow.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

_SEQUENCES = 100_000  # that are packed to find their mean number in a row


@dataclasses.dataclass(frozen=True)
class Layout:
    """A batch of T5X.

    Attributes:
      rows: R, rows of each array.
      expected: units in them, on average: pairs (paired_batches) or sequences (mixture_rates).
    """

    rows: int
    expected: float


def count_rows(inputs: Sequence[int], targets: Sequence[int], limits: Sequence[int]) -> int:
    """Rows that SeqIO packs sequences into, with what does not fill its last row.

    SeqIO (seqio/utils.py, trim_and_pack_dataset) takes max(limits) sequences at a time and
    fills one row after the other: a sequence that does not fit on either side ends the
    row, and so does the end of a group.

    Args:
      inputs: N input lengths, in the order of the stream, each at most limits[0].
      targets: N target lengths, each at most limits[1].
      limits: tokens of an encoder and of a decoder row.
    """
    group = max(limits)
    rows = used_inputs = used_targets = 0
    for index, (i, t) in enumerate(zip(inputs, targets, strict=True)):
        full = used_inputs + i > limits[0] or used_targets + t > limits[1]
        if full or index % group == 0:
            rows += 1
            used_inputs = used_targets = 0
        used_inputs += i
        used_targets += t
    return rows


def sequences_per_row(
    sequences: np.ndarray, limits: Sequence[int], rng: np.random.Generator, rates: Sequence[float]
) -> float:
    """Mean number of sequences in a packed row.

    Args:
      sequences: [N, K, 2] input and target lengths of N rows and their K tasks; a target
        of length 0 is no sequence.
      limits: tokens of an encoder and of a decoder row.
      rng: draws the stream.
      rates: of the tasks, whose sequences are drawn one by one; empty for pairs, where the
        K sequences of a row follow each other.
    """
    groups = max(_SEQUENCES // max(limits), 1)
    count = groups * max(limits)
    if len(rates):
        stream = _drawn(sequences, rates, count, rng)
    else:
        share = (sequences[..., 1] > 0).sum() / len(sequences)
        rows = -(-2 * int(count / share) // len(sequences))
        order = np.concatenate([rng.permutation(len(sequences)) for _ in range(rows)])
        stream = sequences[order].reshape(-1, 2)
        stream = stream[stream[:, 1] > 0][:count]
    return len(stream) / count_rows(stream[:, 0].tolist(), stream[:, 1].tolist(), limits)


def _drawn(
    sequences: np.ndarray, rates: Sequence[float], count: int, rng: np.random.Generator
) -> np.ndarray:
    tasks = rng.choice(len(rates), count, p=rates)
    stream = np.empty((count, 2), int)
    for task in range(len(rates)):
        of_task = sequences[sequences[:, task, 1] > 0, task]
        chosen = tasks == task
        if chosen.any():
            stream[chosen] = of_task[rng.integers(len(of_task), size=chosen.sum())]
    return stream


def nearest_layout(units: float, units_per_row: float, multiple: int) -> Layout:
    """The batch whose expected number of units is nearest to what was asked for.

    Args:
      units: pairs or sequences that were asked for.
      units_per_row: their mean number in a row.
      multiple: R is a multiple of this (devices that share a batch, times microbatches).
    """
    rows = max(round(units / units_per_row / multiple), 1) * multiple
    return Layout(rows, rows * units_per_row)
