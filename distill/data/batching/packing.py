"""Packs sequences into rows, so that no step computes on more padding than it must.

Packing is a layout, nothing else: a step's sequences are the same however they are
packed, and segment ids keep them apart (see distill/student/network.py). All
sequences of a step go into that step's rows, so label and rationale of a pair
never part.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np


@dataclasses.dataclass(frozen=True, slots=True)
class TrainSequence:
    """One training sequence: token ids with EOS, and task and weight of its target tokens.

    Task and weight are those of all target tokens, or arrays with those of each.
    """

    inputs: np.ndarray
    targets: np.ndarray
    task: int | np.ndarray
    weight: float | np.ndarray


def assign_rows(
    sequences: Sequence[TrainSequence], input_length: int, target_length: int
) -> list[list[int]]:
    """First fit, longest inputs first: which sequences share a row.

    Args:
      sequences: of one step.
      input_length: I, tokens of an encoder row.
      target_length: T, tokens of a decoder row.

    Returns:
      For each row the indices of its sequences.
    """
    order = sorted(range(len(sequences)), key=lambda i: -len(sequences[i].inputs))
    rows: list[list[int]] = []
    free: list[list[int]] = []
    for index in order:
        inputs, targets = len(sequences[index].inputs), len(sequences[index].targets)
        for row, room in enumerate(free):
            if inputs <= room[0] and targets <= room[1]:
                rows[row].append(index)
                room[0] -= inputs
                room[1] -= targets
                break
        else:
            rows.append([index])
            free.append([input_length - inputs, target_length - targets])
    return rows


def pack(
    sequences: Sequence[TrainSequence],
    rows: Sequence[Sequence[int]],
    num_rows: int,
    input_length: int,
    target_length: int,
) -> dict[str, np.ndarray]:
    """Lays sequences out in rows.

    Args:
      sequences: of one step.
      rows: as from `assign_rows`.
      num_rows: B, at least len(rows); the rest is padding.
      input_length: I.
      target_length: T.

    Returns:
      A batch with T5X's feature names: encoder_* [B, I] and decoder_* [B, T], int32;
      decoder_loss_weights [B, T] float32 holds within-task weights, decoder_task_ids
      the task of each target token. Segments count from 1, padding is 0.
    """
    batch = {f"encoder_{k}": np.zeros((num_rows, input_length), np.int32) for k in _ENCODER}
    batch |= {f"decoder_{k}": np.zeros((num_rows, target_length), np.int32) for k in _DECODER}
    batch["decoder_loss_weights"] = np.zeros((num_rows, target_length), np.float32)
    for row, indices in enumerate(rows):
        i = t = 0
        for segment, index in enumerate(indices, start=1):
            sequence = sequences[index]
            encoder = slice(i, i + len(sequence.inputs))
            batch["encoder_input_tokens"][row, encoder] = sequence.inputs
            batch["encoder_segment_ids"][row, encoder] = segment
            batch["encoder_positions"][row, encoder] = np.arange(len(sequence.inputs))
            decoder = slice(t, t + len(sequence.targets))
            batch["decoder_target_tokens"][row, decoder] = sequence.targets
            batch["decoder_input_tokens"][row, t + 1 : decoder.stop] = sequence.targets[:-1]
            batch["decoder_segment_ids"][row, decoder] = segment
            batch["decoder_positions"][row, decoder] = np.arange(len(sequence.targets))
            batch["decoder_loss_weights"][row, decoder] = sequence.weight
            batch["decoder_task_ids"][row, decoder] = sequence.task
            i, t = encoder.stop, decoder.stop
    return batch


_ENCODER = ("input_tokens", "segment_ids", "positions")
_DECODER = ("target_tokens", "input_tokens", "segment_ids", "positions", "task_ids")
