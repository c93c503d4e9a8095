"""Rationales of students that write them after the label (METHOD = 'answer_first')."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from distill.config.student import T5Config
from distill.data.ragged import Ragged
from distill.inference.row_batches import RowBatches
from distill.student.decoding import greedy_after
from distill.training.mesh import shard_like_params, to_host


def decode_after_labels(
    params: dict,
    config: T5Config,
    batches: RowBatches,
    inputs: Ragged,
    labels: Sequence[Sequence[int]],
    max_length: int,
) -> list[list[int]]:
    """Greedy rationales of N rows, each given its input and its label.

    Args:
      params: parameters of the student.
      config: its sizes.
      batches: makes the batches.
      inputs: tokens of the rows' inputs, N sequences.
      labels: N labels, EOS included; the rationale continues the label.
      max_length: tokens of label and rationale together, EOS of both included.

    Returns:
      Tokens after each label, up to and including EOS unless they are cut; none where the label
      leaves no room.
    """
    found: list[list[int]] = [[] for _ in labels]
    rows = [index for index, label in enumerate(labels) if len(label) < max_length]
    open_inputs = Ragged.of(inputs[index] for index in rows)

    def decode(indices: np.ndarray, tokens_BxI: np.ndarray) -> np.ndarray:
        given_BxT = np.zeros((len(tokens_BxI), max_length), np.int32)
        for slot, index in enumerate(indices):
            label = labels[rows[index]]
            given_BxT[slot, : len(label)] = label
        placed = (shard_like_params(params, each) for each in (tokens_BxI, given_BxT))
        return to_host(greedy_after(params, config, *placed))

    for indices, decoded_BxT in batches(open_inputs, "decoding rationales", decode):
        for slot, index in enumerate(indices):
            row = rows[index]
            found[row] = decoded_BxT[slot, len(labels[row]) :].tolist()
    return found
