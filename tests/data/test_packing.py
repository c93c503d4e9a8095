"""Packing keeps every token of every sequence, and nothing else."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from distill.data.batching.packing import TrainSequence, assign_rows, pack

I, T = 12, 8


@st.composite
def _sequences(draw):
    count = draw(st.integers(1, 12))
    return [
        TrainSequence(
            np.arange(draw(st.integers(1, I))) + 3,
            np.arange(draw(st.integers(1, T))) + 50,
            draw(st.integers(0, 1)),
            draw(st.floats(0.125, 1, width=32)),
        )
        for _ in range(count)
    ]


@settings(deadline=None)
@given(_sequences(), st.integers(0, 3))
def test_rows_hold_each_sequence_once(sequences, spare):
    rows = assign_rows(sequences, I, T)
    assert sorted(index for row in rows for index in row) == list(range(len(sequences)))
    batch = pack(sequences, rows, len(rows) + spare, I, T)
    for row, indices in enumerate(rows):
        for segment, index in enumerate(indices, start=1):
            sequence = sequences[index]
            inside = batch["encoder_segment_ids"][row] == segment
            np.testing.assert_array_equal(
                batch["encoder_input_tokens"][row][inside], sequence.inputs
            )
            np.testing.assert_array_equal(
                batch["encoder_positions"][row][inside], np.arange(len(sequence.inputs))
            )
            inside = batch["decoder_segment_ids"][row] == segment
            targets = batch["decoder_target_tokens"][row][inside]
            np.testing.assert_array_equal(targets, sequence.targets)
            shifted = np.concatenate([[0], sequence.targets[:-1]])
            np.testing.assert_array_equal(batch["decoder_input_tokens"][row][inside], shifted)
            assert np.all(batch["decoder_task_ids"][row][inside] == sequence.task)
            np.testing.assert_allclose(batch["decoder_loss_weights"][row][inside], sequence.weight)
    padding = batch["decoder_segment_ids"] == 0
    assert np.all(batch["decoder_loss_weights"][padding] == 0)
    assert np.all(batch["decoder_target_tokens"][padding] == 0)
    assert np.sum(batch["encoder_input_tokens"] > 0) == sum(len(s.inputs) for s in sequences)
